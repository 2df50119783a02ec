"""Workers: claim a job, hold its lease, run it, store how it ended.

A thread beside the run, the keeper, renews the lease and sees when the job is to stop. Workers live in processes of
their own (`service.processes`), so that the service's requests stay quick.
"""

from __future__ import annotations

import errno
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from service.errors import LeaseLost, NotFound, Unavailable, plain
from service.jobs import Change, Failure, Job, JobKind, Note, Progress
from service.ports import Blobs, JobStore, Outcome, Runner
from supernet.errors import SalnasError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How long a lease lasts, how often a worker looks for jobs and for their cancellation; seconds."""

    lease: float = 30.0
    poll: float = 0.2
    watch: float = 0.25
    patience: float = 60.0
    """How long to try again when the store does not answer."""

    retry: float = 1.0
    endurance: float = 600.0
    """How often, and how long, to begin a run anew for want of something that comes back."""


_DISK_FULL = Failure(
    "disk-full",
    "The disk is full.",
    remedy="Make room, then resume the job.",
)


@dataclass(frozen=True)
class _Missing:
    """A run that ended for want of something that may come back."""

    failure: Failure


class Worker:
    """Runs the jobs of some kinds, one after the other."""

    def __init__(
        self,
        store: JobStore,
        runners: Mapping[JobKind, Runner],
        *,
        name: str,
        pace: Pace | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._runners = runners
        self._name = name
        self._pace = pace or Pace()
        self._clock = clock

    def run(self, leaving: threading.Event) -> None:
        """Work until `leaving` is set; a running job is handed back then."""
        while not leaving.is_set():
            try:
                busy = self.run_one(leaving)
            except Unavailable as error:
                log.warning("no job can be claimed: %s", error)
                busy = False
            if not busy:
                leaving.wait(self._pace.poll)

    def run_one(self, leaving: threading.Event) -> bool:
        """Claim a job and run it; False where there is none."""
        token = secrets.token_hex(16)
        job = self._store.claim(tuple(self._runners), self._clock(), self._claim(token))
        if job is None or job.lease is None:
            return job is not None
        log.info("job claimed", extra={"job": job.id, "attempt": job.attempts})
        session = _Session(self._store, job, leaving, self._pace, self._clock)
        with session.kept():
            ending = self._attempt(session)
        self._finish(session, ending)
        return True

    def _claim(self, token: str) -> Change:
        return lambda job: job.claimed(self._name, token, self._clock(), self._pace.lease)

    def _attempt(self, session: _Session) -> Outcome | Failure | None:
        """What came of the run; None where the job is not to be touched any more.

        Where something is missing that comes back, room on the disk or an answer of the database, the run begins
        anew from what was saved, for a while.
        """
        deadline = time.monotonic() + self._pace.endurance
        while True:
            ending = self._run(session)
            if not isinstance(ending, _Missing):
                return ending
            if time.monotonic() > deadline:
                return ending.failure
            log.warning("job waits: %s", ending.failure.message, extra={"job": session.job.id})
            if session.waited(self._pace.retry):
                return Outcome({}, complete=False, blobs={})

    def _run(self, session: _Session) -> Outcome | Failure | _Missing | None:
        try:
            return self._runners[session.job.kind].run(session)
        except (LeaseLost, NotFound):
            return None
        except Unavailable as error:
            return _Missing(_failure(error))
        except SalnasError as error:
            return _failure(error)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return _Missing(_DISK_FULL)
            return self._unexpected(session)
        except MemoryError:
            return Failure("out-of-memory", "The job needs more memory than there is.")
        except Exception:
            return self._unexpected(session)

    def _unexpected(self, session: _Session) -> Failure:
        log.exception("job failed", extra={"job": session.job.id})
        return Failure(
            "internal-error", "The job met an error of the program.", remedy="See the log of the service."
        )

    def _finish(self, session: _Session, ending: Outcome | Failure | None) -> None:
        """Store the ending; where the lease is lost, another worker will."""
        if ending is None or session.lost:
            log.warning("job left to another worker", extra={"job": session.job.id})
            return
        blobs = {} if isinstance(ending, Failure) else ending.blobs
        try:
            job = session.store_change(self._ended(session, ending), blobs=blobs)
        except (LeaseLost, NotFound, Unavailable) as error:
            log.warning("the ending of a job could not be stored: %s", error, extra={"job": session.job.id})
            return
        log.info("job %s", job.state, extra={"job": job.id})

    def _ended(self, session: _Session, ending: Outcome | Failure) -> Change:
        now, token = self._clock(), session.token
        if isinstance(ending, Failure):
            return lambda job: job.failed(token, ending, now)
        if ending.complete:
            return lambda job: job.succeeded(token, ending.result, now)
        if session.cancelled:
            return lambda job: job.cancelled(token, ending.result, now)
        return lambda job: job.released(token, now)


class _Session:
    """A `service.ports.Session`: one claim of one job."""

    def __init__(
        self,
        store: JobStore,
        job: Job,
        leaving: threading.Event,
        pace: Pace,
        clock: Callable[[], float],
    ) -> None:
        assert job.lease is not None
        self.job = job
        self.token = job.lease.token
        self.cancelled = False
        self.lost = False
        self._store = store
        self._leaving = leaving
        self._pace = pace
        self._clock = clock
        self._expires = job.lease.expires
        self._done = threading.Event()

    def blob(self, name: str) -> bytes | None:
        """See `Session.blob`."""
        return self._store.blob(self.job.id, name)

    def should_stop(self) -> bool:
        """See `Session.should_stop`."""
        return self.cancelled or self.lost or self._leaving.is_set()

    def waited(self, seconds: float) -> bool:
        """Wait for that long, or until the run is to stop; whether it is."""
        deadline = time.monotonic() + seconds
        while not self.should_stop() and time.monotonic() < deadline:
            time.sleep(min(0.1, seconds))
        return self.should_stop()

    def report(
        self,
        progress: Progress,
        *,
        notes: Sequence[Note] = (),
        blobs: Blobs | None = None,
        saved: bool = False,
    ) -> None:
        """See `Session.report`. A store that does not answer costs the report, not the search."""
        note = Note("progress", asdict(progress))
        try:
            self._store.update(
                self.job.id,
                lambda job: job.advanced(self.token, progress, saved=saved),
                notes=[*notes, note],
                blobs=blobs,
            )
        except Unavailable as error:
            log.warning("progress could not be stored: %s", error, extra={"job": self.job.id})
        except (LeaseLost, NotFound):
            self.lost = True

    def store_change(self, change: Change, *, blobs: Blobs) -> Job:
        """Apply a change, again and again while the store does not answer, at most for a while."""
        deadline = time.monotonic() + self._pace.patience
        while True:
            try:
                return self._store.update(self.job.id, change, blobs=blobs)
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(self._pace.watch)

    def kept(self) -> _Keeper:
        """Renew the lease as long as the block runs."""
        return _Keeper(self)

    def keep(self) -> None:
        """The keeper's loop."""
        while not self._done.wait(self._pace.watch) and not self.lost:
            try:
                self._look()
            except (LeaseLost, NotFound):
                self.lost = True
            except Unavailable as error:
                log.warning("the lease could not be renewed: %s", error, extra={"job": self.job.id})
                self.lost = self._clock() >= self._expires

    def _look(self) -> None:
        now, seconds = self._clock(), self._pace.lease
        if now >= self._expires - seconds * 2 / 3:
            job = self._store.update(self.job.id, lambda j: j.renewed(self.token, now, seconds))
            self._expires = now + seconds
        else:
            job = self._store.get(self.job.id)
        if job.lease is None or job.lease.token != self.token:
            raise LeaseLost(f"Job {job.id} is no longer held.")
        self.cancelled = job.cancel_requested


def _failure(error: SalnasError) -> Failure:
    return Failure(error.kind, error.message, error.field, plain(error.value), error.remedy)


class _Keeper:
    """The thread that keeps a session's lease."""

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._thread = threading.Thread(target=session.keep, name=f"keeper-{session.job.id}", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._session._done.set()
        self._thread.join()
