"""Subnets as files for other programs: ONNX in three precisions, and torch.export.

Every file takes photos of 0 to 255 and returns maps of 0 to 1, so that it is used without this package:

    session = onnxruntime.InferenceSession("subnet.onnx")
    photo = np.asarray(Image.open("photo.jpg").convert("RGB").resize((width, height)))
    (saliency,) = session.run(None, {"image": photo.transpose(2, 0, 1)[None]})  # (1, height, width)

Every file is loaded again and compared with torch before it gets its name; one that differs is not kept.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernet.baselines.registry import ReferenceNet, complexity
from supernet.cost import cost
from supernet.data.synthetic import SyntheticDataset
from supernet.errors import ExportError
from supernet.files import atomic_path
from supernet.images import normalise
from supernet.network import SaliencyNet
from supernet.onnx_graph import OPSET, Head, InputType, saliency_model
from supernet.runtime import import_for_export, onnx_session
from supernet.space import get_space

if TYPE_CHECKING:
    import onnx

Precision = Literal["fp32", "fp16", "int8"]
Photos = NDArray[np.uint8]
Maps = NDArray[np.float32]

LICENCE = "Apache-2.0"
TOLERANCES: dict[str, float | None] = {"fp32": 1e-4, "fp16": 0.05, "int8": None}
"""Largest difference to torch that a file may have; that of int8 depends on the weights and is only reported."""

_COMPARED = 4
"""Photos of those given that are compared with torch."""

TORCH_METADATA = "salnas.json"
"""The extra file of a torch.export file that holds the metadata."""


@dataclass(frozen=True)
class ExportReport:
    """A file that was written, and how it compares with torch.

    parity_error  largest absolute difference of the maps over photos (a drawn one and noise, or those given)
    correlation   lowest Pearson correlation of a map with torch's; NaN for flat maps
    seconds       the whole export took, with the check
    opset         of ONNX; 0 for torch.export
    """

    path: Path
    sha256: str
    parity_error: float
    correlation: float
    seconds: float
    opset: int
    size_bytes: int
    format: str
    precision: str


def export_onnx(
    net: SaliencyNet,
    path: Path | str,
    *,
    metadata: Mapping[str, str] | None = None,
    precision: Precision = "fp32",
    photos: Photos | None = None,
    input_type: InputType = "uint8",
    head: Head = "fast",
    tolerance: float | None = None,
) -> ExportReport:
    """Write `net` in evaluation mode as ONNX: input `image` (batch, 3, H, W), RGB from 0 to 255, output `saliency`
    (batch, H, W) float32 in [0, 1], batch norms folded, normalisation and sigmoid inside.

    metadata   kept in the file beside architecture, costs and pre- and post-processing; may state the licence
    precision  fp16: half the size; int8: a quarter, dense convolutions quantised after seeing `photos` (some seconds)
    photos     (n, 3, H, W) uint8; needed for int8, where they also are what is compared
    input_type of `image`; the values are the same
    head       "plain" writes the last convolutions as defined, for other runtimes than onnxruntime
    tolerance  instead of that of TOLERANCES

    Raises ExportError, and leaves no file, for weights that are not finite, photos that do not fit, a difference
    above the tolerance, and a path that cannot be written.
    """
    began = time.perf_counter()
    for name, value, choices in (
        ("precision", precision, Precision),
        ("input_type", input_type, InputType),
        ("head", head, Head),
    ):
        _check_choice(name, value, get_args(choices))
    toolkit = import_for_export("onnx")
    photos = _check_photos(net, photos, needed=precision == "int8")
    net = _frozen(net)
    properties = _properties(net, metadata or {}, "onnx", precision, input_type)
    model = saliency_model(net, input_type=input_type, head=head, half=precision == "fp16")
    if precision == "int8":
        model = _quantised(model, photos)
    toolkit.helper.set_model_props(model, properties)
    content = model.SerializeToString(deterministic=True)
    toolkit.checker.check_model(content, full_check=True)
    compared = photos[:_COMPARED]
    feed = compared.astype(np.float32) if input_type == "float32" else compared
    facts = _write_checked(
        path,
        lambda file: file.write_bytes(content),
        lambda file: onnx_session(file).run(None, {"image": feed})[0],
        expected=_torch_maps(net, compared),
        tolerance=TOLERANCES[precision] if tolerance is None else tolerance,
    )
    seconds = time.perf_counter() - began
    return ExportReport(Path(path), **facts, seconds=seconds, opset=OPSET, format="onnx", precision=precision)


def export_reference(
    net: ReferenceNet,
    path: Path | str,
    *,
    name: str,
    metadata: Mapping[str, str] | None = None,
    tolerance: float | None = None,
) -> ExportReport:
    """Write a reference model as ONNX in single precision, with the input, output and check of `export_onnx`.

    The graph comes from torch's own exporter. Raises ExportError as `export_onnx` does.
    """
    began = time.perf_counter()
    toolkit = import_for_export("onnx")
    photos = _check_photos(net, None)
    module = _PhotoToMap(net).eval()
    axes = {"image": {0: "batch"}, "saliency": {0: "batch"}}
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # The other exporter of torch is ten times slower and needs a package more.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.from_numpy(photos),),
            stream,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["saliency"],
            dynamic_axes=axes,
        )
    macs, parameters = complexity(net, net.resolution)
    own = {
        "model": name,
        "resolution": json.dumps(net.resolution),
        "macs": str(macs),
        "parameters": str(parameters),
        "format": "onnx",
        "precision": "fp32",
        "version": _version(),
        **_interface(net.resolution, "uint8"),
    }
    model = toolkit.load_from_string(stream.getvalue())
    toolkit.helper.set_model_props(model, {"licence": LICENCE, **(metadata or {}), **own})
    content = model.SerializeToString(deterministic=True)
    facts = _write_checked(
        path,
        lambda file: file.write_bytes(content),
        lambda file: onnx_session(file).run(None, {"image": photos})[0],
        expected=_torch_maps(net, photos),
        tolerance=TOLERANCES["fp32"] if tolerance is None else tolerance,
    )
    seconds = time.perf_counter() - began
    return ExportReport(Path(path), **facts, seconds=seconds, opset=OPSET, format="onnx", precision="fp32")


def export_torch(
    net: SaliencyNet, path: Path | str, *, metadata: Mapping[str, str] | None = None
) -> ExportReport:
    """Write `net` in evaluation mode with torch.export (a .pt2 file for `torch.export.load`).

    Its module takes `image` (batch, 3, H, W) uint8 RGB and returns (batch, H, W) float32 in [0, 1]; the metadata lie
    in the extra file `salnas.json`. Raises ExportError as `export_onnx` does.
    """
    began = time.perf_counter()
    net = _frozen(net)
    photos = _check_photos(net, None)
    properties = _properties(net, metadata or {}, "torch", "fp32", "uint8")
    example = torch.from_numpy(photos[:2])
    batch = {"image": {0: torch.export.Dim("batch")}}
    with torch.no_grad():
        program = torch.export.export(_PhotoToMap(net), (example,), dynamic_shapes=batch)

    @torch.no_grad()
    def run(file: Path) -> Maps:
        loaded: Callable[[Tensor], Tensor] = torch.export.load(file).module()
        return loaded(torch.from_numpy(photos)).numpy()

    facts = _write_checked(
        path,
        lambda file: torch.export.save(program, file, extra_files={TORCH_METADATA: json.dumps(properties)}),
        run,
        expected=_torch_maps(net, photos),
        tolerance=TOLERANCES["fp32"],
    )
    seconds = time.perf_counter() - began
    return ExportReport(Path(path), **facts, seconds=seconds, opset=0, format="torch", precision="fp32")


class _PhotoToMap(nn.Module):
    def __init__(self, net: SaliencyNet | ReferenceNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 → (B, H, W) in [0, 1]."""
        maps: Tensor = self.net(image.float() / 127.5 - 1.0)
        return maps


