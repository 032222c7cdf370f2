"""A network in training: where its patches come from, what its loss is, and which patches it finds hard."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from pipeline.networks.devices import part_of_loss, whole_batch
from pipeline.patches.on_device import PatchCutter
from pipeline.training.energy import energies
from pipeline.training.losses import MixedLoss, patch_crossentropy

Tensor = Any


class Trainee(keras.Model):  # type: ignore[misc]
    """Trains a network in place.

    Args:
        network: From scaled bands to probabilities, or to several outputs, as `build_model` makes it.
        loss: Of maps of the classes.
        margin_px: How much smaller the maps are than the patches, on each side.
        cutter: Cuts the patches on the device from the draws that are fed; without one, patches are fed.
        batch_size: Patches that are fed at a time where the loss of each is kept, else 0.

    Attributes:
        network: What is trained.
        cutter: What cuts its patches.
        part_names: Names of what its loss consists of: those of the losses, `energy` and `l2` where there are such.
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
        # Whatever the network computes in, places of patches and losses are whole numbers.
        super().__init__(name="trainee", dtype=keras.config.floatx())
        self.network = network
        self.cutter = cutter
        self._mixed = loss
        self._margin_px = margin_px
        self._patch_losses = (
            self.add_weight(
                shape=(batch_size,),
                initializer="zeros",
                trainable=False,
                # Each of several devices has the losses of all patches.
                aggregation="only_first_replica",
                name="patch_losses",
            )
            if batch_size
            else None
        )
        outputs = network.output if isinstance(network.output, dict) else {}
        costs = {"energy": "energy" in outputs, "l2": bool(network.losses)}
        self.part_names = (*loss.weights, *(name for name, is_there in costs.items() if is_there))
        self._meters = {name: keras.metrics.Mean(name=name) for name in self.part_names}

    @property
    def state(self) -> list[keras.Variable]:
        """All that the next step depends on, random generators too; without the scenes that the cutter holds."""
        held = {id(variable) for variable in self.cutter.variables} if self.cutter is not None else set()
        held.add(id(self._patch_losses))
        return [variable for variable in self.variables if id(variable) not in held]

    @property
    def patch_losses(self) -> NDArray[np.float32]:
        """Cross-entropy of each patch that was fed last, `(N,)`."""
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
        """The loss of the maps; half of it for each coarser stage; the energies' error; and what large weights cost.

        It is that of the whole batch also where several devices share it.
        """
        y, y_pred = whole_batch(y), whole_batch(y_pred)
        whole = y_pred["targets"] if self.cutter is not None else y
        targets = self._mapped(whole)
        if self._patch_losses is not None:
            self._patch_losses.assign(ops.stop_gradient(patch_crossentropy(targets, y_pred["masks"])))
        parts = {name: ops.zeros(()) for name in self.part_names}
        for name, output in y_pred.items():
            if name == "energy":
                depths, known = energies(whole)
                error = self._mixed.energy(self._mapped(depths), output, self._mapped(known))
                parts["energy"] = self._mixed.details.energy * error
            elif name.startswith("masks"):
                share = 0.5 ** int(name.removeprefix("masks") or 0)
                losses = self._mixed.parts(targets[..., :-1], output, targets[..., -1:])
                for each, value in losses.items():
                    parts[each] = parts[each] + share * self._mixed.weights[each] * value
        for cost in self.losses:
            parts["l2"] = parts["l2"] + cost
        for name, value in parts.items():
            self._meters[name].update_state(value)
        return part_of_loss(sum(parts.values()))

    def _mapped(self, patches: Tensor) -> Tensor:
        """What the network maps of patches: all but the margin."""
        if not self._margin_px:
            return patches
        inner = slice(self._margin_px, -self._margin_px)
        return patches[:, inner, inner]

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:  # noqa: ARG002
        """The loss and its parts alone: what counts is measured on whole scenes."""
        metrics: dict[str, Any] = self.get_metrics_result()
        return metrics
