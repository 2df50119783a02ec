"""Exported files compute what torch computes, say what they are, and are whole or not there."""

import hashlib
import importlib.util
import json
import math
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from scipy.ndimage import correlate1d

from supernet.calibrate import recalibrate
from supernet.cost import cost
from supernet.errors import ExportError
from supernet.evaluate import MAP_SIZE
from supernet.export import (
    METADATA_FILE,
    ExportReport,
    Maps,
    Photos,
    Precision,
    export_coreml,
    export_onnx,
    export_openvino,
    export_torch,
)
from supernet.images import normalise, smooth_maps
from supernet.network import SaliencyNet
from supernet.onnx_graph import Head, InputType
from supernet.runtime import import_openvino, onnx_session
from supernet.space import Arch, get_space

TINY = get_space("tiny")
SALNAS = get_space("salnas")


def random_net(arch: Arch, seed: int = 0) -> SaliencyNet:
    """Random weights with the statistics of some photos: logits of about one, which no sigmoid flattens."""
    torch.manual_seed(seed)
    net = SaliencyNet(arch).requires_grad_(False)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
    return recalibrate(net, [normalise(torch.from_numpy(random_photos(arch, 4)))])


def random_photos(arch: Arch, n: int = 3) -> Photos:
    """Patches of one colour each, so that the maps have something to tell apart."""
    height, width = arch.resolution
    patches = np.random.default_rng(n).integers(0, 256, (n, 3, height // 16, width // 16), dtype=np.uint8)
    return patches.repeat(16, axis=2).repeat(16, axis=3)


@torch.no_grad()
def torch_maps(net: SaliencyNet, photos: Photos) -> Maps:
    maps: torch.Tensor = net(normalise(torch.from_numpy(photos)))
    return maps.numpy()


def tiny_net(seed: int = 0) -> SaliencyNet:
    return random_net(TINY.parse_arch(f"random:{seed}"), seed)


def properties(path: Path) -> dict[str, str]:
    return dict(onnx_session(path).get_modelmeta().custom_metadata_map)


@pytest.mark.parametrize("head", ["fast", "plain"])
@pytest.mark.parametrize(
    "arch",
    [
        *(TINY.parse_arch(word) for word in ("min", "max", *(f"random:{seed}" for seed in range(8)))),
        *(SALNAS.parse_arch(word) for word in ("min", "random:1", "random:4")),
    ],
    ids=lambda arch: get_space(arch.space).id_of(arch),
)
def test_the_file_equals_torch_for_every_batch_size(arch: Arch, head: Head, tmp_path: Path) -> None:
    net, photos = random_net(arch), random_photos(arch)
    report = export_onnx(net, tmp_path / "net.onnx", head=head)
    expected = torch_maps(net, photos)
    assert expected.std() > 0.05
    assert report.parity_error <= 1e-4
    session = onnx_session(report.path)
    for n in (1, 3):
        (found,) = session.run(None, {"image": photos[:n]})
        assert found.shape == (n, *arch.resolution)
        np.testing.assert_allclose(found, expected[:n], atol=1e-5)


@pytest.mark.parametrize("input_type", ["uint8", "float32"])
def test_both_input_types_take_the_same_values(input_type: InputType, tmp_path: Path) -> None:
    net = tiny_net()
    photos = random_photos(net.arch)
    report = export_onnx(net, tmp_path / "net.onnx", input_type=input_type)
    session = onnx_session(report.path)
    (wanted,) = session.get_inputs()
    assert (wanted.name, wanted.type) == ("image", f"tensor({input_type.removesuffix('32')})")
    (found,) = session.run(["saliency"], {"image": photos.astype(input_type)})
    np.testing.assert_allclose(found, torch_maps(net, photos), atol=1e-5)


def test_a_salnas_subnet_is_exported_in_two_seconds(tmp_path: Path) -> None:
    net = random_net(SALNAS.smallest())
    export_onnx(net, tmp_path / "first.onnx")  # imports onnx and onnxruntime
    assert min(export_onnx(net, tmp_path / "net.onnx").seconds for _ in range(3)) <= 2


def test_batch_norms_are_folded_and_the_model_is_valid(tmp_path: Path) -> None:
    report = export_onnx(tiny_net(), tmp_path / "net.onnx")
    model = onnx.load(report.path)
    onnx.checker.check_model(model, full_check=True)
    kinds = {node.op_type for node in model.graph.node}
    assert "BatchNormalization" not in kinds
    assert {node.domain for node in model.graph.node} == {""}
    assert [entry.version for entry in model.opset_import] == [report.opset]


def test_the_report_tells_the_file(tmp_path: Path) -> None:
    report = export_onnx(tiny_net(), tmp_path / "folder" / "net.onnx")
    content = report.path.read_bytes()
    assert report.sha256 == hashlib.sha256(content).hexdigest()
    assert report.size_bytes == len(content)
    assert 0.9999 < report.correlation <= 1.0
    assert report.seconds > 0


def test_the_same_subnet_gives_the_same_bytes_from_several_threads_at_once(tmp_path: Path) -> None:
    net = tiny_net()
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda i: export_onnx(net, tmp_path / f"{i}.onnx"), range(8)))
    assert len({report.sha256 for report in reports}) == 1


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    net = random_net(SALNAS.smallest())
    report = export_onnx(net, tmp_path / "net.onnx", metadata={"supernet": "mine", "licence": "CC0-1.0"})
    found = properties(report.path)
    costs = cost(SALNAS, SALNAS.encode(net.arch)[None])
    assert found["supernet"] == "mine"
    assert found["licence"] == "CC0-1.0"
    assert SALNAS.arch_of_id(found["subnet"]) == net.arch
    assert SALNAS.arch_of_json(json.loads(found["arch"])) == net.arch
    assert json.loads(found["resolution"]) == [192, 256]
    assert (int(found["macs"]), int(found["parameters"])) == (costs.macs[0], costs.parameters[0])
    assert json.loads(found["input"])["range"] == [0, 255]
    assert found["version"]


