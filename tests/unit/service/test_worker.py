from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from service.errors import Unavailable
from service.jobs import Job, JobKind, JobState, Progress
from service.ports import Outcome, Session
from service.store.memory import MemoryStore
from service.worker import Pace, Worker
from supernet.errors import InfeasibleBudget

QUICK = Pace(lease=0.3, poll=0.01, watch=0.01, patience=0.5, retry=0.02, endurance=0.3)
PROGRESS = Progress(1, 200, 10, 0.5, 1.0, 0.1, 9.0)


class Scripted:
    """A runner that does what a function says."""

    def __init__(self, act: Callable[[Session], Outcome]) -> None:
        self.run = act


def done(session: Session) -> Outcome:
    return Outcome({"answer": 42}, True, {"front": b"f", "state": None})


def until_stopped(session: Session) -> Outcome:
    session.report(PROGRESS, blobs={"state": b"s"}, saved=True)
    while not session.should_stop():
        time.sleep(0.005)
    return Outcome({"answer": 1}, False, {"front": b"partial"})


def fail_with(error: Exception) -> Callable[[Session], Outcome]:
    def act(session: Session) -> Outcome:
        raise error

    return act


@pytest.fixture
def store() -> MemoryStore:
    found = MemoryStore()
    found.add(Job("j", JobKind.SEARCH, {}, 1.0))
    return found


def worker(store: Any, act: Callable[[Session], Outcome]) -> Worker:
    return Worker(store, {JobKind.SEARCH: Scripted(act)}, name="w", pace=QUICK)


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_job_is_run_and_its_outcome_stored(store: MemoryStore) -> None:
    leaving = threading.Event()
    assert worker(store, done).run_one(leaving)
    job = store.get("j")
    assert (job.state, job.result) == (JobState.SUCCEEDED, {"answer": 42})
    assert store.blob("j", "front") == b"f"
    assert not worker(store, done).run_one(leaving)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InfeasibleBudget("No.", field="macs", value=1.5, remedy="More."), "infeasible-budget"),
        (ZeroDivisionError("x"), "internal-error"),
        (MemoryError(), "out-of-memory"),
    ],
)
def test_a_job_that_fails_says_why(store: MemoryStore, error: Exception, kind: str) -> None:
    worker(store, fail_with(error)).run_one(threading.Event())
    failure = store.get("j").failure
    assert store.get("j").state is JobState.FAILED
    assert failure is not None
    assert failure.kind == kind
    if isinstance(error, InfeasibleBudget):
        assert (failure.field, failure.value, failure.remedy) == ("macs", 1.5, "More.")
    else:
        assert "ZeroDivision" not in failure.message, "no internals reach a client"


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("error", [Unavailable("No answer."), FULL], ids=["store", "disk"])
def test_a_job_waits_for_what_comes_back(store: MemoryStore, error: Exception) -> None:
    tries: list[int] = []

    def third_time(session: Session) -> Outcome:
        tries.append(len(tries))
        if len(tries) < 3:
            raise error
        return done(session)

    worker(store, third_time).run_one(threading.Event())
    job = store.get("j")
    assert (job.state, job.attempts, len(tries)) == (JobState.SUCCEEDED, 1, 3)


@pytest.mark.parametrize(("error", "kind"), [(Unavailable("No."), "unavailable"), (FULL, "disk-full")])
def test_a_job_does_not_wait_for_ever(store: MemoryStore, error: Exception, kind: str) -> None:
    worker(store, fail_with(error)).run_one(threading.Event())
    job = store.get("j")
    assert job.state is JobState.FAILED
    assert job.failure is not None
    assert job.failure.kind == kind


def test_a_job_that_waits_is_handed_back_and_cancelled_like_others(store: MemoryStore) -> None:
    leaving = threading.Event()
    leaving.set()
    worker(store, fail_with(FULL)).run_one(leaving)
    assert store.get("j").state is JobState.QUEUED
    thread = in_background(lambda: worker(store, fail_with(FULL)).run_one(threading.Event()))
    wait_for(lambda: store.get("j").state is JobState.RUNNING)
    store.update("j", lambda job: job.cancelling(2.0))
    thread.join(5)
    assert store.get("j").state is JobState.CANCELLED


