"""Train on one device and on two: in a process of its own, as devices are made before a framework looks for them.

The environment says which backend, and for JAX how many devices. Prints what each training reported, and what
Keras had imported that nobody uses, as JSON.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.backend import UNUSED_BY_KERAS, use_backend

NUM_DEVICES = 2

FIELDS = {
    "architecture": {
        "depth": 1,
        "base_filters": 4,
        "units_per_stage": 1,
        "normalisation": "batch",
        "regularisation": {"kind": "l2", "weight": 0.001},
    },
    "plan": {
        "patch_px": 16,
        "batch_size": 4,
        "learning_rate": 0.02,
        "loss": {"bce": 1.0, "dice": 1.0},
        "sampling": {"kind": "loss", "share": 0.5},
        "averaging": {"kind": "ema", "momentum": 0.9},
        "clip_norm": 0.1,
    },
}
"""What looks at a whole batch: its statistics, a loss over all its pixels, the losses of its patches; and costs."""


def main(folder: Path) -> None:
    """Train, each kind on one device and on several."""
    use_backend(1)
    imported = [name for name in UNUSED_BY_KERAS if name in sys.modules]
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        [processor] = tf.config.list_physical_devices("CPU")
        logical = [tf.config.LogicalDeviceConfiguration()] * NUM_DEVICES
        tf.config.set_logical_device_configuration(processor, logical)
    one, several = folder / "one", folder / "several"
    one.mkdir()

    def copy_first_epoch(report: Any) -> None:
        # The checkpoint of an epoch is written after its report.
        if report.epoch == 2:
            shutil.copytree(one, several)

    told = [train_on(1, one, copy_first_epoch), train_on(NUM_DEVICES, several, lambda _: None), imported]
    sys.stdout.write(json.dumps(told) + "\n")


def train_on(num_devices: int, folder: Path, on_epoch: Callable[[Any], None]) -> dict[str, Any]:
    """Train for two epochs, or on from a checkpoint in the folder."""
    import keras
    import numpy as np

    from pipeline.networks.devices import data_parallel, share_of
    from pipeline.networks.prediction import model_predictor
    from pipeline.training.checkpoint import Checkpoint
    from pipeline.training.train import train
    from search_space.candidate import Candidate
    from search_space.decode import decode
    from search_space.network.unet import InputBand
    from search_space.objective import CHECKPOINT_FILE
    from search_space.study import Budget, LimitSettings
    from tests.pipeline_tests.small_training import make_scene

    candidate = decode(Candidate, FIELDS, where="test")
    restored: list[int] = []
    with data_parallel(num_devices, candidate.plan.batch_size):
        share = share_of(candidate).plan.batch_size
        trained = train(
            candidate,
            [make_scene(0), make_scene(1)],
            [make_scene(2)],
            ["square", "stripe"],
            [InputBand(name) for name in ("red", "green", "blue")],
            Budget(epochs=2, steps_per_epoch=3),
            seed=1,
            limits=LimitSettings(max_trials=1, patches_on="device"),
            on_epoch=on_epoch,
            on_restored=lambda reports: restored.extend(each.epoch for each in reports),
            checkpoint=Checkpoint(folder / CHECKPOINT_FILE, {}),
        )
    # Whoever reads the model knows nothing of how many devices made it.
    trained.model.save(folder / "model.keras")
    read = keras.saving.load_model(folder / "model.keras")
    tiles = np.random.default_rng(0).random((3, 16, 16, 3), np.float32)
    alone = model_predictor(read)(tiles)
    # As `predict --gpus` does: it is read where batches are divided, and three tiles are no whole shares.
    with data_parallel(num_devices, num_devices):
        together = model_predictor(keras.saving.load_model(folder / "model.keras", compile=False))(tiles)
    return {
        "maps_alike": np.allclose(together, alone, rtol=0.0, atol=1e-6),
        "is_told_apart": '"synchronized": true' in read.to_json(),
        "is_kept": np.array_equal(alone, model_predictor(trained.model)(tiles)),
        "losses": [each.training_loss for each in trained.reports],
        "score": trained.validation.mean_jaccard,
        "weights": [float(np.abs(each).sum()) for each in trained.model.get_weights()],
        "share": share,
        "restored": restored,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
