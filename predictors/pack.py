"""The pack: a zip that times subnets on a user's device, where only Python, numpy and onnxruntime are needed.

The models are exported as users export them; only their weights are replaced by repetitions of a few of them, which
takes as long to compute and lets thirty models fit into a few megabytes.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper

from predictors.estimate import FloatArray
from predictors.features import GROUPS, WORK_COLUMNS, contrasts, work_of_rows
from supernet.cost import cost
from supernet.files import atomic_path
from supernet.sampling import covering_rows
from supernet.space import Arch, Rows, Space

SUBNETS = 30
"""Models in a pack; the first 10 rank, all of them predict."""

FORMAT = "salnas-pack-1"
_POOL = 1500
_KEPT = 64
"""Different numbers in each tensor of weights."""

_STAMP = (2024, 1, 1, 0, 0, 0)
"""Time of all files in a pack: equal packs are equal byte by byte."""

Export: TypeAlias = Callable[[Arch], onnx.ModelProto]
"""Makes the ONNX model of a subnet."""


def pack_rows(space: Space, n: int = SUBNETS, *, seed: int = 0) -> Rows:
    """(n, d) genotypes that tell most about a device, the most telling first.

    The first is the smallest subnet, the reference. Each next one is where a model of size, shares of the kinds of
    work, and genes is least certain given those before it (greedy D-optimal design).
    """
    pool = covering_rows(space, np.random.default_rng(seed), _POOL)
    features = _telling_features(space, pool)
    variance = np.square(features).sum(axis=1)
    directions = np.zeros((0, len(pool)))
    chosen: list[int] = []
    for step in range(min(n, len(pool))):
        best = step if step < 2 else int(variance.argmax())
        covariance = features @ features[best] - directions.T @ directions[:, best]
        direction = covariance / np.sqrt(variance[best] + _NOISE)
        directions = np.vstack([directions, direction])
        variance = np.maximum(variance - direction**2, 0.0)
        variance[best] = -1.0
        chosen.append(best)
    return pool[chosen]


_NOISE = 1e-3
_WEIGHTS = {"size": 3.0, "work": 1.0, "genes": 0.15}
"""How much latency may depend on each, as far as one knows before measuring."""


def _telling_features(space: Space, rows: Rows) -> FloatArray:
    """(n, features): log macs, logarithms of each kind of work relative to it, genes; weighed."""
    work = dict(zip(WORK_COLUMNS, work_of_rows(space, rows).T, strict=True))
    by_group = np.stack([work[group, "traffic"] for group in GROUPS], axis=1)
    floor = 1e-3 * max(work[group, "macs"].max() for group in GROUPS)
    size = np.log(cost(space, rows).macs.astype(np.float64))[:, None]
    kinds = np.log(by_group + floor) - size
    genes = contrasts(space.sizes, rows)
    parts = (("size", size), ("work", kinds), ("genes", genes))
    scaled = [
        _WEIGHTS[name] * (part - part.mean(axis=0)) / np.maximum(part.std(axis=0), 1e-9)
        for name, part in parts
    ]
    return np.hstack([np.ones((len(rows), 1)), *scaled])


def write_pack(space: Space, rows: Rows, export: Export, path: Path | str) -> Path:
    """Write the pack of the subnets `rows` (n, d), the first one the reference, to the zip at `path`."""
    ids = space.ids(rows)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        _put(archive, "measure.py", files("predictors").joinpath("measure_pack.py").read_bytes())
        _put(archive, "manifest.json", json.dumps(_manifest(space, ids), indent=1).encode())
        _put(archive, "README.txt", _README.encode())
        for identity, arch in zip(ids, space.decode_many(rows), strict=True):
            _put(archive, _file(identity), _light_model(export, arch))
    return Path(path)


def _manifest(space: Space, ids: Sequence[str]) -> dict[str, Any]:
    models = [{"id": identity, "file": _file(identity)} for identity in ids]
    return {
        "format": FORMAT,
        "space": space.name,
        "space_fingerprint": space.fingerprint,
        "reference": models[0],
        "models": models,
    }


def _file(identity: str) -> str:
    return f"models/{identity}.onnx"


def _put(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _STAMP)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content)


def _light_model(export: Export, arch: Arch) -> bytes:
    model = export(arch)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype.kind == "f" and values.size > _KEPT:
            repeated = np.resize(values.ravel()[:_KEPT], values.shape)
            tensor.CopyFrom(numpy_helper.from_array(repeated, tensor.name))
    content: bytes = model.SerializeToString()
    return content


_README = """Latency of SalNAS subnets on your device
========================================

1. Unpack this zip on the device, or leave it packed and pass --pack FILE.zip.
2. pip install numpy onnxruntime
3. python measure.py --threads 1 --out my-device.csv
   (python measure.py --help shows the options; ten models, --models 10, are enough to rank subnets)
4. Give my-device.csv to SalNAS as the measurements of your device.

Let nothing else run on the device meanwhile. The script goes on where it stopped.
The models have the shape of real subnets but not their weights: they only serve to measure time.
"""
