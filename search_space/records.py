"""What a study leaves behind: how its ground was split, the retrained models, and the score on held-out ground."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from search_space.candidate import Candidate
from search_space.chosen import HOW_ASKED
from search_space.decode import Frozen, ListAsTuple, Whole, encode, fingerprint
from search_space.objective import EpochReport
from search_space.polygon_score import PolygonScore
from search_space.prediction import PredictionSettings
from search_space.task import origin_in_words

Names = Annotated[tuple[str, ...], ListAsTuple]
Numbers = Annotated[tuple[float, ...], ListAsTuple]
Bounds = Annotated[tuple[float | None, ...], ListAsTuple]
Spreads = Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], ListAsTuple]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
PixelCount = Annotated[Whole, Field(ge=0)]
Number = Annotated[Whole, Field(ge=0)]
FoldName = Literal["training", "validation", "test"]
Rectangle = Annotated[tuple[PixelCount, PixelCount, PixelCount, PixelCount], ListAsTuple]
ThresholdFrom = Literal["validation", "folds"]
ScoreFrom = Literal["other folds", "other scenes", "same ground"]
SpreadOver = Literal["folds", "models", ""]

GROUND_WORDS: dict[str, str] = {
    "validation": "the study's validation ground",
    "folds": "the ground of all folds",
    "both": "the study's validation ground and the ground of all folds",
}

NUM_LEVELS = 256
"""So many levels has a probability where pixels are counted: level `k` from `k / 256` on."""

LevelCounts = Annotated[tuple[PixelCount, ...], ListAsTuple, Field(min_length=NUM_LEVELS, max_length=NUM_LEVELS)]
Histogram = Annotated[tuple[LevelCounts, LevelCounts], ListAsTuple]
"""Pixels by the level of their probability: first those without the class, then those with it."""


class FoldShares(Frozen):
    """One fold in numbers.

    Attributes:
        name: "1", "2" … where folds are numbered, else what it is used for.
        used_for: What this study uses it for.
        num_scenes: Scenes that it has ground of.
        num_blocks: Blocks of scenes that it has; None where only whole scenes are dealt.
        known_share: Share of all known pixels.
        class_shares: Share of each class's pixels; 0 where the fold lacks the class.
    """

    name: str
    used_for: FoldName
    num_scenes: Annotated[Whole, Field(ge=0)]
    num_blocks: Annotated[Whole, Field(ge=0)] | None = None
    known_share: Share
    class_shares: dict[str, Share]

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes that it lacks."""
        return tuple(name for name, share in self.class_shares.items() if share == 0)


class Split(Frozen):
    """How a study's labelled ground was split.

    Attributes:
        folds: Every fold, in order.
        same_ground: Groups of scenes that were kept together.
        unlabelled: Scenes without a labelled pixel, which are in no fold.
    """

    folds: Annotated[tuple[FoldShares, ...], ListAsTuple]
    same_ground: Annotated[tuple[Names, ...], ListAsTuple] = ()
    unlabelled: Names = ()


class BandNumbers(Frozen):
    """What a model's bands were scaled by in training, one number per band in the model's order, indices last.

    Attributes:
        low: Values below become this one; None where none does.
        high: Values above become this one; None where none does.
        mean: What is subtracted.
        std: What is divided by.
    """

    low: Bounds
    high: Bounds
    mean: Numbers
    std: Spreads

    @model_validator(mode="after")
    def _as_many_of_each(self) -> Self:
        if len({len(self.low), len(self.high), len(self.mean), len(self.std)}) > 1:
            raise ValueError("must have as many numbers in `low`, `high`, `mean` and `std`")
        return self


