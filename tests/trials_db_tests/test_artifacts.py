"""Large files: the same promises in a folder and in MongoDB, and what is kept of trials for how long."""

import errno
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from trial_objectives import GoesOn, Trained
from waiting import wait_for

from search_space.objective import CHECKPOINT_FILE, MODEL_FILE, Outcome
from tests.mongod import database_url
from trials_db.artifacts import Artifact, Artifacts, FolderArtifacts, parse_artifact
from trials_db.assignment import Assignment
from trials_db.errors import ArtifactError, NoRoomError
from trials_db.keeping import Keeper, Keeping
from trials_db.mongo_artifacts import MongoArtifacts
from trials_db.opening import open_artifacts
from trials_db.records import NewTrial, StudyRecord, TrialState
from trials_db.sqlite_store import SqliteStore
from trials_db.worker import Worker

Maker = Callable[[int], NewTrial]

MODEL = Artifact(7, 2, MODEL_FILE)
CHECKPOINT = Artifact(7, 1, CHECKPOINT_FILE)


class Place:
    """Somewhere artifacts are kept, and how to look behind their back."""

    def __init__(self, artifacts: Artifacts, plant: Callable[[str], None], leave_half: Callable[[], None]) -> None:
        self.artifacts = artifacts
        self.plant = plant
        self.leave_half = leave_half


def _folder_place(request: pytest.FixtureRequest) -> Place:
    folder = request.getfixturevalue("tmp_path") / "shared"

    def plant(path: str) -> None:
        (folder / "demo" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "demo" / path).write_text("planted")

    def leave_half() -> None:
        plant("0001/1/.42.model.keras")

    return Place(FolderArtifacts(folder, carries_checkpoints=True), plant, leave_half)


def _mongo_place(request: pytest.FixtureRequest) -> Place:
    url = database_url(request.getfixturevalue("mongo_url"), f"mapgrove_test_{uuid.uuid4().hex}")
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(url)
    request.addfinalizer(client.close)
    db = client.get_default_database()

    def plant(path: str) -> None:
        db["artifacts.files"].insert_one({"filename": path, "metadata": {"study": "demo"}, "length": 0})

    def leave_half() -> None:
        import bson

        db["artifacts.chunks"].insert_one({"files_id": bson.ObjectId(), "n": 0, "data": b"half"})

    return Place(MongoArtifacts(url), plant, leave_half)


