"""What a retraining asks for, what it finds done, and what it does about the rest: with a store, and no training."""

import argparse
import json
import os
import re
import socket
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import run_search
from pipeline.files import LOCK_FILE
from search_space.candidate import Candidate
from search_space.chosen import Chosen
from search_space.decode import decode, encode
from search_space.errors import MapgroveError, UsageError
from search_space.objective import MODEL_FILE, START_FILE, EpochReport, Outcome
from search_space.records import TrialModel
from search_space.study import Study
from search_space.study_file import read_study
from search_space.task import Task
from trials_db.artifacts import Artifact, FolderArtifacts
from trials_db.errors import ArtifactError, LeaseLostError
from trials_db.opening import open_store
from trials_db.records import NewTrial, StudyRecord, Trial, WorkerRecord
from trials_db.store import TrialStore
from verbs.retrain import MAY_CHANGE, _means_all, add_arguments
from verbs.retrain_progress import RetrainProgress, told_of
from verbs.retrain_queue import Queue, Workers, see_through, told_workers
from verbs.retrain_wishes import Wish, checked_options, chosen_candidates
from verbs.retrain_withdrawal import WITHDRAWN, tell_waiting

ROOT = Path(__file__).parents[2]
CANDIDATES = [Candidate(), decode(Candidate, {"architecture": {"depth": 2}}, where="test")]


def wish(class_name: str = "water", rank: int = 0, seed: int = 0, ground: str = "g", **more: Any) -> Wish:
    told = {"rank": rank, "seed": seed, "ground": ground, "trial": 5 + rank, **more}
    task = Task(class_name=class_name, epochs=2, steps_per_epoch=1, **told)
    return Wish(CANDIDATES[rank], task, task.seed_from(0))


class World:
    """A store with the study of a retraining, and somebody who trains."""

    def __init__(self, folder: Path) -> None:
        self.study = read_study(ROOT / "configs" / "demo.toml", [f"study.folder={folder / 'run'}"]).retraining
        self.store: TrialStore = open_store(self.study.store_url)
        self.store.open_study(self.record())
        self.artifacts = FolderArtifacts(folder / "kept", carries_checkpoints=False)
        self.models = folder / "models"

    def record(self, **changes: Any) -> StudyRecord:
        settings = encode(self.study.with_store(""))
        told = {"settings": settings, "data_fingerprint": "d", "seed": 0, "space_fingerprint": "", **changes}
        return StudyRecord(name=self.study.name, **told)

    def queue(self, *wishes: Wish) -> Queue:
        self.models.mkdir(exist_ok=True)
        for path in self.models.iterdir():
            path.unlink()
        queue = Queue(self.store, self.artifacts, self.study, wishes, self.models)
        queue.fill()
        return queue

    def trials(self) -> list[Trial]:
        return self.store.trials(self.study.name)

    def train(self, outcome: Outcome | None = None) -> int:
        """End the next training; with a model where it is done."""
        claim = self.store.claim(self.study.name, "w", 60.0)
        assert claim is not None
        done = Outcome(state="done", loss=0.25, jaccard={"water": 0.75})
        if outcome is None:
            path = self.models.parent / "model"
            name = (claim.task or {})["class_name"]
            about = TrialModel(
                study="s",
                trial=claim.number,
                classes=(name,),
                bands=("red",),
                candidate=decode(Candidate, claim.candidate, where=""),
                thresholds={name: 0.5},
                jaccard={name: 0.75},
            )
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("mapgrove.json", json.dumps(encode(about)))
            self.artifacts.put(self.study.name, Artifact(claim.number, 1, MODEL_FILE), path)
        self.store.report(claim, EpochReport(epoch=1, training_loss=0.5, jaccard={"water": 0.5}, seconds=3.0))
        self.store.finish(claim, outcome or done)
        return claim.number


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with made.store:
        yield made


