"""`status`, as it is typed while something trains."""

import json
from pathlib import Path

import pytest

import run_search
from search_space.candidate import Candidate
from search_space.decode import encode
from search_space.objective import EpochReport
from search_space.study_file import read_study
from trials_db.opening import open_store
from trials_db.records import NewTrial, StudyRecord

ROOT = Path(__file__).parents[2]


def test_the_last_epoch_of_what_trains_is_shown_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = read_study(ROOT / "configs" / "demo.toml", [f"study.folder={tmp_path / 'run'}"])
    record = StudyRecord(
        name="demo", settings=encode(study.with_store("")), space_fingerprint="", data_fingerprint="d", seed=0
    )
    report = EpochReport(
        epoch=3,
        training_loss=0.625,
        loss_parts={"bce": 0.5, "l2": 0.125},
        jaccard={"crops": 0.25, "trees": 0.75},
        memory_mb=812.0,
    )
    with open_store(study.store_url) as store:
        store.open_study(record)
        store.add_trial("demo", NewTrial(number=0, point={}, candidate=encode(Candidate()), seed=0))
        claim = store.claim("demo", "w", 60.0)
        assert claim is not None
        words = ["status", "--study", "demo", "--store", study.store_url]
        assert run_search.main(words) == 0
        assert "l2" not in capsys.readouterr().out
        store.report(claim, report)

    assert run_search.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3].split() == ["trial", "epoch", "loss", "bce", "l2", "crops", "trees"]
    assert lines[-1].split() == ["0", "3", "0.6250", "0.5000", "0.1250", "0.250", "0.750"]
    assert run_search.main([*words, "--json"]) == 0
    [epoch] = json.loads(capsys.readouterr().out)["epochs"]
    assert (epoch["loss_parts"], epoch["jaccard"]) == (report.loss_parts, report.jaccard)
    assert epoch["memory_mb"] == 812.0
