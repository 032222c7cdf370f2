"""One training of a retraining: which class, on which ground, for how long, from which seed."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from search_space.chosen import ORIGIN
from search_space.decode import Count, Frozen, Whole, encode, fingerprint
from search_space.names import ClassName
from search_space.prediction import PredictionSettings
from search_space.study import Budget, LimitSettings, Precision

Number = Annotated[Whole, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]

_ORIGIN = ("rank", *ORIGIN)


def origin_in_words(trial: int | None, recipe: str, study: str) -> str:
    """Where a candidate is from: a trial or a recipe, and of which study where that is another one."""
    what = recipe if trial is None else f"trial {trial}"
    return f"{what} of {study}" if study else what


class Task(Frozen):
    """What a trial of a retraining does with its candidate: it trains the network of one class against the rest.

    Attributes:
        class_name: The class.
        fold: Which of `num_folds` folds validates, from 1; 0 for the study's own split.
        num_folds: Into so many folds the ground that is not the test's is dealt; 0 with the study's own split.
        seed: Number of the seed, from 0; see `seed_from`.
        rank: 0 for the best candidate of the class, 1 for the next.
        epochs: Number of epochs.
        steps_per_epoch: Optimisation steps per epoch.
        precision: What `limits.precision` asked for.
        ground: Fingerprint of the data and of how they are split; a worker that has others does not begin.
        start: SHA-256 of the model that training starts from; empty from scratch.
        weights: SHA-256 of the file that the candidate's encoder starts from; empty where it names none.
        trial: Number of the trial that found the candidate; None for a recipe.
        study: Name of the study of that trial, where it is not the one that is retrained.
        recipe: Name or file of the recipe; empty for a trial.
        prediction: How tiles become a map, where the recipe says so; else the study does.
        start_from: What `start` is, as `retrain --from` named it.
        fine_tuned: Whether the candidate's course of training is that of `retrain --fine-tune`.
    """

    class_name: ClassName
    fold: Number = 0
    num_folds: Number = 0
    seed: Number = 0
    rank: Number = 0
    epochs: Count
    steps_per_epoch: Count
    precision: Precision = "auto"
    ground: str = ""
    start: Sha256 = ""
    weights: Sha256 = ""
    trial: Number | None = None
    study: str = ""
    recipe: str = ""
    prediction: PredictionSettings | None = None
    start_from: str = ""
    fine_tuned: bool = False

    @model_validator(mode="after")
    def _fold_is_one(self) -> Self:
        if self.fold > self.num_folds or (self.num_folds and not self.fold) or self.num_folds == 1:
            raise ValueError(
                f"`fold` = {self.fold} is none of `num_folds` = {self.num_folds}: both are 0, or it is 1 to at least 2"
            )
        return self

    @property
    def budget(self) -> Budget:
        """How long it takes."""
        return Budget(epochs=self.epochs, steps_per_epoch=self.steps_per_epoch)

    def limits(self, of_study: LimitSettings) -> LimitSettings:
        """A study's for this training; a precision that was left open is as the study settled it."""
        limits = of_study.of_one_network
        return limits if self.precision == "auto" else limits.model_copy(update={"precision": self.precision})

    @property
    def origin(self) -> str:
        """Where the candidate is from, in words."""
        return origin_in_words(self.trial, self.recipe, self.study)

    @property
    def essence(self) -> dict[str, Any]:
        """What the model depends on, beside the candidate and the data; where the candidate is from is no part."""
        return {name: value for name, value in encode(self).items() if name not in _ORIGIN}

    def key(self, candidate: dict[str, Any], seed: int) -> str:
        """16 hexadecimal digits: equal exactly where it is the same training.

        Args:
            candidate: In its plain form.
            seed: Of everything random in it, as `seed_from` makes it.
        """
        return fingerprint([candidate, self.essence, seed])

    def seed_from(self, study_seed: int) -> int:
        """Seed of everything random in it; candidates of all ranks begin alike."""
        return int(fingerprint([study_seed, self.class_name, self.num_folds, self.fold, self.seed]), 16) % 2**31
