"""What can go wrong when tiles are blended."""


class BlendingError(ValueError):
    """Arguments that do not make sense, or do not belong together."""


class PredictorShapeError(BlendingError):
    """The predictor returned another shape than `(N, t, t, K)` for tiles `(N, t, t, B)`."""


class PredictorNumberError(BlendingError):
    """The predictor returned a value that is not a finite number."""


def number_error(k: int, where: str, place: tuple[int, int]) -> PredictorNumberError:
    """Of class `k`, `at` or `near` a place `(row, column)` of the image."""
    return PredictorNumberError(
        f"`predict` must return finite numbers. Received NaN or infinity of class {k} {where} (row, column) {place}."
    )
