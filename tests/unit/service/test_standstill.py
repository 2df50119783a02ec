"""A process in which no Python can run any more ends; one that waits or computes does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

HELD = "ctypes.PyDLL(None).sleep(60)"  # a call into C that keeps the interpreter to itself
WAITING = "time.sleep(3)"
COMPUTING = "ctypes.CDLL(None).sleep(3)"  # a call into C that lets others run


def ended(body: str) -> subprocess.CompletedProcess[str]:
    program = f"""
import ctypes, time
from service.standstill import end_at_standstill
def stuck_here():
    {body}
end_at_standstill(1.0)
time.sleep(0.2)
stuck_here()
print("done")
"""
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.mark.skipif(sys.platform == "win32", reason="the C library is asked for by its POSIX name")
def test_a_process_that_stands_still_ends_and_says_where() -> None:
    process = ended(HELD)
    assert process.returncode == 1
    assert "stuck_here" in process.stderr
    assert "done" not in process.stdout


@pytest.mark.parametrize("body", [WAITING, COMPUTING])
def test_waiting_and_computing_are_no_standstill(body: str) -> None:
    process = ended(body)
    assert (process.returncode, process.stdout.strip()) == (0, "done"), process.stderr