class ModelMember(Frozen):
    """One retrained model, which maps one class; the map of the class is the mean of those of all its members.

    Attributes:
        class_name: The class it maps.
        file: The `.keras` file, relative to the folder of the model set.
        sha256: Of that file; empty where nobody wrote it down.
        candidate: The architecture and training plan it was made from.
        fold: The fold it did not see and was validated on; 0 for the study's own validation ground.
        num_folds: Of how many folds; 0 with the study's own split.
        seed: Number of the training's seed, from 0.
        rank: Place of the candidate among those that were chosen for the class; 0 for the best.
        epochs: Its budget; 0 where nobody wrote it down.
        steps_per_epoch: Its budget; 0 where nobody wrote it down.
        start: SHA-256 of the model whose weights its training began with; empty for one from scratch.
        threshold: What suits this model alone; the map of the class has one of its own.
        numbers: What the candidate's scaling takes from the training scenes; None where each scene is scaled by itself.
        trial: Number of the trial that found the candidate; None for a recipe.
        study: Name of the study of that trial, where it is another than the set's.
        recipe: Name or file of the recipe; empty for a trial.
        prediction: How tiles become a map, where the recipe says so; else the study does.
        start_from: What `start` was, as `retrain --from` named it; empty where nobody wrote it down.
        fine_tuned: Whether it was trained as `retrain --fine-tune` does.
        validation_jaccard: Jaccard on its validation ground at `threshold`, which that ground chose; None where the
            class is absent there.
        reports: One report per epoch of the retraining.
        figures: Further numbers with their unit in the name, such as `num_parameters`, `train_s`.
        made_with: What it was trained by, to its version, such as "keras" to "3.12.0".
    """

    class_name: str
    file: str
    sha256: str = ""
    candidate: Candidate
    fold: Number = 0
    num_folds: Number = 0
    seed: Number = 0
    rank: Number = 0
    epochs: Number = 0
    steps_per_epoch: Number = 0
    start: str = ""
    threshold: Share
    numbers: BandNumbers | None = None
    trial: Number | None = None
    study: str = ""
    recipe: str = ""
    prediction: PredictionSettings | None = None
    start_from: str = ""
    fine_tuned: bool = False
    validation_jaccard: Share | None = None
    reports: Annotated[tuple[EpochReport, ...], ListAsTuple] = ()
    figures: dict[str, float] = {}
    made_with: dict[str, str] = {}

    @property
    def origin(self) -> str:
        """Where the candidate is from, in words."""
        return origin_in_words(self.trial, self.recipe, self.study)

    @property
    def begun_elsewhere(self) -> bool:
        """Whether it began from a model of another study, of whose ground nothing is known."""
        return bool(self.start and self.study)

    @property
    def start_may_know(self) -> bool:
        """Whether the model that it began from may have been trained on the ground that it was validated on."""
        return self.begun_elsewhere or bool(self.start and self.num_folds)


class TrialModel(Frozen):
    """What a trial's model needs beside its weights to be used.

    Attributes:
        study: Name of the study.
        trial: Number of the trial; None where nobody wrote it down, and for a recipe's.
        recipe: Name or file of the recipe that it was made by; empty where a search found the candidate.
        prediction: How tiles become a map, where the recipe says so; else the study does.
        classes: What it maps, in the order of its channels.
        bands: The bands of the imagery that it reads, in order.
        indices: The spectral indices computed from them, which follow the bands.
        candidate: The architecture and training plan it was made from.
        numbers: What the candidate's scaling takes from the training scenes; None where each scene is scaled by itself.
        thresholds: Per class; values at or above it are the class.
        jaccard: Validation Jaccard per class at its threshold.
        counts: Per class and scene of the validation ground, its pixels by level; empty where nobody wrote it down.
        same_ground: Groups of these scenes that show the same ground.
        data_fingerprint: Fingerprint of the prepared data set it was trained on; empty where nobody wrote it down.
        validation_fingerprint: Fingerprint of the ground that it was validated on; empty where nobody wrote it down.
        made_with: What it was trained by, to its version, such as "keras" to "3.12.0".
    """

    study: str
    trial: Number | None
    recipe: str = ""
    prediction: PredictionSettings | None = None
    classes: Annotated[Names, Field(min_length=1)]
    bands: Annotated[Names, Field(min_length=1)]
    indices: Names = ()
    candidate: Candidate
    numbers: BandNumbers | None = None
    thresholds: dict[str, Share]
    jaccard: dict[str, Share]
    counts: dict[str, dict[str, Histogram]] = {}
    same_ground: Annotated[tuple[Names, ...], ListAsTuple] = ()
    data_fingerprint: str = ""
    validation_fingerprint: str = ""
    made_with: dict[str, str] = {}


