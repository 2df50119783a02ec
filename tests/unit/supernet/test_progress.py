"""Long work says how far it is where nobody watches a bar."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from supernet.progress import Lines, shown_progress


def lines_of(steps: Sequence[tuple[float, int, int | None, str | None]]) -> list[str]:
    """What is said of (time, done, total, what)."""
    said: list[str] = []
    now = [0.0]
    lines = Lines("preparing", say=said.append, clock=lambda: now[0])
    for at, done, total, what in steps:
        now[0] = at
        lines(done, total, what)
    return said


def test_a_line_twice_a_minute_says_what_is_left() -> None:
    steps = [(10.0 * n, n, 100, "epoch 1") for n in range(7)]
    assert lines_of(steps) == ["epoch 1: 3 of 100, 16 minutes left", "epoch 1: 6 of 100, 16 minutes left"]


def test_what_was_done_before_does_not_count_as_pace() -> None:
    assert lines_of([(0, 50, 100, None), (30, 60, 100, None)]) == ["preparing: 60 of 100, 2 minutes left"]
    assert lines_of([(0, 5, 100, "first"), (30, 0, 10, "then"), (60, 5, 10, "then")]) == [
        "then: 0 of 10",
        "then: 5 of 10, 30 seconds left",
    ]


def test_without_a_total_there_is_nothing_left_to_say() -> None:
    assert lines_of([(0, 0, None, None), (40, 7, None, None)]) == ["preparing: 7"]


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress("reading", 3) as advance:
        advance(1)
        advance(3, 3, "more")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with shown_progress("reading", 3) as advance:
        advance(3, 3, "scoring")
    assert "scoring" in capsys.readouterr().err
