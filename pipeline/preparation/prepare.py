"""`prepare`: from files as they come to cubes, masks and a manifest; resumes, and skips what is unchanged."""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from pipeline.datasets.table import open_dataset
from pipeline.files import sole_writer, written_beside
from pipeline.imagery.registration import Shift
from pipeline.preparation.prepare_pool import SceneOutcome, prepare_scenes, sensible_jobs
from pipeline.preparation.prepare_scene import ScenePlan
from pipeline.preparation.prepared import (
    FORMAT_VERSION,
    MANIFEST,
    GroundLink,
    MadeFor,
    Manifest,
    PreparedDataset,
    PreparedScene,
    SceneRecord,
)
from pipeline.preparation.prepared_folder import make_folder, refuse_odd_names, remove_stale
from pipeline.preparation.same_ground import find_same_ground, given_links, joined_groups
from pipeline.scene import DataError
from search_space.study import DataSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """Told after every scene.

    Attributes:
        scene_id: Which one.
        number: How many have ended, from 1.
        total: Number of scenes.
        state: "prepared" now, "unchanged" since last time, or "failed".
        labelled: Whether it has labels.
        has_data: Whether any pixel has data.
        reason: Why it failed; empty otherwise.
        shifts: Of its groups of bands, as measured; accepted or not.
    """

    scene_id: str
    number: int
    total: int
    state: Literal["prepared", "unchanged", "failed"]
    labelled: bool = False
    has_data: bool = True
    reason: str = ""
    shifts: tuple[Shift, ...] = ()


def prepare(
    settings: DataSettings, on_progress: Callable[[Progress], None] | None = None, jobs: int | None = 1
) -> PreparedDataset:
    """Prepare every scene of a data set.

    Each scene is written beside its place and moved there when whole; the manifest comes last. So an interrupted run
    leaves whole scenes only, and the next one goes on from there. A scene that fails does not stop the others.

    Args:
        settings: The study's `[data]`.
        on_progress: Called after every scene, in the order in which they end.
        jobs: Scenes at a time, each in a process of its own; 1 stays in this process, None chooses by the machine. The
            processes import the caller's main module: a script calls `prepare` below `if __name__ == "__main__":`.

    Returns:
        The prepared data set.

    Raises:
        DataError: A problem of the data set as a whole, a full disk, a process that was killed, or, at the end, scenes
            that failed.
        MalformedError: Options that the adapter does not understand.
        MapgroveError: Another process prepares into the same folder.
    """
    folder = Path(settings.prepared)
    adapter = open_dataset(settings)
    refuse_odd_names(adapter.scene_ids)
    plan = ScenePlan.make(settings, adapter)
    make_folder(folder, Path(settings.folder))
    with sole_writer(folder):
        earlier = _manifest(folder)
        records = _prepare_scenes(plan, folder, jobs or sensible_jobs(plan), on_progress)
        remove_stale(folder, set(adapter.scene_ids))
        _tell_constant(records)
        _write_manifest(plan, folder, records, earlier)
    return PreparedDataset.open(folder)


def _prepare_scenes(
    plan: ScenePlan, folder: Path, jobs: int, on_progress: Callable[[Progress], None] | None
) -> list[SceneRecord]:
    total = len(plan.adapter.scene_ids)
    records: list[SceneRecord] = []
    failed: list[str] = []
    with closing(prepare_scenes(plan, folder, jobs)) as outcomes:
        for number, outcome in enumerate(outcomes, start=1):
            if outcome.record is None:
                failed.append(outcome.scene_id)
                (folder / MANIFEST).unlink(missing_ok=True)
                logger.error("%s: %s", outcome.scene_id, outcome.reason)
            else:
                records.append(outcome.record)
            if on_progress is not None:
                on_progress(_progress(outcome, number, total))
    if failed:
        raise _failed(sorted(failed), total)
    return sorted(records, key=lambda record: record.id)


def _progress(outcome: SceneOutcome, number: int, total: int) -> Progress:
    record = outcome.record
    if record is None or outcome.state is None:
        return Progress(outcome.scene_id, number, total, "failed", reason=outcome.reason)
    return Progress(
        scene_id=record.id,
        number=number,
        total=total,
        state=outcome.state,
        labelled=record.labelled,
        has_data=record.valid_share > 0,
        shifts=record.shifts,
    )


def _tell_constant(records: Sequence[SceneRecord]) -> None:
    """A band that is the same everywhere teaches a network nothing; mostly a file or a formula is wrong."""
    shown = [record for record in records if record.valid_share > 0]
    for bands in zip(*(record.bands for record in shown), strict=True):
        lowest, highest = min(band.minimum for band in bands), max(band.maximum for band in bands)
        if lowest == highest:
            logger.warning("The band %s is %g on all ground of all scenes", bands[0].name, lowest)


def _write_manifest(plan: ScenePlan, folder: Path, records: list[SceneRecord], earlier: Manifest | None) -> None:
    links = _links(plan, folder, records, earlier)
    manifest = Manifest(
        version=FORMAT_VERSION,
        made_for=MadeFor.of(plan.settings),
        classes=plan.settings.classes,
        bands=plan.output_bands,
        same_ground=joined_groups(link.scenes for link in links),
        scenes=tuple(records),
        same_ground_links=tuple(links),
    )
    with written_beside(folder / MANIFEST) as beside:
        beside.write_text(manifest.model_dump_json(indent=1), encoding="utf-8")


def _links(plan: ScenePlan, folder: Path, records: Sequence[SceneRecord], earlier: Manifest | None) -> list[GroundLink]:
    given = given_links(plan.adapter.same_ground, [record.id for record in records])
    if plan.settings.same_ground == "given":
        return given
    if earlier is not None and _looked_at_the_same(earlier, records):
        # Every scene is compared with every other: not twice.
        found = [link for link in earlier.same_ground_links if link.found != "given"]
    else:
        found = find_same_ground([PreparedScene(folder / record.id, record) for record in records])
    return given + found


def _looked_at_the_same(earlier: Manifest, records: Sequence[SceneRecord]) -> bool:
    same_scenes = [(r.id, r.key) for r in earlier.scenes] == [(r.id, r.key) for r in records]
    return earlier.version == FORMAT_VERSION and earlier.made_for.same_ground == "find" and same_scenes


def _manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None


def _failed(scene_ids: Sequence[str], total: int) -> DataError:
    return DataError(
        f"{len(scene_ids)} of {total} scenes could not be prepared: {', '.join(scene_ids)}",
        remedy="Mend them or leave them out, then run prepare again; finished scenes are kept",
    )
