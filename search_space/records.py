"""What a study leaves behind: how its ground was split, the retrained models, and the score on held-out ground."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from search_space.candidate import Candidate
from search_space.decode import Frozen, ListAsTuple, Whole, fingerprint
from search_space.objective import EpochReport
from search_space.prediction import PredictionSettings

Names = Annotated[tuple[str, ...], ListAsTuple]
Numbers = Annotated[tuple[float, ...], ListAsTuple]
Bounds = Annotated[tuple[float | None, ...], ListAsTuple]
Spreads = Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], ListAsTuple]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
PixelCount = Annotated[Whole, Field(ge=0)]
FoldName = Literal["training", "validation", "test"]
Rectangle = Annotated[tuple[PixelCount, PixelCount, PixelCount, PixelCount], ListAsTuple]


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


class Chosen(Frozen):
    """What a class is retrained from.

    Attributes:
        candidate: Its network and how to train it.
        trial: Number of the trial that found it; None for a recipe.
        study: Name of the study of that trial, where it is not the one that is retrained.
        recipe: Name or file of the recipe; empty for a trial.
        prediction: How tiles become a map, where the recipe says so; else the study does.
    """

    candidate: Candidate
    trial: Annotated[Whole, Field(ge=0)] | None = None
    study: str = ""
    recipe: str = ""
    prediction: PredictionSettings | None = None


class ModelMember(Frozen):
    """One retrained model, which maps one class.

    Attributes:
        class_name: The class it maps.
        file: The `.keras` file, relative to the folder of the model set.
        candidate: The architecture and training plan it was made from.
        threshold: Values of the blended map at or above it are the class.
        numbers: What the candidate's scaling takes from the training scenes; None where each scene is scaled by itself.
        trial: Number of the trial that found the candidate; None for a recipe.
        study: Name of the study of that trial, where it is not the one of the set.
        recipe: Name or file of the recipe; empty for a trial.
        prediction: How tiles become a map, where the recipe says so; else the study does.
        validation_jaccard: Jaccard on the validation scenes at `threshold`; None where the class is absent there.
        reports: One report per epoch of the retraining.
        figures: Further numbers with their unit in the name, such as `num_parameters`, `train_s`.
    """

    class_name: str
    file: str
    candidate: Candidate
    threshold: Share
    numbers: BandNumbers | None = None
    trial: Annotated[Whole, Field(ge=0)] | None = None
    study: str = ""
    recipe: str = ""
    prediction: PredictionSettings | None = None
    validation_jaccard: Share | None = None
    reports: Annotated[tuple[EpochReport, ...], ListAsTuple] = ()
    figures: dict[str, float] = {}

    @property
    def origin(self) -> str:
        """Where the candidate is from, in words."""
        if self.trial is None:
            return self.recipe
        return f"trial {self.trial} of {self.study}" if self.study else f"trial {self.trial}"


class TrialModel(Frozen):
    """What a trial's model needs beside its weights to be used.

    Attributes:
        study: Name of the study.
        trial: Number of the trial.
        classes: What it maps, in the order of its channels.
        bands: The bands of the imagery that it reads, in order.
        indices: The spectral indices computed from them, which follow the bands.
        candidate: The architecture and training plan it was made from.
        numbers: What the candidate's scaling takes from the training scenes; None where each scene is scaled by itself.
        thresholds: Per class; values at or above it are the class.
        jaccard: Validation Jaccard per class at its threshold.
    """

    study: str
    trial: Annotated[Whole, Field(ge=0)]
    classes: Annotated[Names, Field(min_length=1)]
    bands: Annotated[Names, Field(min_length=1)]
    indices: Names = ()
    candidate: Candidate
    numbers: BandNumbers | None = None
    thresholds: dict[str, Share]
    jaccard: dict[str, Share]


class ModelSet(Frozen):
    """`models/model_set.json`: all that prediction needs to know of the retrained models.

    Attributes:
        study: Name of the study that found them.
        data_fingerprint: Fingerprint of the prepared data set they were trained on.
        classes: The classes of the study, in order; members may cover only some.
        bands: The bands of the imagery that the models read, in order.
        indices: The spectral indices computed from them, which follow the bands.
        members: One model per class.
    """

    study: str
    data_fingerprint: str
    classes: Annotated[Names, Field(min_length=1)]
    bands: Annotated[Names, Field(min_length=1)]
    indices: Names = ()
    members: Annotated[tuple[ModelMember, ...], ListAsTuple] = ()

    @model_validator(mode="after")
    def _one_member_per_class(self) -> Self:
        names = [member.class_name for member in self.members]
        if len(set(names)) < len(names):
            raise ValueError(f"two models map the same class: {', '.join(names)}")
        if strangers := [name for name in names if name not in self.classes]:
            raise ValueError(f"a model maps a class that the set does not have: {', '.join(strangers)}")
        return self

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits by which maps and scores know the models that made them."""
        return fingerprint(self)

    def member(self, class_name: str) -> ModelMember | None:
        """The model of a class, None where it has not been retrained."""
        return next((each for each in self.members if each.class_name == class_name), None)


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


class PolygonCounts(Frozen):
    """How many single things of one class were found, each by more than half of its ground.

    Attributes:
        tp: Found and labelled.
        fp: Found, not labelled.
        fn: Labelled, not found.
    """

    tp: PixelCount
    fp: PixelCount
    fn: PixelCount

    @property
    def precision(self) -> float | None:
        """Share of what was found that is right; None where nothing was found."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """Share of what is labelled that was found; None where nothing is labelled."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both, 2 TP / (2 TP + FP + FN); None where nothing is labelled."""
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn) if self.tp + self.fn else None


class PolygonScore(Frozen):
    """How well single things of one class are found.

    Attributes:
        f1: Over all scenes' polygons together; None where nothing is labelled, as ground without it cannot tell.
        precision: Share of what was found that is right; None where nothing was found.
        recall: Share of what is labelled that was found; None where nothing is labelled.
        counts: The polygons behind them.
        scenes: The same for each scene.
        truth: What one labelled thing is: one of the labels' "polygons", or a connected place of their "masks", in
            which neighbours that touch are one; "both" where some scenes have no polygons.
    """

    f1: Share | None
    precision: Share | None
    recall: Share | None
    counts: PolygonCounts
    scenes: dict[str, PolygonCounts] = {}
    truth: Literal["polygons", "masks", "both"] = "masks"


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

    @property
    def places(self) -> str:
        """What was scored, in words: "scenes", or "blocks" where only some of a scene counted."""
        return "blocks" if any(each.blocks_px for each in self.ground) else "scenes"
