"""The reference models by name: what they cost, what their papers report, and how to build them.

A built model keeps the contract of a subnet: photos (B, 3, H, W) as x / 127.5 − 1 in, maps (B, H, W) in
[0, 1] out, `resolution` as (H, W). So whatever evaluates, times, shows or exports a subnet does it for a
rival too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from supernet.baselines.csnet import LEARNED_ARCHS, CSNet, CSNetArch, full_arch, load_csnet
from supernet.baselines.efficientnet_lite import WEIGHTS_FILE as LITE2_FILE
from supernet.baselines.efficientnet_lite import blank_lite2, lite2_on_imagenet
from supernet.baselines.fastsal import FastSal, Variant, fastsal_on_imagenet
from supernet.baselines.mobilenet_v2 import WEIGHTS_FILE
from supernet.errors import InvalidArch

Task = Literal["saliency", "salient object"]

FASTSAL_PAPER = (
    "Hu and McGuinness, FastSal: a Computationally Efficient Network for Visual Saliency Prediction, "
    "ICPR 2020"
)
CSNET_PAPER = (
    "Cheng et al., A Highly Efficient Model to Study the Semantics of Salient Object Detection, TPAMI 2021"
)
FASTSAL_LICENCE = "Apache-2.0; only the ImageNet encoder has weights here, the decoder must be trained"
CSNET_LICENCE = (
    "the authors state none for the weights and offer their training code for non-profit research only"
)
FIXATIONS_LICENCE = (
    "trained here from the authors' weights, for which they state none: measured, and not passed on"
)
UNTRAINED_LICENCE = "Apache-2.0; no weights, train it first"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

LITE_PAPER = "Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019"
LITE_LICENCE = "Apache-2.0; only the ImageNet encoder has weights, the decoder must be trained"

CSNET_RESOLUTION = (224, 224)
FASTSAL_RESOLUTION = (192, 256)
LITE_RESOLUTION = (288, 384)


@dataclass(frozen=True)
class Report:
    """One figure a paper prints: `value` of `metric`, measured on `data`.

    Besides scores: "parameters", and "operations" by the paper's own counting (FastSal: two per macs, and all
    layers; CSNet: macs, and all layers), `data` then being the photo's size as W×H.
    """

    metric: str
    value: float
    data: str


@dataclass(frozen=True)
class ReferenceModel:
    """A model of another paper.

    `parameters` and `macs` (convolutions, one photo of `resolution` = (H, W)) are those of the network here; what the
    paper prints for them is in `reported`. `weights` names the file that makes the model complete, `start_weights`
    one that its training begins with: of FastSal's encoder, or of the same network trained for another task.
    """

    name: str
    title: str
    paper: str
    task: Task
    resolution: tuple[int, int]
    parameters: int
    macs: int
    weights: str | None
    start_weights: str | None
    licence: str
    reported: tuple[Report, ...]


class ReferenceNet(nn.Module):
    """A reference model under the contract of a subnet: (B, 3, H, W) in [−1, 1] → (B, H, W) in [0, 1]."""

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        net: nn.Module,
        resolution: tuple[int, int],
        mean: tuple[float, ...] = HALF,
        deviation: tuple[float, ...] = HALF,
    ) -> None:
        super().__init__()
        self.net = net
        self.resolution = resolution
        self.renormalise = mean != HALF or deviation != HALF
        scale = 0.5 / torch.tensor(deviation)
        shift = (0.5 - torch.tensor(mean)) / torch.tensor(deviation)
        self.register_buffer("scale", scale.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, 3, 1, 1), persistent=False)

    def logits(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [−1, 1] → (B, H, W) before the sigmoid, for losses that want it."""
        if self.renormalise:
            images = images * self.scale + self.shift
        logits: Tensor = self.net(images)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [−1, 1] → saliency (B, H, W) in [0, 1]."""
        return torch.sigmoid(self.logits(images))


@dataclass(frozen=True)
class _Recipe:
    """What a registry entry states, without the counts."""

    title: str
    paper: str
    task: Task
    resolution: tuple[int, int]
    licence: str
    reported: tuple[Report, ...]
    blank: Callable[[], nn.Module]
    load: Callable[[Path], nn.Module] | None = None
    weights: str | None = None
    start_weights: str | None = None
    mean: tuple[float, ...] = HALF
    deviation: tuple[float, ...] = HALF


def _fastsal(variant: Variant, parameters: float, cc: float, nss: float, auc: float) -> _Recipe:
    data = "SALICON 2017 test"
    return _Recipe(
        title=f"FastSal ({variant})",
        paper=FASTSAL_PAPER,
        task="saliency",
        resolution=FASTSAL_RESOLUTION,
        licence=FASTSAL_LICENCE,
        reported=(
            Report("parameters", parameters, "256×192"),
            Report("operations", 1.32e9, "256×192"),
            Report("cc", cc, data),
            Report("nss", nss, data),
            Report("auc", auc, data),
        ),
        blank=lambda: FastSal(variant),
        load=lambda folder: fastsal_on_imagenet(variant, folder / WEIGHTS_FILE),
        start_weights=WEIGHTS_FILE,
    )


def _csnet(
    title: str,
    arch: CSNetArch,
    parameters: float,
    operations: float,
    scores: tuple[Report, ...],
    weights: str | None = None,
) -> _Recipe:
    counts = (Report("parameters", parameters, "224×224"), Report("operations", operations, "224×224"))
    return _Recipe(
        title=title,
        paper=CSNET_PAPER,
        task="salient object",
        resolution=CSNET_RESOLUTION,
        licence=CSNET_LICENCE if weights else UNTRAINED_LICENCE,
        reported=counts + scores,
        blank=lambda: CSNet(arch),
        load=(lambda folder: load_csnet(folder / weights)) if weights else None,
        weights=weights,
        mean=IMAGENET_MEAN,
        deviation=IMAGENET_DEVIATION,
    )


def _learned_csnet(width: int, parameters: float, operations: float, max_f: float, mae: float) -> _Recipe:
    scores = (Report("max_f", max_f, "ECSSD"), Report("mae", mae, "ECSSD"))
    file = f"csnet-L-x{width}.safetensors"
    return _csnet(f"CSNet ×{width}-L", LEARNED_ARCHS[width], parameters, operations, scores, file)


def _csnet_on_fixations(detector: _Recipe) -> _Recipe:
    return replace(
        detector,
        title=f"{detector.title}, fixations",
        task="saliency",
        licence=FIXATIONS_LICENCE,
        reported=tuple(
            report for report in detector.reported if report.metric in ("parameters", "operations")
        ),
        weights=None,
        start_weights=detector.weights,
    )


def _full_csnet(width: float, parameters: float, operations: float, max_f: float) -> _Recipe:
    scores = (Report("max_f", max_f, "ECSSD"),)
    return _csnet(f"CSNet ×{width:g}, full", full_arch(width), parameters, operations, scores)


_X1 = _learned_csnet(1, 94e3, 0.43e9, max_f=0.900, mae=0.075)
_X2 = _learned_csnet(2, 141e3, 0.72e9, max_f=0.916, mae=0.066)
_RECIPES: dict[str, _Recipe] = {
    "fastsal-a": _fastsal("A", 3.65e6, cc=0.870, nss=1.828, auc=0.862),
    "fastsal-c": _fastsal("C", 2.57e6, cc=0.874, nss=1.845, auc=0.863),
    "csnet-x1": _X1,
    "csnet-x2": _X2,
    "csnet-x1-fixations": _csnet_on_fixations(_X1),
    "csnet-x2-fixations": _csnet_on_fixations(_X2),
    "efficientnet-lite2": _Recipe(
        title="EfficientNet-Lite2",
        paper=LITE_PAPER,
        task="saliency",
        resolution=LITE_RESOLUTION,
        licence=LITE_LICENCE,
        reported=(),
        blank=blank_lite2,
        load=lite2_on_imagenet,
        start_weights=LITE2_FILE,
    ),
    "csnet-full-x1": _full_csnet(1.0, 211e3, 0.61e9, max_f=0.900),
    "csnet-full-x1.2": _full_csnet(1.2, 298e3, 0.82e9, max_f=0.907),
    "csnet-full-x1.5": _full_csnet(1.5, 455e3, 1.17e9, max_f=0.911),
    "csnet-full-x1.8": _full_csnet(1.8, 645e3, 1.58e9, max_f=0.912),
    "csnet-full-x2": _full_csnet(2.0, 788e3, 1.87e9, max_f=0.915),
}

_COUNTS = {
    "fastsal-a": (638_330_880, 3_646_715),
    "fastsal-c": (616_605_696, 2_574_049),
    "csnet-x1": (284_307_604, 93_647),
    "csnet-x2": (496_355_104, 140_894),
    "csnet-x1-fixations": (284_307_604, 93_647),
    "csnet-x2-fixations": (496_355_104, 140_894),
    "efficientnet-lite2": (1_786_777_920, 4_876_977),
    "csnet-full-x1": (432_819_744, 210_985),
    "csnet-full-x1.2": (602_168_448, 298_633),
    "csnet-full-x1.5": (899_349_920, 455_631),
    "csnet-full-x1.8": (1_255_187_136, 645_565),
    "csnet-full-x2": (1_516_281_872, 788_631),
}
"""Macs and parameters as `complexity` counts them, which takes a second for each; a test counts them again."""


def complexity(net: nn.Module, resolution: tuple[int, int]) -> tuple[int, int]:
    """(macs of convolutions and linear layers for one photo of (H, W), parameters) of a module.

    Run on the meta device for a network made there: then nothing is computed.
    """
    device = next(net.parameters()).device
    training = net.training
    net.eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, 3, *resolution, device=device))
    net.train(training)
    return counter.get_total_flops() // 2, sum(p.numel() for p in net.parameters())


def model_names() -> tuple[str, ...]:
    """The names of all reference models."""
    return tuple(_RECIPES)


def reference_models() -> tuple[ReferenceModel, ...]:
    """All reference models."""
    return tuple(find_model(name) for name in _RECIPES)


def find_model(name: str) -> ReferenceModel:
    """The reference model of that name. Raises InvalidArch."""
    if name not in _RECIPES:
        raise _unknown(name)
    return _describe(name, _RECIPES[name])


def _unknown(name: str) -> InvalidArch:
    return InvalidArch(
        f"There is no reference model {name!r}.",
        field="model",
        value=name,
        remedy=f"Choose one of {', '.join(_RECIPES)}.",
    )


def _describe(name: str, recipe: _Recipe) -> ReferenceModel:
    macs, parameters = _COUNTS[name]
    return ReferenceModel(
        name=name,
        title=recipe.title,
        paper=recipe.paper,
        task=recipe.task,
        resolution=recipe.resolution,
        parameters=parameters,
        macs=macs,
        weights=recipe.weights,
        start_weights=recipe.start_weights,
        licence=recipe.licence,
        reported=recipe.reported,
    )


def build(name: str, weights_dir: Path | str | None = None, *, seed: int = 0) -> ReferenceNet:
    """The reference model `name` in evaluation mode.

    With `weights_dir` it gets the weights that exist for it (see `ReferenceModel.weights`); everything else
    is drawn from `seed`. Raises InvalidArch for an unknown name, CheckpointError for missing or wrong
    weights.
    """
    if name not in _RECIPES:
        raise _unknown(name)
    recipe = _RECIPES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if weights_dir is not None and recipe.load is not None:
            net = recipe.load(Path(weights_dir))
        else:
            net = recipe.blank()
    return ReferenceNet(net, recipe.resolution, recipe.mean, recipe.deviation).eval()
