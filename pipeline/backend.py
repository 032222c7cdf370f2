"""The choice of Keras backend: the only place that knows TensorFlow, JAX and PyTorch by name.

Keras fixes its backend when it is imported, so `use_backend` comes before any import of Keras.
"""

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from search_space.errors import MapgroveError, UsageError
from search_space.version import COMPATIBLE, VERSION

BACKENDS = ("tensorflow", "jax", "torch")
BACKEND_VARIABLE = "MAPGROVE_BACKEND"
PRECISION_VARIABLE = "KERAS_FLOATX"
"""Keras's own."""

NVIDIA_LIBRARIES = {
    "tensorflow": 'Run .venv/bin/python -m pip install "tensorflow[and-cuda]"',
    "jax": 'Run .venv/bin/python -m pip install "jax[cuda12]"',
    "torch": "Install a build of PyTorch for CUDA, as pytorch.org tells",
}
"""How to make a backend see an NVIDIA GPU."""


def backend_name() -> str:
    """The backend that `MAPGROVE_BACKEND` names, TensorFlow unless set; nothing is imported.

    Raises:
        UsageError: There is no such backend.
    """
    name = os.environ.get(BACKEND_VARIABLE) or BACKENDS[0]
    if name not in BACKENDS:
        raise UsageError(
            f"{BACKEND_VARIABLE} must be one of {', '.join(BACKENDS)}",
            received=name,
            remedy=f"Unset it, or `export {BACKEND_VARIABLE}={BACKENDS[0]}`",
        )
    return name


def software() -> dict[str, str]:
    """What the losses of a study depend on beside its settings, without importing the framework.

    Returns:
        `mapgrove`, the version as far as it matters; `backend`; `precision`, the type that Keras computes in.
    """
    return {
        "mapgrove": COMPATIBLE,
        "backend": backend_name(),
        "precision": os.environ.get(PRECISION_VARIABLE) or "float32",
    }


def versions() -> dict[str, str]:
    """What computes here, to its version: `mapgrove` and, where they are loaded, `keras` and its backend."""
    loaded = {name: sys.modules.get(name) for name in ("keras", backend_name())}
    return {"mapgrove": VERSION} | {name: str(module.__version__) for name, module in loaded.items() if module}


def use_backend(num_threads: int = 0) -> str:
    """Choose the backend named by `MAPGROVE_BACKEND` (TensorFlow unless set) and import Keras on it.

    Args:
        num_threads: Processor threads a single operation may use; 0 leaves it to the framework. Results on a CPU
            can depend on it in the last digits.

    Returns:
        The backend's name.

    Raises:
        UsageError: There is no such backend.
        MapgroveError: It is not installed, or Keras already runs on another.
    """
    name = backend_name()
    loaded = sys.modules.get("keras")
    if loaded is not None and loaded.config.backend() != name:
        raise MapgroveError(f"Keras already runs on {loaded.config.backend()}", received=name)
    os.environ["KERAS_BACKEND"] = name
    # TensorFlow otherwise greets every process with a page of hints about its build.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if num_threads:
        os.environ["OMP_NUM_THREADS"] = str(num_threads)
    try:
        with _native_messages_held_back():
            framework = importlib.import_module(name)
    except ImportError as error:
        raise MapgroveError(
            f"the backend {name} cannot be imported ({error})", remedy=f"Install it: pip install {name}"
        ) from None
    if name == "tensorflow":
        framework.config.threading.set_intra_op_parallelism_threads(num_threads)
        framework.config.threading.set_inter_op_parallelism_threads(1 if num_threads == 1 else 0)
        framework.config.experimental.enable_op_determinism()
    elif name == "torch" and num_threads:
        framework.set_num_threads(num_threads)
    importlib.import_module("keras")
    return name


@contextmanager
def _native_messages_held_back() -> Iterator[None]:
    """Keep what native code writes to standard error; show it only if the block fails.

    TensorFlow writes six lines of hints on import, whatever its log level.
    """
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except BaseException:
            held_back.seek(0)
            os.write(original, held_back.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


def describe_devices() -> str:
    """Name the devices that the chosen backend would compute on."""
    keras = importlib.import_module("keras")
    return ", ".join(keras.distribution.list_devices())


def free_device_bytes() -> int | None:
    """Free memory of the accelerator that the chosen backend computes on; None where there is none, or it won't say."""
    name = importlib.import_module("keras").config.backend()
    framework = importlib.import_module(name)
    if name == "tensorflow":
        listed = importlib.import_module("tensorflow.python.client.device_lib").list_local_devices
        limits = [device.memory_limit for device in listed() if device.device_type == "GPU"]
        used = framework.config.experimental.get_memory_info("GPU:0")["current"] if limits else 0
        return limits[0] - used if limits else None
    if name == "torch":
        return int(framework.cuda.mem_get_info()[0]) if framework.cuda.is_available() else None
    statistics = framework.devices()[0].memory_stats() or {}
    return statistics["bytes_limit"] - statistics["bytes_in_use"] if "bytes_limit" in statistics else None
