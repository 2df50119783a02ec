"""A job as a value: its states, the legal steps between them, its lease, its progress, its events.

Every step is a pure function from a job to the next one; a store applies it inside one transaction, so that two
workers can never hold one job. Times are seconds since 1970 (UTC).

    queued ──► running ──► succeeded | failed | cancelled
      ▲  │        │                       │        │
      │  └────────┼───────────────────────┼───► cancelled (before a worker took it)
      └───────────┘ worker died or left   │        │
      └───────────────────────────────────┴────────┘ resumed
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeAlias

from service.errors import IllegalTransition, LeaseLost, QueueFull

MAX_IDLE_CLAIMS = 5
"""A job whose worker died so often in a row without saving anything is given up."""


class JobKind(StrEnum):
    """What a job does."""

    SEARCH = "search"
    EXPORT = "export"
    DEVICE = "device"
    PACK = "pack"
    MEASUREMENT = "measurement"


class JobState(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens unless somebody resumes the job."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


_LEGAL: Mapping[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset(
        {JobState.RUNNING, JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
}


@dataclass(frozen=True)
class Lease:
    """The right of one worker to run a job until `expires`; `token` is new with every claim."""

    worker: str
    token: str
    expires: float


@dataclass(frozen=True)
class Progress:
    """How far a search is. `fraction` is 0 to 1, `remaining_seconds` an estimate, None where there is none."""

    generation: int
    evaluations: int
    subnets: int
    hypervolume: float
    seconds: float
    fraction: float
    remaining_seconds: float | None


@dataclass(frozen=True)
class Failure:
    """Why a job failed, in the terms of `supernet.errors`."""

    kind: str
    message: str
    field: str | None = None
    value: Any = None
    remedy: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened to a job; `number` counts from 1 within the job without a gap."""

    job_id: str
    number: int
    time: float
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Note:
    """An event before it has a number."""

    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class IdempotencyKey:
    """A client's name for a request, and the digest of what it asked for."""

    key: str
    digest: str