@pytest.fixture(params=["folder", "mongodb"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    made = _folder_place(request) if request.param == "folder" else _mongo_place(request)
    with made.artifacts:
        yield made


def written(folder: Path, text: str) -> Path:
    path = folder / "source.bin"
    path.write_text(text)
    return path


class TestContract:
    def test_a_file_comes_back_as_it_went_in(self, place: Place, tmp_path: Path) -> None:
        content = os.urandom(600_000)
        (tmp_path / "source").write_bytes(content)
        place.artifacts.put("demo", MODEL, tmp_path / "source")
        (tmp_path / "source").unlink()

        assert place.artifacts.fetch("demo", MODEL, tmp_path / "made" / "target")

        assert (tmp_path / "made" / "target").read_bytes() == content
        assert [path.name for path in (tmp_path / "made").iterdir()] == ["target"]
        assert not place.artifacts.fetch("demo", CHECKPOINT, tmp_path / "none")
        assert not place.artifacts.fetch("demo/trees", MODEL, tmp_path / "none")
        assert not (tmp_path / "none").exists()

    def test_a_later_file_replaces_an_earlier_one(self, place: Place, tmp_path: Path) -> None:
        for text in ("one", "two"):
            place.artifacts.put("demo", MODEL, written(tmp_path, text))
        assert place.artifacts.held("demo") == [MODEL]
        place.artifacts.fetch("demo", MODEL, tmp_path / "target")
        assert (tmp_path / "target").read_text() == "two"
        place.artifacts.drop("demo", [MODEL, CHECKPOINT])
        assert place.artifacts.held("demo") == []
        assert not place.artifacts.fetch("demo", MODEL, tmp_path / "other")

    def test_of_two_that_keep_the_same_file_at_once_one_stays(self, place: Place, tmp_path: Path) -> None:
        source = written(tmp_path, "x")

        def put() -> None:
            for _ in range(20):
                place.artifacts.put("demo", MODEL, source)

        putting = [threading.Thread(target=put) for _ in range(4)]
        for thread in putting:
            thread.start()
        for thread in putting:
            thread.join()
        assert place.artifacts.held("demo") == [MODEL]
        assert place.artifacts.fetch("demo", MODEL, tmp_path / "target")

    def test_what_is_held_is_told_in_order_and_by_study(self, place: Place, tmp_path: Path) -> None:
        source = written(tmp_path, "x")
        several = [
            MODEL,
            CHECKPOINT,
            Artifact(7, 12, CHECKPOINT_FILE),
            Artifact(12345, 1, MODEL_FILE),
            Artifact(0, 1, MODEL_FILE),
        ]
        for artifact in several:
            place.artifacts.put("demo", artifact, source)
        place.artifacts.put("demo/0007", MODEL, source)
        place.artifacts.put("other", MODEL, source)
        assert place.artifacts.held("demo") == sorted(several)
        assert place.artifacts.held("demo", 7) == [CHECKPOINT, MODEL, several[2]]
        assert place.artifacts.held("demo/0007") == place.artifacts.held("other") == [MODEL]
        assert place.artifacts.held("demo", 8) == place.artifacts.held("nemo") == []
        assert place.artifacts.newest("demo", 7, CHECKPOINT_FILE) == several[2]
        assert place.artifacts.newest("demo", 8, CHECKPOINT_FILE) is None

    def test_hostile_names_are_no_artifacts(self, place: Place) -> None:
        for path in (
            "0007/2/evil.sh",
            "007/2/model.keras",
            "0007/02/model.keras",
            "00071/2/model.keras",
            "x/2/model.keras",
        ):
            place.plant(path)
        assert place.artifacts.held("demo") == []

    def test_what_cannot_be_read_or_written_is_told(self, place: Place, tmp_path: Path) -> None:
        with pytest.raises(ArtifactError, match=r"absent\.bin cannot be (kept|read)"):
            place.artifacts.put("demo", MODEL, tmp_path / "absent.bin")
        assert place.artifacts.held("demo") == []
        place.artifacts.put("demo", MODEL, written(tmp_path, "x"))
        (tmp_path / "file").touch()
        with pytest.raises(ArtifactError, match=r"cannot be (fetched|written)"):
            place.artifacts.fetch("demo", MODEL, tmp_path / "file" / "target")

    def test_a_probe_leaves_nothing_and_tells_where_nothing_can_be_kept(self, place: Place, tmp_path: Path) -> None:
        place.artifacts.put("demo", MODEL, written(tmp_path, "x"))
        before = _everything(place)
        place.artifacts.probe()
        assert _everything(place) == before
        (tmp_path / "file").touch()
        with pytest.raises(ArtifactError, match=r"file/within cannot be written"):
            FolderArtifacts(tmp_path / "file" / "within", carries_checkpoints=False).probe()

    def test_only_what_was_long_left_half_done_is_tidied_up(self, place: Place, tmp_path: Path) -> None:
        place.artifacts.put("demo", MODEL, written(tmp_path, "x"))
        before = _everything(place)
        place.leave_half()
        place.artifacts.tidy(3600.0)
        assert len(_everything(place)) == len(before) + 1
        time.sleep(1.1)
        place.artifacts.tidy(0.0)
        assert _everything(place) == before


def test_a_file_is_kept_though_its_folder_is_removed_as_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever drops the last file of a trial removes its folder, which another has just made."""
    artifacts = FolderArtifacts(tmp_path / "shared", carries_checkpoints=True)
    source, copy, removed = written(tmp_path, "x"), shutil.copyfile, []

    def copied(one: Path, other: Path) -> None:
        if not removed:
            removed.append(other.parent)
            artifacts.drop("demo", [MODEL])
        copy(one, other)

    monkeypatch.setattr(shutil, "copyfile", copied)
    artifacts.put("demo", MODEL, source)
    assert removed
    assert artifacts.held("demo") == [MODEL]


def test_folders_that_go_while_they_are_looked_through_hold_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts, listed = FolderArtifacts(tmp_path / "shared", carries_checkpoints=True), os.listdir
    artifacts.put("demo", MODEL, written(tmp_path, "x"))

    def found(folder: Path) -> list[str]:
        names = listed(folder)
        artifacts.drop("demo", [MODEL])
        return names

    monkeypatch.setattr(os, "listdir", found)
    assert artifacts.held("demo") == []


def test_a_place_that_cannot_be_looked_through_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts = FolderArtifacts(tmp_path / "shared", carries_checkpoints=True)

    def stale(*_: Any, **__: Any) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "listdir", stale)
    with pytest.raises(ArtifactError, match=r"demo cannot be read: .*Stale"):
        artifacts.held("demo")
    monkeypatch.setattr(Path, "unlink", stale)
    with pytest.raises(ArtifactError, match=r"model\.keras cannot be removed: .*Stale"):
        artifacts.drop("demo", [MODEL])


def test_a_file_that_is_dropped_as_it_is_fetched_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts, copy = FolderArtifacts(tmp_path / "shared", carries_checkpoints=True), shutil.copyfile
    artifacts.put("demo", MODEL, written(tmp_path, "x"))

    def copied(one: Path, other: Path) -> None:
        artifacts.drop("demo", [MODEL])
        copy(one, other)

    monkeypatch.setattr(shutil, "copyfile", copied)
    assert not artifacts.fetch("demo", MODEL, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def _everything(place: Place) -> list[Any]:
    if isinstance(place.artifacts, FolderArtifacts):
        return sorted(path for path in place.artifacts.folder.rglob("*") if path.is_file())
    assert isinstance(place.artifacts, MongoArtifacts)
    return place.artifacts._server.call(lambda db: list(db["artifacts.chunks"].find({}, {"files_id": 1})))


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "/0007/1/model.keras",
        "0007/1/../model.keras",
        "0007/1/model.keras\n",
        "٠٠٠٧/1/model.keras",
        "0007//model.keras",
    ],
)
def test_a_path_that_leads_elsewhere_is_none(path: str) -> None:
    assert parse_artifact(MODEL.path) == MODEL
    assert parse_artifact(path) is None


@pytest.mark.parametrize("name", ["../other", "a/../b", "/etc", "a/b/c", ".."])
def test_a_study_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    artifacts = FolderArtifacts(tmp_path / "shared", carries_checkpoints=False)
    for do in (lambda: artifacts.held(name), lambda: artifacts.put(name, MODEL, written(tmp_path, "x"))):
        with pytest.raises(ArtifactError, match="must start with a letter"):
            do()


def test_where_artifacts_are_follows_from_the_store(tmp_path: Path, mongo_url: str) -> None:
    beside = open_artifacts("", f"sqlite:///{tmp_path}/a/trials.sqlite")
    assert isinstance(beside, FolderArtifacts)
    assert (beside.folder, beside.carries_checkpoints) == (tmp_path / "a" / "artifacts", False)
    url = database_url(mongo_url, f"mapgrove_test_{uuid.uuid4().hex}")
    with open_artifacts("", url) as inside:
        assert isinstance(inside, MongoArtifacts)
    shared = open_artifacts(str(tmp_path / "s"), url)
    assert isinstance(shared, FolderArtifacts)
    assert (shared.folder, shared.carries_checkpoints) == (tmp_path / "s", True)


@pytest.fixture
def store(tmp_path: Path, study: StudyRecord, new_trial: Maker) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "trials.sqlite") as opened:
        opened.create_study(study)
        for number in range(6):
            opened.add_trial("demo", new_trial(number))
        yield opened


def kept_models(artifacts: Artifacts) -> list[int]:
    return [each.number for each in artifacts.held("demo") if each.file == MODEL_FILE]


def test_the_best_models_are_kept_and_those_they_supersede_go(
    place: Place, store: SqliteStore, study: StudyRecord, tmp_path: Path
) -> None:
    seen = []

    def work(num_trials: int) -> None:
        losses = (0.5, 0.3, None, 0.4, 0.2, 0.9)
        assignment = Assignment(study, Trained(losses), tmp_path, keeping=Keeping(place.artifacts, num_models=2))
        Worker(store, [assignment]).run(threading.Event(), max_trials=num_trials)

    for _ in range(6):
        work(1)
        seen.append(kept_models(place.artifacts))

    assert seen == [[0], [0, 1], [0, 1], [1, 3], [1, 4], [1, 4]]
    place.artifacts.fetch("demo", Artifact(4, 1, MODEL_FILE), tmp_path / "model")
    assert (tmp_path / "model").read_text() == "model 4"
    left = {path.name for number in range(6) for path in (tmp_path / "trials" / f"{number:04d}").iterdir()}
    assert left == {"candidate.json", "log.txt"}


def test_whoever_ends_and_sweeps_at_once_the_best_models_stay(
    place: Place, store: SqliteStore, new_trial: Maker, tmp_path: Path
) -> None:
    for number in range(6, 24):
        store.add_trial("demo", new_trial(number))

    def work(name: str) -> None:
        keeping = Keeping(place.artifacts, num_models=2)
        with SqliteStore(tmp_path / "trials.sqlite") as own:
            while (claim := own.claim("demo", name, 60.0)) is not None:
                folder = tmp_path / f"{name}{claim.number}"
                folder.mkdir()
                (folder / MODEL_FILE).write_text("a model")
                keeper, done = Keeper(keeping, own, claim, folder), Outcome(state="done", loss=1.0 / (claim.number + 1))
                keeper.before_end(done, lambda: None)
                own.finish(claim, done)
                keeper.after_end()

    working = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    assert kept_models(place.artifacts) == [22, 23]


def test_no_model_is_kept_where_none_is_wanted(
    place: Place, store: SqliteStore, study: StudyRecord, tmp_path: Path
) -> None:
    assignment = Assignment(study, Trained((0.5,) * 6), tmp_path, keeping=Keeping(place.artifacts, num_models=0))
    Worker(store, [assignment]).run(threading.Event(), max_trials=2)
    assert place.artifacts.held("demo") == []


def test_a_trial_goes_on_on_a_machine_that_shares_no_folder(
    place: Place, store: SqliteStore, study: StudyRecord, tmp_path: Path
) -> None:
    def machine(name: str) -> tuple[Worker, Path]:
        (tmp_path / name).mkdir()
        keeping = Keeping(place.artifacts, num_models=0)
        return Worker(store, [Assignment(study, GoesOn(), tmp_path / name, keeping=keeping)], name), tmp_path / name

    (first, folder), (second, other) = machine("first"), machine("second")
    stop = threading.Event()
    reported = lambda: len(store.trials("demo")[0].reports) == 2  # noqa: E731
    threading.Thread(target=lambda: (wait_for(reported, "two epochs"), stop.set())).start()
    assert first.run(stop) == 0
    assert place.artifacts.held("demo") == [Artifact(0, 1, CHECKPOINT_FILE)]
    assert (folder / "trials" / "0000" / CHECKPOINT_FILE).read_text() == "2"

    (other / "go").touch()
    assert second.run(threading.Event(), max_trials=1) == 1

    trial = store.trials("demo")[0]
    assert trial.outcome
    assert trial.outcome.figures["began_at"] == 3.0
    assert [report.seconds for report in trial.reports] == [1.0, 1.0, 2.0, 2.0]
    assert place.artifacts.held("demo") == [], "the checkpoint stays after the end"


class TestKeeper:
    """Step by step, without a process."""

    def keeper(self, place: Place, store: SqliteStore, folder: Path, **settings: Any) -> Keeper:
        claim = store.claim("demo", "w", 60.0)
        assert claim
        folder.mkdir(exist_ok=True)
        return Keeper(Keeping(place.artifacts, **settings), store, claim, folder)

    def test_checkpoints_are_sent_when_it_is_time(self, place: Place, store: SqliteStore, tmp_path: Path) -> None:
        keeper = self.keeper(place, store, tmp_path / "a", checkpoint_s=0.2)
        (tmp_path / "a" / CHECKPOINT_FILE).write_text("one")
        keeper.after_report()
        assert place.artifacts.held("demo") == [], "it is not time yet"
        time.sleep(0.25)
        keeper.after_report()
        wait_for(lambda: place.artifacts.held("demo") == [Artifact(0, 1, CHECKPOINT_FILE)], "the checkpoint")
        seldom = self.keeper(place, store, tmp_path / "b", checkpoint_s=0.0)
        (tmp_path / "b" / CHECKPOINT_FILE).write_text("one")
        seldom.after_report()
        assert place.artifacts.held("demo", 1) == []
        seldom.hand_back(10.0, lambda: None)
        assert place.artifacts.held("demo", 1) == [Artifact(1, 1, CHECKPOINT_FILE)]

    @pytest.mark.parametrize(
        ("here", "sent", "expected"),
        [(0, 1, "sent"), (1, 1, "here"), (2, 1, "here"), (1, 2, "sent"), (0, 0, "here")],
        ids=["nothing here", "the same attempt", "sent before", "sent after", "nothing sent"],
    )
    def test_the_later_checkpoint_is_gone_on_from(
        self, place: Place, store: SqliteStore, tmp_path: Path, here: int, sent: int, expected: str
    ) -> None:
        for _ in range(2):
            claim = store.claim("demo", "w", 60.0)
            assert claim
            store.release(claim)
        keeper = self.keeper(place, store, tmp_path / "a")
        assert keeper.claim.attempt == 3
        if sent:
            place.artifacts.put("demo", Artifact(0, sent, CHECKPOINT_FILE), written(tmp_path, "sent"))
        (tmp_path / "a" / CHECKPOINT_FILE).write_text("here")
        if here:
            (tmp_path / "a" / "attempt").write_text(str(here))
        keeper.begin(lambda: None)
        assert (tmp_path / "a" / CHECKPOINT_FILE).read_text() == expected
        assert (tmp_path / "a" / "attempt").read_text() == "3"

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_whatever_keeps_a_model_from_its_place_is_no_success(
        self, place: Place, store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also an error that nobody expects there."""
        keeper = self.keeper(place, store, tmp_path / "a", num_models=None)
        (keeper.folder / MODEL_FILE).write_text("mine")

        def broken(*_: Any) -> None:
            raise RuntimeError("planted")

        monkeypatch.setattr(place.artifacts, "put", broken)
        with pytest.raises(NoRoomError, match="cannot be kept"):
            keeper.before_end(Outcome(state="done", loss=0.5), lambda: None)

    @pytest.mark.parametrize("when", ["held", "best", "trials", "best again", "drop"])
    def test_a_model_that_becomes_the_best_while_another_worker_sweeps_stays(
        self, place: Place, store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
    ) -> None:
        keepers = [self.keeper(place, store, tmp_path / name) for name in "abc"]
        for keeper, loss in zip(keepers, (0.5, 0.4, 0.3), strict=True):
            (keeper.folder / MODEL_FILE).write_text("mine")
            keeper.before_end(Outcome(state="done", loss=loss), lambda: None)
        store.finish(keepers[0].claim, Outcome(state="done", loss=0.5))
        store.finish(keepers[1].claim, Outcome(state="done", loss=0.4))
        calls = []

        def ends_after(owner: Any, name: str, nth: int) -> None:
            method = getattr(owner, name)

            def called(*words: Any) -> Any:
                # What is to be dropped is known before, so the others end meanwhile.
                found = None if name == "drop" else method(*words)
                calls.append(name)
                if len(calls) == nth:
                    store.finish(keepers[2].claim, Outcome(state="done", loss=0.3))
                    keepers[2].after_end()
                return method(*words) if name == "drop" else found

            monkeypatch.setattr(owner, name, called)

        method, _, again = when.partition(" ")
        ends_after(store if method in ("best", "trials") else place.artifacts, method, 2 if again else 1)
        keepers[1].keeping.sweep(store, "demo")
        monkeypatch.undo()
        assert 2 in kept_models(place.artifacts)
        keepers[1].keeping.sweep(store, "demo")
        assert kept_models(place.artifacts) == [2]

    def test_of_trials_that_are_equally_good_the_older_ones_model_is_kept(
        self, place: Place, store: SqliteStore, tmp_path: Path
    ) -> None:
        older, newer = (self.keeper(place, store, tmp_path / name) for name in "ab")
        done = Outcome(state="done", loss=0.5)
        for keeper in (newer, older):
            (keeper.folder / MODEL_FILE).write_text("mine")
            keeper.before_end(done, lambda: None)
            store.finish(keeper.claim, done)
            keeper.after_end()
        assert kept_models(place.artifacts) == [0] == [number for number, _ in store.best("demo", 1)]

    def test_what_a_trial_that_goes_on_has_sent_outlives_the_sweep_at_the_end_of_a_search(
        self, place: Place, store: SqliteStore, tmp_path: Path
    ) -> None:
        """Somebody raised limits.max_trials, and another master goes on already."""
        ended, going_on = (self.keeper(place, store, tmp_path / name) for name in "ab")
        for keeper in (ended, going_on):
            (keeper.folder / CHECKPOINT_FILE).write_text("mine")
            keeper.hand_back(10.0, lambda: None)
        store.finish(ended.claim, Outcome(state="failed", reason="planted"))
        ended.keeping.sweep(store, "demo", is_over=True)
        assert place.artifacts.held("demo") == [Artifact(1, 1, CHECKPOINT_FILE)]

    def test_a_worker_that_lost_its_trial_takes_its_files_away(
        self, place: Place, store: SqliteStore, tmp_path: Path
    ) -> None:
        keeper = self.keeper(place, store, tmp_path / "a")
        for file in (MODEL_FILE, CHECKPOINT_FILE):
            (tmp_path / "a" / file).write_text("mine")
        keeper.hand_back(10.0, lambda: None)
        keeper.before_end(Outcome(state="done", loss=0.5), lambda: None)
        later = Artifact(0, 2, CHECKPOINT_FILE)
        place.artifacts.put("demo", later, written(tmp_path, "another's"))
        assert len(place.artifacts.held("demo")) == 3
        keeper.abandon()
        assert place.artifacts.held("demo") == [later]

    @pytest.mark.parametrize("has_ended", [False, True])
    def test_who_lost_its_trial_leaves_the_checkpoint_to_the_next(
        self, place: Place, store: SqliteStore, tmp_path: Path, has_ended: bool
    ) -> None:
        keeper = self.keeper(place, store, tmp_path / "a")
        (tmp_path / "a" / CHECKPOINT_FILE).write_text("mine")
        keeper.hand_back(10.0, lambda: None)
        if has_ended:
            store.finish(keeper.claim, Outcome(state="failed", reason="another's"))
        else:
            store.release(keeper.claim)
        keeper.abandon()
        sent = [] if has_ended else [Artifact(0, 1, CHECKPOINT_FILE)]
        assert place.artifacts.held("demo") == sent

    def test_a_model_that_cannot_be_kept_is_sent_once(
        self, place: Place, store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keeper, tried = self.keeper(place, store, tmp_path / "a"), []

        def refuse(*_: Any) -> None:
            tried.append(None)
            raise ArtifactError("there is no room")

        monkeypatch.setattr(place.artifacts, "put", refuse)
        (tmp_path / "a" / MODEL_FILE).write_text("mine")
        done = Outcome(state="done", loss=0.5)
        keeper.before_end(done, lambda: None)
        store.finish(keeper.claim, done)
        keeper.after_end()
        assert len(tried) == 1

    def test_the_lease_is_renewed_while_a_large_file_is_sent(
        self, place: Place, store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = threading.Event()
        put = place.artifacts.put
        monkeypatch.setattr(place.artifacts, "put", lambda *words: (gate.wait(30.0), put(*words)))
        keeper = self.keeper(place, store, tmp_path / "a")
        (tmp_path / "a" / MODEL_FILE).write_text("large")
        renewed = []

        def renew() -> None:
            renewed.append(None)
            if len(renewed) == 3:
                gate.set()

        keeper.before_end(Outcome(state="done", loss=0.5), renew)
        assert len(renewed) >= 3
        assert kept_models(place.artifacts) == [0]

    def test_who_was_asked_to_stop_does_not_wait_for_ever(
        self, place: Place, store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = threading.Event()
        monkeypatch.setattr(place.artifacts, "put", lambda *_: gate.wait(30.0))
        keeper = self.keeper(place, store, tmp_path / "a")
        (tmp_path / "a" / CHECKPOINT_FILE).write_text("large")
        keeper.hand_back(0.3, lambda: None)
        assert not gate.is_set()
        gate.set()


def test_what_cannot_be_kept_costs_no_trial(
    store: SqliteStore, study: StudyRecord, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "shared").write_text("a file where a folder should be")
    artifacts = FolderArtifacts(tmp_path / "shared", carries_checkpoints=True)
    keeping = Keeping(artifacts, num_models=2)
    Worker(store, [Assignment(study, Trained((0.5,) * 6), tmp_path, keeping=keeping)]).run(
        threading.Event(), max_trials=2
    )
    assert store.counts("demo")[TrialState.DONE] == 2
    assert "model.keras of trial 0 is not kept" in caplog.text


def test_what_cannot_be_removed_is_told(tmp_path: Path) -> None:
    """As a worker takes it: a line in its log, and the next trial."""
    (tmp_path / "demo" / MODEL.path).mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"0007/2/model\.keras cannot be removed: .*Check rights there"):
        FolderArtifacts(tmp_path, carries_checkpoints=False).drop("demo", [MODEL])


def test_what_is_gone_while_a_folder_is_tidied_is_no_fault(tmp_path: Path) -> None:
    """Workers that start together tidy together; here a name is left whose file is gone."""
    half = tmp_path / "demo" / "0001" / "1" / ".42.model.keras"
    half.parent.mkdir(parents=True)
    half.symlink_to("gone")

    FolderArtifacts(tmp_path, carries_checkpoints=False).tidy(0.0)

    assert half.is_symlink()
