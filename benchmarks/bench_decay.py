"""Channels that fade: CSNet ×1 from random weights with dynamic and with standard decay, and a pruned XS subnet.

CSNet learns on ECSSD's first 800 photos and is tested on its last 200, whole and with the weakest channels cut out.
XS of the default supernet is trained on with dynamic decay, pruned, trained again, scored and timed. Small: the
scale stands in the tables' notes. Trainings are kept in var/bench-decay; those that were interrupted continue.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import ROOT, publish
from service.settings import Settings
from service.supernets import find_supernet
from supernet.baselines.csnet import CSNet, ILBlock, NormAct
from supernet.baselines.registry import ReferenceNet, complexity
from supernet.checkpoint import file_fingerprint
from supernet.data.files import MaskDataset
from supernet.data.registry import open_dataset
from supernet.evaluate import build_evaluation_set, evaluate_masks, evaluate_net
from supernet.export import export_onnx
from supernet.finetune import FinetuneConfig
from supernet.fixed import load_net
from supernet.network import SaliencyNet
from supernet.processor import chosen_precision
from supernet.prune import FAST_MULTIPLE, prune_bottlenecks, watched_layers
from supernet.runtime import measure_latency, onnx_session
from supernet.workshop import FixedNet, Job, mask_predictor, pruned, run_job, subnet_of

SHARES = (0.0, 0.1, 0.2, 0.4)
"""Of the channels, weakest first, that are cut out."""
TEST = 200


def trained(job: Job, config: FinetuneConfig) -> FixedNet:
    """The network of a job, trained now unless it was before."""
    if not Path(job.out).exists():
        run_job(job, config)
    return load_net(job.out)[0]


def scales(net: nn.Module) -> torch.Tensor:
    """|γ| of everything whose channels can be removed: behind the gOctConvs, or in the bottlenecks."""
    if isinstance(net, ReferenceNet) and isinstance(net.net, CSNet):
        blocks = [m.mix for m in net.net.modules() if isinstance(m, ILBlock)]
        scaled = [cast(NormAct, s) for block in blocks for s in block.scales.values()]
        norms = [s.norm for s in scaled]
    else:
        norms = list(watched_layers(net))
    return torch.cat([norm.weight.detach().abs() for norm in norms])


@torch.no_grad()
def spread_of_outputs(net: FixedNet, photos: torch.Tensor) -> float:
    """Standard deviation between the mean outputs of a layer's channels, mean of all watched layers (Figure 4)."""
    found: list[float] = []
    hooks = [
        layer.register_forward_hook(
            lambda m, i, o: found.append(float(o.mean(dim=(0, 2, 3)).std(unbiased=False)))
        )
        for layer in watched_layers(net.net if isinstance(net, ReferenceNet) else net).values()
    ]
    net(photos)
    for hook in hooks:
        hook.remove()
    return float(np.mean(found))


def csnet_rows(folder: Path, side: int, epochs: int) -> list[dict[str, Any]]:
    """CSNet ×1 under both decays, whole and pruned."""
    dataset = open_dataset("ecssd", split="all")
    assert isinstance(dataset, MaskDataset)
    start = len(dataset) - TEST
    test = replace(dataset, photos=dataset.photos[start:], masks=dataset.masks[start:])
    rows = []
    for decay in ("standard", "dynamic"):
        config = FinetuneConfig(
            epochs=epochs,
            batch_size=16,
            loss="binary",
            optimizer="adam",
            learning_rate=5e-3,
            weight_decay=5e-3,
            decay=decay,
            threads=1,
        )
        job = Job(
            "csnet-full-x1",
            folder / f"csnet-{decay}-{side}-{epochs}.safetensors",
            data="ecssd",
            start="random",
            held_out=TEST,
            resolution=(side, side),
        )
        net = trained(job, config)
        gamma = scales(net)
        spread = spread_of_outputs(net, torch.rand(4, 3, side, side, generator=torch.manual_seed(0)) * 2 - 1)
        for share in SHARES:
            threshold = float(gamma.quantile(share)) if share else 0.0
            small = pruned(net, threshold)
            scores = evaluate_masks(mask_predictor(small), test)
            macs, parameters = complexity(small, small.resolution)
            rows.append(
                {
                    "decay": decay,
                    "channels cut %": 100 * share,
                    "parameters K": parameters / 1e3,
                    "macs M": macs / 1e6,
                    "max F": scores.max_f,
                    "MAE": scores.mae,
                    "median |γ|": float(gamma.median()),
                    "|γ| < 0.01 %": 100 * float((gamma < 0.01).float().mean()),
                    "spread of outputs": spread,
                }
            )
            print(rows[-1], flush=True)
    return rows


