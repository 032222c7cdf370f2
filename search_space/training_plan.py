"""How a network is trained: the frozen description that the training engine follows."""

from typing import Annotated, Literal

from pydantic import Field

from search_space.decode import Frozen, Whole
from search_space.errors import InfeasibleError
from search_space.losses import LossDetails, LossMix
from search_space.optimisation import Adam, Averaging, ConstantRate, NoAveraging, Optimizer, PlateauRate, Schedule

ScalingKind = Literal["clipped", "standard", "percentile", "bytes"]
ScalingScope = Literal["dataset", "scene"]

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class UniformSampling(Frozen):
    """Patches are drawn around any labelled pixel."""

    kind: Literal["uniform"] = "uniform"

    @property
    def share(self) -> float:
        """No patch is drawn in another way."""
        return 0.0


class BalancedSampling(Frozen):
    """A share of the patches is drawn around a pixel of a class, drawn evenly among the classes present.

    So each pixel counts in proportion to the rarity of its class; of scenes that have more of a class than fills a
    patch, none counts more than another. The other patches are drawn uniformly.
    """

    kind: Literal["balanced"] = "balanced"
    share: Share = 0.5


class LossSampling(Frozen):
    """A share of the patches is drawn in proportion to the loss last seen there, the others uniformly."""

    kind: Literal["loss"] = "loss"
    share: Share = 0.5


Sampling = Annotated[UniformSampling | BalancedSampling | LossSampling, Field(discriminator="kind")]


class Augmentation(Frozen):
    """How patches are varied; a strength of 0 switches its variation off.

    Attributes:
        turns: "none"; "d4", one of the eight quarter turns and mirrors at random; "d8", these and half of a quarter
            turn, 16 in all; "any", any angle, mirrored or not.
        zoom: Things appear larger or smaller by a factor of up to 1 + zoom.
        shear: Rows slide by up to this share of their distance from the middle.
        elastic: The ground is bent smoothly: control points a quarter of a patch apart move by up to this share of
            their distance. Above a half, ground would fold over itself.
        jitter: Random linear transform of each channel: its factor is drawn from 1 +/- jitter, its offset from
            0 +/- jitter in units of the scaled bands.
        brightness: Added to all scaled channels alike, drawn from 0 +/- brightness.
        contrast: Factor of all channels alike, drawn from 1 +/- contrast.
        noise: Gaussian noise per pixel and channel; its standard deviation is drawn from 0 to noise.
        band_dropout: Probability that a channel is replaced by its mean; one always stays.
        soft_labels: Whether turned masks hold shares between 0 and 1, or those of the nearest pixel.
    """

    turns: Literal["none", "d4", "d8", "any"] = "d4"
    zoom: Annotated[float, Field(ge=0.0, le=3.0)] = 0.0
    shear: Share = 0.0
    elastic: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    jitter: Share = 0.1
    brightness: Share = 0.0
    contrast: Share = 0.0
    noise: Share = 0.0
    band_dropout: Share = 0.0
    soft_labels: bool = False


class Scaling(Frozen):
    """How bands become numbers that a network likes.

    Attributes:
        kind: "clipped" clips at the percentiles, then takes the mean to 0 and the standard deviation to 1.
            "standard" does so without clipping.
            "percentile" clips at the percentiles and takes them to -1 and 1.
            "bytes" does so in 256 steps, as an image that was stretched to 8 bits would hold them.
        scope: "dataset" takes percentiles, mean and deviation from all training scenes together: a scene that is
            brighter than others stays so. "scene" takes them from each scene by itself: scenes that were exposed or
            stretched one by one become alike.
        low_percentile: Where the kind clips, the share of pixels below, in percent.
        high_percentile: Where the kind clips, the share of pixels up to there, in percent.
    """

    kind: ScalingKind = "clipped"
    scope: ScalingScope = "dataset"
    low_percentile: Annotated[float, Field(ge=0.0, lt=50.0)] = 1.0
    high_percentile: Annotated[float, Field(gt=50.0, le=100.0)] = 99.0

    @property
    def percentiles(self) -> tuple[float, float] | None:
        """Where bands are clipped; None where they are not."""
        return None if self.kind == "standard" else (self.low_percentile, self.high_percentile)


class TrainingPlan(Frozen):
    """One training recipe.

    Attributes:
        loss: The weighted sum of losses.
        loss_details: What these losses take more seriously.
        optimizer: What takes the steps.
        learning_rate: Its learning rate at its highest; the schedule and the warm-up are shares of it.
        clip_norm: Longest gradient of all weights together; a longer one is shortened to it. 0 takes it as it is.
        warm_up: Share of the training in which the learning rate rises evenly to what the schedule says.
        schedule: The course of the learning rate.
        averaging: What is averaged of the weights.
        patience: Training ends after so many epochs without a better one; 0 for its whole budget.
        patch_px: Side length of a training patch.
        batch_size: Patches per optimisation step.
        sampling: Where patches are drawn.
        augmentation: How patches are varied.
        scaling: How bands become numbers.
    """

    loss: LossMix = LossMix(bce=1.0)
    loss_details: LossDetails = LossDetails()
    optimizer: Optimizer = Adam()
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] = 1e-3
    clip_norm: Annotated[float, Field(ge=0.0, le=1000.0)] = 1.0
    warm_up: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    schedule: Schedule = ConstantRate()
    averaging: Averaging = NoAveraging()
    patience: Annotated[Whole, Field(ge=0, le=1000)] = 0
    patch_px: Annotated[Whole, Field(ge=8, le=2048)] = 128
    batch_size: Annotated[Whole, Field(ge=1, le=1024)] = 8
    sampling: Sampling = BalancedSampling()
    augmentation: Augmentation = Augmentation()
    scaling: Scaling = Scaling()

    @property
    def depends_on_length(self) -> bool:
        """Whether what a training does depends on how long it will be, so that no other budget can go on from it."""
        own_pace = self.warm_up == 0 and self.schedule.kind in ("constant", "plateau")
        return not own_pace or self.averaging.kind == "snapshots"

    def check_feasible(self) -> None:
        """Refuse parts that make no sense together.

        Raises:
            InfeasibleError: Training would end before its learning rate falls for the first time.
        """
        if isinstance(self.schedule, PlateauRate) and 0 < self.patience <= self.schedule.patience:
            raise InfeasibleError(
                "plan.patience must be longer than plan.schedule.patience, or training ends before its rate can fall",
                received={"patience": self.patience, "schedule.patience": self.schedule.patience},
                remedy=f"Use {self.schedule.patience + 1} or more, or 0 for no end",
            )
