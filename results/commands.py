"""The commands that carry a study on or make it again, each of them ready for a shell."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from results.settings import OF_RETRAINING, settings_set
from search_space.fine_tuning import FINE_TUNING_EPOCHS
from search_space.records import ModelMember, ModelSet
from search_space.study import Budget, Study
from trials_db.records import Trial

USUAL_WORKERS = 2
SOME_FILE, SOME_MODEL = "STUDY.toml", "MODEL"
"""What stands for a place that nobody wrote down."""


@dataclass(frozen=True)
class StudyCommands:
    """The command lines of one study.

    Attributes:
        study: The resolved study, as the commands read it.
        named: What the user calls it: a TOML file, or its name, which is taken where this is empty.
        options: Further words that every command needs, such as `--store URL` or `--set KEY=VALUE`.
    """

    study: Study
    named: str = ""
    options: Sequence[str] = ()

    def line(self, verb: str, *words: str) -> str:
        """A verb with its further words, quoted where a shell needs it."""
        named = self.named or self.study.name
        if "--set" in (*self.options, *words) and not named.endswith(".toml"):
            # Values are set in a study's file alone.
            named = SOME_FILE
        study = ["--study", named, *self.options]
        return f"python run_search.py {shlex.join([verb, *study, *words])}"

    def worker_of_classes(self) -> str:
        """Serve the studies of single classes."""
        # A pattern looks in a store, and the options of a study's file have no meaning there.
        words = ["--study", f"{self.study.name}/*", *self._store_words()]
        return f"python run_search.py {shlex.join(['worker', *words])}"

    def _store_words(self) -> list[str]:
        if "--store" not in self.options:
            return []
        place = list(self.options).index("--store")
        return list(self.options[place : place + 2])

    def search(self) -> str:
        """Search with workers on this machine: without any no trial would run."""
        most = self.study.search.lookahead or USUAL_WORKERS
        return self.line("search", "--workers", str(min(USUAL_WORKERS, most)))

    def retrain(self, best: Trial | None, models: ModelSet | None = None, made: Study | None = None) -> list[str]:
        """Retrain what was retrained already, or, for the first time, what can be.

        Args:
            best: The best trial, whose candidate `retrain` takes unless told otherwise.
            models: What was retrained; one command for all classes that were retrained alike.
            made: The settings that this was done with, as far as known.
        """
        if models is None or not models.members:
            # A class that no validation scene has can have no threshold: `retrain` refuses it.
            scored = best.outcome.jaccard if best is not None and best.outcome else {}
            return [self.line("retrain", *self._class_words(list(scored) or self.study.classes))]
        usual = None if best is None else best.number
        settings = settings_set(made, self.study, OF_RETRAINING) if made else []
        by_words: dict[tuple[str, ...], list[str]] = {}
        for each in models.maps:
            members = models.members_of(each.class_name)
            words = (*_words_of(members, usual), *settings, *self._budget_words(members[0]))
            by_words.setdefault(words, []).append(each.class_name)
        return [self.line("retrain", *self._class_words(names), *words) for words, names in by_words.items()]

    def retrain_per_class(self, classes: Sequence[str]) -> str:
        """Retrain each class from the candidate that was best at it."""
        return self.line("retrain", "--per-class", *self._class_words(classes))

    def _class_words(self, names: Sequence[str]) -> list[str]:
        chosen = [name for name in self.study.classes if name in names]
        return [] if len(chosen) in (0, len(self.study.classes)) else ["--classes", *chosen]

    def map_and_score(self, fold: str = "") -> list[str]:
        """Map the scenes of a fold and score the maps.

        Args:
            fold: "test" or "validation"; where empty "test", or "validation" where nothing else is held out.
        """
        fold = fold or self.scored_fold
        return [self.line("predict", fold), self.line("score", *(() if fold == "test" else ("--fold", fold)))]

    @property
    def scored_fold(self) -> str:
        """The fold whose score says most: "test", or "validation" where the study holds nothing else out."""
        return "test" if self.study.folds.has_test else "validation"

    def _budget_words(self, member: ModelMember) -> list[str]:
        """What a model's budget takes where the study has another one; of fine-tuning the epochs are said already."""
        if not (member.epochs and member.steps_per_epoch):
            return []
        epochs = self.study.retrain.epochs if member.fine_tuned else member.epochs
        budget = Budget(epochs=epochs, steps_per_epoch=member.steps_per_epoch)
        return settings_set(self.study.model_copy(update={"retrain": budget}), self.study, ["retrain"])

    def _search_of_classes(self, models: ModelSet | None) -> list[str]:
        """The searches for single classes, where models come from some."""
        found = {member.study for member in models.members} if models else set()
        names = [name for name in self.study.data.classes if f"{self.study.name}/{name}" in found]
        return [f"{self.search()} {shlex.join(['--one-vs-all', *self._class_words(names)])}"] if names else []

    def everything(
        self, best: Trial | None, models: ModelSet | None = None, fold: str = "", made: Study | None = None
    ) -> list[str]:
        """All commands from imagery to report, in order; see `retrain` and `map_and_score`."""
        return [
            self.line("prepare"),
            self.search(),
            *self._search_of_classes(models),
            *self.retrain(best, models, made),
            *self.map_and_score(fold),
            self.line("report"),
        ]