def _frozen(net: SaliencyNet) -> SaliencyNet:
    """`net`, or a copy, on the CPU in evaluation mode and single precision. Raises ExportError for NaN."""
    tensors = list(net.state_dict().values())
    plain = all(t.device.type == "cpu" and t.dtype in (torch.float32, torch.int64) for t in tensors)
    if net.training or not plain:
        net = copy.deepcopy(net).cpu().float().eval()
    for name, tensor in net.state_dict().items():
        if not np.isfinite(tensor.numpy()).all():
            raise ExportError(
                f"The weights {name} are not finite.",
                field=name,
                value="NaN or infinity",
                remedy="Export a checkpoint from before training went wrong.",
            )
    return net


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ExportError(
            f"There is no {name} {value!r}.",
            field=name,
            value=value,
            remedy=f"Choose one of {', '.join(choices)}.",
        )


def _check_photos(net: SaliencyNet | ReferenceNet, photos: Photos | None, *, needed: bool = False) -> Photos:
    """The photos given, or a drawn one and noise. Raises ExportError."""
    height, width = net.resolution
    if photos is not None:
        if photos.dtype == np.uint8 and len(photos) and photos.shape[1:] == (3, height, width):
            return photos
        value = f"{photos.dtype} {photos.shape}"
    elif needed:
        value = "none"
    else:
        drawn = SyntheticDataset((0,), size=(height, width))[0].image.transpose(2, 0, 1)
        noise = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
        return np.stack([drawn, noise])
    raise ExportError(
        "Quantisation needs photos to calibrate with."
        if photos is None
        else "The photos do not fit the subnet.",
        field="photos",
        value=value,
        remedy=f"Give some as a uint8 array (n, 3, {height}, {width}), RGB from 0 to 255.",
    )


