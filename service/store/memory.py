"""Jobs in memory, for tests and for a service that need not remember: the twin of the SQL store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from service.errors import AlreadyExists, IdempotencyMismatch, NotFound
from service.jobs import Change, Event, IdempotencyKey, Job, JobKind, JobState, Note, check_room, recorded
from service.keys import ApiKey
from service.ports import Blobs, Place, QueueCount


class MemoryStore:
    """A `service.ports.JobStore` and `KeyStore` that one lock guards."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._events: dict[str, list[Event]] = {}
        self._blobs: dict[tuple[str, str], bytes] = {}
        self._keys: dict[tuple[JobKind, str], tuple[str, str]] = {}
        self._api_keys: dict[str, ApiKey] = {}

    def add(
        self,
        job: Job,
        *,
        key: IdempotencyKey | None = None,
        blobs: Blobs | None = None,
        room: int | None = None,
    ) -> tuple[Job, bool]:
        """See `JobStore.add`."""
        with self._lock:
            if key is not None and (known := self.find(job.kind, key)) is not None:
                return known, False
            waiting = [
                other
                for other in self._jobs.values()
                if other.kind is job.kind and other.state is JobState.QUEUED
            ]
            check_room(job.kind, len(waiting), room)
            if job.id in self._jobs:
                raise taken(job)
            if key is not None:
                self._keys[job.kind, key.key] = (job.id, key.digest)
            return self._write(None, job, (), blobs), True

    def find(self, kind: JobKind, key: IdempotencyKey) -> Job | None:
        """See `JobStore.find`."""
        with self._lock:
            known = self._keys.get((kind, key.key))
            if known is None:
                return None
            if known[1] != key.digest:
                raise mismatch(key)
            return self._jobs[known[0]]

    def get(self, job_id: str) -> Job:
        """See `JobStore.get`."""
        with self._lock:
            if job_id not in self._jobs:
                raise unknown(job_id)
            return self._jobs[job_id]

    def page(
        self,
        *,
        kind: JobKind,
        state: JobState | None = None,
        after: Place | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """See `JobStore.page`."""
        with self._lock:
            found = [job for job in self._jobs.values() if job.kind is kind and state in (None, job.state)]
        found.sort(key=lambda job: (job.created, job.id), reverse=True)
        if after is not None:
            found = [job for job in found if (job.created, job.id) < (after.created, after.id)]
        return found[:limit]

    def update(
        self, job_id: str, change: Change, *, notes: Sequence[Note] = (), blobs: Blobs | None = None
    ) -> Job:
        """See `JobStore.update`."""
        with self._lock:
            before = self.get(job_id)
            return self._write(before, change(before), notes, blobs)

    def claim(self, kinds: Sequence[JobKind], now: float, change: Change) -> Job | None:
        """See `JobStore.claim`."""
        with self._lock:
            waiting = [job for job in self._jobs.values() if job.kind in kinds and job.claimable(now)]
            if not waiting:
                return None
            oldest = min(waiting, key=lambda job: (job.created, job.id))
            return self._write(oldest, change(oldest), (), None)

    def events(self, job_id: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """See `JobStore.events`."""
        with self._lock:
            return self._events.get(job_id, [])[after : after + limit]

    def blob(self, job_id: str, name: str) -> bytes | None:
        """See `JobStore.blob`."""
        with self._lock:
            return self._blobs.get((job_id, name))

    def remove(self, job_id: str) -> None:
        """See `JobStore.remove`."""
        with self._lock:
            self._jobs.pop(job_id, None)
            self._events.pop(job_id, None)
            self._blobs = {key: content for key, content in self._blobs.items() if key[0] != job_id}
            self._keys = {key: known for key, known in self._keys.items() if known[0] != job_id}

    def ended(self, kinds: Sequence[JobKind], before: float) -> list[str]:
        """See `JobStore.ended`."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.kind in kinds and job.state.is_final]
        return [job.id for job in jobs if job.finished is not None and job.finished < before][:1000]

    def counts(self) -> list[QueueCount]:
        """See `JobStore.counts`."""
        with self._lock:
            groups: dict[tuple[JobKind, JobState], list[float]] = {}
            for job in self._jobs.values():
                groups.setdefault((job.kind, job.state), []).append(job.created)
        return [QueueCount(*group, len(created), min(created)) for group, created in sorted(groups.items())]

    def check(self) -> None:
        """Always there."""

    def close(self) -> None:
        """Nothing to let go of."""

    def add_key(self, key: ApiKey) -> None:
        """See `KeyStore.add_key`."""
        with self._lock:
            self._api_keys[key.id] = key

    def key(self, key_id: str) -> ApiKey | None:
        """See `KeyStore.key`."""
        with self._lock:
            return self._api_keys.get(key_id)

    def api_keys(self) -> list[ApiKey]:
        """See `KeyStore.api_keys`."""
        with self._lock:
            return sorted(self._api_keys.values(), key=lambda key: (key.created, key.id))

    def replace_key(self, key: ApiKey) -> None:
        """See `KeyStore.replace_key`."""
        with self._lock:
            if key.id not in self._api_keys:
                raise unknown_key(key.id)
            self._api_keys[key.id] = key

    def _write(self, before: Job | None, after: Job, notes: Sequence[Note], blobs: Blobs | None) -> Job:
        job, events = recorded(before, after, notes, self._clock())
        self._jobs[job.id] = job
        self._events.setdefault(job.id, []).extend(events)
        for name, content in (blobs or {}).items():
            if content is None:
                self._blobs.pop((job.id, name), None)
            else:
                self._blobs[job.id, name] = content
        return job


def unknown(job_id: str) -> NotFound:
    """The error for an id that names no job."""
    return NotFound(f"There is no job {job_id[:80]!r}.", field="id", value=job_id[:80])


def unknown_key(key_id: str) -> NotFound:
    """The error for an id that names no key."""
    return NotFound(f"There is no key {key_id[:80]!r}.", field="id", value=key_id[:80])


def taken(job: Job) -> AlreadyExists:
    """The error for an id that another job has."""
    return AlreadyExists(f"There is a job {job.id!r} already.", field="id", value=job.id)


def mismatch(key: IdempotencyKey) -> IdempotencyMismatch:
    """The error for a key that was used for another request."""
    return IdempotencyMismatch(
        "This Idempotency-Key was used for another request.",
        field="Idempotency-Key",
        value=key.key,
        remedy="Use a new key for a new request, or repeat the old one unchanged.",
    )
