"""What every adapter offers, and the small things they share."""

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol, Self

from pipeline.scene import Band, DataError, Scene
from search_space.errors import did_you_mean


class Adapter(Protocol):
    """One data set on disk.

    An adapter lists, checks and reads; it never writes. Everything it raises for the user's files is a `DataError`
    with the file's name in it.
    """

    @property
    def scene_ids(self) -> tuple[str, ...]:
        """Every scene, sorted; labelled or not."""

    @property
    def bands(self) -> tuple[Band, ...]:
        """Every band that `read` can deliver, in the data set's order."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every class that labels can have."""

    @property
    def same_ground(self) -> tuple[tuple[str, ...], ...]:
        """Groups of scene ids that show the same ground, so that no fold may split them."""

    def check(self) -> None:
        """Look for what concerns the whole data set, without reading pixels.

        Raises:
            DataError: A missing folder or file, no scenes at all, or contradicting ones.
        """

    def sources(self, scene_id: str, bands: Collection[str]) -> tuple[Path, ...]:
        """Files on which `read` with these arguments depends, labels included; they may not exist."""

    def read(self, scene_id: str, bands: Collection[str]) -> Scene:
        """Read one scene.

        Args:
            scene_id: One of `scene_ids`.
            bands: Names of the bands that are needed; files without any of them are left alone.

        Raises:
            DataError: A missing, corrupt or contradicting file.
        """

    def of_image(self, path: Path) -> Self:
        """A data set of one scene without labels: an image from elsewhere with the bands of this data set.

        Args:
            path: The image. Where a scene is several files, the one whose grid is the scene's; the others, if their
                bands are needed, lie beside it as they do in this data set.

        Returns:
            An adapter whose one scene has the name of the file without its ending. Nothing is read yet, and this data
            set's own folder need not exist.
        """


def check_names(what: str, wanted: Sequence[str], known: Iterable[str]) -> None:
    """Refuse a name that is not known.

    Raises:
        DataError: The first unknown name, with the nearest known one.
    """
    names = tuple(known)
    for name in wanted:
        if name not in names:
            raise DataError(f"{what} is not in the data set", received=name, remedy=did_you_mean(name, names))


def existing_folder(folder: Path, remedy: str) -> Path:
    """Return `folder`.

    Raises:
        DataError: It is missing or not a folder.
    """
    if not folder.is_dir():
        raise DataError("The folder does not exist", received=str(folder), remedy=remedy)
    return folder


def existing_file(path: Path, remedy: str) -> Path:
    """Return `path`.

    Raises:
        DataError: It is missing, not a file, or may not be read.
    """
    if not path.is_file():
        raise DataError("The file does not exist", received=str(path), remedy=remedy)
    if not os.access(path, os.R_OK):
        raise DataError("The file may not be read", received=str(path), remedy="Check its rights (ls -l)")
    return path