def test_the_smoothing_that_the_file_names_is_that_of_the_evaluation(tmp_path: Path) -> None:
    report = export_onnx(tiny_net(), tmp_path / "net.onnx")
    smoothing = json.loads(properties(report.path)["output"])["smoothing"]
    assert tuple(smoothing["size"]) == MAP_SIZE
    saliency = np.random.default_rng(0).random(MAP_SIZE)
    offsets = np.arange(smoothing["kernel"]) - smoothing["kernel"] // 2
    taps = np.exp(-0.5 * (offsets / smoothing["sigma"]) ** 2)
    blurred = saliency
    for axis in (0, 1):  # scipy calls the border of torch's "reflect" mirror
        blurred = correlate1d(blurred, taps / taps.sum(), axis, mode="mirror")
    np.testing.assert_allclose(smooth_maps(torch.from_numpy(saliency)[None])[0], blurred, atol=1e-9)


def test_metadata_that_contradict_the_subnet_are_refused(tmp_path: Path) -> None:
    net = tiny_net()
    own = TINY.id_of(net.arch)
    export_onnx(net, tmp_path / "net.onnx", metadata={"subnet": own})
    with pytest.raises(ExportError) as caught:
        export_onnx(net, tmp_path / "other.onnx", metadata={"subnet": "tiny-xxx"})
    assert caught.value.field == "metadata.subnet"
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_a_net_in_training_mode_is_exported_as_in_evaluation_mode(tmp_path: Path) -> None:
    net = tiny_net()
    expected = export_onnx(net, tmp_path / "eval.onnx").sha256
    net.train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert export_onnx(net, tmp_path / "train.onnx").sha256 == expected
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_difference_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, path = tiny_net(), tmp_path / "net.file"
    path.write_text("old")
    monkeypatch.setattr("supernet.export.normalise", lambda photos: normalise(photos) + 0.01)
    with pytest.raises(ExportError) as caught:
        export_onnx(net, path)
    assert caught.value.field == "parity_error"
    assert 1e-4 < caught.value.value < 1
    assert [file.name for file in tmp_path.iterdir()] == ["net.file"]
    assert path.read_text() == "old"


def test_weights_that_are_not_finite_leave_no_file(tmp_path: Path) -> None:
    net = tiny_net()
    net.last.conv.weight[0, 0] = torch.nan
    with pytest.raises(ExportError, match=r"last\.conv\.weight are not finite"):
        export_onnx(net, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ExportError) as caught:
        export_onnx(tiny_net(), tmp_path / "file" / "net.onnx")
    assert caught.value.field == "path"


