"""Which number format a training computes in, and what becomes of the memory that it frees."""

from __future__ import annotations

import platform
import resource

import pytest
import torch

from supernet.processor import chosen_precision, kept_memory


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


def test_auto_answers_here() -> None:
    assert chosen_precision("auto") in ("bf16", "fp32")
    if not torch.cuda.is_available():
        assert chosen_precision("auto", "cuda") == "fp32"


def new_pages() -> int:
    """How often the system had to hand out memory for the tensors of twenty steps."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is tested is a setting of glibc")
def test_memory_is_used_again_within_and_given_back_afterwards() -> None:
    with kept_memory:
        kept = new_pages()
        again = new_pages()
    assert again * 10 < new_pages()
    assert again <= kept
