from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.artifacts import Artifacts
from service.errors import NotFound
from service.jobs import Job, JobKind, JobState
from service.store.memory import MemoryStore
from service.upkeep import Upkeep

DAY = 86_400.0


def kept(artifacts: Artifacts, content: bytes, age: float, now: float) -> str:
    """The name of a file written `age` days ago."""
    with artifacts.incoming(".onnx") as path:
        path.write_bytes(content)
        target = artifacts.keep(path)
    os.utime(target, (now - age * DAY, now - age * DAY))
    return target.name


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


def test_the_same_content_is_kept_once(artifacts: Artifacts, tmp_path: Path) -> None:
    names = {kept(artifacts, b"same", 0.0, 1e9) for _ in range(3)}
    assert len(names) == 1
    assert artifacts.path(names.pop()).read_bytes() == b"same"
    assert len(list((tmp_path / "artifacts").iterdir())) == 1, "nothing is left of what came in"


@pytest.mark.parametrize(
    "name", ["", "..", "../secret", "a" * 64, f"{'a' * 64}.onnx", f"{'a' * 64}.onnx/../x"]
)
def test_only_artifacts_are_found(artifacts: Artifacts, name: str) -> None:
    kept(artifacts, b"x", 0.0, 1e9)
    with pytest.raises(NotFound):
        artifacts.path(name)


def test_old_files_and_the_oldest_of_too_many_go(artifacts: Artifacts) -> None:
    now = 1e9
    old = kept(artifacts, b"o" * 10, 40.0, now)
    names = [kept(artifacts, bytes([i]) * 100, float(10 - i), now) for i in range(5)]
    assert artifacts.tidy(now - 30 * DAY, 350) == 3
    for name in (old, *names[:2]):
        with pytest.raises(NotFound):
            artifacts.path(name)
    for name in names[2:]:
        assert artifacts.path(name).exists()


def test_what_a_killed_worker_left_goes_and_what_another_writes_stays(
    artifacts: Artifacts, tmp_path: Path
) -> None:
    left = tmp_path / "artifacts" / ".incoming-abc"
    left.mkdir(parents=True)
    (left / "artifact.onnx").write_bytes(b"half")
    with artifacts.incoming(".onnx") as path:
        path.write_bytes(b"half")
        artifacts.clear()
        assert path.exists()
    assert not left.exists()


def test_old_jobs_are_forgotten_but_for_devices_and_the_default(artifacts: Artifacts) -> None:
    store = MemoryStore()
    now = 100 * DAY

    def add(name: str, kind: JobKind, state: JobState, finished: float | None) -> None:
        store.add(Job(name, kind, {}, 0.0, state=state, finished=finished))

    add("old", JobKind.SEARCH, JobState.SUCCEEDED, 1.0)
    add("old-export", JobKind.EXPORT, JobState.FAILED, 1.0)
    add("old-measurement", JobKind.MEASUREMENT, JobState.SUCCEEDED, 1.0)
    add("new", JobKind.SEARCH, JobState.SUCCEEDED, now - DAY)
    add("waiting", JobKind.SEARCH, JobState.QUEUED, None)
    add("default", JobKind.SEARCH, JobState.SUCCEEDED, 1.0)
    add("device", JobKind.DEVICE, JobState.SUCCEEDED, 1.0)
    upkeep = Upkeep(store, artifacts, 30.0, 10**9, frozenset({"default"}), clock=lambda: now)
    upkeep.tidy()
    left = {job.id for kind in JobKind for job in store.page(kind=kind)}
    assert left == {"new", "waiting", "default", "device"}