@dataclass(frozen=True)
class Job:
    """One search, export or the like. `request` and `result` are plain JSON data."""

    id: str
    kind: JobKind
    request: Mapping[str, Any]
    created: float
    state: JobState = JobState.QUEUED
    started: float | None = None
    finished: float | None = None
    attempts: int = 0
    idle_claims: int = 0
    cancel_requested: bool = False
    lease: Lease | None = None
    progress: Progress | None = None
    failure: Failure | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    events: int = 0

    def claimable(self, now: float) -> bool:
        """Whether a worker may take the job: it waits, or its worker stopped renewing."""
        if self.state is JobState.RUNNING:
            return self.lease is None or self.lease.expires <= now
        return self.state is JobState.QUEUED

    def claimed(self, worker: str, token: str, now: float, seconds: float) -> Job:
        """Taken by a worker for `seconds`; failed where too many workers died of it."""
        if not self.claimable(now):
            raise LeaseLost(f"Job {self.id} is held by another worker.", field="id", value=self.id)
        idle = self.idle_claims + (self.state is JobState.RUNNING)
        if idle > MAX_IDLE_CLAIMS:
            failure = Failure(
                "worker-died",
                f"The worker died {idle} times in a row while it ran this job.",
                remedy="See the log of the service; resume the job when the cause is mended.",
            )
            return self._moved(
                JobState.FAILED,
                lease=None,
                failure=failure,
                finished=now,
                idle_claims=0,
                cancel_requested=False,
            )
        return self._moved(
            JobState.RUNNING,
            lease=Lease(worker, token, now + seconds),
            attempts=self.attempts + 1,
            idle_claims=idle,
            started=now if self.started is None else self.started,
        )

    def renewed(self, token: str, now: float, seconds: float) -> Job:
        """Held for `seconds` more."""
        lease = self._held(token)
        return replace(self, lease=replace(lease, expires=now + seconds))

    def advanced(self, token: str, progress: Progress, *, saved: bool) -> Job:
        """With new progress; `saved` says that a generation to continue from was stored with it."""
        self._held(token)
        return replace(self, progress=progress, idle_claims=0 if saved else self.idle_claims)

    def released(self, token: str, now: float) -> Job:
        """Handed back by a worker that leaves; the next one continues, unless somebody wants no more of it."""
        self._held(token)
        if self.cancel_requested:
            return self._ended(JobState.CANCELLED, now)
        return self._moved(JobState.QUEUED, lease=None)

    def succeeded(self, token: str, result: Mapping[str, Any], now: float) -> Job:
        """Done."""
        self._held(token)
        return self._ended(JobState.SUCCEEDED, now, result=result)

    def failed(self, token: str, failure: Failure, now: float) -> Job:
        """Given up, keeping what was found."""
        self._held(token)
        return self._ended(JobState.FAILED, now, failure=failure)

    def cancelled(self, token: str, result: Mapping[str, Any], now: float) -> Job:
        """Stopped by its worker because somebody asked for it."""
        self._held(token)
        return self._ended(JobState.CANCELLED, now, result=result)

    def cancelling(self, now: float) -> Job:
        """Cancelled at once where it waits; marked for its worker where it runs; unchanged where cancelled."""
        if self.state is JobState.QUEUED:
            return self._ended(JobState.CANCELLED, now)
        if self.state is JobState.RUNNING:
            return replace(self, cancel_requested=True)
        if self.state is JobState.CANCELLED:
            return self
        raise IllegalTransition(
            f"Job {self.id} is {self.state}; it cannot be cancelled any more.",
            field="state",
            value=self.state,
        )

    def resumed(self) -> Job:
        """Waiting again, to continue from the last saved generation."""
        if self.state not in (JobState.FAILED, JobState.CANCELLED):
            raise IllegalTransition(
                f"Job {self.id} is {self.state}; only a failed or cancelled one can be resumed.",
                field="state",
                value=self.state,
                remedy="To search on from a finished front, fork the search.",
            )
        return self._moved(
            JobState.QUEUED, finished=None, failure=None, cancel_requested=False, idle_claims=0, result={}
        )

    def _held(self, token: str) -> Lease:
        if self.state is not JobState.RUNNING or self.lease is None or self.lease.token != token:
            raise LeaseLost(f"Job {self.id} is no longer held.", field="id", value=self.id)
        return self.lease

    def _ended(self, state: JobState, now: float, **changes: Any) -> Job:
        return self._moved(state, lease=None, finished=now, cancel_requested=False, **changes)

    def _moved(self, state: JobState, **changes: Any) -> Job:
        if state not in _LEGAL[self.state]:
            raise IllegalTransition(
                f"Job {self.id} cannot go from {self.state} to {state}.", field="state", value=self.state
            )
        return replace(self, state=state, **changes)


Change: TypeAlias = Callable[[Job], Job]


def check_room(kind: JobKind, waiting: int, room: int | None) -> None:
    """Raise QueueFull where there is no room for another job that waits."""
    if room is not None and waiting >= room:
        raise QueueFull(
            f"{waiting} jobs of this kind are waiting already.",
            field="kind",
            value=kind.value,
            remedy="Try again later, or cancel some.",
        )


def recorded(
    before: Job | None, after: Job, notes: Sequence[Note], now: float
) -> tuple[Job, tuple[Event, ...]]:
    """The job with its events counted, and the new events: the notes, then the change of state if any."""
    found = list(notes)
    if before is None or before.state is not after.state or before.attempts != after.attempts:
        found.append(Note(after.state.value, _state_data(after)))
    events = tuple(
        Event(after.id, after.events + place, now, note.kind, note.data)
        for place, note in enumerate(found, start=1)
    )
    return replace(after, events=after.events + len(events)), events


def _state_data(job: Job) -> dict[str, Any]:
    data: dict[str, Any] = {"state": job.state.value, "attempt": job.attempts}
    if job.failure is not None:
        data["message"] = job.failure.message
    return data
