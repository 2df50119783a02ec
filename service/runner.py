"""The one door from jobs to search and export: what a worker does with a job once it holds it.

A search leaves its record in a folder of its own and hands the state to the store whenever a generation has been
saved; the next worker begins with that state in a new folder. So the store alone decides what is true, and a
worker may die, or run on after losing its lease, without harm.
"""

from __future__ import annotations

import io
import json
import math
import tempfile
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.front import front_table
from search.islands import island_paths
from search.record import state_path
from service.artifacts import Artifacts
from service.fronts import StoredFront, annotated
from service.islands import Islands, IslandsHere
from service.jobs import Note, Progress
from service.losses import accuracy_loss
from service.pictures import load_folder
from service.ports import Bench, Benches, Outcome, Session
from service.scratch import scratch
from service.workbench import PREDICTED_SEARCH, SearchRequest, Verification, measured_json, rows_of_ids
from supernet.formats import suffix_of

if TYPE_CHECKING:
    from search.engine import Generation
    from search.run import SearchResult, Stop
    from supernet.export import ExportReport
    from supernet.space import Arch

FRONT = "front"
STATE = "state"
MANIFEST = "manifest"
MEASURED = "measured"
"""Tables of the subnets that were measured so far."""

ANCESTORS = "ancestors"
"""Ids of the subnets that a search begins with, as JSON."""

_MANIFEST_FILE = "manifest.json"
_FIRST_REPORT = 0.25
_LONGEST_PAUSE = 5.0
_REPORT_SHARE = 0.05
"""Reports take at most this share of the time of a search."""


class SearchRunner:
    """Runs searches."""

    def __init__(
        self,
        benches: Benches,
        save_every: float = 5.0,
        islands: Islands | None = None,
        *,
        work: Path | None = None,
    ) -> None:
        self._benches = benches
        self._work = work or Path(tempfile.gettempdir())
        self._save_every = save_every
        self._islands = islands or IslandsHere()

    def run(self, session: Session) -> Outcome:
        """See `Runner.run`."""
        bench = self._benches.get(session.job.request["supernet"])
        ancestors = session.blob(ANCESTORS)
        with scratch(self._work, "salnas-search-") as folder:
            how = {
                "should_stop": session.should_stop,
                "directory": folder,
                "save_every": self._save_every,
                "warm_start": None if ancestors is None else rows_of_ids(bench.space, json.loads(ancestors)),
            }
            if session.job.request.get("verify") is not None:
                return self._verify(session, bench, how)
            where = self._where(session)
            return Outcome({}, False, {}) if where is None else self._search(session, bench, {**how, **where})

    def _search(self, session: Session, bench: Bench, how: dict[str, Any]) -> Outcome:
        request, directory = search_request(session.job.request), how["directory"]
        resume = _restore(session, directory)
        reporter = _Reporter(session, bench, request, directory)
        result = bench.search(request, on_generation=reporter.note, resume=resume, **how)
        complete = result.reason != "stopped"
        reporter.last(result, complete=complete)
        front = _final_front(bench, request, result)
        return _outcome(search_result(result), front, {} if complete else _saved_state(directory))

    def _verify(self, session: Session, bench: Bench, how: dict[str, Any]) -> Outcome:
        request, directory = search_request(session.job.request), how["directory"]
        searched = directory / PREDICTED_SEARCH
        resume = _restore(session, searched)
        restore_measured(session, directory)
        reporter = _VerificationReporter(session, bench, request, searched)
        verified = bench.verify(
            request,
            Verification(session.job.request["verify"]),
            on_generation=reporter.note,
            on_found=reporter.found,
            on_measured=reporter.measured,
            resume=resume,
            **how,
        )
        complete = verified.reason != "stopped"
        # Who stops before a measured subnet keeps the bounds has the predicted front.
        shown = verified if len(verified.front) else reporter.predicted
        reporter.last(shown, complete=complete)
        facts = {**measured_json(verified), "reason": verified.reason, "seconds": reporter.seconds}
        result = {**search_result(shown), **facts}
        state = {} if complete else {**_saved_state(searched), **saved_measured(directory)}
        return _outcome(result, _final_front(bench, request, shown), state)

    def _where(self, session: Session) -> dict[str, Any] | None:
        """What a search needs to run on islands, as arguments; None where it is to stop before it begins."""
        wanted = session.job.request.get("islands")
        if wanted is None:
            return {}
        from search.islands import Ring

        executor = self._islands.executor(session.should_stop)
        return None if executor is None else {"ring": Ring(int(wanted)), "executor": executor}


def _outcome(result: Mapping[str, Any], front: StoredFront, state: Mapping[str, bytes | None]) -> Outcome:
    """The end of a search with its front; `state` is what to continue from, nothing where it is complete."""
    complete = result["reason"] != "stopped"
    over: dict[str, bytes | None] = dict.fromkeys((STATE, MANIFEST, MEASURED)) if complete else {}
    return Outcome(result, complete, {FRONT: front.to_bytes(), **over, **state})


