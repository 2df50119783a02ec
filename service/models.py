"""Use cases on the networks of other papers: list, export, predict, evaluate, train, distil.

A network is named by a reference model (`fastsal-a`) or by the path of a file that `salnas finetune` wrote.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supernet.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from supernet.workshop import FixedNet


def list_models(results: Path) -> list[dict[str, Any]]:
    """All reference models as plain data: costs, what papers report, and scores and latencies measured here."""
    from supernet.baselines.measured import describe_models

    return [
        {
            "id": model.pop("name"),
            "accuracy": _known(model.pop("scores")),
            "held_out_accuracy": _known(model.pop("held_out")),
            **model,
        }
        for model in describe_models(results)
    ]


def _known(scores: dict[str, float | None]) -> dict[str, float]:
    return {metric: value for metric, value in scores.items() if value is not None}


def open_model(name: str, results: Path) -> FixedNet:
    """A network that can predict. Raises InvalidArch, CheckpointError, and SettingsError for random weights."""
    from supernet.baselines.measured import RANDOM, weights_of
    from supernet.baselines.registry import find_model
    from supernet.workshop import open_network

    if not name.endswith(".safetensors") and weights_of(results, find_model(name)) == RANDOM:
        raise SettingsError(
            f"{name} has no weights yet.",
            field="model",
            value=name,
            remedy=f"Train it: salnas finetune {name} --out results/models/{name}.safetensors",
        )
    return open_network(name, results)


def predict_with(net: FixedNet, *, objects: bool) -> Callable[[Image.Image], NDArray[np.float32]]:
    """What maps a photo to (H, W) in [0, 1]: where people look, or with `objects` which pixels are the object."""
    from supernet.predict import predict_map

    return lambda photo: predict_map(net, photo, smooth=not objects)


def finds_objects(name: str) -> bool:
    """Whether a reference model, or what a file holds, segments salient objects instead of predicting fixations."""
    from supernet.baselines.registry import find_model
    from supernet.fixed import load_net

    if name.endswith(".safetensors"):
        loss = load_net(name)[1].get("settings", {}).get("loss", "saliency")
        return bool(loss != "saliency")
    return find_model(name).task == "salient object"


def evaluate_model(
    net: FixedNet,
    data: str,
    *,
    split: str = "val",
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Scores on fixation data, or max F-measure and MAE on photos with object masks. Raises DataError."""
    from supernet.data.registry import open_dataset
    from supernet.evaluate import evaluate, evaluate_masks
    from supernet.workshop import has_masks, mask_predictor

    if has_masks(data):
        dataset = open_dataset(data, split="all")
        found = asdict(evaluate_masks(mask_predictor(net), dataset, limit=limit, progress=progress))
        return {"data": dataset.name, "split": "all", "photos": found.pop("n"), "scores": found}
    evaluation = evaluate(net, open_dataset(data, split=split), limit=limit, progress=progress)
    scores = evaluation.scores.to_json()
    photos = scores.pop("n")
    return {"data": evaluation.dataset, "split": evaluation.split, "photos": photos, "scores": scores}


def export_model(name: str, results: Path, path: Path) -> dict[str, Any]:
    """Write a network as ONNX, checked against torch. Raises ExportError."""
    from supernet.export import export_onnx, export_reference
    from supernet.network import SaliencyNet

    net = open_model(name, results)
    if isinstance(net, SaliencyNet):
        return asdict(export_onnx(net, path))
    return asdict(export_reference(net, path, name=Path(name).stem))
