"""The choice of Keras backend: the only place that knows TensorFlow, JAX and PyTorch by name.

Keras fixes its backend when it is imported, so `use_backend` comes before any import of Keras.
"""

import functools
import importlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from search_space.errors import MapgroveError, UnableError, UsageError
from search_space.study import MIXED, Precision
from search_space.version import COMPATIBLE, VERSION

_log = logging.getLogger(__name__)

BACKENDS = ("tensorflow", "jax", "torch")
BACKEND_VARIABLE = "MAPGROVE_BACKEND"
PRECISION_VARIABLE = "KERAS_FLOATX"
"""Keras's own."""

UNUSED_BY_KERAS = ("matplotlib", "pandas", "sklearn")
"""What Keras imports where it is installed, for galleries and wrappers that nobody here calls: a third of its start."""

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


def software(precision: Precision = "float32") -> dict[str, str]:
    """What the losses of a study depend on beside its settings, without importing the framework here.

    Args:
        precision: What the study asks for. "auto" is what is fast on this machine: to see its GPU, if it has one, a
            process of its own imports the framework, which takes seconds.

    Returns:
        `mapgrove`, the version as far as it matters; `backend`; `precision`, what Keras computes in: one of its
        policies, or what `KERAS_FLOATX` says.

    Raises:
        UsageError: There is no such backend, or the study and `KERAS_FLOATX` ask for different things.
    """
    whole = os.environ.get(PRECISION_VARIABLE) or "float32"
    if whole != "float32" and precision not in ("auto", "float32"):
        raise UsageError(
            f"limits.precision = {precision} keeps weights in float32, and {PRECISION_VARIABLE} asks for {whole}",
            remedy=f"Unset {PRECISION_VARIABLE}, or set limits.precision to auto",
        )
    if precision == "auto" and whole == "float32":
        precision = _fast_precision_here()
    return {
        "mapgrove": COMPATIBLE,
        "backend": backend_name(),
        "precision": whole if precision in ("auto", "float32") else precision,
    }


def versions() -> dict[str, str]:
    """What computes here, to its version: `mapgrove` and, where they are loaded, `keras` and its backend."""
    loaded = {name: sys.modules.get(name) for name in ("keras", backend_name())}
    return {"mapgrove": VERSION} | {name: str(module.__version__) for name, module in loaded.items() if module}


def _fast_precision_here() -> Precision:
    """`fast_precision`, told by a process that ends: importing the framework would take memory of the GPU."""
    if shutil.which("nvidia-smi") is None:
        return "float32"
    script = "from pipeline.backend import fast_precision, use_backend; use_backend(); print(fast_precision())"
    root = Path(__file__).parents[1]
    told = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    found = [each for each in MIXED if each == told.stdout.strip()]
    if told.returncode:
        _log.warning("networks will compute in float32, as %s does not tell of its devices", backend_name())
    return found[0] if found else "float32"


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
        with _native_messages_held_back(), _hidden(UNUSED_BY_KERAS):
            framework = importlib.import_module(name)
            importlib.import_module("keras")
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
    return name


@contextmanager
def _hidden(names: Sequence[str]) -> Iterator[None]:
    """Let imports in the block find none of these modules, unless they are loaded already."""
    # What is None here is not there for an import.
    hidden = {name: None for name in names if name not in sys.modules}
    sys.modules.update(hidden)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


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


def sees_accelerators() -> bool:
    """Whether the chosen backend sees anything but processors to compute on."""
    keras = importlib.import_module("keras")
    return any(not name.lower().startswith("cpu") for name in keras.distribution.list_devices())


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


def streamed(iterate: Callable[[], Iterator[Any]], example: Callable[[], Any]) -> Any:
    """What an iterator yields as a data set of the chosen backend, which asks for nothing ahead.

    Args:
        iterate: Begins it.
        example: Makes something like what it yields: nested tuples and tables of arrays, each time of the same shapes.

    Returns:
        None where Keras takes an iterator as it is.
    """
    keras = importlib.import_module("keras")
    if keras.config.backend() != "tensorflow":
        return None
    framework = importlib.import_module("tensorflow")
    signature = keras.tree.map_structure(lambda each: framework.TensorSpec(each.shape, each.dtype), example())
    options = framework.data.Options()
    options.autotune.enabled = False
    # Else it would fetch from a thread of its own, and nobody could tell whether the training waits.
    options.experimental_optimization.inject_prefetch = False
    return framework.data.Dataset.from_generator(iterate, output_signature=signature).with_options(options)


