"""A network in training: where its patches come from, what its loss is, and which patches it finds hard."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipeline.losses import patch_crossentropy
from pipeline.patches.on_device import PatchCutter

Tensor = Any


class Trainee(keras.Model):  # type: ignore[misc]
    """Trains a network in place.

    Args:
        network: From scaled bands to probabilities.
        cutter: Cuts the patches on the device from the draws that are fed; without one, patches are fed.
        batch_size: Patches per step where the loss of each is kept, else 0.
    """

    def __init__(self, network: keras.Model, cutter: PatchCutter | None = None, batch_size: int = 0) -> None:
        super().__init__(name="trainee")
        self.network = network
        self.cutter = cutter
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
        """Probabilities; and the targets where patches are cut here."""
        if self.cutter is None:
            return self.network(inputs, training=training)
        bands, targets = self.cutter(inputs)
        return {"probabilities": self.network(bands, training=training), "targets": targets}

    def compute_loss(
        self,
        x: Any = None,
        y: Tensor = None,
        y_pred: Any = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """The compiled loss, whichever side the targets come from."""
        if self.cutter is not None:
            y, y_pred = y_pred["targets"], y_pred["probabilities"]
        if self._patch_losses is not None:
            self._patch_losses.assign(ops.stop_gradient(patch_crossentropy(y, y_pred)))
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:  # noqa: ARG002
        """The loss alone: what counts is measured on whole scenes."""
        metrics: dict[str, Any] = self.get_metrics_result()
        return metrics
