from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from service.errors import IllegalTransition, LeaseLost
from service.jobs import (
    MAX_IDLE_CLAIMS,
    Failure,
    Job,
    JobKind,
    JobState,
    Note,
    Progress,
    recorded,
)

PROGRESS = Progress(1, 200, 10, 0.5, 1.0, 0.1, 9.0)
FAILURE = Failure("kind", "message")


def job(state: JobState = JobState.QUEUED, **values: Any) -> Job:
    return Job("j", JobKind.SEARCH, {}, 0.0, state=state, **values)


def running(token: str = "t") -> Job:
    return job().claimed("w", token, 10.0, 30.0)


def test_a_job_that_goes_well() -> None:
    held = running()
    assert (held.state, held.attempts, held.started) == (JobState.RUNNING, 1, 10.0)
    renewed = held.renewed("t", 20.0, 30.0)
    assert renewed.lease is not None
    assert renewed.lease.expires == 50.0
    done = renewed.advanced("t", PROGRESS, saved=True).succeeded("t", {"knee": "x"}, 60.0)
    assert (done.state, done.finished, done.lease) == (JobState.SUCCEEDED, 60.0, None)
    assert done.state.is_final


@pytest.mark.parametrize(
    "step",
    [
        lambda j: j.renewed("other", 1.0, 1.0),
        lambda j: j.advanced("other", PROGRESS, saved=False),
        lambda j: j.released("other", 1.0),
        lambda j: j.succeeded("other", {}, 1.0),
        lambda j: j.failed("other", FAILURE, 1.0),
        lambda j: j.cancelled("other", {}, 1.0),
    ],
)
def test_only_the_holder_of_the_lease_may_act(step: Any) -> None:
    for held in (running(), job(), running().succeeded("t", {}, 1.0)):
        with pytest.raises(LeaseLost):
            step(held)


def test_a_lease_that_has_not_expired_is_respected() -> None:
    held = running()
    assert not held.claimable(39.9)
    assert held.claimable(40.0)
    with pytest.raises(LeaseLost):
        held.claimed("v", "u", 39.9, 30.0)
    assert held.claimed("v", "u", 40.0, 30.0).attempts == 2


def test_a_job_that_kills_its_workers_is_given_up() -> None:
    held = running()
    for _ in range(MAX_IDLE_CLAIMS):
        held = held.claimed("w", "t", 1e9, 0.0)
        assert held.state is JobState.RUNNING
    given_up = held.claimed("w", "t", 1e9, 0.0)
    assert given_up.state is JobState.FAILED
    assert given_up.failure is not None
    assert given_up.failure.kind == "worker-died"
    assert given_up.resumed().claimed("w", "t", 1e9, 1.0).state is JobState.RUNNING


def test_a_job_that_is_given_up_is_not_to_be_cancelled_any_more() -> None:
    held = running().cancelling(5.0)
    for _ in range(MAX_IDLE_CLAIMS + 1):
        held = held.claimed("w", "t", 1e9, 0.0)
    assert (held.state, held.cancel_requested) == (JobState.FAILED, False)


def test_a_job_that_advances_may_lose_any_number_of_workers() -> None:
    held = running()
    for _ in range(3 * MAX_IDLE_CLAIMS):
        held = held.claimed("w", "t", 1e9, 0.0).advanced("t", PROGRESS, saved=True)
    assert held.state is JobState.RUNNING


def test_progress_that_was_not_saved_does_not_count_as_advance() -> None:
    held = running().claimed("w", "t", 1e9, 0.0)
    assert held.advanced("t", PROGRESS, saved=False).idle_claims == 1


def test_cancelling() -> None:
    assert job().cancelling(5.0).state is JobState.CANCELLED
    asked = running().cancelling(5.0)
    assert (asked.state, asked.cancel_requested) == (JobState.RUNNING, True)
    cancelled = asked.cancelled("t", {}, 6.0)
    assert (cancelled.state, cancelled.cancel_requested) == (JobState.CANCELLED, False)
    assert cancelled.cancelling(7.0) == cancelled
    for state in (JobState.SUCCEEDED, JobState.FAILED):
        with pytest.raises(IllegalTransition):
            job(state).cancelling(1.0)


