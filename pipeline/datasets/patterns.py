"""Which files belong to which scene: by what stands for the star of a pattern."""

import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from rasterio.errors import RasterioError

from pipeline.datasets.raster import files_of
from pipeline.scene import DataError

logger = logging.getLogger(__name__)

SIDECARS = (".xml", ".tfw", ".tifw", ".jgw", ".pgw", ".wld", ".prj", ".ovr", ".msk", ".txt", ".csv", ".json")
"""Endings of files that lie beside pictures and are none."""

VECTORS = (".geojson", ".json", ".gpkg", ".shp", ".fgb")
"""Endings of files with geometries."""

_BESIDE_VECTORS = (".shx", ".dbf", ".prj", ".cpg", "-wal")
"""Endings of files on which the meaning of the one beside them depends; a GIS that has a GeoPackage open leaves what
it saves in the last one."""


def find_files(folder: Path, pattern: str, option: str) -> dict[str, Path]:
    """Find the files that match a pattern with a star.

    Args:
        folder: Where the pattern starts.
        pattern: Below the folder, such as `images/*_ms.tif`; a star stands for any letters but `/`.
        option: Name of the option, for messages.

    Returns:
        Scene id to file, sorted: the id is what stands for the stars, joined by `_`.

    Raises:
        DataError: The pattern leaves the folder or has no star, or two files belong to one scene.
    """
    if _leaves(pattern) or "**" in pattern or "*" not in pattern:
        raise DataError(
            f"data.options.{option}: the pattern lies below data.folder and has a * for the scene's name",
            received=pattern,
            remedy=f"Write for example '{option.split('.')[0]}/*{Path(pattern).suffix or '.png'}'",
        )
    _refuse_closed(folder / pattern, option)
    matcher = _matcher(pattern)
    kept = Path(pattern).suffix.lower()
    found: dict[str, Path] = {}
    for path in sorted(folder.glob(re.sub(r"([\[?])", r"[\1]", pattern))):
        match = matcher.fullmatch(path.relative_to(folder).with_suffix("").as_posix())
        # A link to nothing is told when its scene is read; a scene that only vanished would be taken away.
        if match is None or _is_beside(path, kept) or not (path.is_file() or path.is_symlink()):
            continue
        scene_id = _joined(match)
        if scene_id in found:
            raise DataError(
                f"data.options.{option}: two files belong to the scene {scene_id}",
                received=[found[scene_id].name, path.name],
                remedy="Narrow the pattern, or rename one",
            )
        found[scene_id] = path
    return found


def shared_file(folder: Path, name: str, option: str) -> Path:
    """The one file of all scenes that a pattern without a star names.

    Raises:
        DataError: It lies outside the folder, or does not exist.
    """
    path = folder / name
    if _leaves(name) or not path.is_file():
        raise DataError(
            f"data.options.{option}: there is no such file below data.folder",
            received=str(path),
            remedy="Mend the name, or write a * for the scene's name if there is a file per scene",
        )
    return path


def root_and_id(path: Path, pattern: str) -> tuple[Path, str] | None:
    """The folder in which `path` matches a pattern, and the scene's id; None where it does not."""
    depth = len(Path(pattern).parts)
    whole = path.absolute()
    if len(whole.parts) <= depth or whole.suffix.lower() != Path(pattern).suffix.lower():
        return None
    root = whole.parents[depth - 1]
    match = _matcher(pattern).fullmatch(whole.relative_to(root).with_suffix("").as_posix())
    return None if match is None else (root, _joined(match))


def with_companions(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Files and others that change what they mean: masks, world files, the parts of a shapefile, sources of a VRT."""
    found: list[Path] = []
    for path in paths:
        beside: set[Path] = set()
        if path.suffix.lower() in VECTORS:
            beside = {path.with_name(path.name + ending) for ending in _BESIDE_VECTORS}
            beside |= {path.with_suffix(ending) for ending in _BESIDE_VECTORS if ending.startswith(".")}
        else:
            # What cannot be opened is told when its scene is read.
            with suppress(RasterioError):
                beside = set(files_of(path)) - {path}
        found += [path, *sorted(other for other in beside if other.is_file())]
    return tuple(dict.fromkeys(found))


def warn_of_unused(scene_ids: Collection[str]) -> None:
    """Say which label files belong to no image, whether their classes have files of their own or share them."""
    if scene_ids:
        names = sorted(scene_ids)
        shown = ", ".join(names[:10]) + (" …" if len(names) > 10 else "")
        logger.warning("Labels of %d scenes have no image: %s", len(names), shown)


def refuse_half_labelled(scene_ids: Collection[str], files: Mapping[str, Mapping[str, Path]]) -> None:
    """Refuse a scene that has label files of some classes only: nobody can know what the others would say.

    Args:
        scene_ids: The scenes.
        files: Class to scene id to file.

    Raises:
        DataError: The first such scene.
    """
    for scene_id in sorted(scene_ids):
        missing = [name for name, found in files.items() if scene_id not in found]
        if 0 < len(missing) < len(files):
            raise DataError(
                f"the scene {scene_id} has labels, but none of {', '.join(missing)}",
                received=[found[scene_id].name for found in files.values() if scene_id in found],
                remedy="Add an empty one where there is nothing of the class, or take the others away",
            )


def _refuse_closed(pattern: Path, option: str) -> None:
    """A folder that may not be looked into has no files, as far as anybody can see."""
    fixed = next(parent for parent in pattern.parents if "*" not in str(parent))
    if fixed.is_dir() and not os.access(fixed, os.R_OK | os.X_OK):
        raise DataError(
            f"data.options.{option}: the folder may not be read",
            received=str(fixed),
            remedy="Check its rights (ls -ld)",
        )


def _leaves(pattern: str) -> bool:
    return pattern.startswith("/") or ".." in pattern.split("/")


def _matcher(pattern: str) -> re.Pattern[str]:
    stem = re.sub(r"\.[^./]*$", "", pattern)
    return re.compile("".join("([^/]*)" if part == "*" else re.escape(part) for part in re.split(r"(\*)", stem)))


def _joined(match: re.Match[str]) -> str:
    return "_".join(part for part in match.groups() if part)


def _is_beside(path: Path, kept: str) -> bool:
    """Hidden files, and what GIS programs leave beside a picture; an ending that the pattern names is meant."""
    suffix = path.suffix.lower()
    return path.name.startswith(".") or (suffix in SIDECARS and suffix != kept)
