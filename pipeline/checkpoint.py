"""Training that is cut off goes on: all that it depends on, after each epoch, in one file."""

import json
import logging
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.files import written_beside
from pipeline.validation import Validation
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
        best: The best epoch so far.
        variables: Of the trainee, in its order: weights, statistics, the states of random generators.
        optimizer: Variables of the optimizer, in its order.
        patch_losses: What the sampler remembers, see `PatchSampler.seen_losses`.
        train_s: How long it took so far, in seconds.
    """

    reports: tuple[EpochReport, ...]
    best: Best
    variables: Arrays
    optimizer: Arrays
    patch_losses: NDArray[np.float64]
    train_s: float


@dataclass(frozen=True)
class Checkpoint:
    """A file that a training writes after each epoch, and starts from where it exists.

    Attributes:
        path: The file, `.npz`. Plain arrays and JSON: nothing in it is executed.
        about: What the training depends on, as plain data. One with anything else starts anew.
    """

    path: Path
    about: Mapping[str, Any]

    def with_more(self, about: Mapping[str, Any]) -> "Checkpoint":
        """The same file for a training that depends on more."""
        return Checkpoint(self.path, {**self.about, **about})

    def save(self, snapshot: Snapshot) -> None:
        """Write the file, whole or not at all."""
        text = json.dumps(
            {
                "key": self._key,
                "reports": [encode(report) for report in snapshot.reports],
                "best_epoch": snapshot.best.epoch,
                "jaccard": snapshot.best.validation.jaccard,
                "thresholds": snapshot.best.validation.thresholds,
                "counted": {name: list(scenes) for name, scenes in snapshot.best.validation.counts.items()},
                "train_s": snapshot.train_s,
            }
        )
        arrays: dict[str, Any] = {"text": np.frombuffer(text.encode(), np.uint8), "patch_losses": snapshot.patch_losses}
        counts = [each for scenes in snapshot.best.validation.counts.values() for each in scenes.values()]
        lists = {
            "variables": snapshot.variables,
            "optimizer": snapshot.optimizer,
            "best": snapshot.best.weights,
            "counts": counts,
        }
        for name, several in lists.items():
            arrays |= {f"{name}_{number}": each for number, each in enumerate(several)}
        with written_beside(self.path) as beside:
            np.savez(beside, **arrays)

    def load(self) -> Snapshot | None:
        """What the file holds; None where there is none of this training, which is told where there is another's."""
        if not self.path.is_file():
            return None
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                plain = json.loads(bytes(arrays["text"]))
                if plain["key"] != self._key:
                    _log.warning("%s: not used: it is of another training", self.path)
                    return None
                return _snapshot(plain, {name: arrays[name] for name in arrays.files})
        except (MapgroveError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            _log.warning("%s: not used, it is damaged: %s", self.path, error)
            return None

    def remove(self) -> None:
        """Delete the file where it is: the training has ended."""
        self.path.unlink(missing_ok=True)

    @property
    def _key(self) -> str:
        return fingerprint(self.about)


def fits(snapshot: Snapshot, variables: Arrays, optimizer: Arrays) -> bool:
    """Whether a snapshot's arrays have the shapes of a training's."""
    ours = [each.shape for each in (*variables, *optimizer)]
    return ours == [each.shape for each in (*snapshot.variables, *snapshot.optimizer)]


def _snapshot(plain: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Snapshot:
    def several(name: str) -> list[NDArray[Any]]:
        count = sum(key.startswith(f"{name}_") and key.removeprefix(f"{name}_").isdecimal() for key in arrays)
        return [arrays[f"{name}_{number}"] for number in range(count)]

    counts: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in plain["counted"]}
    places = [(name, scene) for name, scenes in plain["counted"].items() for scene in scenes]
    for (name, scene), histogram in zip(places, several("counts"), strict=True):
        counts[name][scene] = histogram
    validation = Validation(jaccard=dict(plain["jaccard"]), thresholds=dict(plain["thresholds"]), counts=counts)
    return Snapshot(
        reports=tuple(decode(EpochReport, each, where="a report in the checkpoint") for each in plain["reports"]),
        best=Best(int(plain["best_epoch"]), validation, several("best")),
        variables=several("variables"),
        optimizer=several("optimizer"),
        patch_losses=arrays["patch_losses"],
        train_s=float(plain["train_s"]),
    )
