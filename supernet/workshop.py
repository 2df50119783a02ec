"""One network from start to file: build it, train it, score it, save it with a card.

What `salnas finetune` and `salnas distill` do. A network is named as users name it: a reference model
(`fastsal-a`), a file written here, or a subnet (max, min, an id) of a supernet.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from supernet.baselines.csnet import CSNet
from supernet.baselines.decoded import DecodedBackbone
from supernet.baselines.fastsal import FastSal
from supernet.baselines.measured import trained_file
from supernet.baselines.mobilenet_v2 import WEIGHTS_FILE, refill_batch_norms
from supernet.baselines.registry import ReferenceNet, build, complexity, find_model, model_names
from supernet.checkpoint import load_supernet
from supernet.data.cache import Source, TrainingCache, mix
from supernet.data.files import MaskDataset
from supernet.data.registry import find_layout, open_dataset
from supernet.errors import CheckpointError, DataError, SettingsError
from supernet.evaluate import build_evaluation_set, evaluate_masks, evaluate_net
from supernet.files import write_atomic
from supernet.finetune import (
    FinetuneConfig,
    finetune,
    folder_photos,
    mask_photos,
    saliency_photos,
)
from supernet.fixed import load_net, save_net
from supernet.images import normalise, resize_maps, resize_photos, to_tensor
from supernet.network import SaliencyNet, Supernet, extract
from supernet.progress import StageProgress
from supernet.prune import FAST_MULTIPLE, prune_bottlenecks, prune_csnet
from supernet.pseudo_labels import mixed, taught
from supernet.settings_checks import require_at_least, require_choices, require_data_weights
from supernet.space import get_space
from supernet.warmstart import begin_with_truths, load_source, logits_of_truths, warm_start

WEIGHTS_VARIABLE = "SALNAS_WEIGHTS"
STARTS = ("weights", "imagenet", "random")
TARGETS = ("truth", "teacher", "both")
_CALIBRATION = 64
"""Photos on which the batch norms of ImageNet weights are measured."""

_SMALLEST_SPREAD = 1e-6

FixedNet = SaliencyNet | ReferenceNet


@dataclass(frozen=True)
class Job:
    """What to train, from what, on what.

    network: a reference model, a file, or a subnet of `supernet`.
    out: the file to write, ….safetensors; its card and the state of the training lie beside it.
    data: a data set by name or folder, or a folder of photos where targets are "teacher".
    more_data: sets that train with it; none of their photos are held out.
    data_weights: the share of each set in an epoch, that of `data` first; by their sizes where empty.
    epoch_photos: how many photos an epoch is, drawn anew for each; as many as there are where None.
    start: "weights" takes those there are (of the supernet, of the paper, of a file), "imagenet" those of a
        classifier in the encoder, "random" none.
    targets: "truth", "teacher", or "both".
    teacher: a subnet of `supernet`, or a file.
    held_out: photos at the end of the training split that do not train; of masks they are the test.
    resolution: (H, W) of the photos, instead of the network's own.
    prune: channels whose batch-norm scale is smaller are removed before training.
    """

    network: str
    out: Path
    data: str = "osie"
    more_data: tuple[str, ...] = ()
    data_weights: tuple[float, ...] = ()
    epoch_photos: int | None = None
    start: str = "weights"
    targets: str = "truth"
    supernet: Path | None = None
    teacher: str = "max"
    held_out: int = 80
    limit: int | None = None
    resolution: tuple[int, int] | None = None
    prune: float | None = None

    def __post_init__(self) -> None:
        require_choices(self, {"start": STARTS, "targets": TARGETS})
        if Path(self.out).suffix != ".safetensors":
            raise SettingsError(
                f"The network {self.out} must end in .safetensors.",
                field="out",
                value=str(self.out),
                remedy="Name it so.",
            )
        data = (self.data, *self.more_data)
        if self.more_data and any(map(has_masks, data)):
            raise SettingsError(
                "Data sets of object masks cannot be mixed.",
                field="data",
                value=list(data),
                remedy="Name one data set, or none with masks.",
            )
        if (self.more_data or self.epoch_photos is not None) and self.targets != "truth":
            raise SettingsError(
                "What is mixed, or drawn anew for each epoch, trains on truths alone.",
                field="targets",
                value=self.targets,
                remedy="Name one data set, without a number of photos.",
            )
        if self.epoch_photos is not None:
            require_at_least(self, {"epoch_photos": 1})
        require_data_weights(self.data_weights, 1 + len(self.more_data))


def weights_folder() -> Path:
    """Where published weights lie: SALNAS_WEIGHTS, else `../shared/weights` beside the checkout."""
    configured = os.environ.get(WEIGHTS_VARIABLE)
    if configured:
        return Path(configured).expanduser()
    return Path(__file__).resolve().parents[2] / "shared" / "weights"


def run_job(
    job: Job, config: FinetuneConfig, *, command: str = "", progress: StageProgress = lambda *_: None
) -> dict[str, Any]:
    """Train, save and score a network; returns its card, which lies beside the file too.

    Raises SettingsError, DataError, CheckpointError and InvalidArch.
    """
    began = time.time()
    torch.manual_seed(config.seed)
    net, pretrained = starting_net(job)
    if job.prune is not None:
        net = pruned(net, job.prune)
    training, held_out = training_photos(job, net)
    teacher = open_teacher(job) if job.targets != "truth" or config.hint_epochs else None
    if job.targets == "teacher" and teacher is not None and isinstance(training, TrainingCache):
        training = taught(teacher, training, progress=progress)
    if job.start == "imagenet" or (job.start == "weights" and _is_new_to_fixations(job.network)):
        settle(net, training)
    if job.targets == "both" and teacher is not None and isinstance(training, TrainingCache):
        training = mixed(training, taught(teacher, training, progress=progress))
    history = finetune(
        net,
        training,
        config,
        held_out=None if has_masks(job.data) or not len(held_out) else held_out,
        teacher=teacher,
        pretrained=pretrained,
        state=Path(job.out).with_suffix(".state"),
        progress=progress,
    )
    macs, parameters = complexity(net, net.resolution)
    card = {
        "network": job.network,
        "command": command,
        "parameters": parameters,
        "macs": macs,
        "resolution": list(net.resolution),
        "data": ", ".join((job.data, *job.more_data)),
        "data_weights": list(job.data_weights),
        "training_photos": len(training),
        "start": job.start,
        "targets": job.targets,
        "teacher": job.teacher if teacher is not None else None,
        "prune": job.prune,
        "settings": asdict(config),
        "history": [asdict(report) for report in history],
        "seconds": round(sum(report.seconds for report in history), 1),
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    save_net(job.out, net, card, job.network if job.network in model_names() else None)
    card["sha256"] = hashlib.sha256(Path(job.out).read_bytes()).hexdigest()
    card["size_bytes"] = Path(job.out).stat().st_size
    card["scores"] = _scores(job, load_net(job.out)[0], progress)
    card["seconds_in_all"] = round(time.time() - began, 1)
    write_atomic(Path(job.out).with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return card


def starting_net(job: Job) -> tuple[FixedNet, tuple[str, ...]]:
    """The network before training, and how the names of its pretrained parameters begin."""
    name = job.network
    if name.endswith(".safetensors"):
        net = load_net(name)[0]
        pretrained: tuple[str, ...] = ("",)
    elif name in model_names():
        folder = None if job.start == "random" else weights_folder()
        usable = folder is not None and (find_model(name).weights or find_model(name).start_weights)
        net = build(name, folder if usable else None)
        pretrained = ("net.encoder.",) if usable and isinstance(net.net, FastSal | DecodedBackbone) else ()
    else:
        net = _starting_subnet(job)
        pretrained = () if job.start == "random" else ("stem.", "stages.", "last.")
    if job.resolution is not None and isinstance(net, ReferenceNet):
        net.resolution = job.resolution
    return net, pretrained


def _is_new_to_fixations(network: str) -> bool:
    return network in model_names() and find_model(network).start_weights is not None


def _starting_subnet(job: Job) -> SaliencyNet:
    if job.start == "weights":
        return subnet_of(job.supernet, job.network)
    space = get_space("salnas")
    supernet = Supernet(space)
    if job.start == "imagenet":
        photos = _calibration(_photos_of(job, (288, 384)), min(space.resolutions))
        warm_start(supernet, load_source(weights_folder() / WEIGHTS_FILE), torch.cat(photos))
    return extract(supernet, space.parse_arch(job.network)).train()


def subnet_of(supernet: Path | None, text: str) -> SaliencyNet:
    """A subnet of a supernet's file, in evaluation mode. Raises CheckpointError without one, InvalidArch."""
    if supernet is None:
        raise CheckpointError(
            "A subnet needs a supernet.", field="supernet", remedy="Name its file with --supernet."
        )
    loaded, _ = load_supernet(supernet)
    return extract(loaded, loaded.space.parse_arch(text))


