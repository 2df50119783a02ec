"""Depthwise convolutions whose kernel has a gradient of our own, against torch's in double precision."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from supernet import depthwise as module
from supernet.depthwise import depthwise


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def gradients(
    x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int, seed: int = 0
) -> tuple[torch.Tensor, ...]:
    """Output, gradient of the input and gradient of the kernel, of ours."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = depthwise(x, weight, stride, padding)
    torch.manual_seed(seed)
    return y, *torch.autograd.grad(y, (x, weight), torch.randn(y.shape).to(y.dtype))


def exact(
    x: torch.Tensor, weight: torch.Tensor, stride: int, padding: int, seed: int = 0
) -> tuple[torch.Tensor, ...]:
    """The same of torch, in double precision."""
    torch.manual_seed(seed)
    x, weight = x.double().requires_grad_(), weight.double().requires_grad_()
    y = F.conv2d(x, weight, None, stride, padding, groups=len(weight))
    return y, *torch.autograd.grad(y, (x, weight), torch.randn(y.shape).double())


def assert_close(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...], atol: float) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        scale = float(theirs.detach().abs().max().clamp_min(1e-6))
        torch.testing.assert_close(ours.double() / scale, theirs / scale, rtol=0, atol=atol)


@given(
    photos=st.integers(1, 4),
    channels=st.integers(1, 20),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.sampled_from([1, 2]),
    last=st.booleans(),
    seed=st.integers(0, 99),
)
def test_gradients_are_those_of_torch(
    photos: int, channels: int, height: int, width: int, kernel: int, stride: int, last: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    x, weight = torch.randn(photos, channels, height, width), torch.randn(channels, 1, kernel, kernel)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    shape = (stride, kernel // 2)
    assert_close(gradients(x, weight, *shape, seed), exact(x, weight, *shape, seed), atol=1e-5)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_photos(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x, weight = torch.randn(5, 8, 9, 7), torch.randn(8, 1, 5, 5)
    assert_close(gradients(x, weight, 2, 2), exact(x, weight, 2, 2), atol=1e-5)


def test_padding_before_the_convolution_is_as_good() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 8, 11, 12), torch.randn(8, 1, 5, 5)
    assert_close(gradients(x, weight, 2, 0), exact(x, weight, 2, 0), atol=1e-5)


def test_bfloat16_stays_bfloat16_and_is_computed_in_float32() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 8, 9, 9).bfloat16(), torch.randn(8, 1, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(x, weight, 1, 2)
    assert [tensor.dtype for tensor in found] == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert_close(found, exact(x, weight, 1, 2), atol=1e-2)


def test_the_loop_computes_where_torch_is_slow_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = module.weight_gradient

    def noted(x: torch.Tensor, gradient: torch.Tensor, kernel: int, *shape: int) -> torch.Tensor:
        asked.append(kernel)
        return real(x, gradient, kernel, *shape)

    monkeypatch.setattr(module, "weight_gradient", noted)
    x = torch.randn(2, 8, 9, 9)
    gradients(x, torch.randn(8, 1, 3, 3), 1, 1)
    assert asked == []
    gradients(x, torch.randn(8, 1, 5, 5), 1, 2)
    assert asked == [5]
    frozen = depthwise(x.requires_grad_(), torch.randn(8, 1, 5, 5), 1, 2)
    frozen.sum().backward()  # type: ignore[no-untyped-call]
    assert asked == [5]


def test_without_numba_torch_computes_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "numba":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    torch.manual_seed(0)
    x, weight = torch.randn(2, 8, 9, 9), torch.randn(8, 1, 5, 5)
    monkeypatch.setattr(builtins, "__import__", absent)
    module._loop.cache_clear()
    try:
        assert module._loop() is None
        assert_close(gradients(x, weight, 1, 2), exact(x, weight, 1, 2), atol=1e-5)
    finally:
        module._loop.cache_clear()
