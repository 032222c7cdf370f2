"""Retraining of found candidates, one network per class, into a model set that prediction can use."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.backend import free_device_bytes
from pipeline.checkpoint import Checkpoint
from pipeline.files import sha256_of, write_json
from pipeline.model_set_writing import FinishedTraining, assemble
from pipeline.study_data import StudyData
from pipeline.training import train
from pipeline.trial_model import about_trial, write_trial_model
from search_space.candidate import Candidate
from search_space.decode import Frozen, decode, encode, fingerprint
from search_space.errors import MapgroveError
from search_space.network.cost import check_cost
from search_space.objective import CHECKPOINT_FILE, EpochReport
from search_space.records import Chosen, ModelMember, ModelSet
from search_space.study import Study
from search_space.task import Task

logger = logging.getLogger(__name__)

RUN_FILE = "run.json"


class RunRecord(Frozen):
    """`<class>/run.json`: what the model beside it was trained from; written last, so it is there only when both are.

    Attributes:
        key: Equal exactly where a training would give the same model, but for the last digits that threads may change.
        ground: Equal for models that may be used together: the same data and folds.
        model_sha256: Of the model's file.
        study: The resolved study.
        member: What the model set says of the model.
    """

    key: str
    ground: str
    model_sha256: str
    study: Study
    member: ModelMember


def retrain(
    study: Study,
    chosen: Mapping[str, Chosen],
    folder: Path,
    *,
    on_epoch: Callable[[str, EpochReport], None],
) -> ModelSet:
    """Train one network per class with the study's long budget.

    Each class ends in `folder/<class>/`: `model.keras`, `run.json` (the resolved study, the candidate, the reports).
    The model set is written after every class. A class that was already trained from the same candidate, data and
    settings is kept, and one that was cut off goes on after its last epoch; models of other data or folds leave the
    set, as their thresholds and scores could not be compared. Each model keeps the numbers that scale its bands.

    Args:
        study: Data, folds and budget.
        chosen: What each class is trained from.
        folder: Where the model set goes.
        on_epoch: Told the class and the report after each epoch.

    Returns:
        The model set with every class trained so far.

    Raises:
        InfeasibleError: A network takes more memory than there may be; nothing was written.
        MapgroveError: A class is not labelled in the training or validation ground, or training diverged, or another
            process retrains into the same folder.
    """
    data = StudyData.open(study)
    absent = [name for name in chosen if name in data.fold.absent_in_validation]
    if absent:
        raise MapgroveError(
            f"no validation ground has {', '.join(absent)}, so no threshold can be chosen",
            remedy="Hold out other ground in [folds], or leave the class out with --classes",
        )
    for each in chosen.values():
        each.candidate.check_feasible()
        limits = study.limits.of_one_network
        check_cost(each.candidate, data.dataset.input_bands, 1, limits, study.retrain, free_device_bytes())
    return _Retraining(study, data, folder, on_epoch).run(chosen)


@dataclass(frozen=True)
class _Retraining:
    study: Study
    data: StudyData
    folder: Path
    on_epoch: Callable[[str, EpochReport], None]

    def run(self, chosen: Mapping[str, Chosen]) -> ModelSet:
        kept = self._kept()
        members = {name: record.member for name, record in kept.items()}
        for class_name, each in chosen.items():
            if class_name not in kept or kept[class_name].key != self._key(each.candidate):
                members[class_name] = self._train(class_name, each)
                self._write(members)
            told = {name: getattr(each, name) for name in ("trial", "study", "recipe", "prediction")}
            members[class_name] = members[class_name].model_copy(update=told)
        return self._write(members)

    def _kept(self) -> dict[str, RunRecord]:
        """Sound models of earlier calls that may be used together with those of this one."""
        kept = {}
        for name in self.study.data.classes:
            path = self.folder / name / RUN_FILE
            if not path.is_file():
                continue
            try:
                record = decode(RunRecord, json.loads(path.read_bytes()), where=str(path))
                whole = sha256_of(self.folder / record.member.file) == record.model_sha256
            except (MapgroveError, OSError, ValueError) as error:
                logger.warning("%s: not used: %s", path.parent, error)
                continue
            if not whole:
                logger.warning("%s: not used: the model is damaged", path.parent)
            elif record.ground != self._ground():
                logger.warning("%s: not used: trained on other data or folds", path.parent)
            else:
                kept[name] = record
        return kept

    def _train(self, class_name: str, chosen: Chosen) -> ModelMember:
        study, data, candidate = self.study, self.data, chosen.candidate
        normalisation = data.normalisation(candidate.plan.scaling)
        checkpoint = Checkpoint(self.folder / class_name / CHECKPOINT_FILE, {"key": self._key(candidate)})
        trained = train(
            candidate,
            data.scenes(data.fold.training, [class_name], normalisation),
            data.scenes(data.fold.validation, [class_name], normalisation),
            [class_name],
            data.dataset.input_bands,
            study.retrain,
            seed=study.study.seed + study.data.classes.index(class_name),
            limits=study.limits.of_one_network,
            on_epoch=lambda report: self.on_epoch(class_name, report),
            checkpoint=checkpoint,
        )
        member = ModelMember(
            class_name=class_name,
            file=f"{class_name}/model.keras",
            candidate=candidate,
            threshold=trained.validation.thresholds[class_name],
            numbers=normalisation.numbers,
            trial=chosen.trial,
            study=chosen.study,
            recipe=chosen.recipe,
            prediction=chosen.prediction,
            validation_jaccard=trained.validation.jaccard[class_name],
            reports=trained.reports,
            figures=trained.figures,
        )
        (self.folder / class_name / RUN_FILE).unlink(missing_ok=True)
        about = about_trial(
            study, chosen.trial or 0, candidate, [class_name], normalisation.numbers, data, trained.validation
        )
        write_trial_model(self.folder / member.file, trained.model, about)
        record = RunRecord(
            key=self._key(candidate),
            ground=self._ground(),
            model_sha256=sha256_of(self.folder / member.file),
            study=study.with_store(""),
            member=member,
        )
        write_json(self.folder / class_name / RUN_FILE, encode(record))
        checkpoint.remove()
        return member

    def _ground(self) -> str:
        return fingerprint([self.data.dataset.fingerprint, self.data.fold.fingerprint])

    def _key(self, candidate: Candidate) -> str:
        weights = candidate.architecture.weights_file
        given = [sha256_of(weights)] if weights is not None and weights.is_file() else []
        budget = encode(self.study.retrain)
        return fingerprint([self._ground(), self.study.study.seed, encode(candidate), budget, *given])

    def _write(self, members: Mapping[str, ModelMember]) -> ModelSet:
        budget = self.study.retrain
        finished = [
            FinishedTraining(
                Task(
                    class_name=name,
                    epochs=budget.epochs,
                    steps_per_epoch=budget.steps_per_epoch,
                    trial=each.trial,
                    study=each.study,
                    recipe=each.recipe,
                    prediction=each.prediction,
                ),
                each.candidate,
                self.folder / each.file,
                each.reports,
                each.figures,
            )
            for name, each in members.items()
        ]
        return assemble(self.study, finished, self.folder)
