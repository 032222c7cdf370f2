"""What networks compute in: Keras's policies, by the hardware or as a study has it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from pipeline.backend import fast_precision
from search_space.study import MIXED, Precision

_log = logging.getLogger(__name__)


def chosen_policy(precision: Precision) -> str:
    """The name of Keras's policy; "auto" takes what is fast on the device of the backend.

    Half precision is kept to where it is asked for and nothing here is fast in it, such as on a processor: so every
    worker of a study computes alike. The log says that it may be slow.
    """
    fast = fast_precision()
    if precision in MIXED and fast == "float32":
        _log.warning(
            "limits.precision = %s: no device here is known to be fast in it, so it may take longer than float32, "
            "which a new study with limits.precision = auto takes here",
            precision,
        )
    return fast if precision == "auto" else precision


@contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """Layers that are made within this context compute as a policy of Keras has it; afterwards all is as before."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def scaled_for(policy: str, optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer; where gradients are in half precision, with a loss scaled so that small ones do not vanish."""
    return keras.optimizers.LossScaleOptimizer(optimizer) if policy == "mixed_float16" else optimizer
