"""What a search tells when it stops: what was found, and what may be done next."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from search_space.errors import MapgroveError
from search_space.study import Study
from verbs.common import say

if TYPE_CHECKING:
    from results.commands import StudyCommands
    from trials_db.master import Progress
    from trials_db.records import Trial


class Found(NamedTuple):
    """One study that was searched.

    Attributes:
        study: The study.
        trials: All its trials.
        progress: How far it is.
    """

    study: Study
    trials: "list[Trial]"
    progress: "Progress"

    @property
    def best(self) -> "Trial | None":
        """The best trial, None where none is done."""
        from results.facts import ranked

        return next(iter(ranked(self.trials)), None)


def tell_found(found: Sequence[Found]) -> None:
    """Show the leader board of one study, or the best trial of each of several."""
    from results.phrases import failures_line
    from results.tables import leader_board, studies_table
    from results.text import render_table

    if len(found) == 1:
        [only] = found
        say("\n" + render_table(leader_board(only.trials, only.study.classes)))
    else:
        say("\n" + render_table(studies_table({each.study.name: each.trials for each in found})))
    for each in found:
        if failures := failures_line(each.trials):
            say(failures if len(found) == 1 else f"{each.study.name}: {failures}")


def tell_next(found: Sequence[Found], commands: "StudyCommands", *, one_vs_all: bool) -> None:
    """Say that all trials have ended, why, and what comes next.

    Raises:
        MapgroveError: None of a study has a result.
    """
    from results.phrases import counted

    for each in found:
        if each.best is None:
            raise MapgroveError(
                f"{counted(each.progress.num_ended, 'trial')} of {each.study.name} ended, none with a result",
                remedy="Mend the reason above, and search again under another study.name",
            )
        if each.progress.ending:
            name = "The search" if len(found) == 1 else each.study.name
            say(f"\n{name} has ended: {each.progress.ending}. Changed in the study's file, the same command goes on.")
    num_ended = sum(each.progress.num_ended for each in found)
    have = "has" if num_ended == 1 else "have"
    searched = [name for each in found for name in each.study.classes]
    next_line = commands.retrain_per_class(searched) if one_vs_all else commands.retrain(found[0].best)[0]
    say(f"\n{counted(num_ended, 'trial')} {have} ended. Next: {next_line}")