def again_phrases(study: Study, members: Sequence[ModelMember], lines: Sequence[str]) -> list[str]:
    """What to know before commands are run again, in sentences.

    Args:
        study: What was searched.
        members: What was retrained.
        lines: The commands.
    """
    words = {word for line in lines for word in shlex.split(line)}
    on_one_machine = "on one machine also the same losses"
    told = [
        f"The same study, seed and data give the same proposals; {on_one_machine}."
        if study.search.lookahead
        else "With search.lookahead = 0 proposals follow the results that are there at their time, and so the pace "
        f"of the workers; with a single worker the same study, seed and data give the same ones, {on_one_machine}."
    ]
    if SOME_FILE in words:
        told.append(f"{SOME_FILE} stands for the study's file, in which --set replaces values.")
    if SOME_MODEL in words:
        told.append(f"{SOME_MODEL} stands for the model that training began from: where it lay, nobody wrote down.")
    if any(member.start_from for member in members):
        told.append("What --from names must be what it was then.")
    return told


def _words_of(members: Sequence[ModelMember], usual: int | None) -> tuple[str, ...]:
    """The words that make `retrain` train a class's models again, where they are not what it does unless told."""
    best = min(members, key=lambda member: member.rank)
    several = {
        "--top": max(member.rank for member in members) + 1,
        "--folds": max(member.num_folds for member in members),
        "--seeds": max(member.seed for member in members) + 1,
    }
    numbers = [word for name, number in several.items() if number > 1 for word in (name, str(number))]
    return (*_origin_words(best, members, usual), *numbers)


def _origin_words(best: ModelMember, members: Sequence[ModelMember], usual: int | None) -> tuple[str, ...]:
    if best.recipe:
        return "--recipe", best.recipe
    if best.start:
        return "--from", _start_word(best), *_tuning_words(best)
    if any(member.study for member in members):
        return ("--per-class",)
    if best.trial in (None, usual):
        return ()
    # `--trial` names one candidate: of several that do not begin with the best, the class's own are meant.
    return ("--per-class",) if any(member.rank for member in members) else ("--trial", str(best.trial))


def _start_word(member: ModelMember) -> str:
    """What `--from` named; of models that do not tell, that of a trial of this study can be found."""
    of_another = member.study or member.trial is None
    return member.start_from or (SOME_MODEL if of_another else f"trial:{member.trial}")


def _tuning_words(member: ModelMember) -> tuple[str, ...]:
    if not member.fine_tuned:
        return ()
    return ("--fine-tune",) if member.epochs == FINE_TUNING_EPOCHS else ("--fine-tune", str(member.epochs))