def open_teacher(job: Job) -> SaliencyNet:
    """The teacher of a job. Raises SettingsError where it is no subnet."""
    found = (
        load_net(job.teacher)[0]
        if job.teacher.endswith(".safetensors")
        else subnet_of(job.supernet, job.teacher)
    )
    if not isinstance(found, SaliencyNet):
        raise SettingsError(
            f"{job.teacher} is no subnet.", field="teacher", value=job.teacher, remedy="Name a subnet."
        )
    return found.eval()


def pruned(net: FixedNet, threshold: float) -> FixedNet:
    """A copy without the channels whose batch-norm scale is below `threshold`. Raises SettingsError for FastSal."""
    if isinstance(net, SaliencyNet):
        return prune_bottlenecks(net, threshold, multiple=FAST_MULTIPLE)
    if isinstance(net.net, CSNet):
        small = ReferenceNet(prune_csnet(net.net, threshold), net.resolution)
        small.renormalise, small.scale, small.shift = net.renormalise, net.scale, net.shift
        return small
    raise SettingsError(
        "Channels of a CSNet or a subnet can be removed, of no other network.",
        field="prune",
        value=threshold,
        remedy="Leave --prune out.",
    )


# --- photos ---------------------------------------------------------------------------------------------


def has_masks(data: str) -> bool:
    """Whether a data set, by name or folder, holds object masks."""
    if data == "ecssd":
        return True
    layout = find_layout(Path(data)) if Path(data).is_dir() else None
    return layout is not None and layout[0] == "photos with object masks"


