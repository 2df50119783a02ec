"""The reference models by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from supernet.baselines.csnet import load_csnet
from supernet.baselines.efficientnet_lite import WEIGHTS_FILE as LITE2_FILE
from supernet.baselines.registry import ReferenceModel, build, complexity, reference_models
from supernet.errors import CheckpointError, InvalidArch

MODELS = {model.name: model for model in reference_models()}
SMALL = ["fastsal-a", "fastsal-c", "csnet-x1", "csnet-x2"]


def test_the_rivals_are_there() -> None:
    assert set(MODELS) >= {"fastsal-a", "fastsal-c", "csnet-x1", "csnet-x2", "csnet-full-x2"}
    assert {m.task for m in MODELS.values()} == {"saliency", "salient object"}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_counts_are_those_of_the_network(model: ReferenceModel) -> None:
    with torch.device("meta"):
        net = build(model.name)
    assert complexity(net, model.resolution) == (model.macs, model.parameters)


REPORTED = {model.name: model for model in MODELS.values() if model.reported}


def test_all_but_the_teacher_are_compared_with_their_papers() -> None:
    assert set(MODELS) - set(REPORTED) == {"efficientnet-lite2"}


@pytest.mark.parametrize("model", REPORTED.values(), ids=REPORTED)
def test_what_the_paper_prints_is_what_is_counted(model: ReferenceModel) -> None:
    printed = {report.metric: report.value for report in model.reported}
    assert model.parameters == pytest.approx(printed["parameters"], rel=0.005)
    assert model.macs < printed["operations"] < 2.2 * model.macs
    assert all(0 < v < 2 for k, v in printed.items() if k not in ("parameters", "operations"))


@pytest.mark.parametrize("name", [*SMALL, "efficientnet-lite2"])
@torch.no_grad()
def test_a_built_model_keeps_the_contract_of_a_subnet(name: str) -> None:
    net = build(name)
    assert not net.training
    assert net.resolution == MODELS[name].resolution
    assert complexity(net, (64, 64))[1] == MODELS[name].parameters
    assert not net.training
    y = net(torch.rand(2, 3, 64, 64) * 2 - 1)
    assert y.shape == (2, 64, 64)
    assert 0 <= y.min() < y.max() <= 1


def test_what_is_random_comes_from_the_seed() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = build("csnet-x1", seed=1), build("csnet-x1", seed=1), build("csnet-x1", seed=2)
    torch.testing.assert_close(torch.rand(3), expected)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters(), strict=True))


@torch.no_grad()
def test_photos_are_renormalised_for_a_network_of_another_convention(weights_root: Path) -> None:
    net, inner = build("csnet-x1", weights_root), load_csnet(weights_root / "csnet-L-x1.safetensors")
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    expected = torch.sigmoid(inner((photo - mean) / deviation))
    torch.testing.assert_close(net(photo * 2 - 1), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.sigmoid(net.logits(photo * 2 - 1)), net(photo * 2 - 1))


def test_weights_files_exist_as_named(weights_root: Path) -> None:
    for model in MODELS.values():
        for file in (model.weights, model.start_weights):
            # That of the teacher comes in a package of its own: see test_efficientnet_lite.py.
            assert file is None or file == LITE2_FILE or (weights_root / file).is_file()


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArch, match="csnet-x9"):
        build("csnet-x9")
    for name in SMALL:
        with pytest.raises(CheckpointError):
            build(name, tmp_path)
