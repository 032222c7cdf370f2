"""The main job on tiny imagery, as a user runs it: real processes, a real store, a real network.

Each verb is started from nothing at least once; what is only asked for in between starts from `warm_verbs`.
"""

import json
from pathlib import Path

import pytest

from pipeline.models.trial_model import read_about
from pipeline.preparation.normalisation import Normalisation
from search_space.candidate import Candidate
from search_space.decode import decode
from search_space.study_file import read_study
from tests.verbs_tests.tiny_job import Job

# The first test of each process waits for the search that they share.
pytestmark = pytest.mark.timeout(900)

NEAR = (
    'space."plan.patch_px"={fix=8}',
    'space."architecture.block"={fix="plain"}',
    'space."architecture.block[plain].kernel_px"={fix=3}',
    *(f'space."plan.augmentation.{name}"={{fix=0.0}}' for name in ("zoom", "shear", "elastic")),
)
"""Settings of small patches that look no farther than 5 px, so that blocks of 24 px have room for them."""


@pytest.mark.slow
def test_search_tries_every_trial_once(job: Job) -> None:
    job.run_cold("trials", "--json-lines", "cold.jsonl")
    trials = job.trials()

    assert (job.folder / "cold.jsonl").read_bytes() == (job.folder / "trials.jsonl").read_bytes()
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3]
    assert {trial["state"] for trial in trials} <= {"done", "infeasible"}
    for trial in trials:
        wide = trial["candidate"]["architecture"]["base_filters"] == 64
        assert trial["attempts"] == 1
        assert (trial["state"] == "infeasible") == wide
        assert not wide or "more than limits.max_parameters = 20,000" in trial["outcome"]["reason"]
    assert any(trial["state"] == "done" for trial in trials)


@pytest.mark.slow
def test_the_rest_of_the_job(retrained: Job) -> None:
    """That was searched and retrained by verbs started from nothing."""
    job, folder = retrained, retrained.folder / "runs" / "tiny"
    assert "finished" in job.run_cold("status")
    assert json.loads(job.run("status", "--json"))["counts"]["running"] == 0
    assert "Architecture" in job.run_cold("show", "best")
    [model] = (folder / "models" / "bright").glob("*.keras")
    made_ns = model.stat().st_mtime_ns
    assert "2 trainings of 2 done before" in job.run("retrain")
    assert model.stat().st_mtime_ns == made_ns, "trained twice for nothing"
    status = job.run("status", "--study", "tiny@retrain")
    assert "2 of 2 trainings" in status
    assert "bright" in status

    job.run_cold("predict", "test")
    made = {path.name for path in (folder / "predictions" / "c").iterdir()}
    drawn = {"probabilities.tif", "masks.tif", "instances.tif", "overlay.png", "comparison.png"}
    assert made == {*drawn, "polygons.geojson", "map.json"}
    scores = json.loads(job.run_cold("score", "--json"))
    assert scores["fold"] == "test"
    assert scores["jaccard"]["bright"] > 0.6
    things = scores["polygons"]["bright"]
    assert (things["counts"]["tp"] + things["counts"]["fn"], things["truth"]) == (1, "masks")
    assert set(scores["polygons"]) == {"bright"}
    assert (scores["threshold_from"], scores["models_saw"]) == ("validation", "nothing")
    assert "Report:" in job.run_cold("report")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "tiny" in page
    assert "data:image/png;base64," in page

    assert "mapped before" in job.run("predict", "test")

    job.run("retrain", "--set", "retrain.epochs=1", "--set", "retrain.steps_per_epoch=3")
    told = job.run("score", "--set", "retrain.epochs=1", code=1)
    assert "drawn by other models" in told
    assert "Run: python run_search.py predict --study tiny.toml --set retrain.epochs=1 test." in told
    told = job.run("report")
    assert "score is one of earlier models" in told
    assert "map of c was drawn by earlier models" in told
    page = (folder / "report.html").read_text(encoding="utf-8")
    asked = "--set retrain.epochs=1 --set retrain.steps_per_epoch=3"
    assert f"python run_search.py retrain --study tiny.toml {asked}\n" in page


@pytest.mark.slow
def test_a_study_on_blocks_goes_all_the_way(job: Job) -> None:
    """Each scene of 72 x 56 px is cut into 3 x 2 blocks."""

    def words(fold: int) -> list[str]:
        folds = f'folds={{num_folds=3, fold={fold}, test_fold=3, unit="block", block_px=24}}'
        few = (
            *NEAR,
            "limits.max_trials=1",
            'space."architecture.base_filters"={fix=4}',
            "retrain.steps_per_epoch=4",
        )
        return [word for each in ('study.name="cut"', folds, *few) for word in ("--set", each)]

    told = job.run("prepare", *words(1))
    assert "8 blocks train, 8 validate, 8 test, 0 scenes without labelled pixels" in told
    assert "1 validation" in told
    assert "3 test" in job.run("doctor", *words(1))
    job.run("search", "--workers", "1", *words(1))
    assert "folds.fold" in job.run("search", "--workers", "1", *words(2), code=1)
    job.run("retrain", *words(1))
    job.run("predict", "test", *words(1))

    score = json.loads(job.run("score", "--json", *words(1)))

    assert sum(len(each["blocks_px"]) for each in score["ground"]) == 8
    assert all(0 < each["known_share"] < 1 for each in score["ground"])
    assert score["absent"] == []
    corners = [block for each in score["ground"] for block in each["blocks_px"]]
    num_px = sum((bottom - top) * (right - left) for top, left, bottom, right in corners)
    assert num_px >= sum(score["counts"]["bright"].values())
    told = job.run("score", *words(1))
    assert "test blocks" in told
    assert "whose labels had no part in training or in any choice" in told
    job.run("report", *words(1))
    page = (job.folder / "runs" / "cut" / "report.html").read_text(encoding="utf-8")
    assert "fold 1 of 3, dealt in blocks of about 24 px" in page
    assert "<h2>Folds</h2>" in page


@pytest.mark.slow
def test_the_best_model_of_a_search_can_be_used(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    told = job.run("trials", "model", "best.keras")
    monkeypatch.chdir(job.folder)
    about = read_about(Path("best.keras"))
    best = next(each for each in job.trials() if each["number"] == about.trial)
    assert f"the model of trial {about.trial}, validation Jaccard bright" in told
    losses = [each["outcome"]["loss"] for each in job.trials() if each["state"] == "done"]
    assert best["outcome"]["loss"] == min(losses)
    assert about.candidate == decode(Candidate, best["candidate"], where="")

    import keras

    import pipeline.networks.keras_layers  # noqa: F401
    from pipeline.study_data import StudyData
    from pipeline.validation.whole_ground import validate

    data = StudyData.open(read_study(Path("tiny.toml")))
    normalisation = Normalisation(about.candidate.plan.scaling, about.numbers)
    scenes = data.scenes(data.fold.validation, about.classes, normalisation)
    model = keras.models.load_model("best.keras")
    plan, net = about.candidate.plan, about.candidate.architecture
    again = validate(model, scenes, about.classes, tile_px=plan.patch_px, margin_px=net.margin_px)
    assert again.jaccard == pytest.approx(best["outcome"]["jaccard"], abs=1e-3)
    assert again.thresholds == pytest.approx(about.thresholds, abs=0.01)
    other = next(each["number"] for each in job.trials() if each["number"] != about.trial)
    message = job.run("trials", "model", "x.keras", "--trial", str(other), code=1)
    assert f"no model of trial {other} was kept" in message
    assert f"Kept are those of: {about.trial};" in message
