"""Short wordings of numbers, candidates and reasons, the same in tables, figures and the report."""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from search_space.architecture import Architecture
from search_space.decode import Frozen, encode
from search_space.losses import HEEDED_BY, LossMix
from search_space.optimisation import (
    Averaging,
    CosineRate,
    CyclicRate,
    MovingAverage,
    OneCycleRate,
    PlateauRate,
    PolynomialRate,
    Schedule,
    SnapshotAverage,
    StepRate,
)
from search_space.training_plan import Augmentation, Sampling, Scaling, TrainingPlan
from trials_db.records import Trial

NOTHING = "–"

FAILURES = ("failed", "infeasible")
"""The states in which a trial has ended without a result and with a reason."""

_ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "elu": "ELU",
    "selu": "SELU",
    "gelu": "GELU",
    "silu": "SiLU",
}


_KINDS = {
    "vgg16": "VGG16",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "se_resnext50": "SE-ResNeXt-50",
    "efficientnet_b0": "EfficientNet-B0",
    "aspp": "ASPP",
    "subpixel": "sub-pixel",
    "l2": "L2",
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "Nadam",
    "rmsprop": "RMSprop",
    "sgd": "SGD",
}


def architecture_phrase(architecture: Architecture) -> str:
    """An architecture in one line, such as "depth 3, 16 filters ×2, inception, strided, ELU"."""
    known = () if architecture.encoder.kind == "grown" else (kind_name(architecture.encoder.kind),)
    return ", ".join(
        (
            *known,
            f"depth {architecture.depth}",
            f"{counted(architecture.base_filters, 'filter')} ×{architecture.growth:g}",
            architecture.block.kind,
            *_pooling(architecture),
            activation_name(architecture.activation),
        )
    )


def network_notes(architecture: Architecture) -> list[str]:
    """What makes a network the one it is, beside the sizes of its stages; a line each."""
    encoder = architecture.encoder
    lines = [f"{architecture.units_per_stage} × {part_phrase(architecture.block)}"]
    lines += ["squeeze and excitation"] if architecture.squeeze_excitation else []
    if encoder.kind == "grown":
        lines += [f"first convolution {encoder.first_kernel_px} px"] if encoder.first_kernel_px else []
        lines += [counted(encoder.residual_units, "residual unit")] if encoder.residual_units else []
        lines.append(f"down: {encoder.pooling}")
    else:
        lines.append(f"down: {part_phrase(encoder)}")
    if architecture.bottom.kind != "none":
        lines.append(f"bottom: {part_phrase(architecture.bottom)}")
    return [*lines, f"up: {part_phrase(architecture.up)}", f"skips: {architecture.skip}"]


def _pooling(architecture: Architecture) -> tuple[str, ...]:
    encoder = architecture.encoder
    if encoder.kind != "grown":
        return ()
    same_word = encoder.pooling in ("max", "average") or encoder.pooling == architecture.block.kind
    return (f"{encoder.pooling} pooling" if same_word else encoder.pooling,)


def kind_name(kind: str) -> str:
    """The kind of a part of a network as papers write it, such as "ResNet-34" or "sub-pixel"."""
    return _KINDS.get(kind, kind.replace("_", " "))


def part_phrase(part: Frozen) -> str:
    """A part with its knobs, such as "residual, kernel 3 px" or "ASPP, rate 2"."""
    words = [kind_name(str(getattr(part, "kind", "")))]
    for name, value in encode(part).items():
        if name != "kind" and value not in (False, "none"):
            words.append(_knob(name, value))
    return ", ".join(words)


def _knob(name: str, value: object) -> str:
    if value is True:
        return name.replace("_", " ")
    if name.endswith("_px"):
        return f"{name.removesuffix('_px').replace('_', ' ')} {value} px"
    return f"{name.replace('_', ' ')} {value:g}" if isinstance(value, (int, float)) else str(value)


def activation_name(activation: str) -> str:
    """The activation as papers write it."""
    return _ACTIVATIONS.get(activation, activation)


def loss_phrase(loss: LossMix) -> str:
    """A mix of losses without those of no weight, such as "bce + dice" or "0.25 dice + 0.75 focal"."""
    return mix_phrase({name: getattr(loss, name) for name in type(loss).model_fields})


def loss_details_phrase(plan: TrainingPlan, architecture: Architecture) -> str:
    """What of the losses' details makes a difference, such as "positive weight 2, road × 3"."""
    details = plan.loss_details
    used = {name for name, weight in encode(plan.loss).items() if weight}
    heeded = [name for name, heeding in HEEDED_BY.items() if heeding & used]
    heeded += ["energy"] if architecture.energy else []
    parts = [_knob(name, getattr(details, name)) for name in heeded]
    return ", ".join([*parts, *(f"{name} × {weight:g}" for name, weight in details.class_weights.items())]) or NOTHING


def mix_phrase(weights: Mapping[str, Any]) -> str:
    """Named weights as a sum, without those of no weight; weights of 1 stay unsaid."""
    parts = [(name, float(weight)) for name, weight in weights.items() if weight]
    return " + ".join(name if weight == 1.0 else f"{weight:g} {name}" for name, weight in parts) or NOTHING


