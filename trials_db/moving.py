"""A study in a file, to be moved from store to store: JSON lines, the study first, then its trials, then the end.

The large files of its trials are in a folder beside it.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from search_space.decode import decode, encode
from search_space.errors import MalformedError
from trials_db.artifacts import Artifacts, FolderArtifacts
from trials_db.records import StudyRecord, Trial

FORMAT = 1
_EXPORT_AGAIN = "Export the study again"


class MovedStudy(NamedTuple):
    """A study as a store knew it.

    Attributes:
        record: The study.
        trials: By number.
    """

    record: StudyRecord
    trials: list[Trial]


def write_study(path: Path, record: StudyRecord, trials: Sequence[Trial]) -> None:
    """Write a study with all that its store knows; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            for line in _lines(record, trials):
                file.write(json.dumps(line) + "\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_study(path: Path) -> MovedStudy:
    """Read what `write_study` wrote; everything is checked before anything is returned.

    Raises:
        MalformedError: There is no such file, it is no study, was cut off, or a line is not as this version writes it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise MalformedError("there is no such file", received=str(path)) from None
    except (OSError, ValueError) as error:
        raise MalformedError(f"{path} cannot be read ({error})") from None
    plain = [_parsed(line, path, number) for number, line in enumerate(lines, start=1)]
    if not plain or "mapgrove_study" not in plain[0]:
        raise MalformedError(f"{path} holds no exported study", remedy="`trials export FILE --study NAME` writes one")
    if plain[0]["mapgrove_study"] != FORMAT:
        raise MalformedError(
            f"{path} has another format", received=plain[0]["mapgrove_study"], remedy=f"This Mapgrove reads {FORMAT}"
        )
    if plain[-1].keys() != {"end"} or plain[-1]["end"] != len(plain) - 2:
        raise MalformedError(f"{path} was cut off: its last line is not the end", remedy=_EXPORT_AGAIN)
    record = decode(StudyRecord, plain[0].get("study", {}), where=f"{path}, line 1", remedy=_EXPORT_AGAIN)
    trials = [
        decode(Trial, each, where=f"{path}, line {number}", remedy=_EXPORT_AGAIN)
        for number, each in enumerate(plain[1:-1], start=2)
    ]
    return MovedStudy(record, trials)


def files_beside(path: Path) -> FolderArtifacts:
    """Where the large files of an exported study lie: in a folder beside it."""
    return FolderArtifacts(path.with_name(f"{path.name}.artifacts"), carries_checkpoints=False)


def copy_files(study: str, source: Artifacts, target: Artifacts) -> int:
    """Copy the large files of a study's trials from one place to another; return their number.

    Raises:
        ArtifactError: One cannot be read or written.
    """
    held = source.held(study)
    with tempfile.TemporaryDirectory() as folder:
        for artifact in held:
            beside = Path(folder) / artifact.file
            if source.fetch(study, artifact, beside):
                target.put(study, artifact, beside)
    return len(held)


def _lines(record: StudyRecord, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    return [{"mapgrove_study": FORMAT, "study": encode(record)}, *map(encode, trials), {"end": len(trials)}]


def _parsed(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        plain = json.loads(line)
    except ValueError:
        plain = None
    if not isinstance(plain, dict):
        raise MalformedError(f"{path}, line {number}, is no JSON mapping", received=line[:60], remedy=_EXPORT_AGAIN)
    return plain
