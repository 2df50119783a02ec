"""The search space: what a subnet can be, as immutable data.

Notation
    n       number of subnets in a batch
    d       number of genes, one for each property with more than one choice
    row     (d,) int64, the genotype of a subnet: index of the choice of each gene, 0 = first (smallest)
    rows    (n, d) int64, a genotype matrix; shared by search, cost and predictors
    index   the rank of a row in the whole space, mixed radix, first gene most significant

Resolutions are (height, width) in pixels. Source of `salnas`: SalNAS paper, Table 1, with the widths of mb4
(64, 72) and of the last convolution (6 × the width of mb7) corrected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from supernet.errors import InvalidArch, InvalidSpace

Rows: TypeAlias = NDArray[np.int64]
Resolution: TypeAlias = tuple[int, int]

LAST_RATIO = 6
"""Output channels of the last convolution per channel of the last stage."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no i, l, o, u, so that an id survives being read aloud."""


def make_divisible(value: float, divisor: int = 8) -> int:
    """Nearest multiple of `divisor`, never below 90 % of `value` (MobileNet's rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def expanded_width(c_in: int, expansion: int) -> int:
    """Channels in the middle of an inverted bottleneck."""
    return c_in if expansion == 1 else make_divisible(round(c_in * expansion))


def squeezed_width(mid: int) -> int:
    """Channels in the middle of a squeeze-and-excite gate."""
    return make_divisible(mid // 4)


@dataclass(frozen=True)
class Gene:
    """One free property of a subnet and the values it can take, smallest first."""

    name: str
    choices: tuple[Any, ...]


@dataclass(frozen=True)
class StageChoices:
    """The choices of one stage of inverted-bottleneck blocks; `se` and `stride` are fixed."""

    name: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    se: bool
    stride: int


@dataclass(frozen=True)
class StageArch:
    """One chosen stage: output channels, number of blocks, depthwise kernel, expansion ratio."""

    width: int
    depth: int
    kernel: int
    expansion: int


@dataclass(frozen=True)
class Arch:
    """One subnet: a value, hashable, without any reference to weights."""

    space: str
    resolution: Resolution
    stem_width: int
    stages: tuple[StageArch, ...]

    @property
    def last_width(self) -> int:
        """Channels of the last encoder convolution."""
        return LAST_RATIO * self.stages[-1].width

    def to_json(self) -> dict[str, Any]:
        """Plain data that `Space.arch_of_json` reads back."""
        return {
            "space": self.space,
            "resolution": list(self.resolution),
            "stem_width": self.stem_width,
            "stages": [asdict(stage) for stage in self.stages],
        }


class MeetingWidths(NamedTuple):
    """A stage that can be as wide as what enters it, and need not be.

    Where it is, the shortcut of its first block is the identity, otherwise a 1×1 convolution. `stage` is its number,
    `entering` and `own` are the columns of the two widths in a genotype, `equal` (choices, choices) has ones where
    the widths are the same.
    """

    stage: int
    entering: int
    own: int
    equal: NDArray[np.int64]


@dataclass(frozen=True)
class Space:
    """A named set of subnets, the choices of each property as data.

    Raises InvalidSpace where the choices make no network.
    """

    name: str
    resolutions: tuple[Resolution, ...]
    stem_widths: tuple[int, ...]
    stages: tuple[StageChoices, ...]

    def __post_init__(self) -> None:
        if len(self.stages) != 7:
            raise InvalidSpace(
                "A space has seven stages.",
                field="stages",
                value=len(self.stages),
                remedy="Describe mb1 to mb7.",
            )
        for height, width in self.resolutions:
            if height % 32 or width % 32:
                raise InvalidSpace(
                    f"Resolution {width}x{height} is not a multiple of 32.",
                    field="resolutions",
                    value=(height, width),
                    remedy="The encoder halves a photo five times: use multiples of 32.",
                )
        for gene in self.genes:
            if list(gene.choices) != sorted(set(gene.choices)):
                raise InvalidSpace(
                    f"The choices of {gene.name} are not strictly increasing: {gene.choices}.",
                    field=gene.name,
                    value=gene.choices,
                    remedy="Name each choice once, the smallest first.",
                )

    @cached_property
    def properties(self) -> tuple[Gene, ...]:
        """All properties of a subnet in the order of the network, those with a single choice too."""
        found = [Gene("resolution", self.resolutions), Gene("stem.width", self.stem_widths)]
        for stage in self.stages:
            found += [
                Gene(f"{stage.name}.width", stage.widths),
                Gene(f"{stage.name}.depth", stage.depths),
                Gene(f"{stage.name}.kernel", stage.kernels),
                Gene(f"{stage.name}.expansion", stage.expansions),
            ]
        return tuple(found)

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """The properties with more than one choice, in the order of the network."""
        return tuple(gene for gene in self.properties if len(gene.choices) > 1)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(d,) number of choices of each gene."""
        sizes = np.array([len(gene.choices) for gene in self.genes], dtype=np.int64)
        sizes.setflags(write=False)
        return sizes

    @cached_property
    def meeting_widths(self) -> tuple[MeetingWidths, ...]:
        """Where two genes decide together whether a shortcut is the identity, in the order of the network."""
        column = {gene.name: number for number, gene in enumerate(self.genes)}
        widths = [gene for gene in self.properties if gene.name.endswith(".width")]
        found = []
        for stage, (entering, own) in enumerate(pairwise(widths)):
            equal = np.equal.outer(entering.choices, own.choices).astype(np.int64)
            if equal.any() and entering.name in column and own.name in column:
                found.append(MeetingWidths(stage, column[entering.name], column[own.name], equal))
        return tuple(found)

    def identity_shortcuts(self, rows: Rows) -> NDArray[np.int64]:
        """(n, d) genotypes → (n, k) ones where widths that meet are the same, and zeros.

        No single gene says so, and nothing changes as abruptly what a block computes.
        """
        found = np.empty((len(rows), len(self.meeting_widths)), dtype=np.int64)
        for number, (_, entering, own, equal) in enumerate(self.meeting_widths):
            # A flat index takes half the time of a pair of them.
            found[:, number] = equal.ravel().take(rows[:, entering] * equal.shape[1] + rows[:, own])
        return found

    def traits(self, rows: Rows) -> NDArray[np.int64]:
        """(n, d) genotypes → (n, d + k): genes, then which shortcuts are the identity. For models of subnets."""
        genes = len(self.sizes)
        found = np.empty((len(rows), len(self.trait_sizes)), dtype=np.int64)
        found[:, :genes] = rows
        found[:, genes:] = self.identity_shortcuts(rows)
        return found

    @cached_property
    def trait_sizes(self) -> NDArray[np.int64]:
        """(d + k,) number of values of each trait."""
        sizes = np.append(self.sizes, np.full(len(self.meeting_widths), 2, dtype=np.int64))
        sizes.setflags(write=False)
        return sizes

    @property
    def size(self) -> int:
        """Number of subnets, exact."""
        return prod(len(gene.choices) for gene in self.genes)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of the SHA-256 of all choices; equal spaces have equal fingerprints."""
        content = json.dumps({f.name: getattr(self, f.name) for f in fields(self)}, default=asdict)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def _radix(self) -> NDArray[np.int64]:
        return np.append(np.cumprod(self.sizes[::-1])[::-1][1:], 1).astype(np.int64)

    def gene_index(self, name: str) -> int:
        """Column of the gene called `name`; InvalidArch lists the genes where there is none."""
        for index, gene in enumerate(self.genes):
            if gene.name == name:
                return index
        names = ", ".join(gene.name for gene in self.genes)
        raise InvalidArch(
            f"Space {self.name} has no gene {name!r}.", field=name, value=name, remedy=f"Its genes: {names}."
        )

    def validate_rows(self, rows: Any) -> Rows:
        """Return `rows` as an (n, d) int64 matrix, or raise InvalidArch naming the first bad gene."""
        matrix = np.asarray(rows)
        if matrix.ndim != 2 or matrix.shape[1] != len(self.genes):
            raise InvalidArch(
                f"A genotype matrix of space {self.name} has the shape (n, {len(self.genes)}).",
                field="rows",
                value=matrix.shape,
                remedy="Give a row for each subnet and a column for each gene.",
            )
        if not np.issubdtype(matrix.dtype, np.integer):
            raise InvalidArch(
                "A genotype is made of integers.",
                field="rows",
                value=str(matrix.dtype),
                remedy="Give the index of each choice, not the choice.",
            )
        wrong = (matrix < 0) | (matrix >= self.sizes)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            gene = self.genes[column]
            raise InvalidArch(
                f"Gene {gene.name} is {matrix[row, column]} in row {row}.",
                field=gene.name,
                value=int(matrix[row, column]),
                remedy=f"It is an index from 0 to {len(gene.choices) - 1}, for {list(gene.choices)}.",
            )
        return matrix.astype(np.int64, copy=False)

    def decode(self, row: Any) -> Arch:
        """(d,) genotype → subnet."""
        (checked,) = self.validate_rows(np.asarray(row)[None])
        chosen = {
            gene.name: gene.choices[index] for gene, index in zip(self.genes, checked.tolist(), strict=True)
        }

        def value(gene: Gene) -> Any:
            return chosen.get(gene.name, gene.choices[0])

        properties = iter(self.properties)
        resolution, stem_width = value(next(properties)), value(next(properties))
        stages = tuple(StageArch(*(value(next(properties)) for _ in range(4))) for _ in self.stages)
        return Arch(self.name, resolution, stem_width, stages)

    def decode_many(self, rows: Rows) -> list[Arch]:
        """(n, d) genotypes → n subnets."""
        return [self.decode(row) for row in self.validate_rows(rows)]

    def encode(self, arch: Arch) -> NDArray[np.int64]:
        """Subnet → (d,) genotype; InvalidArch names the gene whose value is not a choice."""
        if arch.space != self.name:
            raise InvalidArch(
                f"The subnet belongs to space {arch.space!r}, not {self.name!r}.",
                field="space",
                value=arch.space,
                remedy=f"Encode it with its own space, or name a subnet of {self.name}.",
            )
        if len(arch.stages) != len(self.stages):
            raise InvalidArch(
                f"A subnet of space {self.name} has {len(self.stages)} stages.",
                field="stages",
                value=len(arch.stages),
                remedy="Describe every stage, those of a fixed depth too.",
            )
        indices = []
        for gene, value in zip(self.properties, _values(arch), strict=True):
            if value not in gene.choices:
                raise InvalidArch(
                    f"Gene {gene.name} is {value!r}.",
                    field=gene.name,
                    value=value,
                    remedy=f"Choose one of {list(gene.choices)}.",
                )
            if len(gene.choices) > 1:
                indices.append(gene.choices.index(value))
        return np.array(indices, dtype=np.int64)

    def smallest(self) -> Arch:
        """The subnet with every choice at its smallest."""
        return self.decode(np.zeros_like(self.sizes))

    def largest(self) -> Arch:
        """The subnet with every choice at its largest."""
        return self.decode(self.sizes - 1)

    def sample(self, rng: np.random.Generator, n: int) -> Rows:
        """(n, d) genotypes, every gene uniform and independent."""
        return rng.integers(0, self.sizes, size=(n, len(self.sizes)), dtype=np.int64)

    def indices(self, rows: Rows) -> NDArray[np.int64]:
        """(n, d) genotypes → (n,) ranks in the space; a bijection."""
        ranks: NDArray[np.int64] = self.validate_rows(rows) @ self._radix
        return ranks

    def rows_of_indices(self, indices: NDArray[np.int64]) -> Rows:
        """(n,) ranks → (n, d) genotypes; the inverse of `indices`."""
        rows: Rows = indices[:, None] // self._radix % self.sizes
        return rows

    def ids(self, rows: Rows) -> list[str]:
        """(n, d) genotypes → n ids such as `salnas-0k3v9w2ta`: space, rank in base 32, a check digit."""
        digits = _base32_length(self.size)
        return [f"{self.name}-{_to_base32(int(i), digits)}{_check_digit(int(i))}" for i in self.indices(rows)]

    def id_of(self, arch: Arch) -> str:
        """The short stable text id of a subnet."""
        return self.ids(self.encode(arch)[None])[0]

    def arch_of_id(self, text: str) -> Arch:
        """Id → subnet; InvalidArch where it is mistyped or of another space."""
        return self.decode(self.row_of_id(text))

    def row_of_id(self, text: str) -> NDArray[np.int64]:
        """Id → (d,) genotype; InvalidArch where it is mistyped or of another space."""
        space, _, code = text.strip().lower().rpartition("-")
        wanted = _base32_length(self.size) + 1
        index = _from_base32(code[:-1])
        if (
            space != self.name
            or len(code) != wanted
            or index is None
            or index >= self.size
            or _check_digit(index) != code[-1]
        ):
            raise InvalidArch(
                f"{text!r} is not the id of a subnet of space {self.name}.",
                field="arch",
                value=text,
                remedy=f"An id looks like {self.ids(self.sizes[None] - 1)[0]}; copy it whole.",
            )
        row: NDArray[np.int64] = self.rows_of_indices(np.array([index], dtype=np.int64))[0]
        return row

    def arch_of_json(self, content: Any) -> Arch:
        """Plain data, as `Arch.to_json` makes it, → subnet; InvalidArch names what is wrong."""
        known = {"space", "resolution", "stem_width", "stages"}
        if not isinstance(content, Mapping) or not set(content) <= known | {"id"}:
            raise InvalidArch(
                "This is not a description of a subnet.",
                field="arch",
                value=str(content)[:80],
                remedy=f"Give an object with {sorted(known)}.",
            )
        try:
            stages = tuple(
                StageArch(int(s["width"]), int(s["depth"]), int(s["kernel"]), int(s["expansion"]))
                for s in content["stages"]
            )
            height, width = content["resolution"]
            arch = Arch(
                content.get("space", self.name),
                (int(height), int(width)),
                int(content["stem_width"]),
                stages,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidArch(
                f"The description of the subnet is incomplete: {error}.",
                field="arch",
                value=str(content)[:80],
                remedy="Take the output of `salnas describe max --json` as a pattern.",
            ) from error
        self.encode(arch)
        return arch

    def parse_arch(self, text: str) -> Arch:
        """`max`, `min`, `random:SEED`, an id, or the path of a JSON file → subnet."""
        word = text.strip()
        if word == "max":
            return self.largest()
        if word == "min":
            return self.smallest()
        if word.startswith("random:"):
            return self.decode(self.sample(np.random.default_rng(_seed(word)), 1)[0])
        if word.endswith(".json"):
            return self._arch_of_file(Path(word))
        if word.startswith(f"{self.name}-"):
            return self.arch_of_id(word)
        raise InvalidArch(
            f"{text[:80]!r} names no subnet of space {self.name}.",
            field="arch",
            value=text[:80],
            remedy="Give max, min, random:SEED, an id, or the path of a JSON file.",
        )

    def _arch_of_file(self, path: Path) -> Arch:
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InvalidArch(
                f"{path} cannot be read as a subnet: {error}.",
                field="arch",
                value=str(path),
                remedy="Write one with `salnas describe max --json`.",
            ) from error
        if isinstance(content, Mapping) and "arch" in content:
            content = content["arch"]
        return self.arch_of_json(content)


def get_space(name: str) -> Space:
    """The space called `name`; InvalidSpace lists those there are."""
    try:
        return _SPACES[name]
    except KeyError:
        raise InvalidSpace(
            f"There is no space {name!r}.",
            field="space",
            value=name,
            remedy=f"Choose one of {', '.join(_SPACES)}.",
        ) from None


def list_spaces() -> list[str]:
    """The names of all spaces."""
    return list(_SPACES)


def _values(arch: Arch) -> Iterator[Any]:
    yield arch.resolution
    yield arch.stem_width
    for stage in arch.stages:
        yield from (stage.width, stage.depth, stage.kernel, stage.expansion)


def _seed(word: str) -> int:
    text = word.removeprefix("random:")
    if not text.isdecimal():
        raise InvalidArch(
            f"The seed {text!r} is not a whole number.",
            field="arch",
            value=word,
            remedy="Write for example random:7.",
        )
    return int(text)


def _base32_length(size: int) -> int:
    length = 1
    while 32**length < size:
        length += 1
    return length


def _to_base32(number: int, length: int) -> str:
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(length)))


def _from_base32(text: str) -> int | None:
    number = 0
    for letter in text:
        digit = _ALPHABET.find(letter)
        if digit < 0:
            return None
        number = number * 32 + digit
    return number if text else None


def _check_digit(index: int) -> str:
    """Weighted by place, so that single wrong letters and swapped neighbours show (all but 0 for z)."""
    total, place = 0, 1
    while index:
        index, digit = divmod(index, 32)
        total, place = total + place * digit, place + 1
    return _ALPHABET[total % 31]


def _stages(*lines: Sequence[Any]) -> tuple[StageChoices, ...]:
    return tuple(StageChoices(f"mb{number}", *line) for number, line in enumerate(lines, start=1))


_SALNAS = Space(
    "salnas",
    resolutions=((192, 256), (288, 384)),
    stem_widths=(16, 24),
    stages=_stages(
        #  widths              depths              kernels expansions SE stride
        ((16, 24), (1, 2), (3, 5), (1,), False, 1),
        ((24, 32), (3, 4, 5), (3, 5), (4, 5, 6), False, 2),
        ((32, 40), (3, 4, 5, 6), (3, 5), (4, 5, 6), True, 2),
        ((64, 72), (3, 4, 5, 6), (3, 5), (4, 5, 6), False, 2),
        ((112, 120, 128), (3, 4, 5, 6, 7, 8), (3, 5), (4, 5, 6), True, 1),
        ((192, 200, 208, 216), (3, 4, 5, 6, 7, 8), (3, 5), (6,), True, 2),
        ((216, 224), (1, 2), (3, 5), (6,), True, 1),
    ),
)

_TINY = Space(
    "tiny",
    resolutions=((32, 32), (64, 64)),
    stem_widths=(4, 8),
    stages=_stages(
        ((8,), (1,), (3,), (1,), False, 1),
        ((8, 12), (1, 2), (3, 5), (2, 3), False, 2),
        ((8, 16), (1, 2), (3, 5), (2,), True, 2),
        ((16,), (1,), (3,), (2,), False, 2),
        ((16, 24), (1, 2), (3, 5), (2,), True, 1),
        ((24,), (1,), (3,), (2,), True, 2),
        ((24, 32), (1,), (3,), (2,), True, 1),
    ),
)

_SPACES = {space.name: space for space in (_SALNAS, _TINY)}