class ExportRunner:
    """Runs exports; `photos` is the folder that int8 is calibrated on."""

    def __init__(self, benches: Benches, artifacts: Artifacts, photos: Path | None = None) -> None:
        self._benches = benches
        self._artifacts = artifacts
        self._photos = photos

    def run(self, session: Session) -> Outcome:
        """See `Runner.run`."""
        wanted = session.job.request
        bench = self._benches.get(wanted["supernet"])
        arch = bench.arch(wanted["arch"])
        with self._artifacts.incoming(suffix_of(wanted["format"])) as path:
            report = self._export(bench, arch, path, wanted)
            loss = accuracy_loss(bench.net(arch), path) if wanted["precision"] == "int8" else None
            artifact = self._artifacts.keep(path, report.sha256)
        manifest = {name: _finite(value) for name, value in asdict(report).items() if name != "path"}
        facts: dict[str, Any] = {"subnet": bench.space.id_of(arch), "artifact": artifact.name}
        facts |= {"accuracy_loss": loss}
        return Outcome({**manifest, **facts, **_interface(arch, wanted["format"])}, complete=True, blobs={})

    def _export(self, bench: Bench, arch: Arch, path: Path, wanted: Mapping[str, Any]) -> ExportReport:
        photos = load_folder(self._photos) if wanted["precision"] == "int8" and self._photos else ()
        return bench.export(arch, path, wanted["precision"], photos, wanted["format"])


def _interface(arch: Arch, form: str) -> dict[str, Any]:
    """What goes in and comes out of an exported file; Core ML takes one image at a time."""
    height, width = arch.resolution
    batch, kind = (1, "image") if form == "coreml" else ("batch", "uint8")
    return {
        "input": {
            "name": "image",
            "type": kind,
            "shape": [batch, 3, height, width],
            "values": "RGB from 0 to 255; normalisation is inside",
        },
        "output": {
            "name": "saliency",
            "type": "float32",
            "shape": [batch, height, width],
            "values": "0 to 1, higher where people look more",
        },
    }


def search_request(stored: Mapping[str, Any]) -> SearchRequest:
    """The request of a search from the plain data of its job."""
    values = {name: value for name, value in stored.items() if name in SearchRequest.__dataclass_fields__}
    for name in ("objectives", "constraints"):
        values[name] = tuple(values[name])
    return SearchRequest(**values)


def search_result(result: SearchResult) -> dict[str, Any]:
    """What a job keeps of a search beside its front: plain data."""
    return {
        "subnets": len(result.front),
        "knee": result.knee,
        "hypervolume": result.hypervolume,
        "evaluations": result.evaluations,
        "generations": result.generations,
        "seconds": result.seconds,
        "reason": result.reason,
    }


class _Reporter:
    """Tells the store how a search goes, seldom enough not to slow it down."""

    share = 1.0
    """Of the job, what the search is."""

    def __init__(self, session: Session, bench: Bench, request: SearchRequest, directory: Path) -> None:
        self._session = session
        self._bench = bench
        self._request = request
        self._directory = directory
        self._stop = request.stop()
        self._saved_at = _modified(directory)
        self._began = self._reported = time.perf_counter()
        self._earlier = session.job.progress.seconds if session.job.progress and self._saved_at else 0.0
        self._pause = 0.0

    def note(self, generation: Generation) -> None:
        """Called after each generation."""
        began = time.perf_counter()
        saved_at = _modified(self._directory)
        saved = saved_at != self._saved_at
        if not saved and began - self._reported < self._pause:
            return
        blobs: dict[str, bytes | None] = {}
        if saved:
            self._saved_at = saved_at
            blobs = {**_saved_state(self._directory), FRONT: self._front(generation).to_bytes()}
        seconds = self.seconds
        self._session.report(self._progress(generation, seconds), blobs=blobs, saved=saved)
        self._reported = time.perf_counter()
        took = self._reported - began
        self._pause = max(_FIRST_REPORT, min(_LONGEST_PAUSE, seconds * _REPORT_SHARE), took / _REPORT_SHARE)

    def last(self, result: SearchResult, *, complete: bool) -> None:
        """Called once at the end."""
        fraction = (
            1.0 if complete else _fraction(result.evaluations, result.generations, result.seconds, self._stop)
        )
        progress = Progress(
            generation=result.generations,
            evaluations=result.evaluations,
            subnets=len(result.front),
            hypervolume=result.hypervolume,
            seconds=result.seconds,
            fraction=fraction,
            remaining_seconds=0.0 if complete else _remaining(result.seconds, fraction),
        )
        self._session.report(progress)

    @property
    def seconds(self) -> float:
        """Time of the job so far, in s."""
        return self._earlier + time.perf_counter() - self._began

    def _progress(self, generation: Generation, seconds: float) -> Progress:
        done = _fraction(generation.evaluations, generation.number, seconds, self._stop)
        return Progress(
            generation=generation.number,
            evaluations=generation.evaluations,
            subnets=len(generation.front.rows),
            hypervolume=generation.hypervolume,
            seconds=seconds,
            fraction=self.share * done,
            remaining_seconds=_remaining(seconds, done) if self.share == 1.0 else None,
        )

    def _front(self, generation: Generation) -> StoredFront:
        problem, found = generation.problem, generation.front
        columns = {name: found.values[:, j] for j, name in enumerate(problem.columns)}
        front = front_table(self._bench.space, found.rows, columns, problem.objectives)
        rows = self._bench.rows_of(front.table)
        return annotated(front, rows, self._bench.estimates, self._request.choice, generation.hypervolume)