def rate_phrase(plan: TrainingPlan) -> str:
    """The course of the learning rate, such as "0.001, half a cosine to 0%, after a warm-up of 5%"."""
    words = [f"{plan.learning_rate:.3g}", *_schedule_words(plan.schedule)]
    words += [f"after a warm-up of {plan.warm_up:.0%}"] if plan.warm_up else []
    return ", ".join(words)


def _schedule_words(schedule: Schedule) -> list[str]:
    match schedule:
        case StepRate():
            return [f"×{schedule.factor:g} at {', '.join(f'{share:.0%}' for share in schedule.at)}"]
        case PlateauRate():
            return [f"×{schedule.factor:g} after {counted(schedule.patience, 'epoch')} without a better one"]
        case CosineRate():
            return [f"half a cosine to {schedule.floor:.0%}"]
        case PolynomialRate():
            return [f"falling with power {schedule.power:g}"]
        case OneCycleRate():
            return [f"from {schedule.start:.0%} up to it at {schedule.peak_at:.0%}, down to {schedule.floor:.0%}"]
        case CyclicRate():
            times = counted(schedule.cycles, "fall")
            return [f"{times} to {schedule.floor:.0%} from {schedule.start:.0%} on"]
        case _:
            return []


def averaging_phrase(averaging: Averaging) -> str:
    """What is averaged of the weights, such as "weights, momentum 0.99" or "predictions of 3 snapshots"."""
    match averaging:
        case MovingAverage():
            return f"weights, momentum {averaging.momentum:g}"
        case SnapshotAverage():
            return f"{averaging.of} of {counted(averaging.num, 'snapshot')}"
        case _:
            return "none"


def sampling_phrase(sampling: Sampling) -> str:
    """Where patches are drawn, such as "balanced (50%), else uniform"."""
    return sampling.kind if sampling.kind == "uniform" else f"{sampling.kind} ({sampling.share:.0%}), else uniform"


def augmentation_words(augmentation: Augmentation) -> list[tuple[str, str]]:
    """Name and strength of every variation that is switched on, the turns first and always."""
    rows: list[tuple[str, str]] = [("turns", augmentation.turns)]
    for name, value in encode(augmentation).items():
        if name == "soft_labels":
            rows.append(("labels", "soft" if value else "nearest pixel"))
        elif name != "turns" and value:
            rows.append((name.replace("_", " "), f"{value:.3g}"))
    return rows


def scaling_phrase(scaling: Scaling) -> str:
    """How bands are scaled, such as "clipped, percentiles 1 … 99, each scene by itself"."""
    ends = "" if scaling.percentiles is None else ", percentiles {:g} … {:g}".format(*scaling.percentiles)
    scope = "all training scenes" if scaling.scope == "dataset" else "each scene by itself"
    return f"{scaling.kind}{ends}, {scope}"


def jaccard_text(value: float | None) -> str:
    """A Jaccard with three decimals; a dash where there is none."""
    return NOTHING if value is None or is_missing(value) else f"{value:.3f}"


def count_text(value: float | None) -> str:
    """A whole number with thin groups of three, such as "1 234 567"; a dash where there is none."""
    if value is None or is_missing(value):
        return NOTHING
    return f"{round(value):,}".replace(",", "\N{NO-BREAK SPACE}")


def counted(number: float, noun: str, plural: str = "") -> str:
    """A number of things, such as "1 trial" or "1 200 steps"; `plural` where an s alone does not make it."""
    return f"{count_text(number)} {noun if round(number) == 1 else plural or noun + 's'}"


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


def failure_counts(trials: Iterable[Trial]) -> str:
    """How many trials failed or are infeasible, such as "1 failed, 2 infeasible"; empty where none is."""
    counts = Counter(str(trial.state) for trial in trials)
    return ", ".join(f"{counts[state]} {state}" for state in FAILURES if counts[state])


def failures_line(trials: Iterable[Trial], limit: int = 160) -> str:
    """Why trials have no result, in one line for a terminal; empty where every trial has one or may still get one.

    Reasons that differ in their numbers only are taken as one.

    Args:
        trials: All trials of a study.
        limit: Characters of the reason at most.

    Returns:
        Such as "1 failed, 2 infeasible; most frequent reason, as in trial 4: over its time limit of 120 s"; where no
        reason occurs twice, that of the first such trial.
    """
    lost = sorted((trial for trial in trials if trial.state in FAILURES), key=lambda trial: trial.number)
    if not lost:
        return ""
    reasons = [trial.outcome.reason or "" if trial.outcome else "" for trial in lost]
    kinds = [re.sub(r"\d[\d,.]*", "#", reason) for reason in reasons]
    kind, times = Counter(kinds).most_common(1)[0]
    place = kinds.index(kind)
    lead = "most frequent reason, as in trial" if times > 1 else "trial"
    return f"{failure_counts(lost)}; {lead} {lost[place].number}: {safe_line(shortened(reasons[place], limit))}"


def shortened(text: str | None, limit: int = 100) -> str:
    """One line of at most `limit` characters; what was cut is marked by an ellipsis."""
    line = " ".join((text or "").split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def safe_line(text: str) -> str:
    """One line without control characters, so that no name can steer the terminal."""
    return "".join(" " if unicodedata.category(character) in ("Cc", "Cf") else character for character in text)


def is_missing(value: object) -> bool:
    """Whether a table's cell holds nothing: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))
