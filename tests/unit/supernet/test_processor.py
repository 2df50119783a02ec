"""Which number format a training computes in, and what becomes of the memory that it frees."""

from __future__ import annotations

import os
import platform
import resource
from threading import Event, Timer

import pytest
import torch

from supernet.errors import DeviceError
from supernet.processor import (
    chosen_device,
    chosen_precision,
    kept_memory,
    memory_is_set,
    side_by_side,
)


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize("instructions", [True, False])
def test_auto_takes_bf16_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, library: bool, instructions: bool
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: library)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert chosen_precision("auto") == ("bf16" if library and instructions else "fp32")
    assert chosen_precision("bf16") == "bf16", "a wish is a wish"


def test_a_device_that_torch_finds_is_taken_and_another_is_named() -> None:
    assert chosen_device("cpu") == torch.device("cpu")
    for missing in ["abacus", f"cuda:{torch.cuda.device_count()}"]:
        with pytest.raises(DeviceError, match=missing) as caught:
            chosen_device(missing)
        assert (caught.value.field, caught.value.value) == ("device", missing)


def test_auto_answers_here() -> None:
    assert chosen_precision("auto") in ("bf16", "fp32")
    if not torch.cuda.is_available():
        assert chosen_precision("auto", "cuda") == "fp32"


@pytest.mark.parametrize(
    ("environment", "is_set"),
    [
        ({}, False),
        ({"PATH": "/bin", "GLIBC_TUNABLES": "glibc.pthread.rseq=0"}, False),
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, True),
        ({"GLIBC_TUNABLES": "glibc.pthread.rseq=0:glibc.malloc.mmap_max=8"}, True),
    ],
)
def test_what_somebody_set_is_left_alone(environment: dict[str, str], is_set: bool) -> None:
    assert memory_is_set(environment) == is_set


def new_pages() -> int:
    """How often the system had to hand out memory for the tensors of twenty steps."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or memory_is_set(os.environ),
    reason="what is tested is a setting of glibc",
)
def test_memory_is_used_again_within_and_given_back_afterwards() -> None:
    with kept_memory:
        new_pages()
        again = new_pages()
    # Not none: the process asks for a page or two besides.
    assert again * 10 < new_pages()


def test_workers_side_by_side_have_one_thread_each_and_leave_ours_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with side_by_side() as pool:
            assert list(pool.map(lambda _: torch.get_num_threads(), range(6))) == [1] * 6
            denormal = pool.submit(lambda: float(torch.tensor([1e-39]) * 1.0)).result()
        assert torch.get_num_threads() == 3
        assert denormal == 0.0
        assert float(torch.tensor([1e-39]) * 1.0) > 0.0
    finally:
        torch.set_num_threads(before)


def test_whoever_leaves_early_waits_for_no_work_that_has_not_begun() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    began: list[int] = []
    first, release = Event(), Event()

    def work(number: int) -> None:
        began.append(number)
        first.set()
        release.wait(10)

    def interrupted() -> None:
        with side_by_side() as pool:
            found = pool.map(work, range(50))
            assert first.wait(10)
            Timer(0.2, release.set).start()
            raise KeyboardInterrupt(
                found
            )  # who holds the results keeps them from being cancelled by themselves

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        torch.set_num_threads(before)
    assert began == [0]
