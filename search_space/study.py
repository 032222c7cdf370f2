"""What a study is: the typed form of its TOML file."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from search_space.decode import Frozen, ListAsTuple, Whole
from search_space.default_space import CLASS_WEIGHTS
from search_space.errors import MalformedError, did_you_mean
from search_space.fold_settings import FoldSettings
from search_space.losses import check_weighted_classes
from search_space.names import (
    CLASS_STUDIES,
    RETRAINING_FOLDER,
    ClassNames,
    Names,
    StudyName,
    Text,
    is_retraining,
    retraining_name,
    searched_name,
    usual_folder,
)
from search_space.prediction import PredictionSettings
from search_space.space import class_weights_of, resolve_space
from search_space.starting_points import FoundStart, Starts

MAY_CHANGE = (
    "study.folder",
    "study.store",
    "study.artifacts",
    "data.folder",
    "data.prepared",
    "retrain",
    "limits.max_trials",
    "limits.hours",
    "limits.target_jaccard",
    "limits.patience",
    "limits.trial_memory_mb",
    "limits.trial_s",
    "limits.stuck_s",
    "search.lease_s",
    "search.keep_models",
    "search.checkpoint_s",
    "prediction",
)
"""Dotted paths of the settings that a study may change while it is searched; no other would leave its trials
comparable."""

NATIVE = "native"

Precision = Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"]
"""What networks compute in; all but "auto" are names of Keras's policies."""

MIXED: tuple[Precision, ...] = ("mixed_bfloat16", "mixed_float16")
"""Those that compute in less than they keep."""

Algorithm = Literal["tpe", "anneal", "rand", "mix"]
"""What proposes candidates."""


def _grid(value: Any) -> Any:
    """A name in lower case; or metres."""
    if isinstance(value, str) and value.strip():
        return value.strip().lower()
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 < value < math.inf:
        return float(value)
    raise ValueError('must be "native", the name of a group of bands such as "m", or metres per pixel above 0')


GridName = Annotated[str | float, BeforeValidator(_grid)]
"""The grid that bands are brought to: "native", a group of bands, or metres per pixel."""


LONGEST = 1_000_000
"""No training has more epochs, and no epoch more steps."""

MOST = 1_000_000_000
"""No other count of a study is higher: so none is too large for a store, or for what computes with it."""

LARGEST_SEED = 2**63 - 1
"""Stores keep whole numbers in 64 bits."""

LONGEST_LEASE_S = 86_400.0
"""What a dead worker or master held is free again within a day."""

Number = Annotated[Whole, Field(ge=0, le=MOST)]
Several = Annotated[Whole, Field(ge=1, le=MOST)]


class StudySettings(Frozen):
    """`[study]`: its name, its seed and where its files go.

    Attributes:
        name: ASCII letters, digits, `-`, `_` and `.`; also the name of its folder.
        classes: Those of `data.classes` that are searched for; all where empty.
        seed: Everything random derives from it.
        folder: Everything the study writes; `runs/<name>` unless given.
        store: URL of the trial store; a SQLite file in `folder` unless given.
        artifacts: A folder for the large files of trials, such as one that all machines share; where it is empty they
            are beside the store: in `artifacts/` beside its file, or in its database.
    """

    name: StudyName
    classes: ClassNames = ()
    seed: Annotated[Whole, Field(ge=0, le=LARGEST_SEED)] = 0
    folder: str = ""
    store: str = ""
    artifacts: str = ""


class DataSettings(Frozen):
    """`[data]`: the imagery and its labels.

    Attributes:
        format: Name of the data set's adapter.
        folder: Where the imagery lies.
        prepared: Where `prepare` writes cubes; several studies may share it.
        classes: Classes to be mapped, in order; names as the adapter knows them, which also name files.
        bands: Bands to keep, in order; all where empty.
        indices: Spectral indices to add as further bands.
        grid: Where all bands are brought to: "native" is the scene's own grid, that of its first group of bands; the
            name of a group takes that group's; a number is metres per pixel. The ground covered stays the same.
        same_ground: "find" looks for scenes that show the same ground, beside those that the data set tells of;
            "given" takes its word.
        options: What only this adapter understands; decoded by the adapter.
    """

    format: str
    folder: Text
    prepared: Text
    classes: Annotated[ClassNames, Field(min_length=1)]
    bands: Names = ()
    indices: Names = ()
    grid: GridName = NATIVE
    same_ground: Literal["find", "given"] = "find"
    options: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _normalise_has_moved(cls, plain: Any) -> Any:
        if isinstance(plain, Mapping) and "normalise" in plain:
            scope = "scene" if plain["normalise"] == "scene" else "dataset"
            override = f'"plan.scaling.scope" = {{ fix = "{scope}" }}'
            raise MalformedError(
                "data.normalise is a choice of the training plan now, plan.scaling.scope",
                received=plain["normalise"],
                remedy=f"Take it out of [data]; to fix the choice write {override} under [space]",
            )
        return plain


