"""Subnets as files for other programs: ONNX in three precisions, torch.export, OpenVINO and Core ML.

Every file takes photos of 0 to 255 and returns maps of 0 to 1, so that it is used without this package:

    session = onnxruntime.InferenceSession("subnet.onnx")
    photo = np.asarray(Image.open("photo.jpg").convert("RGB").resize((width, height)))
    (saliency,) = session.run(None, {"image": photo.transpose(2, 0, 1)[None]})  # (1, height, width)

Every file is loaded again and compared with torch before it gets its name; one that differs is not kept. Of a
Core ML file only the ends are compared: what runs it is macOS.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr
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
from supernet.formats import check_known, check_precision
from supernet.images import normalise
from supernet.network import SaliencyNet
from supernet.onnx_graph import OPSET, Head, InputType, saliency_model
from supernet.runtime import import_for_export, import_openvino, onnx_session, quick_latency_ms
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

METADATA_FILE = "salnas.json"
"""Holds the metadata, in the files that are zips."""


@dataclass(frozen=True)
class ExportReport:
    """A file that was written, and how it compares with torch.

    parity_error  largest absolute difference of the maps over photos (one, half drawn and half noise, or those
                  given); NaN for Core ML, where it is not measured
    correlation   lowest Pearson correlation of a map with torch's; NaN for flat maps, and for Core ML
    seconds       the whole export took, with the check
    opset         of ONNX; 0 for other formats
    latency_ms    of one photo on one thread, by few runs of the file that was checked; NaN where none were asked for
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
    latency_ms: float = float("nan")


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
    timed: bool = False,
) -> ExportReport:
    """Write `net` in evaluation mode as ONNX: input `image` (batch, 3, H, W), RGB from 0 to 255, output `saliency`
    (batch, H, W) float32 in [0, 1], batch norms folded, normalisation and sigmoid inside.

    metadata   kept in the file beside architecture, costs and pre- and post-processing; may state the licence
    precision  fp16: half the size; int8: a quarter, dense convolutions quantised after seeing `photos` (some seconds)
    photos     (n, 3, H, W) uint8; needed for int8, where they also are what is compared
    input_type of `image`; the values are the same
    head       "plain" writes the last convolutions as defined, for other runtimes than onnxruntime
    tolerance  instead of that of TOLERANCES
    timed      time the file too, at most half a second or three runs

    Raises ExportError, and leaves no file, for weights that are not finite, photos that do not fit, a difference
    above the tolerance, and a path that cannot be written.
    """
    began = time.perf_counter()
    for name, value, choices in (
        ("precision", precision, Precision),
        ("input_type", input_type, InputType),
        ("head", head, Head),
    ):
        check_known(name, value, get_args(choices))
    toolkit = import_for_export("onnx")
    photos = _check_photos(net, photos, needed=precision == "int8")
    net = _frozen(net)
    properties = _properties(net, metadata or {}, "onnx", precision, input_type)
    compared = photos[:_COMPARED]
    feed = compared.astype(np.float32) if input_type == "float32" else compared
    latency_ms = float("nan")
    with _torch_maps_beside(net, compared) as expected:
        model = saliency_model(net, input_type=input_type, head=head, half=precision == "fp16")
        if precision == "int8":
            model = _quantised(model, photos)
        toolkit.helper.set_model_props(model, properties)
        content = model.SerializeToString(deterministic=True)
        toolkit.checker.check_model(content, full_check=True)

        def run(file: Path) -> Maps:
            nonlocal latency_ms
            session = onnx_session(file)
            maps: Maps = session.run(None, {"image": feed})[0]
            if timed:
                expected()  # so that torch rests meanwhile
                latency_ms = quick_latency_ms(session)
            return maps

        facts = _write_checked(
            path,
            lambda file: file.write_bytes(content),
            run,
            expected=expected,
            tolerance=TOLERANCES[precision] if tolerance is None else tolerance,
        )
    seconds = time.perf_counter() - began
    facts |= {"opset": OPSET, "format": "onnx", "precision": precision, "latency_ms": latency_ms}
    return ExportReport(Path(path), **facts, seconds=seconds)


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
    with _torch_maps_beside(net, photos) as expected:
        facts = _write_checked(
            path,
            lambda file: file.write_bytes(content),
            lambda file: onnx_session(file).run(None, {"image": photos})[0],
            expected=expected,
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
    example = torch.from_numpy(
        photos.repeat(2, axis=0)
    )  # of one, it would take the size of the batch as fixed
    batch = {"image": {0: torch.export.Dim("batch")}}
    with torch.no_grad():
        program = torch.export.export(_PhotoToMap(net), (example,), dynamic_shapes=batch)

    @torch.no_grad()
    def run(file: Path) -> Maps:
        loaded: Callable[[Tensor], Tensor] = torch.export.load(file).module()
        return loaded(torch.from_numpy(photos)).numpy()

    with _torch_maps_beside(net, photos) as expected:
        facts = _write_checked(
            path,
            lambda file: torch.export.save(
                program, file, extra_files={METADATA_FILE: json.dumps(properties)}
            ),
            run,
            expected=expected,
            tolerance=TOLERANCES["fp32"],
        )
    seconds = time.perf_counter() - began
    return ExportReport(Path(path), **facts, seconds=seconds, opset=0, format="torch", precision="fp32")


def export_openvino(
    net: SaliencyNet,
    path: Path | str,
    *,
    metadata: Mapping[str, str] | None = None,
    precision: Precision = "fp32",
) -> ExportReport:
    """Write `net` in evaluation mode for OpenVINO: a zip of subnet.xml, subnet.bin and the metadata, salnas.json.

    Input and output are those of `export_onnx`. `precision` is that of the weights, fp32 or fp16; it is run in single
    precision to compare it. Raises ExportError as `export_onnx` does, and where OpenVINO is not installed.
    """
    began = time.perf_counter()
    check_precision("openvino", precision)
    import_for_export("onnx")
    toolkit = import_openvino()
    net = _frozen(net)
    photos = _check_photos(net, None)
    properties = _properties(net, metadata or {}, "openvino", precision, "uint8")
    core = toolkit.Core()
    model = core.read_model(saliency_model(net, head="plain").SerializeToString(deterministic=True))

    def write(folder: Path) -> None:
        toolkit.save_model(model, folder / "subnet.xml", compress_to_fp16=precision == "fp16")

    def run(file: Path) -> Maps:
        with _unpacked(file) as folder:
            hints = {"INFERENCE_PRECISION_HINT": "f32"}
            compiled = core.compile_model(folder / "subnet.xml", "CPU", hints)
            return np.array(compiled(photos)["saliency"])

    with _torch_maps_beside(net, photos) as expected:
        facts = _write_checked(
            path,
            lambda file: _pack(file, write, properties),
            run,
            expected=expected,
            tolerance=TOLERANCES[precision],
        )
    seconds = time.perf_counter() - began
    return ExportReport(Path(path), **facts, seconds=seconds, opset=0, format="openvino", precision=precision)


def export_coreml(
    net: SaliencyNet,
    path: Path | str,
    *,
    metadata: Mapping[str, str] | None = None,
    precision: Precision = "fp32",
) -> ExportReport:
    """Write `net` in evaluation mode for Core ML: a zip of subnet.mlpackage and the metadata, salnas.json.

    An ML program for macOS 12 or iOS 15; its input `image` is one picture, W wide and H high, its output `saliency`
    (1, H, W) float32. `precision` is that of weights and computation, fp32 or fp16. Raises ExportError as
    `export_onnx` does, and where coremltools is not installed.
    """
    began = time.perf_counter()
    check_precision("coreml", precision)
    net = _frozen(net)
    properties = _properties(net, metadata or {}, "coreml", precision, "image")
    example = torch.from_numpy(_check_photos(net, None)).float()
    with _quiet():
        toolkit = import_for_export("coremltools", "'salnas[coreml]'")
        with torch.no_grad():
            traced = torch.jit.trace(_PhotoToMap(net).eval(), example)  # type: ignore[no-untyped-call]
        model = toolkit.convert(
            traced,
            inputs=[toolkit.ImageType("image", example.shape, color_layout=toolkit.colorlayout.RGB)],
            outputs=[toolkit.TensorType("saliency", dtype=np.float32)],
            convert_to="mlprogram",
            compute_precision=getattr(toolkit.precision, {"fp32": "FLOAT32", "fp16": "FLOAT16"}[precision]),
            minimum_deployment_target=toolkit.target.iOS15,
            skip_model_load=True,
        )
    model.user_defined_metadata.update(properties)

    def check(file: Path) -> tuple[float, float]:
        with _unpacked(file) as folder, _quiet():
            loaded = toolkit.models.MLModel(str(folder / "subnet.mlpackage"), skip_model_load=True)
        _check_ends(loaded.get_spec().description, net.resolution)
        return float("nan"), float("nan")

    def write(folder: Path) -> None:
        model.save(str(folder / "subnet.mlpackage"))

    facts = _write_once(path, lambda file: _pack(file, write, properties), check)
    seconds = time.perf_counter() - began
    return ExportReport(Path(path), **facts, seconds=seconds, opset=0, format="coreml", precision=precision)


def _check_ends(description: Any, resolution: tuple[int, int]) -> None:
    """Compare what goes in and out of a Core ML model with what should. Raises ExportError."""
    height, width = resolution
    inputs = [(i.name, i.type.imageType.height, i.type.imageType.width) for i in description.input]
    outputs = [(o.name, *o.type.multiArrayType.shape) for o in description.output]
    if inputs != [("image", height, width)] or outputs != [("saliency", 1, height, width)]:
        raise ExportError(
            f"The exported file takes {inputs} and returns {outputs}.",
            field="interface",
            value=str(inputs),
            remedy="No file was kept. Report this with the versions of torch and coremltools.",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars and the advice that coremltools writes to standard error."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _pack(file: Path, write: Callable[[Path], object], properties: Mapping[str, str]) -> None:
    """Zip, without dates, what `write` leaves in a folder, and the metadata."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        (folder / METADATA_FILE).write_text(json.dumps(properties), encoding="utf-8")
        with zipfile.ZipFile(file, "w") as archive:
            for part in sorted(folder.rglob("*")):
                if part.is_file():
                    entry = zipfile.ZipInfo(part.relative_to(folder).as_posix())
                    entry.external_attr = 0o644 << 16
                    archive.writestr(entry, part.read_bytes())


@contextmanager
def _unpacked(file: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
        yield Path(folder)


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


def _check_photos(net: SaliencyNet | ReferenceNet, photos: Photos | None, *, needed: bool = False) -> Photos:
    """The photos given, or one whose left half is drawn and whose right half is noise. Raises ExportError."""
    height, width = net.resolution
    if photos is not None:
        if photos.dtype == np.uint8 and len(photos) and photos.shape[1:] == (3, height, width):
            return photos
        value = f"{photos.dtype} {photos.shape}"
    elif needed:
        value = "none"
    else:
        photo = SyntheticDataset((0,), size=(height, width))[0].image.transpose(2, 0, 1).copy()
        noise = np.random.default_rng(0).integers(0, 256, photo.shape, dtype=np.uint8)
        photo[..., width // 2 :] = noise[..., width // 2 :]
        return photo[None]
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
    """How a file is fed, and what its output is; an image comes alone."""
    batch = 1 if input_type == "image" else "batch"
    return {
        "input": json.dumps(
            {
                "name": "image",
                "shape": [batch, 3, *resolution],
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
                "shape": [batch, *resolution],
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
    expected: Callable[[], Maps],
    tolerance: float | None,
) -> dict[str, Any]:
    """`write` a temporary file, `run` it, compare, and only then give it its name. Raises ExportError."""

    def check(file: Path) -> tuple[float, float]:
        found = run(file)
        return _compare(expected(), found, tolerance)

    return _write_once(path, write, check)


def _write_once(
    path: Path | str, write: Callable[[Path], object], check: Callable[[Path], tuple[float, float]]
) -> dict[str, Any]:
    """`write` a temporary file, `check` it (difference and correlation), and only then give it its name."""
    try:
        with atomic_path(path) as file, ThreadPoolExecutor(1) as beside:
            write(file)
            digest = beside.submit(_saved_sha256, file)
            error, correlation = check(file)
            facts = {"sha256": digest.result(), "size_bytes": file.stat().st_size}
    except OSError as problem:
        raise ExportError(
            f"{path} cannot be written: {problem.strerror or problem}.",
            field="path",
            value=str(path),
            remedy="Choose a folder that you may write to, with room for about 100 MB.",
        ) from problem
    return {**facts, "parity_error": error, "correlation": correlation}


def _saved_sha256(file: Path) -> str:
    """Of a file, once the disk has it, which other work need not wait for."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def _torch_maps_beside(net: SaliencyNet | ReferenceNet, photos: Photos) -> Iterator[Callable[[], Maps]]:
    """The maps that a file should give, computed by another thread while the file is written."""
    with ThreadPoolExecutor(1) as beside:
        yield beside.submit(_torch_maps, net, photos).result


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
