"""Exact cost of subnets: macs, parameters in use, peak activation memory; vectorised over genotype rows.

Definitions
    macs          multiply-accumulates of all convolutions (gates included) for one photo; fvcore's `conv`
    parameters    numbers a subnet uses: kernels, gate biases, batch-norm γ and β; no spare shortcut kernels
    memory_bytes  largest sum, over the operations for one photo, of input, output and whatever else is still
                  needed (block inputs, decoder taps), as 4-byte floats, batch norm and activation in place

A network is a chain of sections (stem, seven stages, last convolution, decoder steps), and a section depends on few
properties. Each section writes down its operations for every combination of them once; a genotype matrix is then
looked up in these tables. Nothing here imports torch; source of the structure: `supernet.network`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise, product
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supernet.space import (
    LAST_RATIO,
    Arch,
    Resolution,
    Rows,
    Space,
    StageChoices,
    expanded_width,
    squeezed_width,
)

BYTES = 4
"""Bytes of an activation."""


class Operation(NamedTuple):
    """One layer: channels, kernel, stride, output size, macs, parameters and `live`, the activations it needs."""

    name: str
    kind: str
    c_in: int
    c_out: int
    kernel: int
    stride: int
    height: int
    width: int
    macs: int
    parameters: int
    live: int


@dataclass(frozen=True)
class Costs:
    """Costs of n subnets, each (n,) int64; lower is better."""

    macs: NDArray[np.int64]
    parameters: NDArray[np.int64]
    memory_bytes: NDArray[np.int64]


@dataclass(frozen=True)
class _Section:
    """Part of the network: the properties it depends on, its operations, the decoder taps alive meanwhile."""

    properties: tuple[str, ...]
    operations: Callable[..., Iterator[Operation]]
    taps: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Table:
    """A section's macs, parameters and live activations (one float each) for every combination."""

    properties: tuple[str, ...]
    counts: tuple[int, ...]
    macs: NDArray[np.int64]
    parameters: NDArray[np.int64]
    live: NDArray[np.int64]
    taps: tuple[str, ...]


_TAP_SCALES = {"stem.width": 2, "mb2.width": 4, "mb3.width": 8, "mb5.width": 16}
"""Photo size over feature size of each output that the decoder reads."""


def cost(space: Space, rows: Rows) -> Costs:
    """(n, d) genotypes → exact costs. Raises InvalidArch for a row outside the space."""
    columns = _columns(space, space.validate_rows(rows))
    taps = {name: _tap_sizes(space, name)[columns["resolution"], columns[name]] for name in _TAP_SCALES}
    macs, parameters, peak = (np.zeros(len(rows), dtype=np.int64) for _ in range(3))
    for table in _tables(space):
        entry = np.zeros(len(rows), dtype=np.int64)
        for name, count in zip(table.properties, table.counts, strict=True):
            entry = entry * count + columns[name]
        macs += table.macs[entry]
        parameters += table.parameters[entry]
        live = table.live[entry]
        for name in table.taps:
            live += taps[name]
        np.maximum(peak, live, out=peak)
    return Costs(macs, parameters, peak * BYTES)


def layer_table(space: Space, arch: Arch) -> list[Operation]:
    """Every layer of a subnet in the order in which it runs; `live` includes the decoder taps."""
    columns = _columns(space, space.encode(arch)[None])
    chosen = {p.name: p.choices[int(columns[p.name][0])] for p in space.properties}
    found = []
    for section in _sections(space):
        taps = sum(chosen[name] * _area(arch.resolution, _TAP_SCALES[name]) for name in section.taps)
        values = [chosen[name] for name in section.properties]
        found += [op._replace(live=op.live + taps) for op in section.operations(*values)]
    return found


def _columns(space: Space, rows: Rows) -> dict[str, NDArray[np.int64]]:
    """For each property, (n,) the index of the choice."""
    fixed = np.zeros(len(rows), dtype=np.int64)
    columns = {p.name: fixed for p in space.properties}
    return columns | {gene.name: rows[:, i] for i, gene in enumerate(space.genes)}


@lru_cache
def _tap_sizes(space: Space, name: str) -> NDArray[np.int64]:
    """(resolutions, widths) activations of a tap."""
    widths = next(p.choices for p in space.properties if p.name == name)
    return np.array([[w * _area(r, _TAP_SCALES[name]) for w in widths] for r in space.resolutions])


@lru_cache
def _tables(space: Space) -> tuple[_Table, ...]:
    choices: dict[str, tuple[Any, ...]] = {p.name: p.choices for p in space.properties}
    tables = []
    for section in _sections(space):
        counts = tuple(len(choices[name]) for name in section.properties)
        combinations = product(*(choices[name] for name in section.properties))
        entries = [_totals(section.operations(*values)) for values in combinations]
        macs, parameters, live = np.array(entries, dtype=np.int64).T.copy()
        assert len(macs) == prod(counts)
        tables.append(_Table(section.properties, counts, macs, parameters, live, section.taps))
    return tuple(tables)


def _totals(operations: Iterator[Operation]) -> tuple[int, int, int]:
    done = list(operations)
    return sum(op.macs for op in done), sum(op.parameters for op in done), max(op.live for op in done)


