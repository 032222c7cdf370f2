"""Sub-pixel shifts between groups of bands that the sensor shot at slightly different moments."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from search_space.decode import Frozen

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]

LEAST_CORRELATION = 0.3
LEAST_SIDE_PX = 24
MAX_SHIFT_PX = 16.0
MAX_SPREAD_PX = 0.35
WORKING_SIDE_PX = 1024
LEAST_SHIFT_PX = 0.1
"""Less than this is within the error of measurement: interpolating for it would only blur."""
FINE_SIDE_PX, MAX_REFINEMENT = 600, 3

ALL_VALID = 0.999

_SIGMA_PX = 2.5
_CLIP_PERCENTILE = 90.0
_STEPS, _PRECISION = 100, 1e-6


class Shift(Frozen):
    """Where a group of bands lies against the scene's grid, as measured.

    Attributes:
        group: Name of the group of bands.
        x_px: Pixels of the scene's own grid by which the group's content lies too far right.
        y_px: Pixels by which it lies too far down.
        correlation: Of the edges, once the shift is taken back; 0 where nothing could be measured.
        spread_px: How far the parts of the scene disagree, in pixels of the grid on which it was measured.
        accepted: Whether the group is moved back by the shift; else it stays in place.
        reason: Why it is not accepted; empty otherwise.
    """

    group: str
    x_px: float
    y_px: float
    correlation: float
    spread_px: float
    accepted: bool
    reason: str = ""

    @property
    def moves(self) -> bool:
        """Whether the group is moved: the shift is accepted, and more than an error of measurement."""
        return self.accepted and math.hypot(self.x_px, self.y_px) >= LEAST_SHIFT_PX


@dataclass(frozen=True)
class _Estimate:
    """In pixels of the working grid."""

    shift: NDArray[np.float64]
    correlation: float


def measure_shift(group: str, reference: Plane, moving: Plane, valid: Mask) -> Shift:
    """Measure how far one plane is shifted against another over the same ground.

    Edges are compared, not intensities: they lie in the same places in all bands. The shift that maximises their
    correlation is sought by ECC over the whole scene, and again over its quarters; only if these agree is it
    accepted, so that neither clouds, moving objects nor bands without common structure pass for a shift.

    Args:
        group: What is measured, for the record.
        reference: float32 `(H, W)` on the scene's grid.
        moving: float32 `(h, w)`, as coarse as its sensor made it, or as fine as the reference.
        valid: Bool `(H, W)`, False where either has no data.

    Returns:
        The shift in pixels of the scene's grid.

    Source:
        Evangelidis and Psarakis, "Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization",
        2008.
    """
    height, width = reference.shape
    working = _working_shape(moving.shape, reference.shape)
    scale = np.array([width / working[1], height / working[0]])
    if min(moving.shape) < LEAST_SIDE_PX:
        return _unmeasured(group, f"the image is smaller than {LEAST_SIDE_PX} px")
    # The smoothed border of a hole would pass for an edge, the same in all bands.
    reach_px = 2 * math.ceil(3 * _SIGMA_PX) + 1
    known = _eroded(_resized(valid.astype(np.float32), working) > ALL_VALID, reach_px)
    if not _is_wide(known):
        return _unmeasured(group, "too few pixels have data")
    fixed, floating = _edges(_resized(reference, working), known), _edges(_resized(moving, working), known)
    whole = _align(fixed, floating, known, np.zeros(2))
    if whole is None:
        return _unmeasured(group, "no shift makes the edges agree")
    parts = [
        part
        for rows, columns in _quarters(working)
        if _is_wide(known[rows, columns])
        and (part := _align(fixed[rows, columns], floating[rows, columns], known[rows, columns], whole.shift))
    ]
    spread = np.median([np.abs(part.shift - whole.shift).max() for part in parts]) if len(parts) > 1 else np.inf
    x_px, y_px = whole.shift * scale
    reason = _objection(whole, float(spread), max(abs(x_px), abs(y_px)), float(scale.max()))
    return Shift(
        group=group,
        x_px=float(x_px),
        y_px=float(y_px),
        correlation=whole.correlation,
        spread_px=float(min(spread, 1e6)),
        accepted=not reason,
        reason=reason,
    )


def _objection(whole: _Estimate, spread_px: float, shift_px: float, scale: float) -> str:
    if whole.correlation < LEAST_CORRELATION:
        return f"edges correlate by {whole.correlation:.2f} only"
    if shift_px > max(MAX_SHIFT_PX, scale):
        return f"a shift of {shift_px:.1f} px is implausible"
    if spread_px > MAX_SPREAD_PX:
        return "the parts of the scene disagree"
    return ""


def _align(fixed: Plane, floating: Plane, known: Mask, start: NDArray[np.float64]) -> _Estimate | None:
    """ECC translation from coarse to fine; None where it does not converge."""
    shift = start.copy()
    correlation = 0.0
    for factor in (4, 2, 1):
        shape = (fixed.shape[0] // factor, fixed.shape[1] // factor)
        if factor > 1 and (min(shape) < LEAST_SIDE_PX * 2 or start.any()):
            continue
        mask = _eroded(_resized(known.astype(np.float32), shape) > ALL_VALID, 3).astype(np.uint8)
        warp = np.array([[1, 0, shift[0] / factor], [0, 1, shift[1] / factor]], np.float32)
        try:
            correlation, warp = cv2.findTransformECC(
                _resized(fixed, shape),
                _resized(floating, shape),
                warp,
                cv2.MOTION_TRANSLATION,
                (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, _STEPS, _PRECISION),
                mask,
                1,
            )
        except cv2.error:
            return None
        shift = warp[:, 2].astype(np.float64) * factor
    return _Estimate(shift, float(correlation))


def _eroded(mask: Mask, side_px: int) -> Mask:
    """What keeps its distance from holes; the border of the image is none."""
    kernel = np.ones((side_px, side_px), np.uint8)
    kept: Mask = cv2.erode(mask.astype(np.uint8), kernel, borderValue=1) > 0
    return kept


def _edges(plane: Plane, known: Mask) -> Plane:
    """Magnitude of the gradient, the strongest edges cut off so that no single roof decides."""
    smooth = cv2.GaussianBlur(plane, (0, 0), _SIGMA_PX)
    across, down = cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
    magnitude = np.hypot(across, down)
    highest = np.percentile(magnitude[known], _CLIP_PERCENTILE)
    edges: Plane = np.minimum(magnitude / highest, 1.0).astype(np.float32) if highest > 0 else magnitude
    return edges


def _resized(plane: Plane, shape: tuple[int, ...]) -> Plane:
    if plane.shape == tuple(shape):
        return plane
    how = cv2.INTER_AREA if shape[0] <= plane.shape[0] else cv2.INTER_LINEAR
    resized: Plane = cv2.resize(plane, (shape[1], shape[0]), interpolation=how)
    return resized


def _working_shape(coarse: tuple[int, ...], fine: tuple[int, ...]) -> tuple[int, int]:
    """A grid that is quick to work on, and finer than the coarse band's where that is small.

    The magnitude of a gradient holds twice the frequencies of the image, which a grid as coarse as the image's own
    would fold back: on 100 px that costs a tenth of a pixel.
    """
    height, width = coarse
    factor = min(MAX_REFINEMENT, -(-FINE_SIDE_PX // max(height, width)), fine[0] // height)
    height, width = height * max(1, factor), width * max(1, factor)
    while max(height, width) > WORKING_SIDE_PX:
        height, width = height // 2, width // 2
    return height, width


def _quarters(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    middle_row, middle_column = shape[0] // 2, shape[1] // 2
    rows = (slice(0, middle_row), slice(middle_row, shape[0]))
    columns = (slice(0, middle_column), slice(middle_column, shape[1]))
    return [(row, column) for row in rows for column in columns]


def _is_wide(known: Mask) -> bool:
    return int(np.count_nonzero(known)) >= (LEAST_SIDE_PX // 2) ** 2


def _unmeasured(group: str, reason: str) -> Shift:
    return Shift(group=group, x_px=0.0, y_px=0.0, correlation=0.0, spread_px=0.0, accepted=False, reason=reason)
