"""What a file in int8 costs in accuracy, measured on labelled photos where there are any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from supernet.errors import DataError
from supernet.metric_names import METRICS

if TYPE_CHECKING:
    from supernet.evaluate import EvaluationSet
    from supernet.network import SaliencyNet

DATA = "osie"
PHOTOS = 40
"""So few that exporting the smallest subnet stays a matter of seconds."""

NO_PHOTOS = f"no labelled photos: put the data set {DATA} into the folder that SALNAS_DATA names"


def accuracy_loss(net: SaliencyNet, file: Path) -> dict[str, Any]:
    """Scores of `net` and of the ONNX file made from it, and what the file loses, as plain data.

    They are means over the last photos of the training split of OSIE, which no supernet is trained on. A loss is
    positive where the file is worse, of kld too. Without such photos, or where they are damaged, `reason` says so.
    """
    from supernet.evaluate import evaluate_net

    photos = _held_out(net.resolution)
    if photos is None:
        return {"photos": 0, "data": None, "fp32": None, "int8": None, "loss": None, "reason": NO_PHOTOS}
    before, after = (evaluate_net(one, photos).to_json() for one in (net, _opened(file, net.resolution)))
    scores = [{name: found[name] for name in METRICS} for found in (before, after)]
    loss = {name: _loss(name, scores[0][name], scores[1][name]) for name in METRICS}
    return {
        "photos": len(photos),
        "data": DATA,
        "fp32": scores[0],
        "int8": scores[1],
        "loss": loss,
        "reason": None,
    }


def _held_out(resolution: tuple[int, int]) -> EvaluationSet | None:
    from predictors.collect import LastPhotos
    from supernet.data.registry import open_dataset
    from supernet.evaluate import build_evaluation_set

    try:
        dataset = open_dataset(DATA, split="train")
        chosen = LastPhotos(dataset, min(PHOTOS, len(dataset)))
        return build_evaluation_set(chosen, resolutions=[resolution])
    except DataError:
        return None


def _opened(file: Path, resolution: tuple[int, int]) -> Any:
    """The file where an evaluation expects a network."""
    import torch
    from torch import Tensor, nn

    from supernet.runtime import onnx_session

    session = onnx_session(file)

    class Net(nn.Module):
        def forward(self, photos: Tensor) -> Tensor:
            """(B, 3, H, W) float32 in [-1, 1] → (B, H, W)."""
            pixels = ((photos + 1.0) * 127.5).round().to(torch.uint8).numpy()
            return torch.from_numpy(session.run(None, {"image": pixels})[0])

    net = Net()
    net.resolution = resolution  # type: ignore[assignment]
    return net


def _loss(metric: str, before: float | None, after: float | None) -> float | None:
    if before is None or after is None:
        return None
    return after - before if metric == "kld" else before - after
