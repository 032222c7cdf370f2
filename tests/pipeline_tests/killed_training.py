"""Train with a checkpoint, and be killed in the middle where that is asked for: in a process of its own.

Whoever is not killed trains the same once more, without a checkpoint, and prints of both what they ended with, and
which epochs were not trained again, as JSON.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pipeline.backend import use_backend

FIELDS = {
    "architecture": {
        "depth": 1,
        "base_filters": 4,
        "units_per_stage": 1,
        "normalisation": "batch",
        "dropout": {"kind": "spatial", "rate": 0.3},
    },
    "plan": {
        "patch_px": 16,
        "batch_size": 4,
        "learning_rate": 0.02,
        "optimizer": {"kind": "nadam"},
        "schedule": {"kind": "one_cycle"},
        "sampling": {"kind": "loss", "share": 0.8},
        "averaging": {"kind": "ema", "momentum": 0.9},
    },
}
"""Whose steps depend on much: random numbers, statistics, momenta, the rate's course, losses of patches."""


def main(folder: Path, dies_in: int) -> None:
    """Train, go on from what the folder holds; die in the epoch of this number, counted from 1."""
    use_backend(1)
    from pipeline.training.checkpoint import Checkpoint
    from tests.pipeline_tests.small_training import run

    def on_epoch(report: Any) -> None:
        # Before the epoch is kept.
        if report.epoch == dies_in:
            os.kill(os.getpid(), signal.SIGKILL)

    restored: list[int] = []
    more = {
        "checkpoint": Checkpoint(folder / "checkpoint.npz", {}),
        "on_epoch": on_epoch,
        "on_restored": lambda reports: restored.extend(each.epoch for each in reports),
    }
    one = ended(run(FIELDS, epochs=4, steps=6, more=more))
    sys.stdout.write(json.dumps([one, ended(run(FIELDS, epochs=4, steps=6)), restored]) + "\n")


def ended(trained: Any) -> dict[str, Any]:
    """What must be the same to the bit."""
    weights = b"".join(each.tobytes() for each in trained.model.get_weights())
    return {
        "weights": hashlib.sha256(weights).hexdigest(),
        "losses": [each.training_loss for each in trained.reports],
        "jaccard": [each.jaccard for each in trained.reports],
        "thresholds": trained.validation.thresholds,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