class Counts(Frozen):
    """How many pixels of one class were right and wrong, over all ground of a fold.

    Attributes:
        tp: Predicted and labelled.
        fp: Predicted, not labelled.
        fn: Labelled, not predicted.
    """

    tp: PixelCount
    fp: PixelCount
    fn: PixelCount


class FoldJaccard(Frozen):
    """What the models of a class reach on the ground of one fold.

    Attributes:
        fold: Its number; 0 for the study's own validation ground.
        jaccard: Mean over the models that were validated there.
        num_models: How many these are.
    """

    fold: Number
    jaccard: Share
    num_models: Annotated[Whole, Field(ge=1)]


class ClassMap(Frozen):
    """How a class is mapped by all its members together, and how well each of them does it.

    Attributes:
        class_name: The class.
        threshold: Values of the blended mean of the members at or above it are the class.
        threshold_from: The ground that chose it: all of the study's validation ground, or that of all folds.
        jaccard: Of single members, over all that ground together; None where nobody knows.
        score_from: What `jaccard` was counted on: for each fold, or each scene, with the threshold that all others
            chose, or on the same ground as chose the threshold, which flatters.
        counts: The pixels behind `jaccard`, of all members together; None where nobody knows.
        folds: What the members of each fold reach there, in order.
        spread: Standard deviation, that of a sample, of `jaccard` over folds or members; None where there is one.
        spread_over: What it is taken over: folds where there are several, else members.
        absent_folds: Folds that lack the class, where they train or where they validate; they are no part of this.
    """

    class_name: str
    threshold: Share
    threshold_from: ThresholdFrom = "validation"
    jaccard: Share | None = None
    score_from: ScoreFrom = "same ground"
    counts: Counts | None = None
    folds: Annotated[tuple[FoldJaccard, ...], ListAsTuple] = ()
    spread: Annotated[float, Field(ge=0.0)] | None = None
    spread_over: SpreadOver = ""
    absent_folds: Annotated[tuple[Number, ...], ListAsTuple] = ()

    @property
    def flatters(self) -> bool:
        """Whether the ground that chose the threshold is also what the Jaccard was counted on."""
        return self.score_from == "same ground"

    @property
    def counted(self) -> str:
        """How the Jaccard was counted, in words."""
        if self.flatters:
            return "on the ground that chose the threshold, which flatters"
        part = self.score_from.removeprefix("other ")
        return f"each {part.removesuffix('s')} at the threshold that the other {part} chose"

    @property
    def ground(self) -> str:
        """What chose the threshold, in words."""
        return GROUND_WORDS[self.threshold_from]


