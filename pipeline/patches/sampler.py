"""Training patches, drawn at random: every batch is a pure function of the seed, its number and the losses recorded."""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.patches.draws import (
    Doubles,
    Draws,
    Geometry,
    Radiometry,
    draw_geometry,
    draw_radiometry,
    noise_table,
    reach_px,
    spline_basis,
)
from pipeline.patches.kernels import add_noise, band_cutter, cut_soft_targets, find_spans, locate, target_cutter
from pipeline.patches.places import Places
from pipeline.patches.scenes import TrainingScene
from search_space.training_plan import TrainingPlan

Floats = NDArray[np.float32]


class PatchSampler:
    """Draws batches of turned and varied patches from whole scenes, and cuts them on the processor.

    A patch that reaches over the border of its scene mirrors the scene; over the border of a block it shows what is
    there.

    Args:
        scenes: Where to draw from.
        plan: Patch size, batch size, sampling and augmentation.
        seed: Everything drawn derives from it.
        context_px: How far the network looks: no patch comes nearer to held-out ground.
        class_names: Those of the scenes' classes, for messages.

    Raises:
        MapgroveError: No scene has a known pixel.
        InfeasibleError: Held-out ground leaves no room for a patch.
    """

    def __init__(
        self,
        scenes: Sequence[TrainingScene],
        plan: TrainingPlan,
        seed: int,
        context_px: int = 0,
        class_names: Sequence[str] = (),
    ) -> None:
        self._plan = plan
        self._seed = seed
        self._places = Places(
            scenes,
            plan.sampling,
            plan.patch_px,
            reach_px=reach_px(plan.augmentation, plan.patch_px),
            context_px=context_px,
            seed=seed,
            class_names=class_names,
        )
        self._sources = [_Source(scene) for scene in scenes]
        self._cutter = _Cutter(self._sources[0], plan)

    def draw(self, number: int) -> Draws:
        """Draw what makes batch `number`, without a look at a pixel."""
        rng = np.random.default_rng([self._seed, number])
        plan = self._plan
        geometry = draw_geometry(plan.augmentation, plan.patch_px, plan.batch_size, rng)
        scene, centre, pixel = self._places.draw(geometry.matrices, rng)
        radiometry = draw_radiometry(plan.augmentation, self._sources[0].num_bands, plan.batch_size, rng)
        return Draws(scene, centre, pixel, geometry, radiometry)

    def batch(self, number: int) -> tuple[Floats, Floats]:
        """Draw and cut batch `number`.

        Returns:
            Scaled bands `(N, P, P, B)` and targets `(N, P, P, K + 1)`, whose last channel tells known pixels.
        """
        draws = self.draw(number)
        count, size_px = len(draws.scene), self._plan.patch_px
        bands = np.empty((count, size_px, size_px, self._sources[0].num_bands), np.float32)
        targets = np.empty((count, size_px, size_px, len(self._sources[0].classes) + 1), np.float32)
        bent, where = displacements(draws.geometry, size_px), placements(draws, size_px)
        for n in range(count):
            shown = (where[n], bent[n])
            self._cutter.cut(self._sources[draws.scene[n]], shown, draws.radiometry, n, bands[n], targets[n])
        return bands, targets

    def record(self, number: int, losses: NDArray[np.floating]) -> None:
        """Remember the losses `(N,)` of the patches of batch `number`; they count after `settle`."""
        draws = self.draw(number)
        self._places.record(draws.scene, draws.pixel, losses)

    @property
    def seen_losses(self) -> NDArray[np.float64]:
        """All that `record` was told, in a form to be given back; empty where losses do not steer."""
        return self._places.seen_losses

    @seen_losses.setter
    def seen_losses(self, losses: NDArray[np.float64]) -> None:
        self._places.seen_losses = losses

    def settle(self) -> None:
        """Let the losses recorded so far steer what is drawn from now on."""
        self._places.settle()


class _Cutter(threading.local):
    """Cuts patches; one per thread, as its scratch memory is used again for each patch."""

    def __init__(self, source: "_Source", plan: TrainingPlan) -> None:
        num_bands, num_classes = source.cube.shape[-1], len(source.classes)
        all_classes = np.array_equal(source.classes, np.arange(source.masks.shape[-1]))
        self._read, self._interpolate = band_cutter(num_bands, source.rounds)
        soft = plan.augmentation.soft_labels
        self._cut_targets = cut_soft_targets if soft else target_cutter(num_classes, all_classes)
        self._noise = noise_table() if plan.augmentation.noise else None
        self._positions = np.empty((plan.patch_px, plan.patch_px, 2))
        self._spans = np.empty((0, 2), np.int64)
        self._window = np.empty((0, num_bands), np.float32)

    def cut(
        self,
        source: "_Source",
        shown: tuple[Doubles, Floats],
        varied: Radiometry,
        n: int,
        bands: Floats,
        target: Floats,
    ) -> None:
        """Write patch `n` into `bands` `(P, P, B)` and `target` `(P, P, K + 1)`."""
        top, left, height, width = locate(*shown, self._positions)
        spans, window = self._scratch(height, width)
        find_spans(self._positions, top, left, spans)
        scaling = source.scaled_by(varied.factor[n], varied.offset[n])
        self._read(source.cube, scaling, top, left, spans, window, width)
        self._interpolate(window, width, top, left, self._positions, bands)
        self._cut_targets(source.masks, source.known, source.classes, self._positions, target)
        if self._noise is not None:
            add_noise(bands, self._noise, int(varied.noise_start[n]), varied.noise_std[n])

    def _scratch(self, height: int, width: int) -> tuple[NDArray[np.int64], Floats]:
        if len(self._spans) < height:
            self._spans = np.empty((height, 2), np.int64)
        if len(self._window) < height * width:
            self._window = np.empty((height * width, self._window.shape[1]), np.float32)
        return self._spans[:height], self._window


class _Source:
    """One scene's arrays, as the compiled loops take them."""

    def __init__(self, source: TrainingScene) -> None:
        scene, self._scaling = source.scene, source.scaling
        # The compiled loops do not take NumPy's class of memory maps; this is a view of the same pages.
        self.cube, self.masks, self.known = np.asarray(scene.cube), np.asarray(scene.masks), np.asarray(scene.known)
        self.classes = np.array(source.classes, np.int64)
        self.num_bands = self.cube.shape[-1]
        self.rounds = self._scaling.steps is not None
        self._step = self._scaling.step if self.rounds else np.ones(self.num_bands, np.float32)

    def scaled_by(self, factor: Floats, offset: Floats) -> Floats:
        """Scaling and variation in one, `(6, B)`, as `read` takes it."""
        scaling = self._scaling
        return np.array([scaling.low, scaling.high, factor / scaling.std, scaling.mean, offset, self._step])


def placements(draws: Draws, patch_px: int) -> Doubles:
    """From a pixel `(i, j, 1)` of each patch to row and column of its scene, `(N, 2, 3)`."""
    matrices = draws.geometry.matrices
    corners = draws.centre - matrices.sum(axis=-1) * ((patch_px - 1) / 2)
    return np.concatenate([matrices, corners[..., None]], axis=-1)


def displacements(geometry: Geometry, patch_px: int) -> Floats:
    """Elastic displacements `(N, P, P, 2)` in pixels of the scene; `(N, 0, 0, 2)` where nothing is deformed."""
    num_points = geometry.control.shape[1]
    if not num_points:
        return geometry.control
    basis = spline_basis(patch_px, num_points)
    bent: Floats = np.einsum("pi,nijc,qj->npqc", basis, geometry.control, basis, optimize=True)
    return np.ascontiguousarray(bent)