class _VerificationReporter(_Reporter):
    """Tells the store how a search goes, and then how far the measuring of what it found is."""

    share = 0.1

    predicted: SearchResult
    """What the search found."""

    _fraction = share

    def found(self, predicted: SearchResult) -> None:
        """Called between search and measuring; the next worker begins here."""
        self.predicted = predicted
        self._measuring = time.perf_counter()
        front = _final_front(self._bench, self._request, predicted)
        blobs = {**_saved_state(self._directory), FRONT: front.to_bytes()}
        self._session.report(self._moment(predicted, None), blobs=blobs, saved=True)

    def measured(self, done: int, most: int) -> None:
        """Called with how many values were measured, and the most there can be; each is kept at once."""
        self._fraction = self.share + (1.0 - self.share) * done / most
        remaining = (time.perf_counter() - self._measuring) * (most - done) / done
        note = Note("measured", {"measured": done, "most": most})
        blobs = saved_measured(self._directory.parent)
        self._session.report(self._moment(self.predicted, remaining), notes=[note], blobs=blobs, saved=True)

    def last(self, result: SearchResult, *, complete: bool) -> None:
        """Called once at the end."""
        self._fraction = 1.0 if complete else self._fraction
        self._session.report(self._moment(result, 0.0 if complete else None))

    def _moment(self, result: SearchResult, remaining: float | None) -> Progress:
        # Tried and hypervolume are those of the predicted search: a measured front has another box.
        return Progress(
            generation=self.predicted.generations,
            evaluations=self.predicted.evaluations,
            subnets=len(result.front),
            hypervolume=self.predicted.hypervolume,
            seconds=self.seconds,
            fraction=self._fraction,
            remaining_seconds=remaining,
        )


def _final_front(bench: Bench, request: SearchRequest, result: SearchResult) -> StoredFront:
    rows = bench.rows_of(result.front)
    return annotated(result.pareto, rows, bench.estimates, request.choice, result.hypervolume)


def _fraction(evaluations: int, generations: int, seconds: float, stop: Stop) -> float:
    """The share of the limit that is nearest; a search that ends by itself may end earlier."""
    limits = ((evaluations, stop.evaluations), (generations, stop.generations), (seconds, stop.seconds))
    return min(1.0, max((done / limit for done, limit in limits if limit is not None), default=0.0))


def _remaining(seconds: float, fraction: float) -> float | None:
    return seconds * (1.0 - fraction) / fraction if fraction > 0.0 else None


def _restore(session: Session, directory: Path) -> bool:
    """Write the saved state, if there is one, where the search will look for it."""
    state, manifest = session.blob(STATE), session.blob(MANIFEST)
    if state is None or manifest is None:
        return False
    directory.mkdir(exist_ok=True)
    (directory / _MANIFEST_FILE).write_bytes(zlib.decompress(manifest))
    if not zipfile.is_zipfile(io.BytesIO(state)):
        return False  # saved by an older version
    _unzip(state, directory)
    return True


def _saved_state(directory: Path) -> dict[str, bytes | None]:
    """The saved generation as blobs; empty where the search ended before it saved one."""
    paths = _state_files(directory)
    if not paths:
        return {}
    return {
        STATE: _zipped(paths, directory),
        MANIFEST: zlib.compress((directory / _MANIFEST_FILE).read_bytes(), 1),
    }


def restore_measured(session: Session, directory: Path) -> None:
    """Write the tables of measured subnets, if there are any, where the measuring will look for them."""
    content = session.blob(MEASURED)
    if content is not None:
        _unzip(content, directory)


def saved_measured(directory: Path) -> dict[str, bytes | None]:
    """The tables of measured subnets as a blob; empty where nothing was measured."""
    paths = sorted(directory.glob("measured-*.parquet"))
    return {MEASURED: _zipped(paths, directory)} if paths else {}


def _zipped(paths: Sequence[Path], directory: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as saved:
        for path in paths:
            saved.write(path, path.relative_to(directory).as_posix())
    return content.getvalue()


def _unzip(content: bytes, directory: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as saved:
        for name in saved.namelist():
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(saved.read(name))


def _finite(value: Any) -> Any:
    """JSON has neither NaN nor infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _modified(directory: Path) -> int | None:
    return max((path.stat().st_mtime_ns for path in _state_files(directory)), default=None)


def _state_files(directory: Path) -> list[Path]:
    """The saved generation: one file, or one for each island."""
    return sorted(path for path in (state_path(directory), *island_paths(directory)) if path.is_file())