def test_what_is_done_is_kept_and_what_failed_is_tried_anew(world: World) -> None:
    wishes = [wish(), wish(rank=1), wish(seed=1), wish("trees")]
    queue = world.queue(*wishes)
    assert [trial.number for trial in queue.open] == [0, 1, 2, 3]
    assert [trial.task for trial in world.trials()] == [encode(each.task) for each in wishes]
    assert [trial.seed for trial in world.trials()] == [each.seed for each in wishes]
    assert world.train() == 0
    world.train(Outcome(state="failed", reason="planted"))
    world.train(Outcome(state="infeasible", reason="planted"))

    again = world.queue(*wishes)

    assert [again.trials[each.key].number for each in wishes] == [0, 4, 5, 3]
    assert sorted(trial.number for trial in again.open) == [3, 4, 5], "what is new or runs is waited for"
    assert again.model(again.trials[wishes[0].key]) is not None
    assert again.model(again.trials[wishes[3].key]) is None
    # Where the candidate is from is no reason to train it again.
    other = Wish(wishes[0].candidate, wishes[0].task.model_copy(update={"trial": 8, "rank": 3}), wishes[0].seed)
    assert world.queue(other).open == []
    assert len(world.trials()) == 6


def test_a_model_that_is_gone_or_damaged_is_trained_again(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.queue(wish(), wish(seed=1))
    world.train()
    world.train()
    world.artifacts.drop(world.study.name, [Artifact(0, 1, MODEL_FILE)])
    damaged = world.artifacts.folder / world.study.name / Artifact(1, 1, MODEL_FILE).path
    damaged.write_bytes(damaged.read_bytes()[:20])

    assert sorted(trial.number for trial in world.queue(wish(), wish(seed=1)).open) == [2, 3]
    assert "The model of training 1 is damaged, and not used" in capsys.readouterr().out


def test_trainings_that_wait_for_data_of_before_are_ended(world: World) -> None:
    world.queue(wish(), wish(seed=1))
    world.train()

    world.queue(wish(ground="other"), wish(seed=1, ground="other"))

    states = [(str(trial.state), trial.outcome.reason if trial.outcome else None) for trial in world.trials()]
    assert states[0] == ("done", None)
    assert states[1] == ("failed", "retrain was called with other data or folds since")
    assert [state for state, _ in states[2:]] == ["new", "new"]
    assert world.train() == 2


def test_what_is_asked_for_now_comes_before_what_was_left_waiting(world: World) -> None:
    world.queue(wish(seed=1), wish(seed=2))
    world.queue(wish(seed=3), wish(seed=1))
    assert [(trial.number, trial.priority) for trial in world.trials()] == [(0, 0), (1, 0), (2, 1)]
    assert world.train() == 2


def test_two_that_ask_for_the_same_at_once_get_it_once(world: World) -> None:
    wishes = [wish(seed=seed) for seed in range(6)]

    def ask() -> None:
        with open_store(world.study.store_url) as store:
            Queue(store, world.artifacts, world.study, wishes, world.models).fill()

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(30.0)

    assert [trial.number for trial in world.trials()] == list(range(6))
    assert world.store.leader(world.study.name) is None


class Uploads(FolderArtifacts):
    """Takes as long for each file as `during` does, which is called from the thread that sends."""

    def __init__(self, folder: Path, during: Callable[[], Any]) -> None:
        super().__init__(folder, carries_checkpoints=False)
        self.during = during

    def put(self, study: str, artifact: Artifact, source: Path) -> None:
        self.during()
        super().put(study, artifact, source)


def started_from(world: World, artifacts: FolderArtifacts, source: Path, *seeds: int) -> Queue:
    source.write_text("a model")
    sha256 = "a" * 64
    wishes = [wish(seed=seed, start=sha256) for seed in seeds]
    return Queue(world.store, artifacts, world.study, wishes, world.models, {sha256: source})


def test_who_sends_what_trainings_start_from_leads_as_long_as_it_takes(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times as long as a lease, while another one waits for the lead."""
    monkeypatch.setattr("verbs.retrain_lead.LEASE_S", 0.5)
    monkeypatch.setattr("verbs.retrain_lead._RENEW_S", 0.1)
    monkeypatch.setattr("verbs.retrain_lead._POLL_S", 0.05)
    intruders = []

    def during() -> None:
        with open_store(world.study.store_url) as store:
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                intruders.append(store.acquire_lead(world.study.name, "another", 30.0))
                time.sleep(0.05)

    artifacts = Uploads(tmp_path / "kept", during)
    assert started_from(world, artifacts, tmp_path / "start", 0).fill()
    assert len(intruders) > 1
    assert not any(intruders)
    assert [trial.number for trial in world.trials()] == [0]
    assert artifacts.held(world.study.name) == [Artifact(0, 1, START_FILE)]
    assert world.store.leader(world.study.name) is None


def test_who_lost_the_lead_while_asleep_begins_anew(world: World, tmp_path: Path) -> None:
    """Another one has added a training meanwhile that is wanted here too, under the number that was meant for it."""
    source, slept = tmp_path / "start", []

    def during() -> None:
        if slept:
            return
        slept.append(True)
        with open_store(world.study.store_url) as store:
            store._db.execute("DELETE FROM leads")  # type: ignore[attr-defined]
            theirs = FolderArtifacts(tmp_path / "kept", carries_checkpoints=False)
            queue = Queue(store, theirs, world.study, wishes[:1], world.models, {"a" * 64: source})
            assert queue.fill()

    queue = started_from(world, Uploads(tmp_path / "kept", during), source, 0, 1)
    wishes = list(queue.wishes.values())
    assert queue.fill()
    assert [trial.number for trial in queue.trials.values()] == [0, 1]
    assert len(world.trials()) == 2
    held = queue._artifacts.held(world.study.name)
    assert held == [Artifact(number, 1, START_FILE) for number in (0, 1)]


@pytest.mark.parametrize("when", ["before", "waiting", "sending"])
def test_who_is_asked_to_stop_does_not_go_on_adding(
    world: World, tmp_path: Path, when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stop, gate = threading.Event(), threading.Event()

    def during() -> None:
        stop.set()
        gate.wait(30.0)

    if when == "waiting":
        assert world.store.acquire_lead(world.study.name, "another", 600.0)
        threading.Timer(0.5, stop.set).start()
    elif when == "before":
        stop.set()
        world.queue(wish(seed=5))
    queue = started_from(world, Uploads(tmp_path / "kept", during), tmp_path / "start", 0, 1)
    assert not queue.fill(stop)
    gate.set()
    assert [trial for trial in world.trials() if (trial.task or {}).get("start")] == []
    assert world.store.leader(world.study.name) == ("another" if when == "waiting" else None)
    assert ("Another `retrain` adds its trainings" in capsys.readouterr().out) == (when == "waiting")


def test_what_cannot_be_sent_is_told_and_the_lead_is_free(world: World, tmp_path: Path) -> None:
    def during() -> None:
        raise ArtifactError("there is no room")

    queue = started_from(world, Uploads(tmp_path / "kept", during), tmp_path / "start", 0)
    with pytest.raises(ArtifactError, match="there is no room"):
        queue.fill()
    assert world.trials() == []
    assert world.store.leader(world.study.name) is None


def test_only_models_are_left_when_all_have_ended(world: World, tmp_path: Path) -> None:
    queue = world.queue(wish(), wish(seed=1))
    (tmp_path / "start").touch()
    for number in range(2):
        world.artifacts.put(world.study.name, Artifact(number, 1, START_FILE), tmp_path / "start")
    world.train()
    queue.tidy()
    assert world.artifacts.held(world.study.name) == [Artifact(0, 1, MODEL_FILE), Artifact(1, 1, START_FILE)]


def test_everything_but_the_name_may_change_between_two_calls(world: World) -> None:
    study = read_study(
        ROOT / "configs" / "demo.toml",
        ["study.seed=7", "folds.seed=3", "retrain.epochs=1", "limits.max_parameters=9", "budget.epochs=9"],
    )
    changed = world.record(settings=encode(study.retraining), data_fingerprint="other", seed=7, software={"a": "b"})
    assert world.store.open_study(changed, MAY_CHANGE) == changed
    sections = {path.partition(".")[0] for path in MAY_CHANGE}
    assert sections >= set(Study.model_fields), "a new section may change too"


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ("study.seed=9", True),
        ("folds.seed=3", True),
        ("retrain.epochs=1", True),
        ("retrain.steps_per_epoch=1", True),
        ("limits.precision=float32", True),
        ("limits.patches_on=processor", False),
        ("limits.trial_threads=1", False),
        ("budget.epochs=9", False),
        ("search.lease_s=9", False),
        ("prediction.overlap=0.3", False),
    ],
)
def test_what_a_training_depends_on_makes_it_another_one(
    monkeypatch: pytest.MonkeyPatch, change: str, is_another: bool
) -> None:
    from pipeline.folds.folds import Fold
    from verbs import retrain_wishes

    class Data:
        fingerprint = "d"
        input_bands = ()

    monkeypatch.setattr(retrain_wishes, "_folds", lambda *_: {0: Fold((), ())})
    monkeypatch.setattr(retrain_wishes, "check_cost", lambda *_: None)

    def key(*assignments: str) -> str:
        study = read_study(ROOT / "configs" / "demo.toml", assignments)
        chosen = {study.classes[0]: [Chosen(candidate=CANDIDATES[0], trial=4)]}
        [wish], _ = retrain_wishes.wishes_for(study, Data(), chosen, 0, 1)  # type: ignore[arg-type]
        return wish.key

    assert (key(change) != key()) == is_another


def test_trainings_are_seen_to_their_end_and_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    wishes = [wish(), wish(seed=1), wish(rank=1)]
    queue = world.queue(*wishes)
    progress = RetrainProgress(wishes, list(queue.trials.values()))
    workers = Workers(world.store, world.study, 0)
    ends: list[Callable[[], Any]] = [
        world.train,
        world.train,
        lambda: world.train(Outcome(state="failed", reason="it rained")),
    ]

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            ends.pop(0)()
            return False

    with workers:
        see_through(world.store, world.study, queue, workers, Stop(), progress.show)
    assert queue.open == []
    told = capsys.readouterr().out.splitlines()
    name = world.study.name.removesuffix("@retrain")
    epoch = "epoch 1/2, loss 0.5000, validation Jaccard 0.500, 3 s"
    assert told == [
        f"No worker serves it yet. Start some: python run_search.py worker --study {name}",
        f"  water, trial 5, seed 0: {epoch}",
        f"  water, trial 5, seed 1: {epoch}",
        f"  water, trial 6, seed 0: {epoch}",
        "  water, trial 6, seed 0: failed: it rained",
    ]


def test_of_many_trainings_the_ends_are_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    wishes = [wish(fold=fold, num_folds=9, trial=5) for fold in range(1, 10)]
    queue = world.queue(*wishes)
    progress = RetrainProgress(wishes, list(queue.trials.values()))
    for _ in range(2):
        world.train()
    for each, trial in queue.update(world.trials()) * 2:
        progress.show(each, trial)
    assert capsys.readouterr().out.splitlines() == [
        "  1/9 trainings ended: water, fold 1 of 9: validation Jaccard 0.750",
        "  2/9 trainings ended: water, fold 2 of 9: validation Jaccard 0.750",
    ]
    assert told_of(wish(trial=3, rank=1, seed=2), [wish(rank=1), wish(seed=2)]) == "water, trial 3, seed 2"


class TestWithdrawing:
    """`retrain --withdraw`, as it is typed, and who tells of it."""

    @pytest.fixture
    def retrain(self, world: World, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
        def call(*words: str) -> str:
            world.study.folder.parent.mkdir(parents=True, exist_ok=True)
            file = ["--study", str(ROOT / "configs" / "demo.toml"), "--store", world.study.store_url]
            folder = ["--set", f"study.folder={world.study.folder.parent}"]
            code = run_search.main(["retrain", *file, *folder, "--withdraw", *words])
            told = capsys.readouterr()
            return told.out if code == 0 else f"{code} {told.err}"

        return call

    def test_what_waits_or_runs_ends_and_what_is_done_stays(self, world: World, retrain: Callable[..., str]) -> None:
        wishes = [wish(seed=seed) for seed in range(4)]
        world.queue(*wishes)
        world.train()
        running = world.store.claim(world.study.name, "w", 60.0)
        assert running is not None
        world.artifacts.put(world.study.name, Artifact(2, 1, START_FILE), ROOT / "README.md")

        told = retrain()

        assert told.startswith("3 trainings of demo withdrawn; what is done stays. 1 of them ran")
        assert [str(trial.state) for trial in world.trials()] == ["done", "failed", "failed", "failed"]
        assert {trial.outcome.reason for trial in world.trials()[1:] if trial.outcome} == {WITHDRAWN}
        with pytest.raises(LeaseLostError):
            world.store.renew(running)
        assert retrain() == "No training of demo waits or runs\n"
        again = world.queue(*wishes)
        assert [trial.number for trial in again.open] == [4, 5, 6], "a later wish comes again"

    def test_classes_that_are_not_named_stay(self, world: World, retrain: Callable[..., str]) -> None:
        world.queue(wish("crops"), wish("trees"))
        assert retrain("--classes", "trees").startswith("1 training of demo withdrawn")
        assert [str(trial.state) for trial in world.trials()] == ["new", "failed"]
        assert retrain("--classes", "trees") == "No training of demo waits or runs for trees\n"

    @pytest.mark.parametrize("words", [["--folds", "3"], ["--workers", "0"], ["--top", "2"], ["--recipe", "vooban"]])
    def test_nothing_is_trained_at_the_same_time(self, retrain: Callable[..., str], words: list[str]) -> None:
        told = retrain(*words)
        assert told.startswith(f"2 retrain: --withdraw trains nothing. Received '{words[0]}'")

    def test_what_others_left_waiting_is_told_with_the_remedy(
        self, world: World, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world.queue(wish(), wish(seed=1), wish(seed=2))
        now = world.queue(wish(seed=1))
        tell_waiting(world.trials(), now.wishes, "retrain --withdraw")
        tell_waiting(world.trials(), world.queue(*(wish(seed=seed) for seed in range(3))).wishes, "no")
        told = "2 trainings of other calls still wait; `retrain --withdraw` withdraws what waits\n"
        assert capsys.readouterr().out == told

    def test_workers_of_a_call_do_what_it_asked_for_alone(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        commands: list[list[str]] = []

        class Local:
            def __init__(self, command: list[str], _: Any) -> None:
                commands.append(command)

            def __enter__(self) -> "Local":
                return self

            def __exit__(self, *_: object) -> None: ...

        monkeypatch.setattr("trials_db.local_workers.LocalWorkers", Local)
        with Workers(world.store, world.study, 2, [4, 5, 6, 9]):
            pass
        [command] = commands
        assert command[command.index("--only") + 1] == "4-6,9"


def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many workers were started, instead of starting them."""
    numbers: list[int] = []
    monkeypatch.setattr(Workers, "_start", lambda _, number: numbers.append(number))
    return numbers


def test_workers_are_started_where_nobody_serves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = started(monkeypatch)
    for wanted, expected in ((None, [1]), (3, [3]), (0, [])):
        numbers.clear()
        with Workers(world.store, world.study, wanted) as workers:
            workers.tend()
        assert numbers == expected


@pytest.mark.parametrize(
    ("worker", "serves_at_first", "serves_later"),
    [
        ({"study": "retraining"}, True, True),
        ({"study": "search"}, True, False),
        ({"study": "search", "trial": 3}, True, True),
        ({"study": "search", "elsewhere": "other"}, True, True),
    ],
    ids=["serves it", "idle", "has a trial", "has one of another study"],
)
def test_workers_that_serve_the_study_are_left_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch, worker: dict[str, Any], serves_at_first: bool, serves_later: bool
) -> None:
    """One of the search that has nothing to do would have found it by now; one with a trial looks when it ends."""
    search = world.study.name.removesuffix("@retrain")
    world.store.create_study(world.record().model_copy(update={"name": search}))
    name = world.study.name if worker["study"] == "retraining" else search
    world.store.heartbeat(WorkerRecord(**{**worker, "study": name}, name="w", host="h", pid=1))
    numbers = started(monkeypatch)
    with Workers(world.store, world.study, None) as workers:
        workers.tend()
        assert (numbers == []) == serves_at_first
        monkeypatch.setattr("verbs.retrain_queue._FIND_S", 0.0)
        monkeypatch.setattr("verbs.retrain_queue._LOOK_S", 0.0)
        numbers.clear()
        workers.tend()
        assert (numbers == []) == serves_later


def test_workers_of_this_machine_that_were_killed_serve_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    record = WorkerRecord(study=world.study.name, name="w", host=socket.gethostname(), pid=killed.pid)
    world.store.heartbeat(record)
    numbers = started(monkeypatch)
    with Workers(world.store, world.study, None) as workers:
        workers.tend()
    assert (numbers, capsys.readouterr().out) == ([1], "")
    world.store.heartbeat(record.model_copy(update={"name": "here", "pid": os.getpid()}))
    with Workers(world.store, world.study, None, command="no") as workers:
        workers.tend()
    told = capsys.readouterr().out
    assert (numbers, told.count("\n")) == ([1], 1)
    assert re.fullmatch(r"Worker here, last seen 0\.\d s ago, seems to train them\n", told)


def test_of_many_workers_some_are_named(world: World) -> None:
    workers = [WorkerRecord(study="s", name=f"w{n}", host="h", pid=1, last_seen_s=100.0 - n) for n in range(5)]
    told = "w0, last seen 5.0 s ago; w1, last seen 6.0 s ago; w2, last seen 7.0 s ago and 2 more"
    assert told_workers(workers, 105.0) == f"Workers seem to train them: {told}"


def test_models_to_start_from_lie_where_the_next_call_removes_what_a_killed_one_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = world.study.folder
    left = folder / ".models-start-killed"
    left.mkdir(parents=True)
    (left / LOCK_FILE).touch()
    seen: list[Path] = []

    def starting(*words: Any) -> dict[str, Any]:
        seen.append(words[-1])
        raise MapgroveError("planted")

    monkeypatch.setattr("verbs.retrain.starting_models", starting)
    monkeypatch.setattr("pipeline.preparation.prepared.PreparedDataset.open_for", lambda _: None)
    words = ["--study", str(ROOT / "configs" / "demo.toml"), "--set", f"study.folder={folder.parent}"]
    assert run_search.main(["retrain", *words, "--from", "trial:1"]) == run_search.EXIT_FAILED
    assert [each.parent for each in seen] == [folder]
    assert [each for each in folder.iterdir() if each.is_dir()] == []


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--study", "s", *words])


def test_options_that_mean_nothing_together_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    checked_options(options("--top", "3", "--per-class"))
    for words in (["--recipe", "vooban"], ["--trial", "3"]):
        with pytest.raises(UsageError, match=f"{words[0]} names one candidate, and --top several"):
            checked_options(options("--top", "2", *words))
    for words in (["--folds", "1"], ["--top", "0"], ["--seeds", "0"], ["--workers", "-1"]):
        with pytest.raises(SystemExit):
            options(*words)
    capsys.readouterr()


def test_all_means_every_class_unless_one_is_called_so() -> None:
    study = read_study(ROOT / "configs" / "demo.toml")
    assert _means_all(study, ["all"])
    assert not _means_all(study, None)
    assert not _means_all(study, ["all", study.classes[0]])
    one = study.model_copy(update={"data": study.data.model_copy(update={"classes": ("all", "trees")})})
    assert not _means_all(one, ["all"])


def test_what_is_asked_of_a_study_is_not_asked_of_its_retraining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    World(tmp_path).store.close()
    store = f"sqlite:///{tmp_path / 'run' / 'trials.sqlite'}"
    name = read_study(ROOT / "configs" / "demo.toml").retraining.name
    for verb, *words in (["search"], ["retrain"], ["report"], ["score"], ["predict", "test"]):
        assert run_search.main([verb, "--study", name, "--store", store, *words]) == run_search.EXIT_USAGE
        assert "a retraining is wanted by the name of its study" in capsys.readouterr().err


class TestChoice:
    """Which candidates of a store are chosen."""

    @pytest.fixture
    def study(self, tmp_path: Path) -> Study:
        study = read_study(ROOT / "configs" / "demo.toml", [f"study.folder={tmp_path / 'run'}"])
        found = {"": [(3, 0.5, 0.6), (4, 0.9, 0.1), (3, 0.8, 0.1)], study.classes[0]: [(5, 0.7, None), (4, 0.95, None)]}
        with open_store(study.store_url) as store:
            for class_name, trials in found.items():
                name = f"{study.name}/{class_name}" if class_name else study.name
                settings = encode(study)
                record = StudyRecord(name=name, settings=settings, space_fingerprint="", data_fingerprint="d", seed=0)
                store.create_study(record)
                for number, (depth, first, second) in enumerate(trials):
                    self.add(store, name, number, depth, dict(zip(study.classes, (first, second), strict=False)))
        return study

    def add(self, store: TrialStore, study: str, number: int, depth: int, jaccard: dict[str, float | None]) -> None:
        candidate = decode(Candidate, {"architecture": {"depth": depth}}, where="")
        store.add_trial(study, NewTrial(number=number, point={}, candidate=encode(candidate), seed=0))
        claim = store.claim(study, "w", 60.0)
        assert claim is not None
        reached = {name: value for name, value in jaccard.items() if value is not None}
        loss = 1.0 - sum(reached.values()) / len(reached)
        store.finish(claim, Outcome(state="done", loss=loss, jaccard=reached))

    def chosen(self, study: Study, *words: str) -> dict[str, list[tuple[str, int | None]]]:
        found = chosen_candidates(study, list(study.classes[:2]), options(*words))
        return {name: [(each.study, each.trial) for each in several] for name, several in found.items()}

    def test_the_best_over_all_classes_serves_every_class(self, study: Study) -> None:
        first, second = study.classes[:2]
        assert self.chosen(study) == {first: [("", 0)], second: [("", 0)]}
        assert self.chosen(study, "--trial", "1") == {first: [("", 1)], second: [("", 1)]}

    def test_of_several_no_two_are_alike(self, study: Study, capsys: pytest.CaptureFixture[str]) -> None:
        first, second = study.classes[:2]
        assert self.chosen(study, "--top", "2") == {first: [("", 0), ("", 1)], second: [("", 0), ("", 1)]}
        assert not capsys.readouterr().out
        self.chosen(study, "--top", "3")
        assert "Of 3 candidates that were asked for there are 2" in capsys.readouterr().out

    def test_each_class_may_have_its_own_best_of_all_studies(self, study: Study) -> None:
        first, second = study.classes[:2]
        own = f"{study.name}/{first}"
        assert self.chosen(study, "--per-class", "--top", "3") == {
            # Trial 1 of both studies is of the same network.
            first: [(own, 1), ("", 2), (own, 0)],
            second: [("", 0), ("", 1)],
        }

    def test_what_has_no_result_is_told(self, study: Study) -> None:
        with pytest.raises(MapgroveError, match="no trial to retrain has a result"):
            self.chosen(study, "--trial", "77")


def test_chosen_candidates_become_tasks_of_every_fold_but_those_that_lack_the_class(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.folds.folds import Fold
    from verbs import retrain_wishes

    study = read_study(ROOT / "configs" / "demo.toml", ["retrain.epochs=5", "retrain.steps_per_epoch=6"])
    first, second = study.classes[:2]
    folds = {1: Fold((), ()), 2: Fold((), (), absent_in_validation=(second,)), 3: Fold((), ())}

    class Data:
        fingerprint = "d"
        input_bands = ()

    monkeypatch.setattr(retrain_wishes, "_folds", lambda *_: folds)
    monkeypatch.setattr(retrain_wishes, "check_cost", lambda *_: None)
    chosen: dict[str, Sequence[Chosen]] = {
        first: [Chosen(candidate=CANDIDATES[0], trial=4), Chosen(candidate=CANDIDATES[1], trial=2)],
        second: [Chosen(candidate=CANDIDATES[1], recipe="vooban")],
    }
    wishes, absent = retrain_wishes.wishes_for(study, Data(), chosen, 3, 2)  # type: ignore[arg-type]

    assert absent == {first: [], second: [2]}
    assert f"{second}: left out of fold 2 of 3, which cannot validate it" in capsys.readouterr().out
    tasks = [(each.task.class_name, each.task.seed, each.task.rank, each.task.fold) for each in wishes]
    expected = [
        (name, seed, rank, fold)
        for seed in (0, 1)
        for rank in (0, 1)
        for name in (first, second)
        for fold in (1, 2, 3)
        if not (name == second and (rank or fold == 2))
    ]
    assert tasks == expected
    assert {(each.task.trial, each.task.recipe) for each in wishes} == {(4, ""), (2, ""), (None, "vooban")}
    assert {(each.task.num_folds, each.task.epochs, each.task.steps_per_epoch) for each in wishes} == {(3, 5, 6)}
    assert len({each.key for each in wishes}) == len(wishes)
    with pytest.raises(UsageError, match=r"at most 10,000 trainings.*Received 799999992.*Take --seeds 1250 or less"):
        retrain_wishes.wishes_for(study, Data(), chosen, 3, 99_999_999)  # type: ignore[arg-type]
    many = {number: folds[2] if number > 2 else folds[1] for number in range(1, 100)}
    monkeypatch.setattr(retrain_wishes, "_folds", lambda *_: many)
    retrain_wishes.wishes_for(study, Data(), chosen, 99, 1)  # type: ignore[arg-type]
    assert f"{second}: left out of 97 of 99 folds, which cannot validate it\n" in capsys.readouterr().out
    monkeypatch.setattr(retrain_wishes, "_folds", lambda *_: folds)
    folds[1] = folds[3] = folds[2]
    with pytest.raises(MapgroveError, match=f"no fold has ground both to train and to validate {second}"):
        retrain_wishes.wishes_for(study, Data(), chosen, 3, 1)  # type: ignore[arg-type]
