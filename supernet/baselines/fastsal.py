"""FastSal: fixation prediction from all stage outputs of MobileNetV2.

Source: Hu and McGuinness, "FastSal: a computationally efficient network for visual saliency prediction",
ICPR 2020. B is the batch, H × W the input size. The 18 outputs after the stem are grouped by size; all
but block 1's pass a pixel shuffle, which trades four channels for a doubled height and width:

    group 1   block 1 and the shuffled blocks 2–3               H/2  × W/2     16 + 12 = 28 channels
    group 2   blocks 4–6, shuffled                              H/4  × W/4     24
    group 3   blocks 7–13, shuffled                             H/8  × W/8     136
    group 4   blocks 14–17 and the last convolution, shuffled   H/16 × W/16    520

An adapter (1×1 convolution, ReLU) per group, then one of two decoders:

    C   adapters of 128, 256, 512, 512 channels, all resized to H/2 × W/2 and concatenated (1408), pixel
        shuffle to 352 channels at H × W, 3×3 convolution to 1
    A   adapters of 8, 32, 128, 512 channels; from group 4 up, the sum with the shuffled result from below
        passes an inverted residual block of expansion 2 and is added to its output once more; at H × W a
        3×3 convolution from 2 channels to 1

Counts beside the paper's, which are for 256×192 (W×H):

                    parameters here   paper    conv macs here   twice that   paper ("GFLOPs")
    FastSal (C)           2,574,049   2.57 M      616,605,696       1.23 G             1.32
    FastSal (A)           3,646,715   3.65 M      638,330,880       1.28 G             1.32

The parameters agree to every printed digit. The paper counts two operations for one multiply-accumulate,
and more than convolutions: the public tools of its time add one per output of a biased convolution, of
an activation and of an up-sampling, and two per output of a batch norm, before doubling. That gives
657,149,952 and 663,736,320, doubled 1.31 G and 1.33 G; the paper prints one figure for both and does not
name its tool.

Departures from the published network, because of the encoder weights at hand: photos are normalised as x
/ 127.5 − 1 and stride 2 pads at the far side. Neither changes a count.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.baselines.mobilenet_v2 import InvertedResidual, MobileNetV2Features, load_mobilenet_v2
from supernet.errors import InvalidArch

Variant = Literal["A", "C"]

GROUP_WIDTHS = (28, 24, 136, 520)
ADAPTER_WIDTHS: dict[str, tuple[int, ...]] = {"C": (128, 256, 512, 512), "A": (8, 32, 128, 512)}
SIZE_MULTIPLE = 32


class FastSal(nn.Module):
    """Saliency predictor: (B, 3, H, W) as x / 127.5 - 1 → logits (B, H, W); H and W multiples of 32."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        if variant not in ADAPTER_WIDTHS:
            raise InvalidArch(
                f"There is no FastSal {variant!r}.", field="variant", value=variant, remedy="Choose A or C."
            )
        self.variant = variant
        self.encoder = MobileNetV2Features()
        widths = ADAPTER_WIDTHS[variant]
        self.adapters = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(GROUP_WIDTHS, widths, strict=True))
        self.merges = nn.ModuleList(InvertedResidual(w, w, expansion=2) for w in widths if variant == "A")
        self.readout = nn.Conv2d(352 if variant == "C" else 2, 1, 3, padding=1)

    def hints(self, images: Tensor) -> list[Tensor]:
        """The four adapted groups, highest resolution first: what a hint loss compares with a teacher's."""
        groups = group_taps(self.encoder.taps(images))
        return [F.relu(adapter(group)) for adapter, group in zip(self.adapters, groups, strict=True)]

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise InvalidArch(
                f"FastSal cannot read an input of {width}x{height}.",
                field="resolution",
                value=(height, width),
                remedy=f"Use a height and width that are multiples of {SIZE_MULTIPLE}.",
            )
        adapted = self.hints(images)
        features = self._concatenate(adapted) if self.variant == "C" else self._add(adapted)
        logits: Tensor = self.readout(features)
        return logits.squeeze(1)

    def _concatenate(self, adapted: list[Tensor]) -> Tensor:
        size = adapted[0].shape[-2:]
        raised = [F.interpolate(x, size=size, mode="bilinear", align_corners=True) for x in adapted[1:]]
        return F.pixel_shuffle(torch.cat([adapted[0], *raised], dim=1), 2)  # (B, 352, H, W)

    def _add(self, adapted: list[Tensor]) -> Tensor:
        below: Tensor | None = None
        for x, merge in zip(reversed(adapted), reversed(self.merges), strict=True):
            total = x if below is None else x + below
            below = F.pixel_shuffle(total + merge(total), 2)
        assert below is not None
        return below  # (B, 2, H, W)


def group_taps(taps: list[Tensor]) -> list[Tensor]:
    """18 outputs of `MobileNetV2Features.taps` → four groups of 28, 24, 136, 520 channels."""
    groups = [F.pixel_shuffle(torch.cat(taps[a:b], dim=1), 2) for a, b in ((1, 3), (3, 6), (6, 13), (13, 18))]
    groups[0] = torch.cat([taps[0], groups[0]], dim=1)
    return groups


def fastsal_on_imagenet(variant: Variant, path: Path | str) -> FastSal:
    """FastSal with the MobileNetV2 weights of `path` in its encoder and a random decoder, not yet trained."""
    net = FastSal(variant)
    net.encoder = load_mobilenet_v2(path).features
    return net.eval()
