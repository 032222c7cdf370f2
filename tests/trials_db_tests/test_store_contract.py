"""What every trial store must hold to, whatever it is made of. A new kind joins in conftest.HARNESSES."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest

from search_space.candidate import Candidate
from search_space.objective import EpochReport, Outcome
from search_space.study import LONGEST_LEASE_S
from trials_db.errors import LeaseLostError, StudyConflictError, StudyNotFoundError
from trials_db.opening import open_store
from trials_db.records import Claim, NewTrial, StudyRecord, Trial, TrialState, WorkerRecord
from trials_db.store import TrialStore

DONE = Outcome(state="done", loss=0.25, jaccard={"water": 0.75}, thresholds={"water": 0.5}, figures={"train_s": 3.5})
FAILED = Outcome(state="failed", reason="ValueError: no (here.py:3)")
INFEASIBLE = Outcome(state="infeasible", reason="patch too small")
LEASE_S = 60.0

Maker = Callable[[int], NewTrial]


def _claim(store: TrialStore, worker: str = "w") -> Claim:
    claim = store.claim("demo", worker, LEASE_S)
    assert claim is not None
    return claim


def _changed(study: StudyRecord, **changes: Any) -> StudyRecord:
    return study.model_copy(update=changes)


class TestStudies:
    def test_what_went_in_comes_out_of_another_handle(self, harness, store, study) -> None:
        assert harness.open().load_study("demo") == study

    def test_creating_an_equal_study_again_changes_nothing(self, store, study) -> None:
        store.create_study(study)
        assert store.list_studies() == ["demo"]

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"seed": 8}, "seed (stored 7, given 8)"),
            ({"space_fingerprint": "space-2"}, "space_fingerprint (stored 'space-1', given 'space-2')"),
            ({"data_fingerprint": "data-2"}, "data_fingerprint"),
            ({"settings": {"limits": {"max_trials": 10}}}, "settings.space"),
            ({"software": {"backend": "jax"}}, "software.backend (stored 'tensorflow', given 'jax')"),
        ],
    )
    def test_a_study_that_differs_is_refused_and_the_difference_named(self, store, study, changes, named) -> None:
        with pytest.raises(StudyConflictError) as caught:
            store.create_study(_changed(study, **changes))
        assert named in str(caught.value)
        assert store.load_study("demo") == study

    def test_a_study_begun_when_nobody_asked_for_its_software_goes_on(self, store, study) -> None:
        old = _changed(study, name="old", software={})
        store.create_study(old)
        store.create_study(_changed(old, software={"backend": "jax"}))
        assert store.load_study("old") == old

    def test_only_what_may_change_changes(self, store, study) -> None:
        raised = _changed(study, settings={**study.settings, "limits": {"max_trials": 20}})
        with pytest.raises(StudyConflictError, match="stored 10, given 20"):
            store.update_study_settings(raised, ["search"])
        assert store.update_study_settings(raised, ["limits.max_trials"]) == raised
        assert store.load_study("demo") == raised

    def test_what_is_no_setting_changes_only_where_it_is_named(self, store, study) -> None:
        other = _changed(study, data_fingerprint="data-2", seed=8)
        with pytest.raises(StudyConflictError, match="seed"):
            store.update_study_settings(other, ["data_fingerprint", "limits"])
        assert store.update_study_settings(other, ["data_fingerprint", "seed"]) == other
        assert store.load_study("demo") == other

    def test_open_study_creates_and_goes_on(self, store, study) -> None:
        other = _changed(study, name="other")
        assert store.open_study(other) == other
        assert store.open_study(other) == other
        raised = _changed(other, settings={**study.settings, "limits": {"max_trials": 20}})
        assert store.open_study(raised, ["limits"]) == raised
        assert set(store.list_studies()) == {"demo", "other"}

    def test_a_missing_study_is_told_with_those_there_are(self, store, study, new_trial) -> None:
        with pytest.raises(StudyNotFoundError, match=r"'nemo'.*It holds: demo"):
            store.load_study("nemo")
        with pytest.raises(StudyNotFoundError):
            store.add_trial("nemo", new_trial(0))
        with pytest.raises(StudyNotFoundError):
            store.update_study_settings(_changed(study, name="nemo"), [])
        for read in (store.trials, store.changed_since, store.counts):
            with pytest.raises(StudyNotFoundError, match="It holds: demo"):
                read("nemo")

    def test_studies_do_not_mix(self, store, study, new_trial) -> None:
        store.create_study(_changed(study, name="other"))
        store.add_trial("other", new_trial(0))
        assert store.trials("demo") == []
        assert store.claim("demo", "w", LEASE_S) is None
        assert store.claim("other", "w", LEASE_S) is not None


def test_a_probe_leaves_nothing_behind(store, study) -> None:
    before = store.changed_since("demo")
    store.probe()
    store.probe()
    assert (store.list_studies(), store.changed_since("demo")) == (["demo"], before)


class TestTrials:
    def test_a_new_trial_comes_back_as_it_went_in(self, harness, store, new_trial) -> None:
        assert store.add_trial("demo", new_trial(0))
        (trial,) = harness.open().trials("demo")
        assert (trial.number, trial.state, trial.seed, trial.attempts) == (0, TrialState.NEW, 100, 0)
        assert trial.point == {"architecture.depth": 3.0, "plan.optimizer": 1}
        assert trial.decoded() == Candidate()
        assert trial.created_s == harness.clock()

    def test_a_task_goes_with_its_trial(self, harness, store, new_trial) -> None:
        """Also to another store, and where there is none, as in a search."""
        task = {"class_name": "water", "fold": 2, "num_folds": 5, "prediction": None, "start": ""}
        store.add_trial("demo", new_trial(0).model_copy(update={"task": task}))
        store.add_trial("demo", new_trial(1))
        assert [trial.task for trial in harness.open().trials("demo")] == [task, None]
        assert [_claim(store).task for _ in range(2)] == [task, None]
        store.create_study(store.load_study("demo").model_copy(update={"name": "moved@retrain"}))
        for trial in store.trials("demo"):
            store.restore_trial("moved@retrain", trial)
        assert [trial.task for trial in store.trials("moved@retrain")] == [task, None]

    def test_a_number_is_added_once(self, store, new_trial) -> None:
        assert store.add_trial("demo", new_trial(0))
        before = store.trials("demo")
        assert not store.add_trial("demo", new_trial(0).model_copy(update={"seed": 5}))
        assert store.trials("demo") == before

    def test_records_are_passed_by_value(self, store, new_trial) -> None:
        given = new_trial(0)
        store.add_trial("demo", given)
        given.point["architecture.depth"] = 99
        store.trials("demo")[0].candidate.clear()
        (trial,) = store.trials("demo")
        assert trial.point["architecture.depth"] == 3.0
        assert trial.decoded() == Candidate()

    @pytest.mark.parametrize("outcome", [DONE, FAILED, INFEASIBLE], ids=lambda outcome: outcome.state)
    def test_a_whole_life(self, harness, store, new_trial, outcome) -> None:
        store.add_trial("demo", new_trial(0))
        claim = _claim(store, "worker-1")
        harness.clock.now_s += 5
        second = EpochReport(epoch=2, training_loss=0.3, jaccard={"water": 0.7}, seconds=1.5)
        store.report(claim, EpochReport(epoch=1, training_loss=0.5))
        store.report(claim, second)
        store.finish(claim, outcome)
        (trial,) = store.trials("demo")
        assert (trial.state, trial.outcome, trial.worker, trial.attempts) == (outcome.state, outcome, "worker-1", 1)
        assert trial.state.is_final
        assert [report.epoch for report in trial.reports] == [1, 2]
        assert trial.reports[1] == second
        assert trial.finished_s == trial.started_s + 5
        assert trial.loss == outcome.loss

    def test_the_oldest_number_is_claimed_first(self, store, new_trial) -> None:
        for number in (2, 0, 1):
            store.add_trial("demo", new_trial(number))
        assert [_claim(store).number for _ in range(3)] == [0, 1, 2]
        assert store.claim("demo", "w", LEASE_S) is None

    def test_a_higher_priority_is_claimed_before_a_lower_number(self, store, new_trial) -> None:
        for number, priority in enumerate((0, -1, 2, 0, 2)):
            store.add_trial("demo", new_trial(number).model_copy(update={"priority": priority}))
        assert [trial.priority for trial in store.trials("demo")] == [0, -1, 2, 0, 2]
        assert [_claim(store).number for _ in range(5)] == [2, 4, 0, 3, 1]

    def test_a_report_takes_the_place_of_what_was_told_of_its_epoch_and_later_ones(self, store, new_trial) -> None:
        store.add_trial("demo", new_trial(0))
        claim = _claim(store)
        for epoch in (1, 2, 3, 10, 11):
            store.report(claim, EpochReport(epoch=epoch, training_loss=0.5, jaccard={"water": epoch / 100}))
        store.report(claim, EpochReport(epoch=3, training_loss=0.4, jaccard={"water": 0.01}))
        told = [(report.epoch, report.training_loss) for report in store.trials("demo")[0].reports]
        assert told == [(1, 0.5), (2, 0.5), (3, 0.4)]
        assert store.scores("demo", 3) == {0: 0.02}
        assert store.scores("demo", 10) == {}

    def test_of_many_scores_the_newest_are_told(self, store, new_trial, monkeypatch) -> None:
        monkeypatch.setattr("trials_db.store.MOST_SCORES", 3)
        for number in range(6):
            store.add_trial("demo", new_trial(number))
            claim = _claim(store)
            for epoch in range(1, 3 if number % 2 else 2):
                score = {"water": (10 * number + epoch) / 100}
                store.report(claim, EpochReport(epoch=epoch, training_loss=0.5, jaccard=score))
        assert store.scores("demo", 1) == pytest.approx({3: 0.31, 4: 0.41, 5: 0.51})
        assert store.scores("demo", 2) == pytest.approx({1: 0.12, 3: 0.32, 5: 0.52})

    def test_scores_are_the_best_up_to_an_epoch_of_all_that_reported_it(self, store, new_trial) -> None:
        told = {0: {1: 0.3, 2: 0.2, 3: 0.4}, 1: {1: 0.1, 2: 0.5}, 2: {1: 0.9}, 3: {1: None, 2: None}, 4: {}}
        for number, epochs in told.items():
            store.add_trial("demo", new_trial(number))
            claim = _claim(store)
            for epoch, score in epochs.items():
                jaccard = {} if score is None else {"water": score - 0.1, "road": score + 0.1}
                store.report(claim, EpochReport(epoch=epoch, training_loss=0.5, jaccard=jaccard))
            if number == 1:
                store.finish(claim, Outcome(state="pruned", reason="others did better"))
        for epoch, expected in {1: {0: 0.3, 1: 0.1, 2: 0.9}, 2: {0: 0.3, 1: 0.5}, 3: {0: 0.4}, 4: {}}.items():
            assert store.scores("demo", epoch) == pytest.approx(expected)
        assert store.scores("nemo", 1) == {}

    def test_the_best_come_first_and_of_equals_the_older(self, store, study, new_trial) -> None:
        losses = [0.5, None, 0.2, 0.5, 0.1, 0.2, None]
        claims = []
        for number in range(len(losses) + 1):
            store.add_trial("demo", new_trial(number))
            claims.append(_claim(store))
        # The last one goes on.
        for claim, loss in reversed(list(zip(claims, losses, strict=False))):
            ended = Outcome(state="pruned", reason="no") if loss is None else Outcome(state="done", loss=loss)
            store.finish(claim, ended)
        expected = [(4, 0.1), (2, 0.2), (5, 0.2), (0, 0.5), (3, 0.5)]
        assert store.best("demo", 99) == expected
        assert store.best("demo", 2) == expected[:2]
        assert store.best("demo", 0) == []
        assert store.best("nemo", 2) == []
        store.restore_study(_changed(study, name="other"), store.trials("demo"))
        assert store.best("other", 99) == expected

    def test_counts_hold_every_state(self, store, new_trial) -> None:
        for number in range(3):
            store.add_trial("demo", new_trial(number))
        store.finish(_claim(store), DONE)
        _claim(store)
        expected = dict.fromkeys(TrialState, 0) | {"done": 1, "running": 1, "new": 1}
        assert store.counts("demo") == expected

    def test_every_change_is_told_after_the_cursor_and_none_before(self, store, new_trial) -> None:
        store.add_trial("demo", new_trial(0))
        store.add_trial("demo", new_trial(1))
        trials, cursor = store.changed_since("demo")
        assert [trial.number for trial in trials] == [0, 1]
        assert store.changed_since("demo", cursor) == ([], cursor)
        claim = _claim(store)
        changes: list[Callable[[], object]] = [
            lambda: store.report(claim, EpochReport(epoch=1, training_loss=0.5)),
            lambda: store.finish(claim, DONE),
            lambda: store.release(_claim(store)),
            lambda: store.add_trial("demo", new_trial(2)),
        ]
        cursor = store.changed_since("demo", cursor)[1]
        for change, number in zip(changes, (0, 0, 1, 2), strict=True):
            change()
            told, cursor = store.changed_since("demo", cursor)
            assert [trial.number for trial in told] == [number]
        assert store.changed_since("demo", cursor)[0] == []


def test_of_trials_that_are_named_no_other_is_claimed(store, new_trial) -> None:
    for number in range(4):
        store.add_trial("demo", new_trial(number))
    assert store.claim("demo", "w", LEASE_S, only=[]) is None
    assert [store.claim("demo", "w", LEASE_S, only={1, 3, 9}).number for _ in range(2)] == [1, 3]
    assert store.claim("demo", "w", LEASE_S, only={1, 3, 9}) is None
    assert _claim(store).number == 0


class TestLeases:
    @pytest.fixture
    def claim(self, store: TrialStore, new_trial: Maker) -> Claim:
        store.add_trial("demo", new_trial(0))
        return _claim(store)

    def test_a_silent_worker_loses_its_trial(self, harness, store, claim) -> None:
        harness.clock.now_s += LEASE_S - 1
        assert store.requeue_expired("demo") == []
        harness.clock.now_s += 2
        assert store.requeue_expired("demo") == [0]
        (trial,) = store.trials("demo")
        assert (trial.state, trial.lost_workers) == (TrialState.NEW, 1)

    def test_renewing_keeps_it(self, harness, store, claim) -> None:
        for _ in range(5):
            harness.clock.now_s += LEASE_S - 1
            store.renew(claim)
        assert store.requeue_expired("demo") == []

    def test_a_lease_that_ran_out_but_was_not_taken_is_renewed(self, harness, store, claim) -> None:
        harness.clock.now_s += 10 * LEASE_S
        store.renew(claim)
        assert store.requeue_expired("demo") == []

    def test_no_lease_is_longer_than_the_longest(self, harness, store, new_trial) -> None:
        store.add_trial("demo", new_trial(0))
        claim = store.claim("demo", "w", 1e12)
        assert claim is not None
        harness.clock.now_s += LONGEST_LEASE_S - 1
        assert store.requeue_expired("demo") == []
        store.renew(claim)
        harness.clock.now_s += LONGEST_LEASE_S - 1
        assert store.requeue_expired("demo") == []
        harness.clock.now_s += 2
        assert store.requeue_expired("demo") == [0]

    def test_a_lease_from_a_clock_that_was_far_ahead_has_run_out(self, harness, store, claim) -> None:
        harness.clock.now_s -= 3 * LONGEST_LEASE_S
        assert store.requeue_expired("demo") == [0]

    def test_a_lease_from_a_server_that_was_a_little_ahead_holds(self, harness, store, new_trial) -> None:
        store.add_trial("demo", new_trial(0))
        assert store.claim("demo", "w", LONGEST_LEASE_S)
        harness.clock.now_s -= LEASE_S
        assert store.requeue_expired("demo") == []

    def test_who_renewed_long_after_the_moment_in_question_loses_nothing(self, harness, store, claim) -> None:
        """As after a sleep of days between the looking at the clock and the taking."""
        before_s = store.now()
        harness.clock.now_s += 3 * LONGEST_LEASE_S
        store.renew(claim)
        assert store.requeue_expired("demo", before_s) == []

    @pytest.mark.parametrize("claimed_again", [False, True])
    @pytest.mark.parametrize(
        "write",
        [
            lambda store, claim: store.renew(claim),
            lambda store, claim: store.report(claim, EpochReport(epoch=9, training_loss=9.0)),
            lambda store, claim: store.finish(claim, DONE),
            lambda store, claim: store.release(claim),
        ],
        ids=["renew", "report", "finish", "release"],
    )
    def test_who_lost_the_lease_changes_nothing(self, harness, store, claim, write, claimed_again) -> None:
        harness.clock.now_s += LEASE_S + 1
        store.requeue_expired("demo")
        if claimed_again:
            _claim(store, "second")
        before = store.trials("demo")
        with pytest.raises(LeaseLostError, match="Trial 0 of 'demo'"):
            write(store, claim)
        assert store.trials("demo") == before

    def test_the_second_worker_finishes_what_the_first_lost(self, harness, store, claim) -> None:
        store.report(claim, EpochReport(epoch=1, training_loss=0.5))
        harness.clock.now_s += LEASE_S + 1
        store.requeue_expired("demo")
        assert [report.epoch for report in store.trials("demo")[0].reports] == [1]
        second = _claim(store, "second")
        assert (second.number, second.attempt, second.seed) == (0, 2, claim.seed)
        assert second.token != claim.token
        store.finish(second, DONE)
        with pytest.raises(LeaseLostError):
            store.finish(claim, FAILED)
        assert store.trials("demo")[0].outcome == DONE

    def test_finishing_twice_is_harmless_but_nothing_else_follows(self, store, claim) -> None:
        store.finish(claim, DONE)
        store.finish(claim, FAILED)
        assert store.trials("demo")[0].outcome == DONE
        for write in (store.renew, store.release):
            with pytest.raises(LeaseLostError):
                write(claim)

    def test_three_lives(self, harness, store, claim) -> None:
        for _ in range(2):
            harness.clock.now_s += LEASE_S + 1
            assert store.requeue_expired("demo") == [0]
            _claim(store)
        harness.clock.now_s += LEASE_S + 1
        cursor = store.changed_since("demo")[1]
        assert store.requeue_expired("demo") == [0]
        ((trial,), _) = store.changed_since("demo", cursor)
        assert (trial.state, trial.lost_workers, trial.attempts) == (TrialState.FAILED, 3, 3)
        assert trial.outcome == Outcome(state="failed", reason="lost 3 workers")
        assert trial.finished_s == harness.clock()
        assert store.requeue_expired("demo") == []
        assert store.claim("demo", "w", LEASE_S) is None

    def test_handing_back_burns_no_life(self, store, claim) -> None:
        store.report(claim, EpochReport(epoch=1, training_loss=0.5))
        held = claim
        for _ in range(5):
            store.release(held)
            (trial,) = store.trials("demo")
            assert (trial.state, trial.lost_workers, len(trial.reports)) == (TrialState.NEW, 0, 1)
            held = _claim(store)
        store.finish(held, DONE)


class TestWithdrawing:
    def test_a_trial_that_waits_ends_with_the_reason(self, store, new_trial) -> None:
        store.add_trial("demo", new_trial(0))
        store.add_trial("demo", new_trial(1))
        _, cursor = store.changed_since("demo")
        assert store.withdraw("demo", 0, "nobody wants it")
        (trial,), _ = store.changed_since("demo", cursor)
        assert (trial.state, trial.outcome.reason) == (TrialState.FAILED, "nobody wants it")
        assert trial.finished_s is not None
        assert (_claim(store).number, store.claim("demo", "w", LEASE_S)) == (1, None)

    def test_the_worker_of_one_that_runs_has_lost_it(self, harness, store, new_trial) -> None:
        store.add_trial("demo", new_trial(0))
        claim = _claim(store)
        assert store.withdraw("demo", 0, "nobody wants it")
        for write in (
            store.renew,
            store.release,
            lambda lost: store.report(lost, EpochReport(epoch=1, training_loss=0.5)),
            lambda lost: store.finish(lost, DONE),
        ):
            with pytest.raises(LeaseLostError, match="withdrawn"):
                write(claim)
        harness.clock.now_s += 2 * LEASE_S
        assert store.requeue_expired("demo") == []
        assert store.counts("demo")[TrialState.FAILED] == 1

    def test_what_has_ended_stays_as_it_ended(self, store, new_trial) -> None:
        store.add_trial("demo", new_trial(0))
        store.finish(_claim(store), DONE)
        assert not store.withdraw("demo", 0, "nobody wants it")
        assert not store.withdraw("demo", 1, "nobody wants it")
        (trial,) = store.trials("demo")
        assert trial.outcome == DONE


class TestRestoring:
    """A study that moves from one store to another."""

    @pytest.fixture
    def trials(self, harness, store, new_trial) -> list[Trial]:
        for number in range(6):
            store.add_trial("demo", new_trial(number).model_copy(update={"priority": number % 2}))
        for outcome in (DONE, FAILED, INFEASIBLE, Outcome(state="pruned", reason="others did better")):
            harness.clock.now_s += 3
            claim = _claim(store)
            for epoch in (1, 2):
                store.report(claim, EpochReport(epoch=epoch, training_loss=0.5, jaccard={"water": 0.1 * epoch}))
            harness.clock.now_s += 4
            store.finish(claim, outcome)
        store.report(_claim(store), EpochReport(epoch=1, training_loss=0.5, jaccard={"water": 0.3}))
        return store.trials("demo")

    def test_everything_comes_back_but_that_a_trial_runs(self, harness, store, study, trials) -> None:
        other = _changed(study, name="other")
        harness.clock.now_s += 1000
        assert store.restore_study(other, trials) == 6
        found = store.trials("other")
        assert [trial.state for trial in trials].count(TrialState.RUNNING) == 1
        assert found == [trial.as_new() for trial in trials]
        assert store.scores("other", 1) == store.scores("demo", 1) != {}
        assert store.changed_since("other")[0] == found
        claim = store.claim("other", "w", LEASE_S)
        assert claim.attempt == 2
        store.finish(claim, DONE)

    def test_what_was_interrupted_is_repeated(self, store, study, trials) -> None:
        other = _changed(study, name="other")
        assert store.restore_study(other, trials[:3]) == 3
        assert store.restore_study(other, trials) == 3
        assert len(store.trials("other")) == 6
        with pytest.raises(StudyConflictError, match="seed"):
            store.restore_study(_changed(other, seed=8), trials)


class TestLead:
    def test_one_leads_at_a_time(self, harness, store) -> None:
        lead = store.acquire_lead("demo", "first", LEASE_S)
        assert lead is not None
        other = harness.open()
        assert other.acquire_lead("demo", "second", LEASE_S) is None
        assert other.leader("demo") == "first"
        store.release_lead(lead)
        assert store.leader("demo") is None
        assert other.acquire_lead("demo", "second", LEASE_S) is not None

    def test_a_silent_master_is_followed_and_fenced_off(self, harness, store) -> None:
        lead = store.acquire_lead("demo", "first", LEASE_S)
        harness.clock.now_s += LEASE_S - 1
        store.renew_lead(lead)
        harness.clock.now_s += LEASE_S + 1
        assert store.leader("demo") is None
        assert store.acquire_lead("demo", "second", LEASE_S) is not None
        with pytest.raises(LeaseLostError, match="Another master leads"):
            store.renew_lead(lead)
        store.release_lead(lead)
        assert store.leader("demo") == "second"

    def test_a_lead_ends_whatever_was_asked_for_and_whatever_the_clock_was(self, harness, store) -> None:
        assert store.acquire_lead("demo", "first", 1e12) is not None
        harness.clock.now_s += LONGEST_LEASE_S + 1
        assert store.leader("demo") is None
        assert store.acquire_lead("demo", "second", LEASE_S) is not None
        harness.clock.now_s -= 3 * LONGEST_LEASE_S
        assert store.leader("demo") is None
        assert store.acquire_lead("demo", "third", LEASE_S) is not None
        assert store.leader("demo") == "third"


class TestWorkers:
    def test_a_worker_is_seen_until_it_leaves(self, harness, store) -> None:
        record = WorkerRecord(name="b", host="here", pid=12, study="demo")
        store.heartbeat(record)
        store.heartbeat(record.model_copy(update={"name": "a", "trial": 3}))
        harness.clock.now_s += 7
        store.heartbeat(record)
        first, second = store.workers("demo")
        assert (first.name, first.trial, second.name, second.pid) == ("a", 3, "b", 12)
        assert second.last_seen_s == first.last_seen_s + 7 == store.now()
        store.forget_worker("demo", "a")
        assert [worker.name for worker in store.workers("demo")] == ["b"]


def claim_everything(url: str, worker: str, gate: Any, queue: Any) -> None:
    """Run by each racing process: claim and finish until nothing is new."""
    gate.wait()
    claimed = []
    with open_store(url) as store:
        while (claim := store.claim("race", worker, LEASE_S)) is not None:
            claimed.append(claim.number)
            store.finish(claim, Outcome(state="done", loss=float(claim.number)))
    queue.put(claimed)


def test_racing_processes_never_claim_the_same_trial(harness, study, new_trial) -> None:
    num_trials, num_processes = 60, 4
    store = open_store(harness.url)
    store.create_study(_changed(study, name="race"))
    for number in range(num_trials):
        store.add_trial("race", new_trial(number))
    context = multiprocessing.get_context("spawn")
    gate, queue = context.Barrier(num_processes), context.Queue()
    processes = [
        context.Process(target=claim_everything, args=(harness.url, f"w{index}", gate, queue))
        for index in range(num_processes)
    ]
    for process in processes:
        process.start()
    claimed = [number for _ in processes for number in queue.get(timeout=120)]
    for process in processes:
        process.join()
    queue.close()
    queue.join_thread()
    assert sorted(claimed) == list(range(num_trials))
    assert all(trial.attempts == 1 and trial.loss == trial.number for trial in store.trials("race"))
    store.close()
