"""Short wordings of numbers, candidates and reasons, the same in tables, figures and the report."""

import math
from collections.abc import Mapping
from typing import Any

from search_space.architecture import Architecture, Block
from search_space.training_plan import LossMix

NOTHING = "–"

_ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "elu": "ELU",
    "selu": "SELU",
    "gelu": "GELU",
    "silu": "SiLU",
}


def architecture_phrase(architecture: Architecture) -> str:
    """An architecture in one line, such as "depth 3, 16 filters ×2, inception, strided, ELU"."""
    return ", ".join(
        (
            f"depth {architecture.depth}",
            f"{architecture.base_filters} filters ×{architecture.growth:g}",
            architecture.block.kind,
            _pooling(architecture),
            activation_name(architecture.activation),
        )
    )


def _pooling(architecture: Architecture) -> str:
    same_word = architecture.pooling in ("max", "average") or architecture.pooling == architecture.block.kind
    return f"{architecture.pooling} pooling" if same_word else architecture.pooling


def activation_name(activation: str) -> str:
    """The activation as papers write it."""
    return _ACTIVATIONS.get(activation, activation)


def block_phrase(block: Block) -> str:
    """A block with its kernel, such as "residual, 3 px kernel"."""
    width = block.wide_kernel_px if block.kind == "inception" else block.kernel_px
    return f"{block.kind}, {width} px kernel"


def loss_phrase(loss: LossMix) -> str:
    """A mix of losses without those of no weight, such as "bce + dice" or "0.25 dice + 0.75 focal"."""
    return mix_phrase({name: getattr(loss, name) for name in type(loss).model_fields})


def mix_phrase(weights: Mapping[str, Any]) -> str:
    """Named weights as a sum, without those of no weight; weights of 1 stay unsaid."""
    parts = [(name, float(weight)) for name, weight in weights.items() if weight]
    return " + ".join(name if weight == 1.0 else f"{weight:g} {name}" for name, weight in parts) or NOTHING


def jaccard_text(value: float | None) -> str:
    """A Jaccard with three decimals; a dash where there is none."""
    return NOTHING if value is None or is_missing(value) else f"{value:.3f}"


def count_text(value: float | None) -> str:
    """A whole number with thin groups of three, such as "1 234 567"; a dash where there is none."""
    if value is None or is_missing(value):
        return NOTHING
    return f"{round(value):,}".replace(",", "\N{NO-BREAK SPACE}")


def duration_text(seconds: float | None) -> str:
    """A duration in its two leading units, such as "4.2 s", "3 min 20 s" or "2 h 05 min"."""
    if seconds is None or is_missing(seconds):
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def shortened(text: str | None, limit: int = 100) -> str:
    """One line of at most `limit` characters; what was cut is marked by an ellipsis."""
    line = " ".join((text or "").split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def is_missing(value: object) -> bool:
    """Whether a table's cell holds nothing: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))
