"""Large files of trials, kept beside the store: what they start from, checkpoints, and the models worth keeping."""

import os
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from search_space.names import study_name
from search_space.objective import CHECKPOINT_FILE, MODEL_FILE, START_FILE
from trials_db.errors import ArtifactError
from trials_db.stopping import Stop

FILES = (CHECKPOINT_FILE, MODEL_FILE, START_FILE)
"""Names of files that may be kept."""

MOST_TRIES = 20
"""So often a file is written whose folder others remove meanwhile."""

_SHOWN = re.compile(r"([0-9]{4,9})/([0-9]{1,9})/([a-z]+\.[a-z]+)", re.ASCII)


class Artifact(NamedTuple):
    """One file of a trial.

    Attributes:
        number: Number of the trial.
        attempt: Which of its attempts made the file, from 1. A worker that lost its trial writes under its own.
        file: One of `FILES`.
    """

    number: int
    attempt: int
    file: str

    @property
    def path(self) -> str:
        """Where it lies, relative to its study's: `0007/2/model.keras`."""
        return f"{self.number:04d}/{self.attempt}/{self.file}"


def parse_artifact(path: str) -> Artifact | None:
    """The artifact of a relative path, None where it is none: whatever a shared place holds is not trusted."""
    found = _SHOWN.fullmatch(path)
    if found is None or found[3] not in FILES:
        return None
    artifact = Artifact(int(found[1]), int(found[2]), found[3])
    return artifact if artifact.path == path else None


class Artifacts(ABC):
    """Large files of all studies of a store. A file is whole or not there; putting it again replaces it.

    Attributes:
        carries_checkpoints: Whether workers that share no folder meet here, so that checkpoints have to.
    """

    carries_checkpoints: bool

    @abstractmethod
    def probe(self) -> None:
        """Write, and take it back.

        Raises:
            ArtifactError: Nothing can be kept.
        """

    @abstractmethod
    def put(self, study: str, artifact: Artifact, source: Path) -> None:
        """Keep a copy of a file.

        Raises:
            ArtifactError: It cannot be read, or there is no room or right to keep it.
        """

    @abstractmethod
    def fetch(self, study: str, artifact: Artifact, target: Path) -> bool:
        """Write a file, whole or not at all; return False where there is none.

        Raises:
            ArtifactError: It cannot be read or written.
        """

    @abstractmethod
    def held(self, study: str, number: int | None = None) -> list[Artifact]:
        """The files that are kept of a study, or of one of its trials, in order."""

    @abstractmethod
    def drop(self, study: str, artifacts: Iterable[Artifact]) -> None:
        """Keep files no longer; do nothing about those that are gone.

        Raises:
            ArtifactError: One cannot be removed.
        """

    @abstractmethod
    def tidy(self, older_than_s: float) -> None:
        """Remove what writers that were killed have left behind, if it is older than this."""

    @abstractmethod
    def heed(self, stop: Stop) -> None:
        """Wait no longer for a server that is away once `stop` is set."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def newest(self, study: str, number: int, file: str) -> Artifact | None:
        """That of the latest attempt, None where there is none."""
        return max((each for each in self.held(study, number) if each.file == file), default=None)


class FolderArtifacts(Artifacts):
    """A folder, such as one that all machines share: `FOLDER/STUDY/0007/2/model.keras`.

    Args:
        folder: It is made when it is needed.
        carries_checkpoints: See `Artifacts`.
    """

    def __init__(self, folder: Path, *, carries_checkpoints: bool) -> None:
        self.folder = folder
        self.carries_checkpoints = carries_checkpoints

    def heed(self, stop: Stop) -> None:
        """A folder is never waited for."""

    def close(self) -> None:
        """Nothing is held."""

    def probe(self) -> None:
        """See `Artifacts`."""
        probe = self.folder / ".probe"
        with whole_file(probe, f"{self.folder} cannot be written") as beside:
            beside.touch()
        probe.unlink(missing_ok=True)

    def put(self, study: str, artifact: Artifact, source: Path) -> None:
        """See `Artifacts`."""
        target = self._home(study) / artifact.path
        for _ in range(MOST_TRIES - 1):
            try:
                return self._copy(source, target, "kept")
            except ArtifactError as error:
                # Whoever drops the last file of a folder removes it, perhaps just when another is to come there.
                if not (isinstance(error.__cause__, FileNotFoundError) and source.is_file()):
                    raise
        return self._copy(source, target, "kept")

    def fetch(self, study: str, artifact: Artifact, target: Path) -> bool:
        """See `Artifacts`."""
        source = self._home(study) / artifact.path
        if not source.is_file():
            return False
        try:
            self._copy(source, target, "fetched")
        except ArtifactError:
            if source.is_file():
                raise
            # Dropped in between.
            return False
        return True

    def held(self, study: str, number: int | None = None) -> list[Artifact]:
        """See `Artifacts`."""
        home = self._home(study)
        # Those of the studies of single classes lie below that of the whole; they are no numbers.
        trials = [f"{number:04d}"] if number is not None else [name for name in _names(home) if name[:1].isdecimal()]
        paths = (
            f"{trial}/{attempt}/{file}"
            for trial in trials
            for attempt in _names(home / trial)
            for file in _names(home / trial / attempt)
        )
        return sorted(found for path in paths if (found := parse_artifact(path)) is not None)

    def drop(self, study: str, artifacts: Iterable[Artifact]) -> None:
        """See `Artifacts`."""
        for artifact in artifacts:
            path = self._home(study) / artifact.path
            try:
                path.unlink(missing_ok=True)
            except NotADirectoryError:
                continue
            except OSError as error:
                raise ArtifactError(f"{path} cannot be removed: {error}", remedy="Check rights there") from error
            with suppress(OSError):
                # Only those that are empty by now.
                path.parent.rmdir()
                path.parent.parent.rmdir()

    def tidy(self, older_than_s: float) -> None:
        """See `Artifacts`."""
        oldest_s = time.time() - older_than_s
        endings = tuple(f".{file}" for file in FILES)
        for folder, _, names in os.walk(self.folder):
            for path in (Path(folder, name) for name in names if name.startswith(".") and name.endswith(endings)):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime < oldest_s:
                        path.unlink()

    def _home(self, study: str) -> Path:
        return self.folder / _checked(study)

    def _copy(self, source: Path, target: Path, what: str) -> None:
        with whole_file(target, f"{source.name} cannot be {what}") as beside:
            shutil.copyfile(source, beside)


@contextmanager
def whole_file(target: Path, otherwise: str) -> Iterator[Path]:
    """Write a file beside its final place, and rename it once it is whole.

    Args:
        target: The final file; its folder is made where it is missing.
        otherwise: What a failure means, for the error.

    Yields:
        Where to write.

    Raises:
        ArtifactError: It cannot be written; nothing is left of it.
    """
    beside = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ArtifactError(f"{otherwise}: {error}", remedy="Check free space and rights") from error


def _names(folder: Path) -> list[str]:
    """What lies in a folder; nothing where there is none, as others may remove it at any time."""
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ArtifactError(
            f"{folder} cannot be read: {error}", remedy="Check rights, and that it is mounted"
        ) from error


def _checked(study: str) -> str:
    """A study's name, which becomes a path; it came from a store."""
    try:
        return study_name(study)
    except ValueError as error:
        raise ArtifactError(f"a study's name {error}", received=study) from None