@lru_cache
def _sections(space: Space) -> tuple[_Section, ...]:
    """The network from photo to map. Taps read by a section itself are not repeated in its list of taps."""
    sections = [_Section(("resolution", "stem.width"), _stem)]
    before, scale, alive = "stem", 2, tuple[str, ...]()
    for stage in space.stages:
        own = tuple(f"{stage.name}.{p}" for p in ("width", "depth", "kernel", "expansion"))
        tapped = f"{before}.width" in _TAP_SCALES
        run = partial(_stage, stage, scale, tapped)
        sections.append(_Section(("resolution", f"{before}.width", *own), run, alive))
        alive += (f"{before}.width",) if tapped else ()
        before, scale = stage.name, scale * stage.stride
    sections.append(_Section(("resolution", f"{before}.width"), _last, alive))
    widths = [f"{before}.width", *reversed(alive[1:]), "mb1.width", "stem.width"]
    for step, names in enumerate(pairwise(widths)):
        sections.append(_Section(("resolution", *names), partial(_decode, step), alive[: len(alive) - step]))
    return (*sections, _Section(("resolution", "stem.width"), _head))


def _stem(resolution: Resolution, width: int) -> Iterator[Operation]:
    yield _conv("stem", 3, width, 3, _shrink(resolution, 2), stride=2)


def _stage(
    stage: StageChoices,
    scale: int,
    tapped: bool,
    resolution: Resolution,
    c_in: int,
    width: int,
    depth: int,
    kernel: int,
    expansion: int,
) -> Iterator[Operation]:
    """Blocks of a stage whose input is 1 / `scale` of the photo; a tapped input stays alive to the end."""
    size = _shrink(resolution, scale)
    tap = c_in * prod(size) if tapped else 0
    for index in range(depth):
        stride = stage.stride if index == 0 else 1
        held = tap if index else 0
        block = _block(f"{stage.name}.{index}", stage.se, size, c_in, width, kernel, expansion, stride)
        yield from (op._replace(live=op.live + held) for op in block)
        size, c_in = _shrink(size, stride), width


def _block(
    name: str, se: bool, size: Resolution, c_in: int, c_out: int, kernel: int, expansion: int, stride: int
) -> Iterator[Operation]:
    """One inverted bottleneck; its input is alive until the shortcut has been added."""
    small = _shrink(size, stride)
    mid = expanded_width(c_in, expansion)
    entry, result = c_in * prod(size), c_out * prod(small)
    if expansion > 1:
        yield _conv(f"{name}.expand", c_in, mid, 1, size)
    held = entry if expansion > 1 else 0
    yield _conv(f"{name}.depthwise", mid, mid, kernel, small, stride=stride, groups=mid, held=held)
    if se:
        squeezed = squeezed_width(mid)
        resting = entry + mid * prod(small)
        yield _move(f"{name}.se.pool", "pool", mid, mid, (1, 1), live=resting + mid)
        yield _conv(f"{name}.se.reduce", mid, squeezed, 1, (1, 1), biased=True, held=resting)
        yield _conv(f"{name}.se.expand", squeezed, mid, 1, (1, 1), biased=True, held=resting)
    yield _conv(f"{name}.project", mid, c_out, 1, small, held=entry)
    if stride == 2:
        pooled = entry + c_in * prod(small) + result
        yield _move(f"{name}.shortcut.pool", "pool", c_in, c_in, small, live=pooled)
    if c_in != c_out:
        yield _conv(f"{name}.shortcut", c_in, c_out, 1, small, normed=False, held=result)


def _last(resolution: Resolution, width: int) -> Iterator[Operation]:
    yield _conv("last", width, LAST_RATIO * width, 1, _shrink(resolution, 32))


def _decode(step: int, resolution: Resolution, width: int, out: int) -> Iterator[Operation]:
    """Decoder steps 0 to 4: but for the first, concatenation with a tap; then convolution and doubling."""
    size, double = _shrink(resolution, 32 >> step), _shrink(resolution, 16 >> step)
    c_in = LAST_RATIO * width
    if step:
        c_in = width + (out if step == 4 else width)
        both = 2 * c_in * prod(size)
        yield _move(f"decoder.{step}.concat", "concat", c_in, c_in, size, live=both)
    yield _conv(f"decoder.{step}", c_in, out, 3, size)
    live = out * (prod(size) + prod(double))
    yield _move(f"decoder.{step}.up", "up-sample", out, out, double, live=live)


def _head(resolution: Resolution, width: int) -> Iterator[Operation]:
    yield _conv("decoder.5", width, width, 3, resolution)
    yield _conv("decoder.6", width, 1, 3, resolution)


def _conv(
    name: str,
    c_in: int,
    c_out: int,
    kernel: int,
    size: Resolution,
    *,
    stride: int = 1,
    groups: int = 1,
    held: int = 0,
    biased: bool = False,
    normed: bool = True,
) -> Operation:
    """A convolution with an output of `size`, and batch norm (two numbers a channel), a bias, or neither."""
    weights = c_out * (c_in // groups) * kernel**2
    extra = c_out if biased else 2 * c_out if normed else 0
    live = (c_in * stride**2 + c_out) * prod(size) + held
    kind = "depthwise" if groups > 1 else "conv"
    return Operation(
        name, kind, c_in, c_out, kernel, stride, *size, weights * prod(size), weights + extra, live
    )


def _move(name: str, kind: str, c_in: int, c_out: int, size: Resolution, *, live: int) -> Operation:
    """An operation without macs or parameters."""
    return Operation(name, kind, c_in, c_out, 1, 1, *size, 0, 0, live)


def _shrink(size: Resolution, scale: int) -> Resolution:
    return size[0] // scale, size[1] // scale


def _area(resolution: Resolution, scale: int) -> int:
    return prod(_shrink(resolution, scale))
