"""The card of a model set: what it maps, how well, what it was made from, and how to use it; each line from its record.

It says nothing that the record does not show. What nobody measured, it calls unmeasured.
"""

from collections.abc import Iterable, Sequence

from search_space.architecture import IMAGENET, NO_WEIGHTS, Architecture
from search_space.records import ClassMap, ModelMember, ModelSet
from search_space.study import NATIVE, Study
from search_space.training_plan import Scaling, TrainingPlan

CARD_FILE = "MODEL_CARD.md"

NOTHING = "–"


def model_card(models: ModelSet, study: Study) -> str:
    """The card as Markdown.

    Args:
        models: The set.
        study: The resolved study that it was retrained for.
    """
    sections = (
        _what(models),
        _scores(models),
        _data(models, study),
        _models(models),
        _use(models, study),
        _limits(models, study),
    )
    return "\n\n".join(sections) + "\n"


def _what(models: ModelSet) -> str:
    names = ", ".join(each.class_name for each in models.maps)
    missing = [name for name in models.classes if models.map_of(name) is None]
    lines = [
        f"# Model set of the study {models.study}",
        "",
        f"It maps {names} in imagery with the bands {', '.join(models.bands)}: for each class the probability of every "
        "pixel, and a mask.",
    ]
    if missing:
        lines += ["", f"The study also has {', '.join(missing)}, for which there is no model here."]
    return "\n".join(lines)


def _scores(models: ModelSet) -> str:
    rows = [
        (
            each.class_name,
            f"{each.threshold:.3f}",
            NOTHING if each.jaccard is None else f"{each.jaccard:.3f}",
            _spread(each),
            _folds(each),
            ", ".join(map(str, each.absent_folds)) or "none",
            f"**{each.counted}**" if each.flatters else each.counted,
        )
        for each in models.maps
    ]
    columns = ("class", "threshold", "Jaccard", "spread", "by fold", "folds without the class", "counted")
    grounds = _distinct(each.ground for each in models.maps)
    return "\n".join(
        (
            "## Thresholds and scores",
            "",
            _table(columns, rows),
            "",
            "Jaccard is TP / (TP + FP + FN) over all known pixels of that ground together, of single models: each "
            "counts where its own training did not go. The spread is a standard deviation.",
            "",
            f"Thresholds come from {' and '.join(grounds)}.",
        )
    )


def _spread(found: ClassMap) -> str:
    if found.spread is None:
        return NOTHING
    if found.spread_over == "folds":
        return f"{found.spread:.3f} over {len(found.folds)} folds"
    return f"{found.spread:.3f} over {sum(each.num_models for each in found.folds)} models"


def _folds(found: ClassMap) -> str:
    numbered = [f"{each.fold}: {each.jaccard:.3f}" for each in found.folds if each.fold]
    return ", ".join(numbered) or "the study's own split"


def _data(models: ModelSet, study: Study) -> str:
    grid = f"the grid of {study.data.grid}" if isinstance(study.data.grid, str) else f"{study.data.grid:g} m per pixel"
    scalings = _distinct(_scaling_words(each.candidate.plan.scaling) for each in models.members)
    lines = [
        "## What it reads and was trained on",
        "",
        f"- Bands, in this order: {', '.join(models.bands)}.",
        f"- Indices computed from them: {', '.join(models.indices) or 'none'}.",
        f"- Pixels: {'as the imagery has them' if study.data.grid == NATIVE else grid}.",
        f"- Scaling of bands: {'; '.join(scalings)}.",
        f"- Data set: format {study.data.format}, fingerprint {models.data_fingerprint or 'not recorded'}.",
    ]
    numbered = sorted({each.num_folds for each in models.members if each.num_folds})
    if numbered:
        lines.append(
            f"- Ground: dealt into {' or '.join(map(str, numbered))} folds, one of them left out of each training."
        )
    if any(not each.num_folds for each in models.members):
        lines.append("- Ground: the study's own split into training and validation.")
    return "\n".join(lines)


def _models(models: ModelSet) -> str:
    rows = [
        (
            f"`{each.file}`",
            _network_words(each.candidate.architecture),
            _plan_words(each.candidate.plan),
            each.origin or NOTHING,
            f"{each.epochs} epochs of {each.steps_per_epoch} steps" if each.epochs else NOTHING,
            _number(each, "num_parameters"),
            _beginning(each),
        )
        for each in models.members
    ]
    columns = ("model", "network", "training", "candidate of", "budget", "parameters", "begun from")
    made = _distinct(", ".join(f"{name} {version}" for name, version in m.made_with.items()) for m in models.members)
    return "\n".join(
        (
            "## The models",
            "",
            _table(columns, rows),
            "",
            "The map of a class is the mean of the maps of its models. `model_set.json` has every value of every "
            "candidate, and each model's losses and scores epoch by epoch.",
            "",
            f"Trained with {'; '.join(each for each in made if each) or 'versions that nobody wrote down'}. "
            f"Put together by Mapgrove {models.version}.",
        )
    )


