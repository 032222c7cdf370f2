"""What the report and its figures show of a study."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from results.commands import StudyCommands
from results.facts import FINISHED, ranked
from search_space.records import ModelMember, ModelSet, ScoreRecord, Split
from search_space.study import Study
from trials_db.records import Trial


@dataclass(frozen=True)
class ReportInput:
    """All that the page shows.

    Attributes:
        study: The resolved study.
        trials: All its trials.
        data_fingerprint: Fingerprint of the prepared data set.
        model_set: The retrained models, None before `retrain`.
        score: The score of their maps, None before `score`.
        pictures: PNG files with a caption each, such as maps beside labels.
        config_file: The study as the user named it, for the commands.
        commands: How to do it all again; the usual verbs in order where empty.
        made_s: When the page is made, in seconds since the epoch; left out where None.
        options: Further words that every command needs, such as `--store URL` or `--set KEY=VALUE`.
        split: How the ground was split; None where the prepared data are not at hand.
        retrained: The study as the models were retrained for it; None where nobody knows.
        damaged: What could not be shown as its file is damaged, one line each.
    """

    study: Study
    trials: Sequence[Trial]
    data_fingerprint: str = ""
    model_set: ModelSet | None = None
    score: ScoreRecord | None = None
    pictures: Sequence[tuple[Path, str]] = ()
    config_file: str = ""
    commands: Sequence[str] = field(default=())
    made_s: float | None = None
    options: Sequence[str] = ()
    split: Split | None = None
    retrained: Study | None = None
    damaged: Sequence[str] = ()

    @property
    def best(self) -> Trial | None:
        """The best trial that is done, None where none is."""
        return next(iter(ranked(self.trials)), None)

    @property
    def members(self) -> tuple[ModelMember, ...]:
        """The retrained models, none before `retrain`."""
        return self.model_set.members if self.model_set else ()

    @property
    def ended(self) -> list[Trial]:
        """The trials that have ended, however."""
        return [trial for trial in self.trials if trial.state in FINISHED]

    @property
    def is_complete(self) -> bool:
        """Whether the search has nothing left to try."""
        return len(self.ended) >= self.study.limits.max_trials

    @property
    def lines(self) -> StudyCommands:
        """The command lines of the study."""
        return StudyCommands(self.study, self.config_file, self.options)


def jaccard_of_folds(given: ReportInput) -> tuple[dict[str, float | None], dict[str, float | None] | None]:
    """Jaccard per class of the retrained models on validation, and on what is held out for the test where known."""
    validation = {each.class_name: each.jaccard for each in given.model_set.maps} if given.model_set else {}
    score = given.score
    return validation, dict(score.jaccard) if score is not None and score.fold == "test" else None


def spreads_of(given: ReportInput) -> dict[str, float | None]:
    """How far the Jaccard of the retrained models spreads over folds or models, per class."""
    return {each.class_name: each.spread for each in given.model_set.maps} if given.model_set else {}
