"""Several threads, each with a BLAS of one; others get theirs back."""

from __future__ import annotations

import threading

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from predictors.threads import in_threads, one_blas_thread


def blas_threads() -> list[int]:
    return [int(found["num_threads"]) for found in threadpool_info() if found["user_api"] == "blas"]


def test_the_limit_ends_with_the_last_who_is_inside() -> None:
    with threadpool_limits(2, "blas"):
        before = blas_threads()
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        assert set(blas_threads()) == {1}
        first.__exit__(None, None, None)
        assert set(blas_threads()) == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == before


def test_an_error_and_other_threads_leave_the_limit_as_it_was() -> None:
    def often() -> None:
        for _ in range(300):
            with one_blas_thread():
                pass

    with threadpool_limits(2, "blas"):
        before = blas_threads()
        with pytest.raises(KeyError), one_blas_thread():
            raise KeyError
        others = [threading.Thread(target=often) for _ in range(4)]
        for other in others:
            other.start()
        for other in others:
            other.join()
        assert blas_threads() == before


def test_results_come_in_the_order_of_their_tasks() -> None:
    inside: list[int] = []

    def square(number: int) -> int:
        inside.extend(blas_threads())
        return number**2

    with threadpool_limits(2, "blas"):
        before = blas_threads()
        assert in_threads(square, range(50)) == [number**2 for number in range(50)]
        assert set(inside) == {1}
        assert blas_threads() == before
    assert in_threads(square, []) == []


def test_an_error_in_a_task_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda number: 1 // number, [1, 0, 2])