def training_photos(job: Job, net: FixedNet) -> tuple[Source, TrainingCache]:
    """Photos that train, and those of `job.data` that are held out."""
    training, held_out = _first_photos(job, net)
    if not job.more_data and job.epoch_photos is None:
        return training, held_out
    others = (_human_maps(name) for name in job.more_data)
    return mix([training, *others], job.data_weights or None, job.epoch_photos), held_out


def _first_photos(job: Job, net: FixedNet) -> tuple[TrainingCache, TrainingCache]:
    found = _photos_of(job, net.resolution)
    kept = len(found) - job.held_out
    if kept < 2:
        raise SettingsError(
            f"Of {len(found)} photos, {job.held_out} are held out.",
            field="held_out",
            value=job.held_out,
            remedy="Hold out fewer photos.",
        )
    train_on = min(kept, job.limit) if job.limit else kept
    return found.part(0, train_on), found.part(kept, len(found))


def _photos_of(job: Job, size: tuple[int, int]) -> TrainingCache:
    if has_masks(job.data):
        dataset = open_dataset(job.data, split="all")
        return mask_photos(dataset, range(len(dataset)), size)
    if job.targets == "teacher" and Path(job.data).is_dir() and find_layout(Path(job.data)) is None:
        return folder_photos(job.data, size)
    return _human_maps(job.data)


def _human_maps(data: str) -> TrainingCache:
    # The size of a supernet's training, so that its cache serves here too.
    return saliency_photos(open_dataset(data, split="train"), max(get_space("salnas").resolutions))


def _calibration(photos: Source, size: tuple[int, int]) -> list[Tensor]:
    found, _, _ = photos.take(np.arange(min(_CALIBRATION, len(photos))))
    parts = (torch.from_numpy(found[start : start + 16]) for start in range(0, len(found), 16))
    return [resize_photos(normalise(images), size) for images in parts]


def settle(net: FixedNet, training: Source) -> None:
    """Make a network that never saw fixations ready to learn: it begins with the logits of the truths.

    Folded batch norms of ImageNet weights get the statistics of photos.
    """
    if isinstance(net, SaliencyNet):
        begin_with_truths(net, training)
    elif isinstance(net.net, FastSal | CSNet | DecodedBackbone):
        photos = _calibration(training, net.resolution)
        if isinstance(net.net, FastSal):
            refill_batch_norms(net.net.encoder, photos)
        mean, deviation = logits_of_truths(training)
        readout = net.net.readout
        assert readout.bias is not None
        # What a random decoder with batch norms says is of that size in training mode alone.
        net.train(isinstance(net.net, DecodedBackbone))
        with torch.no_grad():
            logits = net.logits(photos[0])
            scale = deviation / logits.std().clamp_min(_SMALLEST_SPREAD)
            readout.weight.mul_(scale)
            readout.bias.add_(mean - scale * logits.mean() - (1 - scale) * readout.bias)


# --- scores ---------------------------------------------------------------------------------------------


def _scores(job: Job, net: FixedNet, progress: StageProgress) -> dict[str, Any]:
    """On validation photos, or on the masks that were held out; none where the data have no truths."""
    if has_masks(job.data):
        dataset = open_dataset(job.data, split="all")
        assert isinstance(dataset, MaskDataset)
        start = len(dataset) - job.held_out
        last = replace(dataset, photos=dataset.photos[start:], masks=dataset.masks[start:])
        found = evaluate_masks(
            mask_predictor(net), last, progress=lambda done, total: progress("scores", done, total)
        )
        return {f"{job.data}, last {found.n}": asdict(found)}
    try:
        photos = build_evaluation_set(open_dataset(job.data, split="val"), resolutions=[net.resolution])
    except DataError:
        return {}
    return {f"{job.data} validation": evaluate_net(net, photos).to_json()}


def mask_predictor(net: FixedNet) -> Callable[[npt.NDArray[np.uint8]], Tensor]:
    """A photo (H, W, 3) uint8 → its map (H, W) in [0, 1], resized as CSNet's authors do."""
    net.eval()

    @torch.inference_mode()
    def predict(image: npt.NDArray[np.uint8]) -> Tensor:
        found = net(to_tensor(Image.fromarray(image), net.resolution))
        return resize_maps(found, (image.shape[0], image.shape[1]))[0]

    return predict


def open_network(name: str, results: Path) -> FixedNet:
    """A reference model with its trained or published weights, a file, or a model with random weights.

    Raises InvalidArch for an unknown name, CheckpointError for weights that are damaged or missing.
    """
    if name.endswith(".safetensors"):
        return load_net(name)[0]
    model = find_model(name)
    trained = trained_file(results, name)
    if trained:
        return load_net(trained)[0]
    return build(name, weights_folder() if model.weights else None)
