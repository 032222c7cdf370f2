"""A network in training: where its patches come from, what its loss is, and which patches it finds hard."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipeline.energy import energies
from pipeline.losses import MixedLoss, patch_crossentropy
from pipeline.patches.on_device import PatchCutter

Tensor = Any


class Trainee(keras.Model):  # type: ignore[misc]
    """Trains a network in place.

    Args:
        network: From scaled bands to probabilities, or to several outputs, as `build_model` makes it.
        loss: Of maps of the classes.
        margin_px: How much smaller the maps are than the patches, on each side.
        cutter: Cuts the patches on the device from the draws that are fed; without one, patches are fed.
        batch_size: Patches per step where the loss of each is kept, else 0.
    """

    def __init__(
        self,
        network: keras.Model,
        loss: MixedLoss,
        *,
        margin_px: int = 0,
        cutter: PatchCutter | None = None,
        batch_size: int = 0,
    ) -> None:
        super().__init__(name="trainee")
        self.network = network
        self.cutter = cutter
        self._mixed = loss
        self._margin_px = margin_px
        self._patch_losses = (
            self.add_weight(shape=(batch_size,), initializer="zeros", trainable=False, name="patch_losses")
            if batch_size
            else None
        )

    @property
    def patch_losses(self) -> NDArray[np.float32]:
        """Cross-entropy of each patch of the last step, `(N,)`."""
        return np.asarray(ops.convert_to_numpy(self._patch_losses), np.float32)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """All outputs of the network by name; and the targets where patches are cut here."""
        if self.cutter is None:
            return self._named(self.network(inputs, training=training))
        bands, targets = self.cutter(inputs)
        return {**self._named(self.network(bands, training=training)), "targets": targets}

    def _named(self, outputs: Any) -> dict[str, Tensor]:
        return outputs if isinstance(outputs, dict) else {"masks": outputs}

    def compute_loss(
        self,
        x: Any = None,  # noqa: ARG002
        y: Tensor = None,
        y_pred: Any = None,
        sample_weight: Tensor = None,  # noqa: ARG002
        training: bool = True,  # noqa: ARG002
    ) -> Tensor:
        """The loss of the maps; half of it for each coarser stage; the energies' error; and what large weights cost."""
        whole = y_pred["targets"] if self.cutter is not None else y
        targets = self._mapped(whole)
        if self._patch_losses is not None:
            self._patch_losses.assign(ops.stop_gradient(patch_crossentropy(targets, y_pred["masks"])))
        total = self._mixed(targets, y_pred["masks"])
        for name, output in y_pred.items():
            if name == "energy":
                depths, known = energies(whole)
                error = self._mixed.energy(self._mapped(depths), output, self._mapped(known))
                total = total + self._mixed.details.energy * error
            elif name.startswith("masks") and name != "masks":
                total = total + 0.5 ** int(name.removeprefix("masks")) * self._mixed(targets, output)
        for cost in self.losses:
            total = total + cost
        return total

    def _mapped(self, patches: Tensor) -> Tensor:
        """What the network maps of patches: all but the margin."""
        if not self._margin_px:
            return patches
        inner = slice(self._margin_px, -self._margin_px)
        return patches[:, inner, inner]

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:  # noqa: ARG002
        """The loss alone: what counts is measured on whole scenes."""
        metrics: dict[str, Any] = self.get_metrics_result()
        return metrics