def _beginning(member: ModelMember) -> str:
    """What its weights were before the training."""
    architecture = member.candidate.architecture
    if member.start:
        return "another model"
    if architecture.weights_file is not None:
        return "a file of the encoder's weights"
    return "ImageNet weights" if getattr(architecture.encoder, "weights", NO_WEIGHTS) == IMAGENET else "random weights"


def _number(member: ModelMember, name: str) -> str:
    value = member.figures.get(name)
    return NOTHING if value is None else f"{value:,.0f}".replace(",", " ")


def _use(models: ModelSet, study: Study) -> str:
    lines = [
        "## How to use it",
        "",
        "FOLDER is where this card lies; it may be moved. IMAGE is a file that has these bands.",
        "",
        "```",
        "python run_search.py predict --models FOLDER --out maps IMAGE",
        "```",
    ]
    if study.folds.has_test:
        begun = any(each.begun_elsewhere for each in models.members)
        beside = "; whether models that these began from were trained on it is not known" if begun else ""
        lines += [
            "",
            "The study holds ground out for a test, whose labels had no part in training or in any choice "
            f"here{beside}. Where its data are prepared, this scores the maps of it:",
            "",
            "```",
            f"python run_search.py predict --study {study.name} test",
            f"python run_search.py score --study {study.name}",
            "```",
        ]
    return "\n".join(lines)


def _limits(models: ModelSet, study: Study) -> str:
    flattering = [each.class_name for each in models.maps if each.flatters]
    lines = [
        "## What it is for, and what it is not",
        "",
        "It is for mapping these classes in imagery like that of its data set: the same bands, in the same units, on "
        "the same grid. How well it maps other sensors, places, seasons or sizes of pixels, nobody measured here.",
        "",
        "- The best epoch of each training was chosen on the ground that its score is of, which flatters a little.",
        "- Probabilities are what the networks say; they are not calibrated.",
    ]
    if any(each.trial is not None for each in models.members):
        lines.append("- A search chose candidates on the study's validation ground, which is counted here too.")
    if flattering:
        lines.append(f"- One part of the ground alone has {', '.join(flattering)}: it chose threshold and score alike.")
    diverged = _distinct(each.class_name for each in models.members if "diverged_in_epoch" in each.figures)
    if diverged:
        lines.append(f"- A training of {', '.join(diverged)} diverged; its model is the best epoch before.")
    may_know = _distinct(each.class_name for each in models.members if each.start_may_know)
    if may_know:
        lines.append(
            f"- The training of {', '.join(may_know)} began from another model: if that was trained on this ground, "
            "the score flatters."
        )
    lines += _limits_of_means(models)
    if not study.folds.has_test:
        lines.append("- The study holds no ground out for a test: there is no score that nothing was chosen by.")
    return "\n".join(lines)


def _limits_of_means(models: ModelSet) -> list[str]:
    several = [each.class_name for each in models.maps if len(models.members_of(each.class_name)) > 1]
    if not several:
        return []
    on_folds = any(each.num_folds for each in models.members)
    why = "some of its models trained on every piece of this ground" if on_folds else "each was counted by itself"
    return [f"- The mean of several models, which maps {', '.join(several)}, has no score here: {why}."]


def _network_words(architecture: Architecture) -> str:
    parts = [
        f"{_plain(architecture.encoder.kind)} encoder",
        f"depth {architecture.depth}",
        f"{architecture.base_filters} filters × {architecture.growth:g}",
        f"{_plain(architecture.block.kind)} blocks",
        f"{_plain(architecture.skip)} skips",
    ]
    return ", ".join(parts)


def _plan_words(plan: TrainingPlan) -> str:
    weights = {name: getattr(plan.loss, name) for name in type(plan.loss).model_fields}
    loss = " + ".join(name if value == 1.0 else f"{value:g} {name}" for name, value in weights.items() if value)
    optimizer = str(getattr(plan.optimizer, "kind", plan.optimizer))
    return f"{loss}, {optimizer} at {plan.learning_rate:.3g}, {plan.batch_size} patches of {plan.patch_px} px"


def _scaling_words(scaling: Scaling) -> str:
    ends = "" if scaling.percentiles is None else ", percentiles {:g} to {:g}".format(*scaling.percentiles)
    scope = "by all training ground" if scaling.scope == "dataset" else "each scene by itself"
    return f"{scaling.kind}{ends}, {scope}"


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _distinct(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells)
