"""A training on two devices is the training on one."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from pipeline.networks import devices
from search_space.errors import InfeasibleError, UnableError

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_two_devices_train_as_one(backend: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: training on several devices was not tried on it")
    words = [sys.executable, "-W", "ignore", "-m", "tests.pipeline_tests.share_training", str(tmp_path)]
    environment = {
        **os.environ,
        "MAPGROVE_BACKEND": backend,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one, several, imported = json.loads(done.stdout.splitlines()[-1])

    assert imported == [], "a process that only trains waits for none of these"
    # From the second epoch on, from the other's checkpoint.
    assert ([one["share"], one["restored"]], [several["share"], several["restored"]]) == ([4, []], [2, [1]])
    assert one["losses"][1] != pytest.approx(one["losses"][0], rel=1e-3)
    assert [(each["is_kept"], each["is_told_apart"]) for each in (one, several)] == [(True, False)] * 2
    assert one["maps_alike"]
    assert several["maps_alike"]
    for name in ("losses", "score", "weights"):
        assert several[name] == pytest.approx(one[name], rel=2e-5)


def see(monkeypatch: pytest.MonkeyPatch, *names: str, backend: str = "tensorflow") -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: list(names))


def test_fewer_devices_than_asked_for_are_the_machines_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, "gpu:0")
    with pytest.raises(UnableError) as caught, devices.data_parallel(2, 8):
        pass
    assert str(caught.value).startswith("2 devices are asked for, and only 1 can be seen. Received 'gpu:0'.")
    assert "\n" not in str(caught.value)


def test_a_batch_that_cannot_be_divided_is_the_candidates_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, "gpu:0", "gpu:1", "gpu:2")
    with pytest.raises(InfeasibleError, match="a batch of 8 patches cannot be divided between 3 devices"):
        devices.data_parallel(3, 8).__enter__()


def test_pytorch_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, "gpu:0", "gpu:1", backend="torch")
    with pytest.raises(UnableError) as caught, devices.data_parallel(2, 8):
        pass
    assert str(caught.value).startswith("with PyTorch a batch is computed on one device. Leave --gpus-per-trial out")


def test_one_device_is_as_if_nothing_were_there(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, "gpu:0", backend="torch")
    tiles = np.zeros((3, 4, 4, 2), np.float32)
    with devices.data_parallel(1, 7):
        assert devices.num_shares() == 1
        assert devices.shared_out(tiles) is tiles


def test_halves_of_a_batch_are_divided_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [devices.can_halve(size) for size in (1, 2, 5)] == [False, True, True]
    monkeypatch.setattr(devices, "num_shares", lambda: 2)
    assert [devices.can_halve(size) for size in (2, 4, 6, 8)] == [False, True, False, True]
    # Programs of their own cannot wait for each other within a step that only sometimes changes weights.
    monkeypatch.setattr(devices, "num_programs", lambda: 2)
    assert not devices.can_halve(8)


def test_tiles_are_filled_up_to_whole_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "num_shares", lambda: 3)
    monkeypatch.setattr(devices, "split_between", lambda filled: np.split(filled, 3))
    tiles = np.arange(8, dtype=np.float32)[:, None, None, None]

    assert [each.ravel().tolist() for each in devices.shared_out(tiles)] == [[0, 1, 2], [3, 4, 5], [6, 7, 7]]
    assert [len(each) for each in devices.shared_out(tiles[:6])] == [2, 2, 2]
