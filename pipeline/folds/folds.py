"""Folds: which ground trains, which ranks candidates, and which nothing looks at before the score."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.datasets.base import check_names
from pipeline.folds.fold_units import LabelledGround, Piece
from pipeline.folds.ground import Part
from pipeline.folds.stratification import stratify
from pipeline.preparation.prepared import PreparedDataset
from pipeline.scene import DataError
from search_space.decode import fingerprint
from search_space.errors import MapgroveError
from search_space.fold_settings import LEAST_BLOCK_PX, FoldSettings
from search_space.records import FoldName, FoldShares, Split

logger = logging.getLogger(__name__)

Footprint = tuple[str, slice, slice]
"""A scene with the rows and columns that a patch reads of it, half open."""

Deal = Mapping[Piece, str]
"""The name of every piece's fold: its number, or what it is used for."""

Uses = Mapping[Piece, FoldName]

NOTHING_DEALT = Split(folds=())


@dataclass(frozen=True)
class Fold:
    """A split by ground; no two parts share a pixel.

    Attributes:
        training: Labelled ground that is not held out.
        validation: Ground that ranks candidates and chooses thresholds.
        test: Ground that nothing looks at before `score`.
        unlabelled: Scenes without a labelled pixel, which no fold names; they can only be predicted.
        absent_in_training: Classes that the training ground lacks; only where a fold is one of several, see
            `cross_folds`.
        absent_in_validation: Classes that the validation ground lacks; they cannot be ranked.
        absent_in_test: Classes that the test ground lacks; empty where there is none.
        split: All folds in numbers, also those that this study only trains on.
    """

    training: tuple[Part, ...]
    validation: tuple[Part, ...]
    test: tuple[Part, ...] = ()
    unlabelled: tuple[str, ...] = ()
    absent_in_training: tuple[str, ...] = ()
    absent_in_validation: tuple[str, ...] = ()
    absent_in_test: tuple[str, ...] = ()
    split: Split = NOTHING_DEALT

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: equal exactly for splits into the same ground, however they were asked for."""
        uses = (self.training, self.validation, self.test)
        return fingerprint([{part.id: _corners_px(part) for part in parts} for parts in uses])

    @property
    def validation_fingerprint(self) -> str:
        """16 hexadecimal digits: equal exactly where the same ground validates."""
        return fingerprint({part.id: _corners_px(part) for part in self.validation})

    def scene_ids(self, name: str) -> tuple[str, ...]:
        """The scenes of "training", "validation", "test" or "unlabelled": those that have some ground of it."""
        return self.unlabelled if name == "unlabelled" else tuple(part.id for part in getattr(self, name))

    def check_distance(self, footprints: Iterable[Footprint], context_px: int) -> None:
        """Refuse training patches from which a network could know ground that it is validated on.

        A map of held-out ground is drawn from imagery up to the network's context around it. So a patch may be as near
        to held-out ground as leaves `context_px` pixels between them: grown by that much on every side, it must hold
        no held-out pixel.

        Args:
            footprints: What the patches read, the border mirrored back into the scene.
            context_px: How far the network looks: `Candidate.context_px`.

        Raises:
            MapgroveError: A patch is nearer, or of a scene that does not train; the first is told.
        """
        held_out = {part.id: part.held_out for part in self.training}
        for name, rows, columns in footprints:
            if name not in held_out:
                raise MapgroveError("a training patch lies in a scene that does not train", received=name)
            ground = held_out[name]
            if ground is not None and ground[_grown(rows, context_px), _grown(columns, context_px)].any():
                raise MapgroveError(
                    f"a training patch must keep {context_px} px, the network's context, to held-out ground",
                    received=f"rows {rows.start} to {rows.stop}, columns {columns.start} to {columns.stop} of {name}",
                )


def make_fold(settings: FoldSettings, dataset: PreparedDataset) -> Fold:
    """Split a prepared data set: a function of the settings and the data alone.

    Args:
        settings: The study's `[folds]`.
        dataset: What is split.

    Returns:
        The split; a class that held-out ground lacks is named in it, and logged.

    Raises:
        DataError: An unknown scene (the nearest one is named), a held-out scene without labels, scenes of the same
            ground in different folds, more folds than there is to deal, blocks that cut no scene, nothing left to train
            on, a class that no training ground has, or no class at all in validation.
    """
    ground, deal = deal_of(settings, dataset)
    _refuse_unusable(settings, dataset, deal, uses_of(deal, settings))
    fold = fold_of(settings, dataset, ground, deal)
    for where, classes in (("validation", fold.absent_in_validation), ("test", fold.absent_in_test)):
        if classes:
            logger.warning("No %s ground has %s: there is no score for it there", where, ", ".join(classes))
    return fold


def deal_of(settings: FoldSettings, dataset: PreparedDataset) -> tuple[LabelledGround, Deal]:
    """The labelled ground in pieces, and the fold of each piece.

    Raises:
        DataError: See `make_fold`.
    """
    _check_scenes(settings, dataset)
    ground = LabelledGround.survey(settings, dataset)
    if settings.num_folds is None:
        return ground, _named(settings, ground)
    return ground, _numbered(settings, settings.num_folds, ground)


def uses_of(deal: Deal, settings: FoldSettings) -> Uses:
    """What each piece is used for."""
    return {piece: _used_for(name, settings) for piece, name in deal.items()}


def fold_of(settings: FoldSettings, dataset: PreparedDataset, ground: LabelledGround, deal: Deal) -> Fold:
    """The split that a deal makes, whether or not every class can be learned and ranked there."""
    used = uses_of(deal, settings)
    split = _split(settings, dataset, ground, deal)
    test = _of("test", used)
    return Fold(
        training=_parts("training", dataset, ground, used, dataset.scene_ids),
        validation=_parts("validation", dataset, ground, used, settings.validation or dataset.scene_ids),
        test=_parts("test", dataset, ground, used, settings.test or dataset.scene_ids),
        unlabelled=split.unlabelled,
        absent_in_training=_absent(dataset, _of("training", used)),
        absent_in_validation=_absent(dataset, _of("validation", used)),
        absent_in_test=_absent(dataset, test) if test else (),
        split=split,
    )


def _check_scenes(settings: FoldSettings, dataset: PreparedDataset) -> None:
    named = {"validation": settings.validation, "test": settings.test}
    for key, names in (*named.items(), *(("groups", group) for group in settings.groups)):
        check_names(f"folds.{key}: the scene", names, dataset.scene_ids)
    for key, names in named.items():
        blank = [name for name in names if dataset.scene(name).record.known_share == 0]
        if blank:
            why = "labelled pixels with data" if dataset.scene(blank[0]).labelled else "labels"
            raise DataError(
                f"folds.{key}: a scene without {why} cannot be scored",
                received=blank,
                remedy="Leave it out; run_search.py predict can still map it",
            )


def _named(settings: FoldSettings, ground: LabelledGround) -> Deal:
    """Whole scenes, by name; what is not named trains."""
    names = dict.fromkeys(settings.validation, "validation") | dict.fromkeys(settings.test, "test")
    deal = {piece: names.get(piece.scene_id, "training") for piece in ground.pieces}
    _refuse_split_ground(deal, ground)
    return deal


def _numbered(settings: FoldSettings, num_folds: int, ground: LabelledGround) -> Deal:
    """What `test` does not name, dealt into numbered folds."""
    _refuse_split_ground({p: "test" if p.scene_id in settings.test else "dealt" for p in ground.pieces}, ground)
    units = ground.units(without=settings.test)
    if not units:
        raise DataError(
            "folds.test names every labelled scene, so nothing is left to deal",
            received=list(settings.test),
            remedy="Name fewer of them",
        )
    if settings.block_px is not None:
        _refuse_uncut(settings.block_px, ground, {piece.scene_id for unit in units for piece in unit})
    if num_folds > len(units):
        what = "blocks" if settings.unit == "block" else "labelled scenes, those of the same ground counted as one"
        can_be_cut = settings.unit == "scene" and any(len(unit) == 1 for unit in units)
        finer = ', or deal blocks with folds.unit = "block"' if can_be_cut else ""
        raise DataError(
            f"folds.num_folds: more folds than there are {what}",
            received={"num_folds": num_folds, "there are": len(units)},
            remedy=f"Take at most {len(units)}{finer}" if len(units) > 1 else f"Label more{finer}",
        )
    deal = {piece: "test" for piece in ground.pieces if piece.scene_id in settings.test}
    return deal | dealt(units, num_folds, settings.seed)


def dealt(units: Sequence[tuple[Piece, ...]], num_folds: int, seed: int) -> dict[Piece, str]:
    """Units into numbered folds, every class in each of them where possible."""
    areas_px = [[sum(column) for column in zip(*(piece.areas_px for piece in unit), strict=True)] for unit in units]
    names = [" + ".join(f"{piece.scene_id}/{piece.block}" for piece in unit) for unit in units]
    numbers = stratify(areas_px, names, num_folds, seed)
    return {piece: str(n + 1) for unit, n in zip(units, numbers, strict=True) for piece in unit}


def _used_for(name: str, settings: FoldSettings) -> FoldName:
    if name in ("validation", str(settings.fold)):
        return "validation"
    return "test" if name in ("test", str(settings.test_fold)) else "training"


def _of(use: FoldName, used: Uses) -> list[Piece]:
    return [piece for piece, each in used.items() if each == use]


def _parts(
    use: FoldName, dataset: PreparedDataset, ground: LabelledGround, used: Uses, scene_ids: Sequence[str]
) -> tuple[Part, ...]:
    """The ground of one use, scene by scene."""
    own: dict[str, list[int]] = {name: [] for name in scene_ids}
    others: dict[str, list[int]] = {name: [] for name in scene_ids}
    for piece, each in used.items():
        if piece.scene_id in own:
            (own if each == use else others)[piece.scene_id].append(piece.block)
    return tuple(
        Part(
            scene=dataset.scene(name),
            grid=ground.grids[name],
            blocks=tuple(sorted(own[name])) if others[name] else None,
            held_out_blocks=tuple(sorted(others[name])) if use == "training" else (),
        )
        for name in scene_ids
        if own[name]
    )


def _absent(dataset: PreparedDataset, pieces: Iterable[Piece]) -> tuple[str, ...]:
    held = [piece.areas_px for piece in pieces]
    return tuple(name for k, name in enumerate(dataset.classes) if not any(areas[k] for areas in held))


def _split(settings: FoldSettings, dataset: PreparedDataset, ground: LabelledGround, deal: Deal) -> Split:
    numbers = [str(number + 1) for number in range(settings.num_folds or 0)]
    names = [*(numbers or ("training", "validation")), *(["test"] if "test" in deal.values() else [])]
    totals = [sum(piece.areas_px[k] for piece in deal) for k in range(len(dataset.classes) + 1)]

    def shares(name: str) -> FoldShares:
        own = [piece for piece, fold in deal.items() if fold == name]
        areas = [sum(piece.areas_px[k] for piece in own) / max(1, total) for k, total in enumerate(totals)]
        return FoldShares(
            name=name,
            used_for=_used_for(name, settings),
            num_scenes=len({piece.scene_id for piece in own}),
            num_blocks=len(own) if settings.unit == "block" else None,
            known_share=areas[-1],
            class_shares=dict(zip(dataset.classes, areas, strict=False)),
        )

    return Split(
        folds=tuple(shares(name) for name in names),
        same_ground=ground.same_ground,
        unlabelled=tuple(name for name in dataset.scene_ids if name not in ground.scene_ids),
    )


def _refuse_unusable(settings: FoldSettings, dataset: PreparedDataset, deal: Deal, used: Uses) -> None:
    """Refuse a split from which a class, or anything at all, cannot be learned or ranked."""
    training, validation = _of("training", used), _of("validation", used)
    if not training:
        raise DataError(
            "The training fold is empty",
            received={"held out": _scene_ids(deal)},
            remedy="Hold out fewer of the labelled scenes in [folds]",
        )
    if absent := _absent(dataset, training):
        raise DataError(
            f"No training ground has {', '.join(absent)}",
            received={"fold": settings.fold} if settings.num_folds else {"training": _scene_ids(training)},
            remedy=_remedy(settings, dataset, deal, absent),
        )
    if _absent(dataset, validation) == dataset.classes:
        another = "Set another fold, or take fewer folds," if settings.num_folds else "Name others"
        raise DataError(
            "No validation ground has any of the classes",
            received=_scene_ids(validation),
            remedy=f"{another} in [folds]",
        )


def _remedy(settings: FoldSettings, dataset: PreparedDataset, deal: Deal, absent: Sequence[str]) -> str:
    positions = [dataset.classes.index(name) for name in absent]
    having = [piece for piece in deal if any(piece.areas_px[k] for k in positions)]
    if not having:
        return "Leave it out of data.classes"
    if settings.num_folds is None:
        return f"Let one of {', '.join(_scene_ids(having))} train"
    usable = []
    for other in (settings.model_copy(update={"fold": n + 1}) for n in range(settings.num_folds)):
        training = [piece for piece, name in deal.items() if _used_for(name, other) == "training"]
        if other.fold != settings.test_fold and not _absent(dataset, training):
            usable.append(str(other.fold))
    found = f"Set folds.fold to {' or '.join(usable)}" if usable else "Deal smaller units"
    return f"{found}, or leave it out of data.classes"


def _refuse_split_ground(deal: Deal, ground: LabelledGround) -> None:
    """Training on the ground that is then scored would flatter every candidate."""
    for group in ground.same_ground:
        where = {piece.scene_id: name for piece, name in deal.items() if piece.scene_id in group}
        if len(set(where.values())) > 1:
            raise DataError(
                "Scenes of the same ground must be in one fold, or the score is flattered",
                received=where,
                remedy=f"Put {' and '.join(group)} together in [folds]",
            )


def _refuse_uncut(block_px: int, ground: LabelledGround, scene_ids: set[str]) -> None:
    grids = [ground.grids[name] for name in scene_ids]
    if any(grid.num_blocks > 1 for grid in grids):
        return
    grouped = {name for group in ground.same_ground for name in group}
    if scene_ids <= grouped:
        raise DataError(
            "folds.unit: no scene can be cut into blocks, as each shares its ground with another",
            received={"same ground": [list(group) for group in ground.same_ground]},
            remedy='Label other ground, or take folds.unit = "scene" if there are enough such groups',
        )
    longest = max((max(grid.row_edges_px[-1], grid.column_edges_px[-1]) for grid in grids), default=0)
    smaller = f"Take at most {longest * 2 // 3}, or " if longest * 2 // 3 >= LEAST_BLOCK_PX else "Take "
    raise DataError(
        "folds.block_px: the blocks are so large that they cut no scene",
        received={"block_px": block_px, "longest side of a scene that may be cut": longest},
        remedy=f'{smaller}folds.unit = "scene"',
    )


def _scene_ids(pieces: Iterable[Piece]) -> list[str]:
    return list(dict.fromkeys(piece.scene_id for piece in pieces))


def _corners_px(part: Part) -> list[tuple[int, ...]]:
    return [(rows.start, columns.start, rows.stop, columns.stop) for rows, columns in part.windows]


def _grown(side: slice, context_px: int) -> slice:
    return slice(max(0, side.start - context_px), side.stop + context_px)
