"""Formulas over bands as people write them: read by a short list of what is allowed, and finite everywhere."""

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scene import LARGEST, DataError

Plane = NDArray[np.float32]
Value = NDArray[np.float64]
Evaluate = Callable[[Mapping[str, Value]], Value]

MAX_CHARACTERS, MAX_DEPTH = 1000, 50
BLOCK_PX = 15_000
"""Pixels that are computed at a time, or one row: in float64 below the 128 kB from which on each array is asked of the
kernel anew, and within a processor's own cache."""

SMALLEST_DENOMINATOR = 1e-9

FUNCTIONS: Mapping[str, tuple[Any, int]] = {
    "abs": (np.abs, 1),
    "sqrt": (np.sqrt, 1),
    "log": (np.log, 1),
    "exp": (np.exp, 1),
    "minimum": (np.minimum, 2),
    "maximum": (np.maximum, 2),
}
"""What a formula may call, with its number of arguments; `log` is the natural logarithm."""

_OPERATORS: Mapping[type[ast.AST], Any] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
    ast.USub: np.negative,
    ast.UAdd: np.positive,
}
_MAY_BE_INFINITE = (np.power, np.log, np.exp)
_REMEDY = f"Write bands, numbers, + - * / **, brackets and {', '.join(FUNCTIONS)}; docs/indices.md has examples"


@dataclass(frozen=True)
class Formula:
    """One formula.

    Attributes:
        text: As it was written.
        names: The names in it, in the order in which they first appear.
    """

    text: str
    names: tuple[str, ...]
    _evaluate: Evaluate

    @classmethod
    def parse(cls, text: str) -> "Formula":
        """Read a formula; nothing in it is ever run as a program.

        Args:
            text: Names, numbers, `+ - * / **`, brackets and calls of `FUNCTIONS`; a name that holds other characters
                than letters, digits and `_` stands in quotes.

        Raises:
            DataError: Whatever else, and a formula without a name.
        """
        reader = _Reader(text.strip())
        evaluate = reader.read()
        if not reader.names:
            raise reader.refused("it names no band")
        return cls(text, tuple(reader.names), evaluate)

    def compute(self, planes: Mapping[str, NDArray[Any]]) -> Plane:
        """Compute the formula for each pixel, in float64 and in blocks of rows.

        Args:
            planes: One plane `(H, W)` of any real type for each of `names`.

        Returns:
            float32 `(H, W)`, finite everywhere: 0 where any part of the formula has no value (a denominator of 0, the
            root of a negative number) or the result is beyond `LARGEST`, where squares leave float32.
        """
        height, width = planes[self.names[0]].shape
        result = np.zeros((height, width), np.float32)
        num_rows = max(1, BLOCK_PX // max(1, width))
        with np.errstate(all="ignore"):
            for first in range(0, height, num_rows):
                rows = slice(first, first + num_rows)
                part = self._evaluate({name: np.asarray(planes[name][rows], np.float64) for name in self.names})
                result[rows] = part
                finite = np.abs(result[rows]) <= LARGEST
                if not finite.all():
                    result[rows][~finite] = 0.0
        return result


class _Reader:
    """Turns text into nested functions; whatever is not on the list is refused."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: dict[str, None] = {}

    def read(self) -> Evaluate:
        if len(self.text) > MAX_CHARACTERS:
            raise self.refused(f"it has more than {MAX_CHARACTERS} characters")
        try:
            tree = ast.parse(self.text, mode="eval")
        except SyntaxError as error:
            inside = error.offset and error.offset <= len(self.text)
            where = f"at character {error.offset}" if inside else "at its end"
            raise self.refused(f"{error.msg} {where}") from None
        except (ValueError, RecursionError, MemoryError):
            raise self.refused("it is no formula") from None
        part = self._part(tree.body, 0)
        return part if callable(part) else _constant(part)

    def refused(self, why: str) -> DataError:
        text = self.text if len(self.text) <= 200 else f"{self.text[:200]}..."
        return DataError(f"data.indices: the formula cannot be read: {why}", received=text, remedy=_REMEDY)

    def _part(self, node: ast.expr, depth: int) -> Evaluate | Value:
        """A function of the bands, or a number where there are none."""
        if depth > MAX_DEPTH:
            raise self.refused("it is nested too deeply")
        if isinstance(node, ast.Name):
            return self._band(node.id)
        if isinstance(node, ast.Constant):
            return self._band(node.value) if isinstance(node.value, str) else self._number(node.value)
        function, arguments = self._application(node)
        parts = [self._part(argument, depth + 1) for argument in arguments]
        evaluate = _applied(function, [part if callable(part) else _constant(part) for part in parts])
        return evaluate if any(callable(part) for part in parts) else self._folded(evaluate)

    def _band(self, name: str) -> Evaluate:
        self.names.setdefault(name)
        return lambda planes: planes[name]

    def _number(self, value: Any) -> Value:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refused(f"{value!r} is no number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.refused("a number in it is too large")
        return np.asarray(number)

    def _application(self, node: ast.expr) -> tuple[Any, list[ast.expr]]:
        """The function that a node applies, and what to."""
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)], [node.left, node.right]
        if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)], [node.operand]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            function, num_values = FUNCTIONS[node.func.id]
            if node.keywords or len(node.args) != num_values:
                raise self.refused(f"{node.func.id} takes {num_values} value{'s' * (num_values > 1)}")
            return function, node.args
        part = ast.get_source_segment(self.text, node) or self.text
        raise self.refused(f"it may not hold {part[:80]!r}")

    def _folded(self, evaluate: Evaluate) -> Value:
        with np.errstate(all="ignore"):
            value = evaluate({})
        if not np.isfinite(value):
            raise self.refused("a part of it without bands has no value")
        return value


def _constant(value: Value) -> Evaluate:
    return lambda _: value


def _applied(function: Any, parts: list[Evaluate]) -> Evaluate:
    """Apply a NumPy function; what has no value is not-a-number, so that it cannot vanish again as 1 / infinity."""

    def evaluate(planes: Mapping[str, Value]) -> Value:
        values = [part(planes) for part in parts]
        if function is np.divide and not np.abs(values[1]).min() > SMALLEST_DENOMINATOR:
            values[1] = _unless(np.abs(values[1]) <= SMALLEST_DENOMINATOR, values[1])
        result = _power(*values) if function is np.power else function(*values)
        return _unless(np.isinf(result), result) if function in _MAY_BE_INFINITE else result

    return evaluate


def _unless(has_none: NDArray[np.bool_], value: Value) -> Value:
    return np.where(has_none, np.nan, value) if has_none.any() else np.asarray(value)


def _power(base: Value, exponent: Value) -> Value:
    """As `np.power`, quicker for squares and roots, and not-a-number to the power of 0 is not 1."""
    if exponent.ndim == 0 and exponent in (0.5, 2.0):
        return np.asarray(np.square(base) if exponent == 2.0 else np.sqrt(base))
    return _unless(np.isnan(base + exponent), np.power(base, exponent))
