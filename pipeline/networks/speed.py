"""How fast the device trains: the number by which a study estimates how long an epoch will take."""

import time

import keras
import numpy as np

from pipeline.networks.builder import build_model
from search_space.architecture import Architecture
from search_space.network.cost import training_cost
from search_space.network.unet import InputBand, draw_up

PATCH_PX, BATCH_SIZE, NUM_BANDS, NUM_STEPS = 128, 8, 20, 5
REFERENCE = Architecture(depth=4, base_filters=16, growth=1.5)
"""An ordinary network: larger ones use a device better, smaller ones worse."""


def measured_gflops() -> float:
    """Thousands of millions of operations per second in the training of the reference network; takes some seconds.

    Keras must run on a backend already. The best of some steps counts, as other work only slows.
    """
    bands = [InputBand(f"band{number}") for number in range(NUM_BANDS)]
    model = build_model(REFERENCE, bands, 1)
    model.compile(optimizer="adam", loss="binary_crossentropy")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH_SIZE, PATCH_PX, PATCH_PX, NUM_BANDS)).astype(np.float32)
    masks = rng.integers(0, 2, (BATCH_SIZE, PATCH_PX, PATCH_PX, 1)).astype(np.float32)
    model.train_on_batch(images, masks)
    seconds = []
    for _ in range(NUM_STEPS):
        started = time.perf_counter()
        # Its loss is a number on the host: so the step has ended.
        float(np.asarray(keras.ops.convert_to_numpy(model.train_on_batch(images, masks))))
        seconds.append(time.perf_counter() - started)
    flops = training_cost(draw_up(REFERENCE, bands, 1), PATCH_PX, BATCH_SIZE).flops
    return flops / min(seconds) / 1e9
