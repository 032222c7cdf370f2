"""What Keras shall not import is hidden while it is imported; the machine decides how networks are computed."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.backend import BACKENDS, _hidden, compile_choice, fast_precision, free_device_bytes


def test_a_hidden_module_is_found_again_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "galleries.py").write_text("NAME = 'found'\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ImportError, match="galleries"), _hidden(["galleries"]):
        importlib.import_module("galleries")

    assert importlib.import_module("galleries").NAME == "found"
    monkeypatch.delitem(sys.modules, "galleries")


def test_what_is_loaded_already_stays() -> None:
    with _hidden(["json"]):
        assert importlib.import_module("json").dumps([]) == "[]"


def pretend(
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    capability: tuple[int, int] | None,
    *,
    platform: str = "gpu",
    floatx: str = "float32",
) -> None:
    """A machine whose GPU has this capability, as each framework tells of it; None for a processor alone."""
    gpus = [] if capability is None else ["GPU:0"]
    told = {"compute_capability": capability}
    tensorflow = SimpleNamespace(
        config=SimpleNamespace(
            list_physical_devices=lambda kind: gpus if kind == "GPU" else ["CPU:0"],
            experimental=SimpleNamespace(
                get_device_details=lambda _: told, get_memory_info=lambda _: {"current": 300, "peak": 900}
            ),
        )
    )
    torch = SimpleNamespace(
        cuda=SimpleNamespace(
            is_available=lambda: bool(gpus), get_device_capability=lambda: capability, mem_get_info=lambda: (700, 1000)
        )
    )
    device = SimpleNamespace(platform="cpu", memory_stats=lambda: None)
    if capability is not None:
        statistics = {"bytes_limit": 1000, "bytes_in_use": 300, "peak_bytes_in_use": 900}
        word = ".".join(map(str, capability))
        device = SimpleNamespace(platform=platform, memory_stats=lambda: statistics, compute_capability=word)
    listed = [SimpleNamespace(device_type="CPU", memory_limit=5)]
    listed += [SimpleNamespace(device_type="GPU", memory_limit=1000) for _ in gpus]
    modules = {
        "keras": SimpleNamespace(config=SimpleNamespace(floatx=lambda: floatx, backend=lambda: backend)),
        "tensorflow": tensorflow,
        "tensorflow.python.client.device_lib": SimpleNamespace(list_local_devices=lambda: listed),
        "torch": torch,
        "jax": SimpleNamespace(devices=lambda: [device]),
    }
    monkeypatch.setattr("pipeline.backend.importlib", SimpleNamespace(import_module=modules.__getitem__))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("capability", "policy"),
    [
        (None, "float32"),
        ((6, 1), "float32"),
        ((7, 0), "mixed_float16"),
        ((7, 5), "mixed_float16"),
        ((8, 0), "mixed_bfloat16"),
        ((9, 0), "mixed_bfloat16"),
        ((10, 0), "mixed_bfloat16"),
    ],
)
def test_the_hardware_says_what_is_fast(
    backend: str, capability: tuple[int, int] | None, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, backend, capability)
    assert fast_precision() == policy


def test_what_keras_is_told_to_compute_in_goes_before_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "tensorflow", (9, 0), floatx="float64")
    assert fast_precision() == "float64"


def test_a_tpu_is_fast_in_what_new_gpus_are(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "jax", (0, 0), platform="tpu")
    assert fast_precision() == "mixed_bfloat16"


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_tensorflows_steps_on_a_processor_are_never_compiled(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, backend, None)
    assert compile_choice() == (False if backend == "tensorflow" else "auto")
    pretend(monkeypatch, backend, (9, 0))
    assert compile_choice() == "auto"


@pytest.mark.parametrize("backend", BACKENDS)
def test_free_is_what_nothing_holds_now(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, backend, None)
    assert free_device_bytes() is None
    pretend(monkeypatch, backend, (9, 0))
    assert free_device_bytes() == 700
