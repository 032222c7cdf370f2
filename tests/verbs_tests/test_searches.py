"""Searches as a user begins, repeats, moves and varies them, on tiny imagery."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from search_space.candidate import Candidate
from search_space.decode import decode
from tests.mongod import database_url
from tests.verbs_tests.tiny_job import Job, essence
from trials_db.opening import open_store

# The first test of each process waits for the search that they share.
pytestmark = pytest.mark.timeout(900)


@pytest.mark.slow
def test_a_finished_study_grows_only_when_its_limit_is_raised(job: Job) -> None:
    before = job.trials()

    assert "4 trials have ended" in job.run("search", "--workers", "2")

    assert job.trials() == before


@pytest.mark.slow
def test_two_goes_on_mongodb_equal_one_go_on_sqlite(job: Job, mongo_url: str, tmp_path: Path) -> None:
    """The first by one worker, the second, after the limit was raised, by two."""
    other = job.like_this(tmp_path)
    store = ("--store", database_url(mongo_url, f"mapgrove_test_{uuid.uuid4().hex}"))

    def trials() -> list[dict[str, Any]]:
        other.run("trials", "--json-lines", "trials.jsonl", *store)
        return [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text(encoding="utf-8").splitlines()]

    other.run("search", "--workers", "1", "--set", "limits.max_trials=2", *store)
    assert len(trials()) == 2

    assert "4 trials have ended" in other.run("search", "--workers", "2", *store)

    assert essence(trials()) == essence(job.trials())
    assert "finished" in other.run("status", *store)
    assert not list(tmp_path.glob("runs/tiny/*.sqlite"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ('space."plan.optimizer"={fix="adam"}', "space"),
        ("study.seed=4", "seed"),
        ("budget.epochs=3", "budget.epochs"),
        ('folds.validation=["a"]', "folds.validation"),
    ],
)
def test_a_study_that_exists_with_other_settings_is_refused(job: Job, assignment: str, told: str) -> None:
    before = job.trials()
    saved = (job.folder / "runs" / "tiny" / "study.json").read_bytes()

    message = job.run("search", "--set", assignment, code=1)

    assert told in message
    assert "another name" in message
    assert job.trials() == before
    assert (job.folder / "runs" / "tiny" / "study.json").read_bytes() == saved


@pytest.mark.slow
def test_a_search_starts_from_known_candidates(job: Job) -> None:
    begun = ("--set", 'study.name="begun"', "--set", "limits.max_trials=1")
    told = job.run("search", "--workers", "1", *begun, "--start-from", "vooban,default,ternaus,unet-2015")

    assert "The first trials start from default, as near as the space allows" in told
    assert "Not in this study's space, and left out: vooban" in told
    assert "More than limits.max_trials, and left out: ternaus, unet-2015" in told
    (trial,) = job.trials("begun")
    tried = decode(Candidate, trial["candidate"], where="trial")
    own = Candidate()
    expected = own.architecture.model_copy(update={"depth": 1, "base_filters": 4, "units_per_stage": 1})
    assert tried.architecture == expected, "what the space leaves free is as the candidate has it"
    assert tried.plan == own.plan.model_copy(
        update={"patch_px": 16, "learning_rate": max(5e-3, own.plan.learning_rate)}
    )
    assert "search.start_from" in job.run("search", *begun, "--start-from", "ternaus", code=1)


@pytest.mark.slow
def test_a_search_without_any_result_fails(job: Job) -> None:
    told = job.run(
        *("search", "--workers", "1", "--set", "limits.max_parameters=10", "--set", 'study.name="hopeless"'),
        *("--set", "limits.max_trials=2"),
        code=1,
    )

    assert "2 trials of hopeless ended, none with a result" in told
    assert "more than limits.max_parameters = 10" in told
    assert "Next: run_search.py retrain" not in told


@pytest.mark.slow
def test_a_study_moves_to_another_store_and_back(job: Job, mongo_url: str) -> None:
    """From SQLite to MongoDB, and its file is the same to the letter when it comes from there."""
    store = database_url(mongo_url, f"mapgrove_test_{uuid.uuid4().hex}")
    assert "study tiny with 4 trials" in job.run("trials", "export", "tiny.jsonl")

    def moved(*more: str, code: int = 0) -> str:
        assert job.warm is not None
        found, told = job.warm.run(["trials", "import", *more], job.folder)
        assert found == code, told
        return told

    assert "Study tiny: 4 trials added" in moved("tiny.jsonl", "--store", store)
    assert "0 trials added, 4 trials were there already" in moved("tiny.jsonl", "--store", store)
    job.run("trials", "export", "back.jsonl", "--store", store)
    assert (job.folder / "back.jsonl").read_text() == (job.folder / "tiny.jsonl").read_text()
    there, back = (
        {path.relative_to(folder): path.read_bytes() for path in folder.glob("**/*") if path.is_file()}
        for folder in (job.folder / "tiny.jsonl.artifacts", job.folder / "back.jsonl.artifacts")
    )
    assert [path.name for path in there] == ["model.keras"]
    assert back == there, "the kept model goes with its study, there and back"
    whole = (job.folder / "tiny.jsonl").read_text()
    (job.folder / "back.jsonl").write_text(whole[: whole.rindex("{")])
    assert "was cut off" in moved("back.jsonl", "--store", store, code=1)
    assert "trials import needs a file" in moved(code=2)


@pytest.mark.slow
def test_one_against_the_rest(job: Job) -> None:
    few = ("--set", "limits.max_trials=2", "--set", "retrain.epochs=1", "--set", "retrain.steps_per_epoch=2")
    begun = ("--one-vs-all", "--start-from", "study:tiny", *few)

    told = job.run("search", "--workers", "2", *begun)

    assert "4 trials have ended" in told
    again = job.run("search", *begun)
    assert "4 trials have ended" in again, "the same command goes on"
    assert "worker --study" not in again, "nobody is wanted for what is over"
    with open_store(f"sqlite:///{job.folder}/runs/tiny/trials.sqlite", create=False) as store:
        assert [name for name in store.list_studies() if "@" not in name] == ["tiny", "tiny/bright", "tiny/dark"]
        whole = [trial for trial in store.trials("tiny") if trial.outcome and trial.outcome.jaccard]
        losses = {}
        for name in ("bright", "dark"):
            first, _ = store.trials(f"tiny/{name}")
            assert first.outcome
            assert set(first.outcome.jaccard) == {name}
            best = max(whole, key=lambda trial: trial.outcome.jaccard[name] if trial.outcome else 0.0)
            assert first.candidate == best.candidate
            assert first.outcome.figures["num_parameters"] == best.outcome.figures["num_parameters"] - 5
            every = {("", each.number): each.outcome.jaccard[name] for each in whole if each.outcome}
            ended = [each for each in store.trials(f"tiny/{name}") if each.outcome and each.outcome.jaccard]
            every |= {(f"tiny/{name}", each.number): each.outcome.jaccard[name] for each in ended if each.outcome}
            losses[name] = every
    job.run("retrain", "--per-class", *few)
    members = json.loads((job.folder / "runs/tiny/models/model_set.json").read_text())["members"]
    for member in members:
        every = losses[member["class_name"]]
        assert every[member["study"], member["trial"]] == max(every.values())
    # By name, as a study that was moved may be looked for where it went.
    store_words = ("--store", "sqlite:///runs/tiny/trials.sqlite")
    assert job.warm is not None
    _, shown = job.warm.run(["status", "--study", "tiny/*", "--json", *store_words], job.folder)
    assert [each["study"] for each in json.loads(shown)] == ["tiny/bright", "tiny/dark"]
    assert "Classes: bright, dark" in job.run("search", "--one-vs-all", "--classes", "grey", code=2)