def test_half_precision_halves_the_file_and_keeps_its_ends(tmp_path: Path) -> None:
    net = random_net(SALNAS.smallest())
    photos = random_photos(net.arch, 1)
    single = export_onnx(net, tmp_path / "single.onnx")
    half = export_onnx(net, tmp_path / "half.onnx", precision="fp16", input_type="float32")
    assert half.size_bytes < 0.51 * single.size_bytes
    session = onnx_session(half.path)
    assert [end.type for end in (*session.get_inputs(), *session.get_outputs())] == ["tensor(float)"] * 2
    (found,) = session.run(None, {"image": photos.astype(np.float32)})
    error = np.abs(found - torch_maps(net, photos)).max()
    assert 0 < error < 0.02
    assert 0 < half.parity_error < 0.02


@pytest.mark.slow
def test_eight_bits_quarter_the_file_and_report_the_difference(tmp_path: Path) -> None:
    net = random_net(SALNAS.smallest())
    photos = random_photos(net.arch, 2)
    single = export_onnx(net, tmp_path / "single.onnx")
    small = export_onnx(net, tmp_path / "small.onnx", precision="int8", photos=photos)
    assert small.size_bytes < 0.3 * single.size_bytes
    (found,) = onnx_session(small.path).run(None, {"image": photos})
    expected = torch_maps(net, photos)
    assert small.parity_error == pytest.approx(np.abs(found - expected).max(), rel=1e-3)
    assert small.correlation > 0.9
    assert properties(small.path)["precision"] == "int8"
    assert properties(small.path).keys() == properties(single.path).keys()
    with pytest.raises(ExportError, match="differs from torch"):
        export_onnx(
            net, tmp_path / "x.onnx", precision="int8", photos=photos, tolerance=small.parity_error / 2
        )


def test_a_tolerance_binds_eight_bits_too(tmp_path: Path) -> None:
    net = tiny_net()
    photos = random_photos(net.arch)
    error = export_onnx(net, tmp_path / "net.onnx", precision="int8", photos=photos).parity_error
    with pytest.raises(ExportError, match="differs from torch"):
        export_onnx(net, tmp_path / "other.onnx", precision="int8", photos=photos, tolerance=error / 2)
    assert not (tmp_path / "other.onnx").exists()


@pytest.mark.parametrize(
    "photos",
    [None, np.zeros((2, 3, 8, 8), np.uint8), np.zeros((0, 3, 32, 32), np.uint8), np.zeros((1, 3, 32, 32))],
    ids=["none", "wrong size", "empty", "wrong type"],
)
def test_quantisation_names_the_photos_it_needs(photos: Photos | None, tmp_path: Path) -> None:
    net = random_net(TINY.smallest())
    with pytest.raises(ExportError, match=r"\(n, 3, 32, 32\)") as caught:
        export_onnx(net, tmp_path / "net.onnx", precision="int8", photos=photos)
    assert caught.value.field == "photos"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["precision", "input_type", "head"])
def test_an_unknown_option_is_refused_with_the_known_ones(option: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Choose one of") as caught:
        export_onnx(tiny_net(), tmp_path / "net.onnx", **{option: "int4"})  # type: ignore[arg-type]
    assert caught.value.field == option


@pytest.mark.slow
def test_torch_export_gives_the_same_maps_for_every_batch_size(tmp_path: Path) -> None:
    net = tiny_net()
    photos = random_photos(net.arch)
    report = export_torch(net, tmp_path / "net.pt2", metadata={"supernet": "mine"})
    assert report.parity_error <= 1e-5
    assert report.sha256 == hashlib.sha256(report.path.read_bytes()).hexdigest()
    extra = {METADATA_FILE: ""}
    loaded = torch.export.load(report.path, extra_files=extra).module()
    assert json.loads(extra[METADATA_FILE])["supernet"] == "mine"
    for n in (1, 3):
        maps = loaded(torch.from_numpy(photos[:n])).detach().numpy()
        np.testing.assert_allclose(maps, torch_maps(net, photos[:n]), atol=1e-5)


# --- OpenVINO and Core ML -------------------------------------------------------------------------------

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="OpenVINO is not installed: pip install 'salnas[openvino]'",
)
needs_coreml = pytest.mark.skipif(
    importlib.util.find_spec("coremltools") is None,
    reason="coremltools is not installed: pip install 'salnas[coreml]'",
)


def unpacked(report: ExportReport, folder: Path) -> dict[str, str]:
    """Extract a file that is a zip; what it says of itself."""
    with zipfile.ZipFile(report.path) as archive:
        archive.extractall(folder)
    found: dict[str, str] = json.loads((folder / METADATA_FILE).read_text())
    return found