def subnet_rows(folder: Path, epochs: int, share: float, limit: int | None) -> list[dict[str, Any]]:
    """XS as it ships, and with its weakest channels cut out after dynamic decay."""
    settings = Settings.from_environment()
    supernet = find_supernet(settings.results, settings.supernet).path
    mark = file_fingerprint(supernet)
    config = FinetuneConfig(
        epochs=epochs,
        optimizer="adam",
        learning_rate=5e-4,
        decay="dynamic",
        precision=chosen_precision("auto"),
        threads=1,
    )
    faded = trained(Job("min", folder / f"xs-{mark}.safetensors", supernet=supernet), config)
    threshold = float(scales(faded).quantile(share))
    job = Job(
        str(folder / f"xs-{mark}.safetensors"), folder / f"xs-pruned-{mark}.safetensors", prune=threshold
    )
    small = trained(job, replace(config, decay="standard"))
    cut = f"XS, {100 * share:.0f} % cut"
    nets = {
        "XS": subnet_of(supernet, "min"),
        "XS, trained on": faded,
        cut: small,
        f"{cut} without regard to multiples": prune_bottlenecks(cast(SaliencyNet, faded), threshold),
    }
    photos = build_evaluation_set(open_dataset("osie", split="val"), limit, resolutions=[small.resolution])
    rows = []
    with tempfile.TemporaryDirectory() as place:
        sessions = {}
        for number, (name, net) in enumerate(nets.items()):
            assert isinstance(net, SaliencyNet)
            export_onnx(net, Path(place) / f"{number}.onnx")
            sessions[name] = onnx_session(Path(place) / f"{number}.onnx", 1)
        times: dict[str, list[float]] = {name: [] for name in nets}
        for _ in range(9):
            for name in np.random.default_rng(0).permutation(list(nets)):
                times[name].append(measure_latency(sessions[name], runs=5, warm_up=1).median_ms)
        for name, net in nets.items():
            macs, parameters = complexity(net, net.resolution)
            scores = evaluate_net(net, photos).to_json()
            rows.append(
                {
                    "network": name,
                    "parameters K": parameters / 1e3,
                    "macs M": macs / 1e6,
                    "ms, 1 thread": float(np.median(times[name])),
                    "CC": scores["cc"],
                    "NSS": scores["nss"],
                }
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Train, score and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("csnet", "xs"), help="one of the two tables")
    parser.add_argument("--side", type=int, default=64, help="height and width of CSNet's photos")
    parser.add_argument("--epochs", type=int, default=5, help="passes of CSNet")
    parser.add_argument("--subnet-epochs", type=int, default=2, help="passes of XS, before and after pruning")
    parser.add_argument("--share", type=float, default=0.3, help="channels of XS that are cut")
    parser.add_argument("--limit", type=int, help="validation photos for XS; all by default")
    parser.add_argument("--fresh", action="store_true", help="train again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = ROOT / "var" / "bench-decay"
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if options.only != "xs":
        publish(
            "decay",
            "CSNet ×1 from random weights: dynamic and standard decay",
            pd.DataFrame(csnet_rows(folder, options.side, options.epochs)),
            command=" ".join(["python benchmarks/bench_decay.py", *sys.argv[1:]]),
            note=f"ECSSD, first 800 photos to learn, last {TEST} to test; {options.side}x{options.side}, "
            f"{options.epochs} epochs, Adam 5e-3 with a cosine, batch 16, one seed; weight decay 5e-3, dynamic: λ 3. "
            "No fine-tuning after the cut. Spread: of the mean outputs between a layer's channels, on noise. The "
            "paper trains 300 epochs at 224x224, whose scales fall under 1e-20; here the weakest are cut, whatever "
            "their size.",
        )
    if options.only != "csnet":
        publish(
            "pruned-xs",
            "XS with its weakest channels cut out",
            pd.DataFrame(subnet_rows(folder, options.subnet_epochs, options.share, options.limit)),
            command=" ".join(["python benchmarks/bench_decay.py", *sys.argv[1:]]),
            note=f"{options.subnet_epochs} epochs on OSIE's first 420 training photos with dynamic decay; the "
            f"weakest {100 * options.share:.0f} % of the bottlenecks' channels removed, as far as multiples of "
            f"{FAST_MULTIPLE} stay; {options.subnet_epochs} more epochs (none in the last row). OSIE validation; "
            "latency in turns, wall time.",
        )


if __name__ == "__main__":
    main()
