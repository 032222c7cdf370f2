"""Training patches, drawn at random: every batch is a pure function of the seed, its number and the losses recorded."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.patches.draws import Draws, Geometry, draw_geometry, draw_radiometry, noise_table, reach_px, spline_basis
from pipeline.patches.kernels import add_noise, cut_bands, cut_targets
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

    Raises:
        MapgroveError: No scene has a known pixel.
        InfeasibleError: Held-out ground leaves no room for a patch.
    """

    def __init__(self, scenes: Sequence[TrainingScene], plan: TrainingPlan, seed: int, context_px: int = 0) -> None:
        self._plan = plan
        self._seed = seed
        self._places = Places(
            scenes,
            plan.sampling,
            plan.patch_px,
            reach_px=reach_px(plan.augmentation, plan.patch_px),
            context_px=context_px,
            seed=seed,
        )
        self._sources = [_Source(scene, plan) for scene in scenes]

    def draw(self, number: int) -> Draws:
        """Draw what makes batch `number`, without a look at a pixel."""
        rng = np.random.default_rng([self._seed, number])
        plan = self._plan
        geometry = draw_geometry(plan.augmentation, plan.patch_px, plan.batch_size, rng)
        scene, centre = self._places.draw(geometry.matrices, rng)
        radiometry = draw_radiometry(plan.augmentation, self._sources[0].num_bands, plan.batch_size, rng)
        return Draws(scene, centre, geometry, radiometry)

    def batch(self, number: int) -> tuple[Floats, Floats]:
        """Draw and cut batch `number`.

        Returns:
            Scaled bands `(N, P, P, B)` and targets `(N, P, P, K + 1)`, whose last channel tells known pixels.
        """
        draws = self.draw(number)
        count, size_px = len(draws.scene), self._plan.patch_px
        bands = np.empty((count, size_px, size_px, self._sources[0].num_bands), np.float32)
        targets = np.empty((count, size_px, size_px, self._sources[0].num_classes + 1), np.float32)
        bent = displacements(draws.geometry, size_px)
        for n in range(count):
            self._sources[draws.scene[n]].cut(draws, n, bent[n], bands[n], targets[n])
        return bands, targets

    def record(self, number: int, losses: NDArray[np.floating]) -> None:
        """Remember the losses `(N,)` of the patches of batch `number`; they count after `settle`."""
        draws = self.draw(number)
        self._places.record(draws.scene, draws.centre, losses)

    def settle(self) -> None:
        """Let the losses recorded so far steer what is drawn from now on."""
        self._places.settle()


class _Source:
    """One scene's arrays, as the compiled loops take them."""

    def __init__(self, source: TrainingScene, plan: TrainingPlan) -> None:
        scene, scaling = source.scene, source.scaling
        # The compiled loops do not take NumPy's class of memory maps; this is a view of the same pages.
        self._cube, self._masks = np.asarray(scene.cube), np.asarray(scene.masks)
        self._known = np.asarray(scene.known)
        self._scaling = (scaling.low, scaling.high, scaling.mean, scaling.std)
        self._classes = np.array(source.classes, np.int64)
        self._soft = plan.augmentation.soft_labels
        self._noisy = plan.augmentation.noise > 0
        self.num_bands = self._cube.shape[-1]
        self.num_classes = len(source.classes)

    def cut(self, draws: Draws, n: int, bent: Floats, bands: Floats, target: Floats) -> None:
        where = placement(draws, n, len(bands))
        varied = draws.radiometry
        cut_bands(self._cube, *self._scaling, varied.factor[n], varied.offset[n], where, bent, bands)
        cut_targets(self._masks, self._known, self._classes, where, bent, self._soft, target)
        if self._noisy:
            add_noise(bands, noise_table(), int(varied.noise_start[n]), varied.noise_std[n])


def placement(draws: Draws, n: int, patch_px: int) -> NDArray[np.float64]:
    """From a pixel `(i, j, 1)` of patch `n` to row and column of its scene, `(2, 3)`."""
    matrix = draws.geometry.matrices[n]
    middle = np.full(2, (patch_px - 1) / 2)
    return np.concatenate([matrix, (draws.centre[n] - matrix @ middle)[:, None]], axis=1)


def displacements(geometry: Geometry, patch_px: int) -> Floats:
    """Elastic displacements `(N, P, P, 2)` in pixels of the scene; `(N, 0, 0, 2)` where nothing is deformed."""
    num_points = geometry.control.shape[1]
    if not num_points:
        return geometry.control
    basis = spline_basis(patch_px, num_points)
    bent: Floats = np.einsum("pi,nijc,qj->npqc", basis, geometry.control, basis, optimize=True)
    return np.ascontiguousarray(bent)