def _properties(
    net: SaliencyNet, metadata: Mapping[str, str], file_format: str, precision: str, input_type: str
) -> dict[str, str]:
    """What the file says of itself: architecture, costs, how to feed it and what to do with its output."""
    arch, space = net.arch, get_space(net.arch.space)
    costs = cost(space, space.encode(arch)[None])
    own = {
        "subnet": space.id_of(arch),
        "arch": json.dumps(arch.to_json()),
        "space_fingerprint": space.fingerprint,
        "resolution": json.dumps(arch.resolution),
        "macs": str(costs.macs[0]),
        "parameters": str(costs.parameters[0]),
        "format": file_format,
        "precision": precision,
        "version": _version(),
        **_interface(arch.resolution, input_type),
    }
    for key in own.keys() & metadata.keys():
        if own[key] != metadata[key]:
            raise ExportError(
                f"The metadata say {key} = {metadata[key]!r}, the subnet says {own[key]!r}.",
                field=f"metadata.{key}",
                value=metadata[key],
                remedy="Leave it out: the export writes it.",
            )
    return {"licence": LICENCE, **metadata, **own}


def _interface(resolution: tuple[int, int], input_type: str) -> dict[str, str]:
    """How a file is fed, and what its output is."""
    return {
        "input": json.dumps(
            {
                "name": "image",
                "shape": ["batch", 3, *resolution],
                "type": input_type,
                "colour": "RGB",
                "range": [0, 255],
                "resize": "bilinear, averaging where it shrinks; the proportions of the photo are not kept",
                "normalisation": "inside the graph: image / 127.5 - 1",
            }
        ),
        "output": json.dumps(
            {
                "name": "saliency",
                "shape": ["batch", *resolution],
                "type": "float32",
                "range": [0, 1],
                "activation": "inside the graph: sigmoid",
                "resize": "to the size of the photo, bilinear",
                "smoothing": {"size": [384, 384], "kernel": 11, "sigma": 10.5, "border": "reflect"},
            }
        ),
    }


def _version() -> str:
    try:
        return packages.version("salnas")
    except packages.PackageNotFoundError:  # run from a checkout
        return "unknown"


def _write_checked(
    path: Path | str,
    write: Callable[[Path], object],
    run: Callable[[Path], Maps],
    *,
    expected: Maps,
    tolerance: float | None,
) -> dict[str, Any]:
    """`write` a temporary file, `run` it, compare, and only then give it its name. Raises ExportError."""
    try:
        with atomic_path(path) as file:
            write(file)
            error, correlation = _compare(expected, run(file), tolerance)
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size = file.stat().st_size
    except OSError as problem:
        raise ExportError(
            f"{path} cannot be written: {problem.strerror or problem}.",
            field="path",
            value=str(path),
            remedy="Choose a folder that you may write to, with room for about 100 MB.",
        ) from problem
    return {"sha256": digest, "size_bytes": size, "parity_error": error, "correlation": correlation}


@torch.no_grad()
def _torch_maps(net: SaliencyNet | ReferenceNet, photos: Photos) -> Maps:
    maps: Tensor = net(normalise(torch.from_numpy(photos)))
    return maps.numpy()


def _compare(expected: Maps, found: Maps, tolerance: float | None) -> tuple[float, float]:
    """Largest difference and lowest correlation of maps (n, H, W). Raises ExportError above the tolerance."""
    same = expected.shape == found.shape and found.dtype == np.float32 and bool(np.isfinite(found).all())
    error = float(np.abs(expected - found).max()) if same else float("inf")
    if not same or (tolerance is not None and error > tolerance):
        raise ExportError(
            f"The exported file differs from torch by {error:.1e}, more than {tolerance or 0:.1e}.",
            field="parity_error",
            value=error,
            remedy="No file was kept. Report this with the id of the subnet and the versions of torch, onnx and"
            " onnxruntime.",
        )
    pairs = zip(expected.reshape(len(expected), -1), found.reshape(len(found), -1), strict=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = min(float(np.corrcoef(a, b)[0, 1]) for a, b in pairs)
    return error, correlation


def _quantised(model: onnx.ModelProto, photos: Photos) -> onnx.ModelProto:
    """Dense convolutions with 8-bit weights per output channel and 8-bit activations, their ranges as on `photos`.

    Depthwise ones stay as they are: they hold 1 % of the weights, make two thirds of the error and gain no time.
    Quantising the activation functions as well would err more and gain none either.
    """
    toolkit = import_for_export("onnx")
    quantization = import_for_export("onnxruntime.quantization")
    # The quantiser warns of models that still have something to fold, unless they say that they do not.
    toolkit.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    kind = model.graph.input[0].type.tensor_type.elem_type
    dtype = toolkit.helper.tensor_dtype_to_np_dtype(kind)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            target,
            _Calibration(photos.astype(dtype)),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=[node.name for node in model.graph.node if _is_depthwise(node)],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        quantised: onnx.ModelProto = toolkit.load(target)
        return quantised


def _is_depthwise(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


class _Calibration:
    """Photos one by one, as onnxruntime's quantiser reads them."""

    def __init__(self, photos: NDArray[Any]) -> None:
        self.feeds = iter(photos)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        photo = next(self.feeds, None)
        return None if photo is None else {"image": photo[None]}
