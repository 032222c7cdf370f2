"""The verb `worker`: what it refuses before it looks at a study."""

import argparse
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import run_search
from pipeline.backend import software
from search_space.errors import MapgroveError, UsageError
from search_space.version import COMPATIBLE, VERSION
from trials_db.records import StudyRecord
from verbs import worker

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "words",
    [
        ["--max-trials", "0"],
        ["--max-trials", "-1"],
        ["--max-trials", "1.5"],
        ["--idle-exit-s", "-5"],
        ["--idle-exit-s", "nan"],
        ["--idle-exit-s", "inf"],
        ["--idle-exit-s", "soon"],
        ["--workers", "0"],
        ["--gpus", "0,0"],
        ["--gpus", "a"],
        ["--gpus", ""],
    ],
    ids=" ".join,
)
def test_an_impossible_number_is_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run_search.main(["worker", "--study", "absent", *words])
    assert left.value.code == run_search.EXIT_USAGE
    told = capsys.readouterr().err
    assert words[0] in told
    assert repr(words[1]) in told


def test_an_unknown_backend_is_wrong_usage_before_anything_else_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAPGROVE_BACKEND", "nonsense")
    done = subprocess.run(
        [sys.executable, str(ROOT / "run_search.py"), "worker", "--study", "absent"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == run_search.EXIT_USAGE
    assert done.stderr.startswith("worker: MAPGROVE_BACKEND must be one of")
    assert "Received 'nonsense'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def slots(*words: str) -> list[tuple[list[str], dict[str, str]]]:
    parser = argparse.ArgumentParser()
    worker.add_arguments(parser)
    options = parser.parse_args(["--study", "s", "--name", "box", *words])
    return [(list(slot.options), dict(slot.environment)) for slot in worker._slots(options)]


def test_each_gpu_has_its_workers_and_sees_no_other() -> None:
    assert slots() == slots("--workers", "1") == []
    assert [words for words, _ in slots("--workers", "2")] == [["--name", "box/0"], ["--name", "box/1"]]
    alone = slots("--gpus", "0,3")
    assert [words[1] for words, _ in alone] == ["box/gpu0", "box/gpu3"]
    assert [variables for _, variables in alone] == [
        {"CUDA_VISIBLE_DEVICES": gpu, "MAPGROVE_SLOT": f"GPU {gpu}"} for gpu in ("0", "3")
    ]
    shared = slots("--gpus", "5,1", "--trials-per-gpu", "2", "--store", "mongodb://me:secret@h/d")
    assert [words[1] for words, _ in shared] == ["box/gpu5.0", "box/gpu5.1", "box/gpu1.0", "box/gpu1.1"]
    words, variables = shared[2]
    assert variables["CUDA_VISIBLE_DEVICES"] == "1"
    assert variables["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    # Every user of the machine can read a command line.
    assert variables["MAPGROVE_STORE"] == "mongodb://me:secret@h/d"
    assert "secret" not in " ".join(words)


def test_trials_share_a_gpu_only_where_gpus_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_search.main(["worker", "--study", "absent", "--trials-per-gpu", "2"]) == run_search.EXIT_USAGE
    assert "--trials-per-gpu needs --gpus" in capsys.readouterr().err


def test_a_training_on_several_gpus_sees_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    (first, seen), (second, others) = slots("--gpus", "4,5,6,7", "--gpus-per-trial", "2")
    assert (first, second) == (["--name", "box/gpu4+5"], ["--name", "box/gpu6+7"])
    assert seen == {"CUDA_VISIBLE_DEVICES": "4,5", "MAPGROVE_SLOT": "GPUs 4, 5"}
    assert others == {"CUDA_VISIBLE_DEVICES": "6,7", "MAPGROVE_SLOT": "GPUs 6, 7"}
    parser = argparse.ArgumentParser()
    worker.add_arguments(parser)
    command = worker._command(parser.parse_args(["--study", "s", "--gpus", "4,5", "--gpus-per-trial", "2"]))
    assert command[-4:] == ["--study", "s", "--gpus-per-trial", "2"]


def test_trials_are_named_as_numbers_and_ranges(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    worker.add_arguments(parser)
    options = parser.parse_args(["--study", "s", "--only", "9,3-5,4"])
    assert options.only == {3, 4, 5, 9}
    assert worker._command(options)[-2:] == ["--only", "3-5,9"]
    for wrong in ("", "5-3", "1-x", "0-99999999", "-1"):
        with pytest.raises(SystemExit):
            run_search.main(["worker", "--study", "s", f"--only={wrong}"])
        assert capsys.readouterr().err.startswith("worker: --only must be")
    assert run_search.main(["worker", "--study", "s/*", "--only", "3"]) == run_search.EXIT_USAGE
    assert "--only names trials of one study" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--gpus", "0,1,2"], run_search.EXIT_USAGE, "3 GPUs cannot be shared out by 2. Received '0,1,2'."),
        (["--gpus", "0,1", "--trials-per-gpu", "2"], run_search.EXIT_USAGE, "a GPU has several trials, or a trial sev"),
        (["--workers", "2"], run_search.EXIT_USAGE, "--workers N share out no GPUs"),
        (["--gpus", "0,1"], run_search.EXIT_FAILED, "with PyTorch a batch is computed on one device"),
    ],
)
def test_several_gpus_that_cannot_train_together_are_refused(
    words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAPGROVE_BACKEND", "torch")
    assert run_search.main(["worker", "--study", "absent", "--gpus-per-trial", "2", *words]) == code
    line = capsys.readouterr().err
    assert line.startswith(f"worker: {told}")
    assert line.count("\n") == 1


def test_a_worker_with_other_software_says_what_differs(study: StudyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"mapgrove": COMPATIBLE, "backend": "tensorflow", "precision": "float32"}
    monkeypatch.delenv("MAPGROVE_BACKEND", raising=False)
    monkeypatch.delenv("KERAS_FLOATX", raising=False)
    worker._check_software(study)
    worker._check_software(study.model_copy(update={"software": here}))
    for name, other, remedy in (
        ("mapgrove", "9.9", "Use the same version on every machine"),
        ("backend", "jax", "export MAPGROVE_BACKEND=jax"),
        ("precision", "bfloat16", "export KERAS_FLOATX=bfloat16"),
    ):
        begun = study.model_copy(update={"software": here | {name: other}})
        with pytest.raises(MapgroveError) as caught:
            worker._check_software(begun)
        assert str(caught.value) == (
            f"study demo was begun with {name} {other}, and this worker has {here[name]}. {remedy}."
        )


def test_precision_is_settled_where_a_study_begins_and_workers_follow(
    study: StudyRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MAPGROVE_BACKEND", raising=False)
    monkeypatch.delenv("KERAS_FLOATX", raising=False)
    # No GPU is looked for where NVIDIA's tool is not installed.
    monkeypatch.setenv("PATH", str(tmp_path))
    assert software("auto")["precision"] == software("float32")["precision"] == "float32"
    assert software("mixed_float16")["precision"] == "mixed_float16"
    begun = study.model_copy(update={"software": software("mixed_bfloat16")})
    worker._check_software(begun)
    monkeypatch.setenv("KERAS_FLOATX", "float64")
    assert software("auto")["precision"] == "float64"
    with pytest.raises(UsageError, match="mixed_bfloat16 keeps weights in float32, and KERAS_FLOATX asks for float64"):
        software("mixed_bfloat16")
    with pytest.raises(MapgroveError, match="precision float32, and this worker has float64"):
        worker._check_software(begun)


@pytest.mark.parametrize(("told", "expected"), [("mixed_bfloat16", "mixed_bfloat16"), ("nothing known", "float32")])
def test_a_process_of_its_own_tells_what_a_gpu_is_fast_in(
    told: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KERAS_FLOATX", raising=False)
    for name, text in (("nvidia-smi", "exit 1"), ("python", f"echo {told}")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("pipeline.backend.sys.executable", str(tmp_path / "python"))
    assert software("auto")["precision"] == expected


def test_the_version_is_told_alike_everywhere() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["project"]["version"] == VERSION
    assert f"## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
