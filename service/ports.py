"""What the use cases need from outside, as small protocols: a store of jobs, and a workbench."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from service.jobs import Change, Event, IdempotencyKey, Job, JobKind, JobState, Note, Progress
from service.keys import ApiKey

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from PIL import Image

    from search.engine import Generation
    from search.measuring import Outcome as Measured
    from search.run import SearchResult
    from search.verify import Verified
    from service.estimates import Choice, Estimates
    from service.supernets import SupernetFile
    from service.workbench import SearchRequest, Verification
    from supernet.export import ExportReport
    from supernet.network import SaliencyNet, Supernet
    from supernet.space import Arch, Rows, Space

Blobs = Mapping[str, "bytes | None"]
"""Named bytes that belong to a job; None removes one."""


@dataclass(frozen=True)
class Place:
    """Where a page of jobs ended: the next one begins behind it, newest jobs first."""

    created: float
    id: str


@dataclass(frozen=True)
class QueueCount:
    """How many jobs of a kind are in a state, and when the oldest of them was created."""

    kind: JobKind
    state: JobState
    jobs: int
    oldest: float


class JobStore(Protocol):
    """The one truth about jobs. Every method is one transaction and safe to call from any thread."""

    def add(
        self,
        job: Job,
        *,
        key: IdempotencyKey | None = None,
        blobs: Blobs | None = None,
        room: int | None = None,
    ) -> tuple[Job, bool]:
        """Store a new job and whether it is new: the same key and digest find the job stored before.

        Raises IdempotencyMismatch (same key, other digest), QueueFull (`room` jobs of its kind wait already),
        AlreadyExists (the id is taken).
        """
        ...

    def find(self, kind: JobKind, key: IdempotencyKey) -> Job | None:
        """The job that `add` stored under a key, None where there is none. Raises IdempotencyMismatch."""
        ...

    def get(self, job_id: str) -> Job:
        """Raises NotFound."""
        ...

    def page(
        self,
        *,
        kind: JobKind,
        state: JobState | None = None,
        after: Place | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Jobs, newest first."""
        ...

    def update(
        self, job_id: str, change: Change, *, notes: Sequence[Note] = (), blobs: Blobs | None = None
    ) -> Job:
        """Apply `change` to the job as it is now; events and blobs are stored with it or not at all.

        Raises NotFound, and whatever `change` raises (then nothing is stored).
        """
        ...

    def claim(self, kinds: Sequence[JobKind], now: float, change: Change) -> Job | None:
        """Apply `change` to the oldest job of these kinds that is claimable; None where there is none."""
        ...

    def events(self, job_id: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """Events with a number above `after`, in order."""
        ...

    def blob(self, job_id: str, name: str) -> bytes | None:
        """The bytes of that name, None where there are none."""
        ...

    def remove(self, job_id: str) -> None:
        """Forget a job with its events and blobs; nothing happens where there is none."""
        ...

    def ended(self, kinds: Sequence[JobKind], before: float) -> list[str]:
        """Ids of up to 1000 jobs of these kinds that ended before that time and do not run or wait again."""
        ...

    def counts(self) -> list[QueueCount]:
        """The jobs by kind and state."""
        ...

    def check(self) -> None:
        """Raises Unavailable where the store does not answer."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


class KeyStore(Protocol):
    """The API keys."""

    def add_key(self, key: ApiKey) -> None:
        """Store a new key."""
        ...

    def key(self, key_id: str) -> ApiKey | None:
        """The key with that id, None where there is none."""
        ...

    def api_keys(self) -> list[ApiKey]:
        """All keys, oldest first."""
        ...

    def replace_key(self, key: ApiKey) -> None:
        """Store a key as it is now. Raises NotFound."""
        ...


class Store(JobStore, KeyStore, Protocol):
    """Jobs and keys in one place."""


class Bench(Protocol):
    """The part of `service.workbench.Workbench` that the service needs; safe to call from any thread."""

    @property
    def id(self) -> str: ...
    @property
    def results(self) -> Path: ...
    @property
    def file(self) -> SupernetFile: ...
    @property
    def space(self) -> Space: ...
    @property
    def estimates(self) -> Estimates: ...
    @property
    def supernet(self) -> Supernet: ...
    def arch(self, value: Any) -> Arch: ...
    def net(self, arch: Arch) -> SaliencyNet: ...
    def devices(self) -> list[dict[str, Any]]: ...
    def describe(self, arch: Arch, choice: Choice = ...) -> dict[str, Any]: ...
    def check(self, request: SearchRequest, *, verify: bool = False) -> None: ...
    def search(
        self,
        request: SearchRequest,
        *,
        on_generation: Callable[[Generation], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        directory: Path | None = None,
        resume: bool = False,
        save_every: float = 5.0,
        warm_start: Rows | None = None,
    ) -> SearchResult: ...
    def verify(
        self,
        request: SearchRequest,
        verification: Verification,
        *,
        on_generation: Callable[[Generation], None] | None = None,
        on_found: Callable[[SearchResult], None] | None = None,
        on_measured: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        directory: Path | None = None,
        resume: bool = False,
        save_every: float = 5.0,
        warm_start: Rows | None = None,
    ) -> Verified: ...
    def check_measurable(self, names: Sequence[str], choice: Choice) -> None: ...
    def measure(
        self,
        rows: Rows,
        names: Sequence[str],
        choice: Choice,
        *,
        photos: int = ...,
        directory: Path | None = None,
        on_measured: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Measured | None: ...
    def rows_of(self, front: pd.DataFrame) -> Rows: ...
    def export(
        self,
        arch: Arch,
        path: Path,
        precision: str = "fp32",
        photos: Sequence[Image.Image] = (),
        form: str = "onnx",
    ) -> ExportReport: ...
    def predict(self, arch: Arch, image: Image.Image) -> NDArray[np.float32]: ...


class Benches(Protocol):
    """The supernets at hand."""

    def files(self) -> Sequence[SupernetFile]:
        """What there is, by id."""
        ...

    def get(self, supernet: str | None = None) -> Bench:
        """The bench of a supernet, or of the default one. Raises CheckpointError where there is none."""
        ...


class Session(Protocol):
    """A worker's hold on a job while it runs."""

    @property
    def job(self) -> Job:
        """The job as it was claimed."""
        ...

    def blob(self, name: str) -> bytes | None:
        """Bytes stored with the job."""
        ...

    def should_stop(self) -> bool:
        """Whether to come to an end: cancelled, the lease is lost, or the worker leaves."""
        ...

    def report(
        self,
        progress: Progress,
        *,
        notes: Sequence[Note] = (),
        blobs: Blobs | None = None,
        saved: bool = False,
    ) -> None:
        """Store progress, other notes before it; `saved` says that the blobs hold something to continue from."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `complete`, or stopped early with what was found until then."""

    result: Mapping[str, Any]
    complete: bool
    blobs: Blobs


class Runner(Protocol):
    """Does the work of one kind of job."""

    def run(self, session: Session) -> Outcome:
        """Run to the end, or until the session says stop. Raises SalnasError where the job cannot be done."""
        ...