class Budget(Frozen):
    """How long one training takes.

    Attributes:
        epochs: Number of epochs; so many of them end with a validation as costs less than 15 % of the training, and the
            last always.
        steps_per_epoch: Optimisation steps per epoch.
    """

    epochs: Annotated[Whole, Field(ge=1, le=LONGEST)]
    steps_per_epoch: Annotated[Whole, Field(ge=1, le=LONGEST)]


class LimitSettings(Frozen):
    """`[limits]`: where the search ends, and what one trial may use.

    Attributes:
        max_trials: The study ends with this many trials; this limit and the next three may be changed later.
        hours: The study ends so many hours after its first trial was proposed; 0 for no limit.
        target_jaccard: The study ends with a trial whose mean Jaccard reaches this; 0 for no limit.
        patience: The study ends when so many trials after the best have ended and none was better; 0 for no limit.
        max_parameters: Larger networks are infeasible in a search; `retrain` takes what is chosen.
        device_memory_mb: Candidates that are estimated to need more for a step of training are infeasible; 0 for what
            the worker's accelerator has free, and no limit on a processor.
        epoch_s: Candidates whose epoch is estimated to take longer are infeasible; 0 for no limit.
        device_gflops: What the worker's device computes in a second, in thousands of millions of operations, for that
            estimate; `doctor` measures it.
        trial_memory_mb: A trial whose processes hold more is infeasible; 0 for no limit.
        trial_s: A trial of the search that takes longer has failed; 0 for no limit.
        stuck_s: A trial that reports no epoch for so long has failed; 0 for no limit. A retraining has as much longer
            as its epochs are.
        trial_threads: Processor threads a trial's operations may use; 0 leaves it to the framework. Losses can
            depend on it in their last digits, so it belongs to the study and not to the worker.
        patches_on: Where training patches are cut: "device" keeps the scenes on the accelerator in half precision,
            "processor" reads them from the page cache; "auto" chooses the device where the scenes fit its memory.
        precision: What networks compute in: "float32", or "mixed_bfloat16" or "mixed_float16", which keep weights,
            losses and maps in single precision; "auto" takes what is fast on the machine that begins the study, and
            every worker follows it.
    """

    max_trials: Several
    hours: Annotated[float, Field(ge=0.0)] = 0.0
    target_jaccard: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    patience: Number = 0
    max_parameters: Several = 50_000_000
    device_memory_mb: Number = 0
    epoch_s: Annotated[float, Field(ge=0.0)] = 0.0
    device_gflops: Annotated[float, Field(ge=0.0)] = 0.0
    trial_memory_mb: Number = 0
    trial_s: Annotated[float, Field(ge=0.0)] = 0.0
    stuck_s: Annotated[float, Field(ge=0.0)] = 0.0
    trial_threads: Number = 0
    patches_on: Literal["auto", "processor", "device"] = "auto"
    precision: Precision = "auto"

    @property
    def of_one_network(self) -> Self:
        """For a network that is chosen, not searched for: neither its size nor its time is too much; memory may be."""
        return self.model_copy(update={"max_parameters": sys.maxsize, "epoch_s": 0.0})

    @model_validator(mode="after")
    def _time_needs_speed(self) -> Self:
        if self.epoch_s and not self.device_gflops:
            raise ValueError("`epoch_s` needs `device_gflops`, the speed of the workers' devices; `doctor` measures it")
        return self


class SearchSettings(Frozen):
    """`[search]`: how proposals are made.

    Attributes:
        algorithm: Of Hyperopt's: "tpe", "anneal", "rand" for random search, or "mix", which takes TPE for half of the
            proposals, annealing for four of ten, and chance for the rest.
        startup_trials: Trials drawn from the prior before the algorithm proposes.
        gamma: How many trials TPE takes as good ones, in units of the square root of their number.
        lookahead: How many trials may be proposed beyond the oldest unfinished one. Trial n is then proposed from
            the results of trials 0 to n - lookahead - 1, whoever ran them: so proposals do not depend on the
            number of workers; with fewer than there are workers some will idle. 0 keeps as many proposals waiting as
            there are workers, each made from all results there are at that time.
        lease_s: A worker that is silent for longer loses its trial; at most a day.
        start_from: What the first trials try, as near as the space allows: "default" for a candidate as it is by
            itself, names of recipes, "recipes" for all of them, or "study:NAME" for the best of another study.
        keep_models: So many of the best trials' models are kept, each with all that is needed to use it; 0 for none.
        checkpoint_s: How often a trial's checkpoint is sent to `study.artifacts`, where workers on several machines
            share no folder; 0 for only when it is handed back.
        found: The candidates that "study:NAME" stood for when the study began; `search` fills them in.
    """

    algorithm: Algorithm = "tpe"
    startup_trials: Several = 10
    gamma: Annotated[float, Field(gt=0.0, le=2.0)] = 0.5
    lookahead: Number = 0
    lease_s: Annotated[float, Field(ge=1.0, le=LONGEST_LEASE_S)] = 60.0
    start_from: Starts = ()
    keep_models: Number = 1
    checkpoint_s: Annotated[float, Field(ge=0.0)] = 300.0
    found: Annotated[tuple[FoundStart, ...], ListAsTuple] = ()


