from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.scratch import clear, scratch

ROOT = Path(__file__).parents[3]
WORKER = """
import sys, time
from pathlib import Path
from service.scratch import scratch
with scratch(Path(sys.argv[1]), "job-") as folder:
    (folder / "state").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_folder_goes_with_its_block(tmp_path: Path) -> None:
    with scratch(tmp_path / "work", "job-") as folder:
        (folder / "state").write_text("x")
        clear(tmp_path / "work", "job-")
        assert (folder / "state").exists()
    assert list((tmp_path / "work").iterdir()) == []
    clear(tmp_path / "none", "job-")


def test_what_a_killed_process_left_is_cleared_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        (tmp_path / "other").mkdir()
        clear(tmp_path, "job-")
        assert (folder / "state").exists()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert (folder / "state").exists()
    clear(tmp_path, "job-")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_without_locks_only_what_is_old_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with scratch(tmp_path, "job-") as folder:
        (tmp_path / "job-old").mkdir()
        os.utime(tmp_path / "job-old", (time.time() - 100_000,) * 2)
        clear(tmp_path, "job-")
        assert list(tmp_path.iterdir()) == [folder]
