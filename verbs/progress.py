"""How a search tells of itself: a bar on a terminal, a line per change elsewhere."""

from typing import TYPE_CHECKING

from verbs.bars import Bar
from verbs.common import say

if TYPE_CHECKING:
    from trials_db.master import Progress


class SearchProgress(Bar):
    """Shows the progress of a master; use in a `with` statement."""

    def __init__(self) -> None:
        super().__init__(unit="trial")
        self._told: dict[str, str] = {}
        self._known: dict[str, Progress] = {}

    def show(self, study: str, progress: "Progress") -> None:
        """Show the progress of a study, if anything a person would care for has changed."""
        self._known[study] = progress
        best = progress.best
        jaccard = "-" if best is None or best.loss is None else f"{1 - best.loss:.3f} (trial {best.number})"
        states = ", ".join(f"{count} {state}" for state, count in progress.counts.items() if count)
        text = f"best Jaccard {jaccard}; {states or 'no trial yet'}"
        if progress.leader:
            text += f"; waiting, {progress.leader} leads"
        # Of several studies, those of single classes are told apart by the class.
        about = f"{study.rpartition('/')[2]}: " if "/" in study else ""
        if self._bar.disable:
            if text != self._told.get(study):
                say(f"  {about}{progress.num_ended}/{progress.max_trials} trials ended: {text}")
        else:
            self._bar.total = sum(each.max_trials for each in self._known.values())
            self._bar.n = sum(each.num_ended for each in self._known.values())
            self._bar.set_postfix_str(about + text)
        self._told[study] = text