class ModelSet(Frozen):
    """`models/model_set.json`: all that prediction needs to know of the retrained models.

    Attributes:
        study: Name of the study that found them.
        data_fingerprint: Fingerprint of the prepared data set they were trained on.
        classes: The classes of the study, in order; members may cover only some.
        bands: The bands of the imagery that the models read, in order.
        indices: The spectral indices computed from them, which follow the bands.
        members: The models, several per class where there are several folds, seeds or candidates.
        maps: How each class that has members is mapped, in the order of `classes`.
        version: The version of Mapgrove that put the set together; empty where nobody wrote it down.
    """

    study: str
    data_fingerprint: str
    classes: Annotated[Names, Field(min_length=1)]
    bands: Annotated[Names, Field(min_length=1)]
    indices: Names = ()
    members: Annotated[tuple[ModelMember, ...], ListAsTuple] = ()
    maps: Annotated[tuple[ClassMap, ...], ListAsTuple] = ()
    version: str = ""

    @model_validator(mode="after")
    def _members_are_told_apart(self) -> Self:
        seen = [(each.class_name, each.fold, each.seed, each.rank) for each in self.members]
        if twice := sorted({f"{name}, fold {fold}" for name, fold, *_ in [s for s in seen if seen.count(s) > 1]}):
            raise ValueError(f"two models map the same class from the same training: {'; '.join(twice)}")
        if strangers := sorted({name for name, *_ in seen} - set(self.classes)):
            raise ValueError(f"a model maps a class that the set does not have: {', '.join(strangers)}")
        for name in self.classes:
            if len({each.num_folds for each in self.members_of(name)}) > 1:
                raise ValueError(f"the models of {name} are of different splits, so their scores cannot be compared")
        return self

    @model_validator(mode="after")
    def _a_map_for_each_class(self) -> Self:
        mapped = [each.class_name for each in self.maps]
        wanted = [name for name in self.classes if self.members_of(name)]
        if mapped and not wanted:
            raise ValueError("`maps` must be empty, as there is no model")
        if mapped != wanted:
            raise ValueError(f"`maps` must have one entry for each class with a model, in order: {', '.join(wanted)}")
        return self

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits by which maps and scores know the models that made them."""
        plain = encode(self)
        for member in plain["members"]:
            for name in HOW_ASKED:
                del member[name]
        return fingerprint(plain)

    def members_of(self, class_name: str) -> tuple[ModelMember, ...]:
        """The models of a class, none where it has not been retrained."""
        return tuple(each for each in self.members if each.class_name == class_name)

    def map_of(self, class_name: str) -> ClassMap | None:
        """How a class is mapped, None where it has not been retrained."""
        return next((each for each in self.maps if each.class_name == class_name), None)


class ScoredGround(Frozen):
    """What counted of one scene.

    Attributes:
        scene: Its id.
        blocks_px: Each block as `[top, left, bottom, right]`, the last two just outside; empty for the whole scene.
        known_share: Share of the scene's known pixels that counted.
    """

    scene: str
    blocks_px: Annotated[tuple[Rectangle, ...], ListAsTuple] = ()
    known_share: Share = 1.0


class ScoreRecord(Frozen):
    """`score.json`: how well the model set maps the held-out ground of a fold.

    Attributes:
        fold: What was scored; "test" for ground that nothing looked at before.
        scenes: Ids of the scenes that have ground of it.
        ground: What counted of each of them.
        jaccard: Jaccard per class over all that counted; None where no pixel of it is labelled with the class.
        absent: The classes without a labelled pixel there; they are no part of the mean.
        counts: The pixels behind `jaccard`, per class.
        mean_jaccard: Mean over the classes that have a Jaccard; None where none has.
        polygons: Of the classes whose single things were told apart, how well these were found.
        rule: How pixels were counted, in one sentence.
        models: Fingerprint of the model set that drew the maps.
        threshold_from: The ground that chose the thresholds: "validation", "folds" or, by class, "both"; empty where
            nobody knows.
        models_saw: What the models had of the scored ground before: "nothing", or it chose their "thresholds", or some
            of them had it in "training", or some began from a model that may have ("start"); empty where nobody knows.
    """

    fold: str
    scenes: Names
    ground: Annotated[tuple[ScoredGround, ...], ListAsTuple] = ()
    jaccard: dict[str, Share | None]
    absent: Names = ()
    counts: dict[str, Counts] = {}
    mean_jaccard: Share | None = None
    polygons: dict[str, PolygonScore] = {}
    rule: str = ""
    models: str = ""
    threshold_from: ThresholdFrom | Literal["both", ""] = ""
    models_saw: Literal["nothing", "thresholds", "training", "start", ""] = ""

    @property
    def places(self) -> str:
        """What was scored, in words: "scenes", or "blocks" where only some of a scene counted."""
        return "blocks" if any(each.blocks_px for each in self.ground) else "scenes"
