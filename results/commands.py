"""The commands that carry a study on or make it again, each of them ready for a shell."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from search_space.records import ModelMember, ModelSet
from search_space.study import Study
from trials_db.records import Trial

USUAL_WORKERS = 2


@dataclass(frozen=True)
class StudyCommands:
    """The command lines of one study.

    Attributes:
        study: The resolved study.
        named: What the user calls it: a TOML file, or its name, which is taken where this is empty.
        options: Further words that every command needs, such as `--store URL` or `--set KEY=VALUE`.
    """

    study: Study
    named: str = ""
    options: Sequence[str] = ()

    def line(self, verb: str, *words: str) -> str:
        """A verb with its further words, quoted where a shell needs it."""
        study = ["--study", self.named or self.study.name, *self.options]
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

    def retrain(self, best: Trial | None, models: ModelSet | None = None) -> list[str]:
        """Retrain what was retrained already, or, for the first time, what can be.

        Args:
            best: The best trial, whose candidate `retrain` takes unless told otherwise.
            models: What was retrained; one command for all classes that were retrained alike.
        """
        if models is None or not models.members:
            # A class that no validation scene has can have no threshold: `retrain` refuses it.
            scored = best.outcome.jaccard if best is not None and best.outcome else {}
            return [self.line("retrain", *self._class_words(list(scored) or self.study.classes))]
        usual = None if best is None else best.number
        by_words: dict[tuple[str, ...], list[str]] = {}
        for each in models.maps:
            words = _words_of(models.members_of(each.class_name), usual)
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

    def everything(self, best: Trial | None, models: ModelSet | None = None, fold: str = "") -> list[str]:
        """All commands from imagery to report, in order; see `retrain` and `map_and_score`."""
        return [
            self.line("prepare"),
            self.search(),
            *self.retrain(best, models),
            *self.map_and_score(fold),
            self.line("report"),
        ]


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
        # Where a model of another study lay, nobody wrote down.
        return "--from", "MODEL" if best.study or best.trial is None else f"trial:{best.trial}"
    if any(member.study for member in members):
        return ("--per-class",)
    if best.trial in (None, usual):
        return ()
    # `--trial` names one candidate: of several that do not begin with the best, the class's own are meant.
    return ("--per-class",) if any(member.rank for member in members) else ("--trial", str(best.trial))
