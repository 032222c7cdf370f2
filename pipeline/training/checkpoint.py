"""Training that is cut off goes on: all that it depends on, after each epoch, in one file; and the one before it."""

import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.files import written_beside
from pipeline.validation.whole_ground import Validation
from search_space.decode import decode, encode, fingerprint
from search_space.errors import MapgroveError
from search_space.objective import EpochReport

_log = logging.getLogger(__name__)

Arrays = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Best:
    """The best epoch so far.

    Attributes:
        epoch: Which one, from 1.
        validation: What it reached.
        weights: Of the network after it, in the network's order.
    """

    epoch: int
    validation: Validation
    weights: Arrays


@dataclass(frozen=True)
class Snapshot:
    """Training after an epoch.

    Attributes:
        reports: One per epoch so far.
        best: The best epoch so far; None where none was validated yet.
        variables: Of the trainee, in its order: weights, statistics, the states of random generators.
        optimizer: Variables of the optimizer, in its order.
        optimizer_names: Their names.
        patch_losses: What the sampler remembers, see `PatchSampler.seen_losses`.
        train_s: How long it took so far, in seconds.
        num_parts: Into so many parts a batch is divided, as a whole one took too much memory.
        collected: Sets of weights that are to be averaged, one after the other.
    """

    reports: tuple[EpochReport, ...]
    best: Best | None
    variables: Arrays
    optimizer: Arrays
    optimizer_names: Sequence[str]
    patch_losses: NDArray[np.float64]
    train_s: float
    num_parts: int = 1
    collected: Arrays = ()


@dataclass(frozen=True)
class Checkpoint:
    """A file that a training writes after each epoch, and starts from where it exists.

    Beside it the one before is kept, which is taken where the newest is damaged.

    Attributes:
        path: The file, `.npz`. Plain arrays and JSON: nothing in it is executed.
        about: What the training depends on, as plain data. One with anything else starts anew.
        warn: Told once, in one line, where training goes on without being kept.
    """

    path: Path
    about: Mapping[str, Any]
    warn: Callable[[str], None] = _log.warning

    def with_more(self, about: Mapping[str, Any]) -> "Checkpoint":
        """The same file for a training that depends on more."""
        return replace(self, about={**self.about, **about})

    @property
    def before(self) -> Path:
        """Where the one before is kept."""
        return self.path.with_name(f"before.{self.path.name}")

    def save(self, snapshot: Snapshot) -> None:
        """Write the file, whole or not at all; what it was so far becomes the one before."""
        best = snapshot.best
        text = json.dumps(
            {
                "key": self._key,
                "reports": [encode(report) for report in snapshot.reports],
                "best": None if best is None else {"epoch": best.epoch, "validation": _plain(best.validation)},
                "optimizer_names": list(snapshot.optimizer_names),
                "train_s": snapshot.train_s,
                "num_parts": snapshot.num_parts,
            }
        )
        arrays: dict[str, Any] = {"text": np.frombuffer(text.encode(), np.uint8), "patch_losses": snapshot.patch_losses}
        counts = (
            [] if best is None else [each for scenes in best.validation.counts.values() for each in scenes.values()]
        )
        lists = {
            "variables": snapshot.variables,
            "optimizer": snapshot.optimizer,
            "best": best.weights if best is not None else (),
            "collected": snapshot.collected,
            "counts": counts,
        }
        for name, several in lists.items():
            arrays |= {f"{name}_{number}": each for number, each in enumerate(several)}
        with written_beside(self.path) as beside:
            np.savez(beside, **arrays)
            self._keep_before()

    def load(self) -> Snapshot | None:
        """What the file holds, or where it is damaged or missing, what the one before does.

        Returns:
            None where there is none of this training, which is told where there is another's.
        """
        newest = self._read(self.path)
        if isinstance(newest, Snapshot) or newest == _OTHER:
            return newest if isinstance(newest, Snapshot) else None
        before = self._read(self.before)
        if not isinstance(before, Snapshot):
            return None
        _log.warning("%s: training goes on from the one before, after epoch %d", self.path, len(before.reports))
        return before

    def remove(self) -> None:
        """Delete the files where they are: the training has ended."""
        self.path.unlink(missing_ok=True)
        self.before.unlink(missing_ok=True)

    def _keep_before(self) -> None:
        """Give the present file its second name; under the first it stays, as it may be on its way elsewhere."""
        if not self.path.is_file():
            return
        self.before.unlink(missing_ok=True)
        try:
            self.before.hardlink_to(self.path)
        except OSError:
            # Not every file system has links.
            self.path.replace(self.before)

    def _read(self, path: Path) -> Snapshot | str:
        """The snapshot, or why there is none; whatever is wrong with a file that is there is told."""
        if not path.is_file():
            return _MISSING
        if not zipfile.is_zipfile(path):
            _log.warning("%s: not used, it is damaged: it is no archive, or only the beginning of one", path)
            return _DAMAGED
        try:
            _check_sums(path)
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                plain = json.loads(bytes(arrays["text"]))
                if plain["key"] != self._key:
                    _log.warning("%s: not used: it is of another training", path)
                    return _OTHER
                return _snapshot(plain, {name: arrays[name] for name in arrays.files})
        except (
            *(MapgroveError, OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error),
            RuntimeError,  # of an archive that says it is encrypted, or packed in an unknown way
        ) as error:
            _log.warning("%s: not used, it is damaged: %s", path, error)
            return _DAMAGED

    @property
    def _key(self) -> str:
        return fingerprint(self.about)