def test_resuming() -> None:
    for ended in (running().failed("t", FAILURE, 9.0), running().cancelled("t", {"a": 1}, 9.0)):
        again = ended.resumed()
        assert (again.state, again.failure, again.finished, again.result) == (
            JobState.QUEUED,
            None,
            None,
            {},
        )
    for state in (JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED):
        with pytest.raises(IllegalTransition):
            job(state).resumed()


def test_a_released_job_waits_again_and_is_not_blamed() -> None:
    waiting = running().released("t", 11.0)
    assert (waiting.state, waiting.lease, waiting.idle_claims) == (JobState.QUEUED, None, 0)
    assert waiting.claimed("v", "u", 11.0, 1.0).idle_claims == 0


def test_a_job_that_nobody_wants_does_not_wait_again() -> None:
    assert running().cancelling(5.0).released("t", 11.0).state is JobState.CANCELLED


def test_events_of_a_change() -> None:
    first, events = recorded(None, job(), (), 1.0)
    assert [(e.number, e.kind) for e in events] == [(1, "queued")]
    second, events = recorded(first, first.claimed("w", "t", 2.0, 9.0), [Note("progress", {})], 2.0)
    assert [(e.number, e.kind) for e in events] == [(2, "progress"), (3, "running")]
    third, events = recorded(second, second.renewed("t", 3.0, 9.0), (), 3.0)
    assert events == ()
    fourth, events = recorded(third, third.claimed("v", "u", 99.0, 9.0), (), 99.0)
    assert [(e.number, e.kind, e.data["attempt"]) for e in events] == [(4, "running", 2)]
    _, events = recorded(fourth, fourth.failed("u", FAILURE, 100.0), (), 100.0)
    assert events[0].data["message"] == "message"


@given(st.integers(0, 3), st.integers(0, 5))
def test_event_numbers_have_no_gap(notes: int, before: int) -> None:
    start = replace(job(), events=before)
    after, events = recorded(start, start, [Note("n", {})] * notes, 1.0)
    assert [e.number for e in events] == list(range(before + 1, before + 1 + notes))
    assert after.events == before + notes


class Life(RuleBasedStateMachine):
    """Whatever workers and users do, in any order, a job stays sound."""

    def __init__(self) -> None:
        super().__init__()
        self.job = job()
        self.now = 0.0
        self.tokens: list[str] = []

    @rule(seconds=st.floats(0.0, 50.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def claim(self) -> None:
        token = f"t{len(self.tokens)}"
        could = self.job.claimable(self.now)
        try:
            self.job = self.job.claimed("w", token, self.now, 30.0)
        except LeaseLost:
            assert not could
        else:
            assert could
            self.tokens.append(token)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), what=st.sampled_from(["renew", "advance", "release", "succeed", "fail", "cancel"]))
    def act(self, data: st.DataObject, what: str) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        steps = {
            "renew": lambda j: j.renewed(token, self.now, 30.0),
            "advance": lambda j: j.advanced(token, PROGRESS, saved=True),
            "release": lambda j: j.released(token, self.now),
            "succeed": lambda j: j.succeeded(token, {}, self.now),
            "fail": lambda j: j.failed(token, FAILURE, self.now),
            "cancel": lambda j: j.cancelled(token, {}, self.now),
        }
        holds = self.job.lease is not None and self.job.lease.token == token
        try:
            self.job = steps[what](self.job)
        except LeaseLost:
            assert not holds
        else:
            assert holds

    @rule()
    def ask_to_cancel(self) -> None:
        ended = self.job.state in (JobState.SUCCEEDED, JobState.FAILED)
        try:
            self.job = self.job.cancelling(self.now)
        except IllegalTransition:
            assert ended
        else:
            assert not ended

    @rule()
    def resume(self) -> None:
        could = self.job.state in (JobState.FAILED, JobState.CANCELLED)
        try:
            self.job = self.job.resumed()
        except IllegalTransition:
            assert not could
        else:
            assert could

    @invariant()
    def is_sound(self) -> None:
        state = self.job.state
        assert (self.job.lease is not None) == (state is JobState.RUNNING)
        assert (self.job.finished is not None) == state.is_final
        assert (self.job.failure is not None) == (state is JobState.FAILED)
        assert not (self.job.cancel_requested and state is not JobState.RUNNING)


TestLife = Life.TestCase