class PruningSettings(Frozen):
    """`[pruning]`: which trials end before their last epoch.

    Attributes:
        kind: "none"; "median" ends a trial that is worse than the median of the others after as many epochs; "halving"
            is asynchronous successive halving: after `from_epoch` epochs, and `factor` times as many each time, only
            the best of `factor` go on.
        from_epoch: Every trial has so many epochs.
        factor: Of so many trials one goes on.
        least_trials: A trial is judged where so many others came as far.
    """

    kind: Literal["none", "median", "halving"] = "none"
    from_epoch: Several = 1
    factor: Annotated[Whole, Field(ge=2, le=MOST)] = 3
    least_trials: Several = 4


class Study(Frozen):
    """A whole study, resolved: the file's values with every default filled in."""

    study: StudySettings
    data: DataSettings
    folds: FoldSettings
    budget: Budget
    retrain: Budget
    limits: LimitSettings
    search: SearchSettings = SearchSettings()
    pruning: PruningSettings = PruningSettings()
    prediction: PredictionSettings = PredictionSettings()
    space: dict[str, Any] = {}

    @model_validator(mode="after")
    def _space_resolves(self) -> Self:
        for weights in class_weights_of(resolve_space(self.space)):
            check_weighted_classes(weights, self.data.classes, where=f"space.{CLASS_WEIGHTS}")
        return self

    @model_validator(mode="after")
    def _classes_are_known(self) -> Self:
        asked = [("study.classes", name) for name in self.study.classes]
        asked += [("prediction.instances", name) for name in self.prediction.instances]
        for where, name in asked:
            if name not in self.data.classes:
                raise ValueError(
                    f"`{where}` names a class that `data.classes` lacks, {name!r}. "
                    f"{did_you_mean(name, self.data.classes)}"
                )
        return self

    @model_validator(mode="after")
    def _name_of_one_class(self) -> Self:
        _, of_class, class_name = searched_name(self.study.name).partition("/")
        if of_class and self.study.classes != (class_name,):
            raise ValueError(
                "`study.name` with a `/` names a study of one class, as `search --one-vs-all` makes them: leave it out"
            )
        return self

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.name

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that are searched for, in order."""
        return tuple(name for name in self.data.classes if not self.study.classes or name in self.study.classes)

    @property
    def folder(self) -> Path:
        """Everything the study writes."""
        return Path(self.study.folder or usual_folder(self.name))

    @property
    def store_url(self) -> str:
        """URL of the trial store; the studies of single classes and retrainings share that of the whole."""
        home = self.folder.parent if is_retraining(self.name) else self.folder
        home = home.parents[1] if "/" in self.name else home
        return self.study.store or f"sqlite:///{home / 'trials.sqlite'}"

    def of_class(self, class_name: str) -> "Study":
        """The study that searches for one class against the rest, with everything else as it is here."""
        folder = str(self.folder / CLASS_STUDIES / class_name) if self.study.folder else ""
        own = {"name": f"{self.name}/{class_name}", "classes": (class_name,), "folder": folder}
        return self.model_copy(update={"study": self.study.model_copy(update=own)})

    @property
    def retraining(self) -> "Study":
        """The study whose trials are the trainings of this one's retraining, with everything else as it is here."""
        folder = str(self.folder / RETRAINING_FOLDER) if self.study.folder else ""
        own = {"name": retraining_name(self.name), "folder": folder}
        return self.model_copy(update={"study": self.study.model_copy(update=own)})

    def with_store(self, url: str) -> "Study":
        """The same study in another store."""
        return self.model_copy(update={"study": self.study.model_copy(update={"store": url})})

    def placed_as(self, other: "Study") -> "Study":
        """The same study with files where another machine has them; what that does not name stays as it is here."""
        study = {name: value for name in ("folder", "artifacts") if (value := getattr(other.study, name))}
        data = {"folder": other.data.folder, "prepared": other.data.prepared}
        return self.model_copy(
            update={"study": self.study.model_copy(update=study), "data": self.data.model_copy(update=data)}
        )

    def in_precision(self, precision: str) -> "Study":
        """The same study with networks that compute as was recorded when it began; in other types they do anyway."""
        if precision not in ("float32", *MIXED):
            return self
        return self.model_copy(update={"limits": self.limits.model_copy(update={"precision": precision})})

    def with_artifacts(self, place: str) -> "Study":
        """The same study with its large files elsewhere."""
        return self.model_copy(update={"study": self.study.model_copy(update={"artifacts": place})})

    @property
    def prepared(self) -> Path:
        """Where the prepared cubes lie."""
        return Path(self.data.prepared)
