"""Which number format a training computes in."""

from __future__ import annotations

import pytest
import torch

from supernet.processor import chosen_precision


@pytest.mark.parametrize("native", [True, False])
def test_auto_takes_bf16_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: native)
    assert chosen_precision("auto") == ("bf16" if native else "fp32")
    assert chosen_precision("bf16") == "bf16", "a wish is a wish"


def test_auto_answers_here() -> None:
    assert chosen_precision("auto") in ("bf16", "fp32")
    if not torch.cuda.is_available():
        assert chosen_precision("auto", "cuda") == "fp32"