def _check_sums(path: Path) -> None:
    """Refuse an archive of which any file has changed: NumPy would read what one says of its shape, and no farther.

    Raises:
        BadZipFile: The first file whose sum is another one.
    """
    with zipfile.ZipFile(path) as archive:
        changed = archive.testzip()
    if changed is not None:
        raise zipfile.BadZipFile(f"{changed} is not what was written")


_MISSING, _OTHER, _DAMAGED = "missing", "of another training", "damaged"


def fits(snapshot: Snapshot, variables: Arrays, optimizer: Arrays) -> bool:
    """Whether a snapshot's arrays have the shapes of a training's."""
    ours = [each.shape for each in (*variables, *optimizer)]
    return ours == [each.shape for each in (*snapshot.variables, *snapshot.optimizer)]


def _snapshot(plain: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Snapshot:
    def several(name: str) -> list[NDArray[Any]]:
        count = sum(key.startswith(f"{name}_") and key.removeprefix(f"{name}_").isdecimal() for key in arrays)
        return [arrays[f"{name}_{number}"] for number in range(count)]

    best = plain["best"]
    return Snapshot(
        reports=tuple(decode(EpochReport, each, where="a report in the checkpoint") for each in plain["reports"]),
        best=None
        if best is None
        else Best(int(best["epoch"]), _validation(best["validation"], several("counts")), several("best")),
        variables=several("variables"),
        optimizer=several("optimizer"),
        optimizer_names=tuple(plain["optimizer_names"]),
        patch_losses=arrays["patch_losses"],
        train_s=float(plain["train_s"]),
        num_parts=int(plain["num_parts"]),
        collected=several("collected"),
    )


def _plain(validation: Validation) -> dict[str, Any]:
    counted = {name: list(scenes) for name, scenes in validation.counts.items()}
    return {"jaccard": validation.jaccard, "thresholds": validation.thresholds, "counted": counted}


def _validation(plain: Mapping[str, Any], histograms: Arrays) -> Validation:
    counts: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in plain["counted"]}
    places = [(name, scene) for name, scenes in plain["counted"].items() for scene in scenes]
    for (name, scene), histogram in zip(places, histograms, strict=True):
        counts[name][scene] = histogram
    return Validation(jaccard=dict(plain["jaccard"]), thresholds=dict(plain["thresholds"]), counts=counts)
