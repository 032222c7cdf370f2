"""The kinds of dimension a search space is made of, and how a study narrows, widens or fixes each."""

from dataclasses import dataclass
from typing import Annotated, Any

from search_space.decode import Frozen, ListAsTuple
from search_space.errors import MalformedError


@dataclass(frozen=True)
class Real:
    """A number in [low, high], sampled uniformly, or log-uniformly where `log`."""

    low: float
    high: float
    log: bool = False

    def __str__(self) -> str:
        if self.low == self.high:
            return str(Fixed(self.low))
        return f"{self.low:g} … {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Integer:
    """A whole number in [low, high]."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low} … {self.high} (whole)"


@dataclass(frozen=True)
class Choice:
    """One of several options, each a plain value or a plain mapping.

    Attributes:
        options: What there is.
        weights: How often each is drawn before anything is known of them, summing to 1; equally often where empty.
    """

    options: tuple[Any, ...]
    weights: tuple[float, ...] = ()

    def __str__(self) -> str:
        if len(self.options) == 1:
            return str(Fixed(self.options[0]))
        shares = [f" ({weight:.0%})" for weight in self.weights] or [""] * len(self.options)
        return " | ".join(f"{_short(option)}{share}" for option, share in zip(self.options, shares, strict=True))


@dataclass(frozen=True)
class Fixed:
    """A value that is not searched."""

    value: Any

    def __str__(self) -> str:
        return f"= {_short(self.value)}"


Dimension = Real | Integer | Choice | Fixed


class Override(Frozen):
    """What a study says of one dimension.

    Attributes:
        low: New lower end of a range.
        high: New upper end of a range.
        choices: The options that stay or come in. Those that stay are drawn as often beside each other as before, those
            that come in as often as these in the mean.
        fix: The one value to use.
        drop: Whether the dimension is not searched, and what `Candidate` has by itself is used.
    """

    low: float | None = None
    high: float | None = None
    choices: Annotated[tuple[Any, ...], ListAsTuple] | None = None
    fix: Any = None
    drop: bool = False

    def apply(self, dimension: Dimension, path: str) -> Dimension | None:
        """Return `dimension` as this override wants it, None where it drops it.

        Raises:
            MalformedError: The override does not fit the dimension's kind, or leaves it empty.
        """
        given = sorted(self.model_fields_set)
        if len(given) > 1 and set(given) & {"fix", "drop", "choices"}:
            raise MalformedError(
                f"space.{path} takes one of low and high, choices, fix, or drop",
                received=self.model_dump(exclude_unset=True),
                remedy="Leave the others out",
            )
        if given == ["drop"] and self.drop:
            return None
        if given == ["fix"]:
            return Fixed(self.fix)
        if given == ["choices"] and isinstance(dimension, Choice):
            if not self.choices:
                raise MalformedError(f"space.{path}: no choice is left", remedy="Name at least one")
            if twice := [option for option in self.choices if self.choices.count(option) > 1]:
                raise MalformedError(f"space.{path}: a choice is given twice", received=twice[0])
            return Choice(self.choices, _weights_of(self.choices, dimension))
        if given and set(given) <= {"low", "high"} and isinstance(dimension, (Real, Integer)):
            return self._ranged(dimension, path)
        allowed = "choices = [...]" if isinstance(dimension, Choice) else "low = ... and high = ..."
        raise MalformedError(
            f"space.{path} takes {allowed}, fix = ... or drop = true",
            received=self.model_dump(exclude_unset=True),
            remedy=f"Its range now is {dimension}",
        )

    def _ranged(self, dimension: Real | Integer, path: str) -> Dimension:
        low = dimension.low if self.low is None else self.low
        high = dimension.high if self.high is None else self.high
        broken = ""
        if isinstance(dimension, Integer) and not (low == int(low) and high == int(high)):
            broken = "low and high must be whole numbers"
        elif isinstance(dimension, Real) and dimension.log and low <= 0:
            broken = "low must be above 0, as the range is logarithmic"
        elif low > high:
            broken = "low must not exceed high"
        if broken:
            raise MalformedError(
                f"space.{path}: {broken}",
                received={"low": low, "high": high},
                remedy=f"Its range by itself is {dimension}",
            )
        if isinstance(dimension, Integer):
            return Integer(int(low), int(high))
        return Real(low, high, dimension.log)


def _weights_of(options: tuple[Any, ...], before: Choice) -> tuple[float, ...]:
    """How often each of the options is drawn, by how often it was; empty where none of them had a share."""
    # Options may be lists and mappings, which are no keys.
    shares = [
        next((weight for known, weight in zip(before.options, before.weights, strict=False) if known == option), None)
        for option in options
    ]
    known = [share for share in shares if share is not None]
    if not known:
        return ()
    usual = sum(known) / len(known)
    weights = [usual if share is None else share for share in shares]
    return tuple(weight / sum(weights) for weight in weights)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        if not value:
            return "none"
        return "{" + ", ".join(f"{key} {_short(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        if not value:
            # Of bands, where naming none leaves none out.
            return "all"
        return f"[{', '.join(map(_short, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