@needs_openvino
@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "word", "precision", "most"),
    [
        ("tiny", "max", "fp32", 1e-4),
        ("tiny", "max", "fp16", 0.05),
        ("salnas", "min", "fp32", 1e-4),
        ("salnas", "min", "fp16", 0.05),
        ("salnas", "random:1", "fp32", 1e-4),
    ],
)
def test_the_openvino_file_equals_torch_for_every_batch_size(
    space: str, word: str, precision: Precision, most: float, tmp_path: Path
) -> None:
    arch = get_space(space).parse_arch(word)
    net, photos = random_net(arch), random_photos(arch)
    report = export_openvino(net, tmp_path / "net.zip", precision=precision, metadata={"supernet": "mine"})
    assert 0 < report.parity_error <= most
    assert (report.format, report.precision, report.opset) == ("openvino", precision, 0)
    facts = unpacked(report, tmp_path / "net")
    assert (facts["supernet"], facts["format"], facts["precision"]) == ("mine", "openvino", precision)
    core = import_openvino().Core()
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(tmp_path / "net" / "subnet.xml", "CPU", hints)
    expected = torch_maps(net, photos)
    assert expected.std() > 0.05
    for n in (1, 3):
        found = compiled({"image": photos[:n]})["saliency"]
        assert found.shape == (n, *arch.resolution)
        np.testing.assert_allclose(found, expected[:n], atol=most)
    weights = (tmp_path / "net" / "subnet.bin").stat().st_size
    per_parameter = weights / int(facts["parameters"])
    assert per_parameter == pytest.approx({"fp32": 4, "fp16": 2}[precision], rel=0.05)


@needs_openvino
def test_an_openvino_file_that_differs_from_torch_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supernet.export.normalise", lambda photos: normalise(photos) + 0.01)
    with pytest.raises(ExportError) as caught:
        export_openvino(tiny_net(), tmp_path / "net.zip")
    assert caught.value.field == "parity_error"
    assert not list(tmp_path.iterdir())


@needs_openvino
def test_openvino_reports_nothing_to_its_maker() -> None:
    import_openvino()
    assert sys.modules["openvino_telemetry"] is None


@needs_coreml
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_core_ml_file_has_the_ends_of_the_subnet_and_claims_no_parity(
    precision: Precision, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    net = tiny_net()
    report = export_coreml(net, tmp_path / "net.zip", precision=precision, metadata={"supernet": "mine"})
    assert math.isnan(report.parity_error)
    assert math.isnan(report.correlation)
    facts = unpacked(report, tmp_path / "net")
    assert (facts["supernet"], facts["format"], facts["precision"]) == ("mine", "coreml", precision)
    assert json.loads(facts["input"])["shape"] == [1, 3, *net.resolution]
    weights = tmp_path / "net" / "subnet.mlpackage" / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    per_parameter = weights.stat().st_size / int(facts["parameters"])
    assert per_parameter == pytest.approx({"fp32": 4, "fp16": 2}[precision], rel=0.1)
    assert capfd.readouterr().err == ""


@needs_coreml
@pytest.mark.slow
def test_a_core_ml_file_of_another_size_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = tiny_net()
    photos = random_photos(net.arch).repeat(2, axis=2)
    monkeypatch.setattr("supernet.export._check_photos", lambda *_: photos)
    with pytest.raises(ExportError) as caught:
        export_coreml(net, tmp_path / "net.zip")
    assert caught.value.field == "interface"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("export", "package", "remedy"),
    [
        (export_openvino, "openvino", "pip install 'salnas[openvino]'"),
        (export_coreml, "coremltools", "pip install 'salnas[coreml]'"),
    ],
)
def test_a_format_whose_package_is_missing_says_what_to_install(
    export: Callable[[SaliencyNet, Path], ExportReport],
    package: str,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError) as caught:
        export(tiny_net(), tmp_path / "net.zip")
    assert (caught.value.field, caught.value.value) == ("package", package)
    assert remedy in (caught.value.remedy or "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("export", [export_openvino, export_coreml])
def test_eight_bits_are_for_onnx(export: Callable[..., ExportReport], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="fp32 or fp16, or the format onnx") as caught:
        export(tiny_net(), tmp_path / "net.zip", precision="int8")
    assert (caught.value.field, caught.value.value) == ("precision", "int8")
    assert not list(tmp_path.iterdir())
