"""How a retraining tells of itself: every epoch of a few trainings, the end of each of many."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from verbs.common import say
from verbs.retrain_wishes import Wish

if TYPE_CHECKING:
    from search_space.records import ModelSet
    from trials_db.records import Trial

FEW = 8
"""Of no more trainings every epoch is told."""


class RetrainProgress:
    """Tells of trainings as they go on.

    Args:
        wishes: All that were asked for.
        trials: Their trials at the beginning; of what these have reported nothing is told.
    """

    def __init__(self, wishes: Sequence[Wish], trials: "Sequence[Trial]") -> None:
        self._wishes = wishes
        self._epochs = {trial.number: len(trial.reports) for trial in trials}
        self._ended = {trial.number for trial in trials if trial.state.is_final}
        self._tells_epochs = len(trials) - len(self._ended) <= FEW

    def show(self, wish: Wish, trial: "Trial") -> None:
        """Tell what is new of a training."""
        if self._tells_epochs:
            # An attempt that begins anew tells its epochs again.
            for report in trial.reports[self._epochs.get(trial.number, 0) :]:
                jaccard = report.jaccard.get(wish.task.class_name)
                shown = "-" if jaccard is None else f"{jaccard:.3f}"
                say(
                    f"  {told_of(wish, self._wishes)}: epoch {report.epoch}/{wish.task.epochs}, "
                    f"loss {report.training_loss:.4f}, validation Jaccard {shown}, {report.seconds:.0f} s"
                )
        self._epochs[trial.number] = len(trial.reports)
        if trial.state.is_final and trial.number not in self._ended:
            self._ended.add(trial.number)
            self._tell_end(wish, trial)

    def _tell_end(self, wish: Wish, trial: "Trial") -> None:
        outcome = trial.outcome
        if outcome is not None and outcome.state != "done":
            say(f"  {told_of(wish, self._wishes)}: {outcome.state}: {outcome.reason}")
        elif outcome is not None and not self._tells_epochs:
            reached = outcome.jaccard.get(wish.task.class_name, 0.0)
            say(
                f"  {len(self._ended)}/{len(self._epochs)} trainings ended: "
                f"{told_of(wish, self._wishes)}: validation Jaccard {reached:.3f}"
            )


def told_of(wish: Wish, wishes: Sequence[Wish]) -> str:
    """A training in words, as far as it differs from others that were asked for."""
    task = wish.task
    fold = f", fold {task.fold} of {task.num_folds}" if task.num_folds else ""
    seed = f", seed {task.seed}" if any(each.task.seed for each in wishes) else ""
    where_from = f", {task.origin}" if any(each.task.rank for each in wishes) else ""
    return f"{task.class_name}{fold}{where_from}{seed}"


def tell_models(models: "ModelSet") -> None:
    """Say per class which models map it, at which threshold, and how well by which ground."""
    from results.phrases import counted

    for each in models.maps:
        members = models.members_of(each.class_name)
        origins = ", ".join(dict.fromkeys(member.origin for member in members))
        jaccard = "-" if each.jaccard is None else f"{each.jaccard:.3f}"
        spread = "" if each.spread is None else f" ± {each.spread:.3f} over {each.spread_over}"
        several = f"{counted(len(members), 'model')} of " if len(members) > 1 else ""
        ground = "validation" if each.threshold_from == "validation" else "the folds"
        flatters = ", which the same ground chose" if each.flatters else ""
        if any(member.start_may_know for member in members):
            flatters += "; may flatter, as the model that it began from may know this ground"
        say(
            f"{each.class_name}: {several}{origins}, validation Jaccard {jaccard}{spread} "
            f"at threshold {each.threshold:.2f} from {ground}{flatters}"
        )
