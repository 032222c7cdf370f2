"""The folder that `prepare` writes to: what it may replace and remove, and whether there is room."""

import errno
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.files import try_folder
from pipeline.imagery.outlines import OUTLINES
from pipeline.imagery.resampling import Shape
from pipeline.preparation.prepared import CUBE, KNOWN, MANIFEST, MASKS, QUICKLOOK, RECORD, THUMBNAIL, VALID
from pipeline.scene import DataError

logger = logging.getLogger(__name__)

PARTIAL = ".partial"
SCENE_FILES = {CUBE, MASKS, VALID, KNOWN, THUMBNAIL, OUTLINES, QUICKLOOK, RECORD}
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class FullDiskError(DataError):
    """The disk has no room for what must be written."""


def beside(folder: Path) -> Path:
    """Where a scene's folder is written before it is moved to its place."""
    return folder.with_name(f".{folder.name}{PARTIAL}")


def make_folder(folder: Path, imagery: Path) -> None:
    """Make the folder, and see that it may be written to.

    Raises:
        DataError: It cannot, it is the imagery's own, or it holds another program's manifest.
    """
    _refuse_own_imagery(folder, imagery)
    try:
        try_folder(folder)
    except OSError as error:
        raise DataError(
            f"data.prepared: the folder cannot be written: {error.strerror}",
            received=str(folder),
            remedy="Name another one",
        ) from error
    _refuse_foreign_manifest(folder / MANIFEST)


def refuse_foreign(folder: Path) -> None:
    """Only what `prepare` has made may be replaced.

    Raises:
        DataError: Somebody else's files are in the folder.
    """
    if not is_own(folder):
        raise DataError(
            f"{folder} holds files that `prepare` did not make",
            remedy="Move them away, or name another data.prepared",
        )


def refuse_odd_names(scene_ids: Sequence[str]) -> None:
    """Each scene gets a folder of its name.

    Raises:
        DataError: A name that fits none.
    """
    for scene_id in scene_ids:
        if not scene_id or scene_id.startswith(".") or "/" in scene_id:
            raise DataError(
                "a scene's name must fit a folder: not empty, without /, not starting with a dot",
                received=scene_id,
                remedy="Rename its files, or mend the pattern",
            )


def refuse_full_disk(folder: Path, scene_id: str, shape: Shape, num_bands: int, num_classes: int) -> None:
    """See that a scene's arrays fit on the disk.

    Raises:
        FullDiskError: They do not.
    """
    needed = shape[0] * shape[1] * (4 * num_bands + num_classes + 2)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise full_disk(folder, scene_id, f"which takes {needed / 1e6:,.1f} MB", free)


def full_disk(folder: Path, scene_id: str, detail: str, free: int) -> FullDiskError:
    """What to tell of a disk without room for a scene."""
    return FullDiskError(
        f"{folder}: the disk is too full for the scene {scene_id}, {detail}",
        received=f"{free / 1e6:,.1f} MB free",
        remedy="Make room, name another data.prepared, keep fewer bands in data.bands, or take a coarser data.grid",
    )


def remove_partial(folder: Path) -> None:
    """Remove what a stopped process left of a scene; only `prepare`'s own."""
    left = beside(folder)
    if left.is_dir() and is_own(left):
        shutil.rmtree(left, ignore_errors=True)


def remove_stale(folder: Path, scene_ids: set[str]) -> None:
    """Scenes that the data set no longer has, and what a killed run left; only `prepare`'s own folders are touched."""
    stale = sorted(path for path in folder.glob("*/") if path.name not in scene_ids and is_own(path))
    if stale:
        (folder / MANIFEST).unlink(missing_ok=True)
        logger.warning("Removed, as the data set no longer has them: %s", ", ".join(path.name for path in stale))
    for path in stale:
        shutil.rmtree(path)


def is_own(folder: Path) -> bool:
    """Whether `prepare` made the folder, and nobody put anything else into it."""
    names = {path.name for path in folder.iterdir()}
    if not names <= SCENE_FILES:
        return False
    if folder.name.startswith(".") and folder.name.endswith(PARTIAL):
        return True
    try:
        plain = json.loads((folder / RECORD).read_bytes())
    except (OSError, ValueError):
        return not names
    # Records of other versions have other keys besides.
    return isinstance(plain, dict) and {"key", "sources"} <= set(plain) and plain.get("id") == folder.name


def _refuse_own_imagery(prepared: Path, imagery: Path) -> None:
    if prepared.resolve() == imagery.resolve():
        raise DataError(
            "data.prepared must be another folder than data.folder",
            received=str(prepared),
            remedy="Name a new folder, such as runs/prepared/NAME",
        )


def _refuse_foreign_manifest(path: Path) -> None:
    try:
        plain = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return
    if not (isinstance(plain, dict) and {"version", "scenes"} <= set(plain)):
        raise DataError(
            f"{path} is a file that `prepare` did not make", remedy="Move it away, or name another data.prepared"
        )
