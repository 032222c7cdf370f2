"""What becomes of the models of a tiny study: made of a recipe, refused, made anew, carried elsewhere."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.imagery.rasters import read_probabilities
from tests.verbs_tests.tiny_job import ROOT, TIMEOUT_S, Job
from trials_db.opening import open_store

# The first test of each process waits for the search that they share.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.slow
def test_a_recipe_from_a_file_is_trained_without_a_search(job: Job) -> None:
    (job.folder / "mine.toml").write_text(
        'source = "our own"\n'
        # More weights than a search here may have; but this one is asked for by name.
        "[architecture]\ndepth = 1\nbase_filters = 24\nunits_per_stage = 1\n"
        "[plan]\npatch_px = 16\nlearning_rate = 0.01\n",
        encoding="utf-8",
    )
    few = ("--set", "retrain.epochs=1", "--set", "retrain.steps_per_epoch=2")
    words = ("--set", 'study.name="unsearched"', *few)

    told = job.run("retrain", "--recipe", "mine.toml", "--classes", "bright", *words)

    assert "bright: mine.toml, validation Jaccard" in told
    [member] = json.loads((job.folder / "runs/unsearched/models/model_set.json").read_text())["members"]
    assert member["figures"]["num_parameters"] > 20_000
    assert "bright" in job.run("predict", "test", *words)
    told = job.run("retrain", "--recipe", "ternous", *words, code=2)
    assert "Did you mean 'ternaus'?" in told
    strange = job.folder / "strange.toml"
    strange.write_text('source = "x"\n[architecture]\n[plan.loss_details.class_weights]\nbrigth = 2\n')
    told = job.run("retrain", "--recipe", "strange.toml", *words, code=2)
    assert "class that the study does not have. Received 'brigth'. Did you mean 'bright'?" in told
    small = ("--set", "limits.device_memory_mb=500")
    told = job.run("retrain", "--recipe", "unet-2015", *words, *small, code=1)
    assert "MB, more than limits.device_memory_mb = 500" in told


@pytest.mark.slow
def test_the_best_two_of_a_search_from_two_seeds_make_one_model_set(job: Job) -> None:
    quick = ("--set", "retrain.epochs=1", "--set", "retrain.steps_per_epoch=2")
    done = [trial for trial in job.trials() if trial["state"] == "done"]
    best = sorted(done, key=lambda trial: (trial["outcome"]["loss"], trial["number"]))[:2]
    assert best[0]["candidate"] != best[1]["candidate"]

    told = job.run("retrain", "--top", "2", "--seeds", "2", "--classes", "bright", *quick)

    assert "4 trainings" in told
    models = job.folder / "runs" / "tiny" / "models"
    members = json.loads((models / "model_set.json").read_text(encoding="utf-8"))["members"]
    assert sorted((each["trial"], each["seed"]) for each in members) == sorted(
        (trial["number"], seed) for trial in best for seed in (0, 1)
    )
    assert len(list((models / "bright").glob("*.keras"))) == 4
    assert "bright" in job.run("predict", "test")


@pytest.mark.slow
def test_two_images_of_one_name_are_not_mapped_into_one_folder(retrained: Job, tmp_path: Path) -> None:
    image = retrained.folder / "imagery" / "images" / "a.png"
    (tmp_path / "a.png").write_bytes(image.read_bytes())

    assert "both be mapped" in retrained.run("predict", str(image), str(tmp_path / "a.png"), code=1)


@pytest.mark.slow
def test_an_image_that_cannot_be_mapped_keeps_no_other_from_it(retrained: Job, tmp_path: Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes((retrained.folder / "imagery" / "images" / "a.png").read_bytes()[:300])

    told = retrained.run("predict", str(cut), "d", code=1)

    assert "1/2 cut: not mapped. " in told
    assert "2/2 d: bright" in told
    assert "1 of 2 scenes were not mapped. Received 'cut'. See above why" in told.splitlines()[-1]
    assert "not mapped" not in retrained.run("predict", str(cut), code=1), "one alone is told in one line"
    told = retrained.run("predict", "d", "--gpus", "99", code=1)
    assert "--gpus names GPUs, and tensorflow sees none of them. Received '99'" in told


@pytest.mark.slow
def test_models_that_cannot_be_used_are_made_anew_or_leave_the_set(job: Job) -> None:
    quick = ("--set", "retrain.epochs=1", "--set", "retrain.steps_per_epoch=2")
    home = job.folder / "runs" / "tiny"
    models = home / "models"
    job.run("retrain", *quick)
    [model] = (models / "bright").glob("*.keras")
    model.write_bytes(model.read_bytes()[:1000])
    (models / "model_set.json").write_text("{", encoding="utf-8")
    assert "model_set.json cannot be read" in job.run("predict", "b", code=1)

    # The trainings are done, and their models lie in the store as well.
    assert "2 trainings of 2 done before" in job.run("retrain", *quick)
    assert "dark" in job.run("predict", "b")

    with open_store(f"sqlite:///{home / 'trials.sqlite'}", create=False) as store:
        number = store.trials("tiny@retrain")[-1].number
    [kept] = (home / "artifacts" / "tiny@retrain").glob(f"{number:04d}/*/model.keras")
    kept.write_bytes(kept.read_bytes()[:1000])
    other = ("--classes", "dark", "--set", 'folds.validation=["a"]')
    told = job.run("retrain", *quick)
    assert f"The model of training {number} is damaged, and not used" in told
    assert "1 training of 2 done before" in told
    told = job.run("retrain", *other, *quick)
    assert "bright: not used: trained on other data or folds" in told
    members = json.loads((models / "model_set.json").read_text(encoding="utf-8"))["members"]
    assert [member["class_name"] for member in members] == ["dark"]


@pytest.mark.slow
def test_an_image_beside_the_data_set_is_mapped_by_a_moved_model_set(retrained: Job, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    (retrained.folder / "runs" / "tiny" / "models").rename(moved)
    card = (moved / "MODEL_CARD.md").read_text(encoding="utf-8")
    _, program, *words = next(line for line in card.splitlines() if "--models FOLDER" in line).split()
    places = {"FOLDER": str(moved), "IMAGE": str(retrained.folder / "imagery" / "images" / "a.png")}
    done = subprocess.run(
        [sys.executable, str(ROOT / program), *(places.get(word, word) for word in words)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "maps" / "a" / "overlay.png").is_file()

    script = (
        "import sys, numpy; from skimage.io import imread;"
        "from pipeline.maps.array_maps import open_models, predict_array;"
        "models = open_models(sys.argv[1]); found = predict_array(models, imread(sys.argv[2]));"
        "print(*models.classes); numpy.save(sys.argv[3], found)"
    )
    words = [sys.executable, "-c", script, str(moved), places["IMAGE"], str(tmp_path / "found.npy")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    written = read_probabilities(tmp_path / "maps" / "a" / "probabilities.tif")
    assert done.stdout.split() == list(written.classes)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), written.probabilities, atol=0.51 / 254)