def test_a_cancelled_job_stops_and_keeps_what_it_found(store: MemoryStore) -> None:
    thread = in_background(lambda: worker(store, until_stopped).run_one(threading.Event()))
    wait_for(lambda: store.get("j").progress is not None)
    store.update("j", lambda job: job.cancelling(2.0))
    thread.join(5)
    job = store.get("j")
    assert (job.state, job.result) == (JobState.CANCELLED, {"answer": 1})
    assert store.blob("j", "front") == b"partial"
    assert store.blob("j", "state") == b"s", "it can be resumed"


def test_a_worker_that_leaves_hands_its_job_back(store: MemoryStore) -> None:
    leaving = threading.Event()
    thread = in_background(lambda: worker(store, until_stopped).run(leaving))
    wait_for(lambda: store.get("j").progress is not None)
    leaving.set()
    thread.join(5)
    assert store.get("j").state is JobState.QUEUED
    assert store.blob("j", "state") == b"s"
    worker(store, done).run_one(threading.Event())
    assert store.get("j").state is JobState.SUCCEEDED


def test_a_long_job_keeps_its_lease(store: MemoryStore) -> None:
    thread = in_background(lambda: worker(store, until_stopped).run_one(threading.Event()))
    wait_for(lambda: store.get("j").progress is not None)
    time.sleep(2.5 * QUICK.lease)
    assert not store.get("j").claimable(time.time())
    store.update("j", lambda job: job.cancelling(2.0))
    thread.join(5)
    assert store.get("j").attempts == 1


def test_a_worker_that_lost_its_lease_changes_nothing(store: MemoryStore) -> None:
    def usurped(session: Session) -> Outcome:
        later = time.time() + 100
        store.claim((JobKind.SEARCH,), later, lambda job: job.claimed("other", "u", later, 100.0))
        while not session.should_stop():
            time.sleep(0.005)
        session.report(PROGRESS, blobs={"front": b"wrong"})
        return Outcome({"answer": "wrong"}, True, {"front": b"wrong"})

    worker(store, usurped).run_one(threading.Event())
    job = store.get("j")
    assert job.state is JobState.RUNNING
    assert job.lease is not None
    assert job.lease.worker == "other"
    assert (job.result, job.progress, store.blob("j", "front")) == ({}, None, None)


class Flaky(MemoryStore):
    """A store that does not answer for a while."""

    silent = False

    def update(self, *arguments: Any, **options: Any) -> Job:
        if self.silent:
            raise Unavailable("The database does not answer.")
        return super().update(*arguments, **options)

    def get(self, job_id: str) -> Job:
        if self.silent:
            raise Unavailable("The database does not answer.")
        return super().get(job_id)


def test_a_store_that_is_silent_for_a_moment_loses_nothing() -> None:
    store = Flaky()
    store.add(Job("j", JobKind.SEARCH, {}, 1.0))

    def act(session: Session) -> Outcome:
        store.silent = True
        session.report(PROGRESS)
        threading.Timer(0.15, lambda: setattr(store, "silent", False)).start()
        return done(session)

    worker(store, act).run_one(threading.Event())
    assert store.get("j").state is JobState.SUCCEEDED


def test_a_worker_gives_up_its_job_when_the_store_is_silent_for_longer_than_the_lease() -> None:
    store = Flaky()
    store.add(Job("j", JobKind.SEARCH, {}, 1.0))

    def act(session: Session) -> Outcome:
        store.silent = True
        wait_for(session.should_stop)
        return done(session)

    worker(store, act).run_one(threading.Event())
    store.silent = False
    assert store.get("j").state is JobState.RUNNING
    worker(store, done).run_one(threading.Event())
    assert store.get("j").attempts == 2
    assert store.get("j").state is JobState.SUCCEEDED


def test_a_store_that_cannot_be_claimed_from_is_asked_again(store: MemoryStore) -> None:
    leaving = threading.Event()
    answers = iter([Unavailable("no"), Unavailable("no")])
    claim = store.claim

    def flaky(*arguments: Any, **options: Any) -> Job | None:
        for error in answers:
            raise error
        return claim(*arguments, **options)

    store.claim = flaky  # type: ignore[method-assign]
    thread = in_background(lambda: worker(store, done).run(leaving))
    wait_for(lambda: store.get("j").state is JobState.SUCCEEDED)
    leaving.set()
    thread.join(5)