def compile_choice() -> bool | str:
    """What Keras shall be told of compiling the training step (XLA): "auto", or False where that is known to cost.

    On a processor TensorFlow trains 2.5 times slower with it, and takes 10 s longer to the first step. On a GPU Keras
    chooses: it leaves TensorFlow's steps as they are while its operations are deterministic, as `use_backend` has it.
    """
    name = importlib.import_module("keras").config.backend()
    if name != "tensorflow":
        return "auto"
    return "auto" if importlib.import_module("tensorflow").config.list_physical_devices("GPU") else False


def fast_precision() -> str:
    """What networks compute fast in on the device of the chosen backend: the name of one of Keras's policies.

    Returns:
        "mixed_bfloat16" on GPUs whose tensor cores take it (compute capability 8.0 and later) and on TPUs,
        "mixed_float16" on those whose tensor cores take only that (7.0 and later), else "float32"; what `KERAS_FLOATX`
        says, where it says something else.
    """
    keras = importlib.import_module("keras")
    if keras.config.floatx() != "float32":
        return str(keras.config.floatx())
    capability = _gpu_capability(keras.config.backend())
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"


def _gpu_capability(backend: str) -> tuple[int, ...]:
    """Of NVIDIA's numbering; (0,) where there is no such GPU. TPUs count as the newest."""
    framework = importlib.import_module(backend)
    if backend == "tensorflow":
        gpus = framework.config.list_physical_devices("GPU")
        found = framework.config.experimental.get_device_details(gpus[0]).get("compute_capability") if gpus else None
        return tuple(found or (0,))
    if backend == "torch":
        return tuple(framework.cuda.get_device_capability()) if framework.cuda.is_available() else (0,)
    device = framework.devices()[0]
    if device.platform == "tpu":
        return (9, 0)
    return tuple(int(part) for part in str(getattr(device, "compute_capability", "0")).split("."))


def check_data_parallel(name: str) -> None:
    """Refuse a backend that cannot train on several devices.

    Raises:
        UnableError: It is PyTorch, for which Keras has no such thing.
    """
    if name == "torch":
        raise UnableError(
            "with PyTorch a batch is computed on one device",
            remedy="Leave --gpus-per-trial out, or name one GPU to predict; "
            f"in a new study {BACKEND_VARIABLE} may be tensorflow or jax",
        )


@contextmanager
def on_devices(devices: Sequence[str]) -> Iterator[None]:
    """What is built inside is on all these devices, and each takes its share of every batch.

    Args:
        devices: As `keras.distribution.list_devices` names them.
    """
    keras = importlib.import_module("keras")
    if keras.backend.backend() == "tensorflow":
        with _strategy(tuple(devices)).scope():
            yield
    else:
        with keras.distribution.DataParallel(devices=list(devices)).scope():
            yield


def num_programs() -> int:
    """How many devices here run a program of their own, each on a share of every batch: TensorFlow's way."""
    if importlib.import_module("keras").backend.backend() != "tensorflow":
        return 1
    return int(_tensorflow().distribute.get_strategy().num_replicas_in_sync)


def gathered(tensor: Any) -> Any:
    """One device's share of a batch, joined with those of all others; outside of a step, and None, as it is."""
    context = _tensorflow().distribute.get_replica_context()
    if tensor is None or context is None:
        return tensor
    # What is gathered has forgotten its shape.
    return _tensorflow().ensure_shape(context.all_gather(tensor, axis=0), (None, *tensor.shape[1:]))


def mean_over_devices(gradients: list[Any]) -> list[Any]:
    """Gradients of one device's program, the mean with those of all others; None stays None."""
    distribute = _tensorflow().distribute
    there = [each for each in gradients if each is not None]
    means = iter(distribute.get_replica_context().all_reduce(distribute.ReduceOp.MEAN, there))
    return [None if each is None else next(means) for each in gradients]


def split_between(values: Any) -> Any:
    """An array with a share for each device; its length must be a multiple of their number."""
    keras = importlib.import_module("keras")
    distribution = keras.distribution.distribution()
    if distribution is not None:
        return keras.distribution.distribute_tensor(values, distribution.get_data_layout(values.shape))
    strategy = _tensorflow().distribute.get_strategy()
    size = len(values) // strategy.num_replicas_in_sync

    def share(context: Any) -> Any:
        first = context.replica_id_in_sync_group * size
        return _tensorflow().convert_to_tensor(values[first : first + size])

    return strategy.experimental_distribute_values_from_function(share)


@functools.cache
def _strategy(devices: tuple[str, ...]) -> Any:
    """One for all trainings of a process: TensorFlow would confuse the messages of two."""
    return _tensorflow().distribute.MirroredStrategy([name.upper() for name in devices])


def _tensorflow() -> Any:
    return importlib.import_module("tensorflow")
