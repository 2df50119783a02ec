"""Reference models beside subnets: scores on OSIE validation, latency, throughput, energy, and who dominates whom.

Every network is exported by the same exporter and timed by the code that times subnets, in turns, so that the
machine's drift meets all alike. Scores are kept from the last run for weights that have not changed: those of OSIE
validation, and those of the held-out training photos that predicted accuracies speak of, for charts beside a front.
Trained weights that are not at hand count as unchanged, since times depend on no weights.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.backbones import BACKBONES, open_backbone
from benchmarks.report import OUT, publish
from predictors.collect import LastPhotos
from predictors.devices import load_device
from predictors.runtimes import describe_machine
from service.settings import Settings
from service.workbench import SearchRequest, Workbench
from supernet.baselines.measured import (
    FOLDER,
    MEASURED,
    Dominance,
    Point,
    dominance,
    load_measured,
    weights_of,
)
from supernet.baselines.registry import find_model
from supernet.data.registry import open_dataset
from supernet.data.sample import Dataset
from supernet.errors import DataError
from supernet.evaluate import build_evaluation_set, evaluate_masks, evaluate_net
from supernet.export import export_onnx, export_reference
from supernet.files import write_atomic
from supernet.network import SaliencyNet
from supernet.runtime import measure_latency, onnx_session
from supernet.workshop import FixedNet, mask_predictor, open_network

MODELS = ("fastsal-a", "fastsal-c", "csnet-x1", "csnet-x2", "csnet-x1-fixations", "csnet-x2-fixations")
METRICS = ("cc", "kld", "nss", "sim", "auc")
DEVICES = {1: "cpu-1-thread", 2: "cpu-2-threads"}
SMALLER_BATCH = {"fastsal-c": 8}
"""Its 1408 channels at half resolution would take gigabytes."""
HELD_OUT = 80
"""Last photos of OSIE's training part: those on which `predictors.collect` evaluates subnets."""
ALONE = "subnet-min"
"""XS trained by itself, from ImageNet weights and under the rivals' recipe, by `make train-models`."""
WATTED_SECONDS = 2.0
COMMAND = "make bench-models"
NOTE = (
    "Latency: onnxruntime, batch 1, medians of runs in turns; throughput at batch 64 (FastSal C: 8), both wall time "
    "that other work on the machine lengthens, alike for all rows: compare rows, not machines. Energy and CO₂ are "
    "estimates of CodeCarbon (offline, from the processor's model and load), one thread. CC: OSIE validation, 200 "
    "photos; the rows without one have random weights. CSNet finds salient objects; the rows called fixations are "
    "its authors' weights, trained further on OSIE. EfficientNet: MONAI's, under our decoder. What is trained, "
    "FastSal and XS alone too, is so by `make train-models`: one recipe."
)


@dataclass
class Entry:
    """A network under measurement."""

    name: str
    title: str
    kind: str
    weights: str
    key: str
    net: FixedNet
    macs: int = 0
    parameters: int = 0
    file: Path = Path()


def gather(
    bench: Workbench,
    models: list[str],
    front_subnets: int,
    evaluations: int,
    results: Path,
    known: dict[str, Any],
) -> tuple[list[Entry], list[str]]:
    """Reference models, and the subnets: XS, XL, and some of a front that is searched for here.

    `known` are the models of the last run.
    """
    from supernet.checkpoint import file_fingerprint

    entries = []
    for name in models:
        model = find_model(name)
        net = open_network(name, results)
        trained = results / FOLDER / f"{name}.safetensors"
        key = file_fingerprint(trained) if trained.exists() else f"{name} {model.weights}"
        entry = Entry(name, model.title, "model", weights_of(results, model), key, net)
        entries.append(as_last_time(entry, known))
    alone = results / FOLDER / f"{ALONE}.safetensors"
    if alone.exists():
        net = open_network(str(alone), results)
        entries.append(Entry(ALONE, "XS, trained alone", "alone", "trained", file_fingerprint(alone), net))
    elif ALONE in known:
        net = bench.net(bench.space.smallest())
        entries.append(as_last_time(Entry(ALONE, "XS, trained alone", "alone", "random", "", net), known))
    entries += backbones()
    result = bench.search(SearchRequest(seed=0, evaluations=evaluations))
    front = result.front.sort_values("latency_ms")
    at = np.linspace(0, len(front) - 1, front_subnets).round().astype(int)
    chosen = {bench.space.id_of(bench.space.smallest()): "XS", str(result.knee): "knee"}
    chosen |= {bench.space.id_of(bench.space.largest()): "XL"}
    ids = [*chosen, *(i for i in front["id"].iloc[at] if i not in chosen)]
    for subnet in ids:
        net = bench.net(bench.space.arch_of_id(subnet))
        key = f"{bench.file.fingerprint} {subnet}"
        entries.append(Entry(subnet, chosen.get(subnet, subnet), "subnet", "supernet", key, net))
    return entries, ids


def as_last_time(entry: Entry, known: dict[str, Any]) -> Entry:
    """The entry as the last run knew it, where trained weights were there then and are not now."""
    old = known.get(entry.name, {})
    if entry.weights == "trained" or old.get("weights") != "trained":
        return entry
    print(f"The trained weights of {entry.title} are not here: its scores are those of the last run.")
    return replace(entry, weights="trained", key=old["key"])


def backbones() -> list[Entry]:
    """Those of other papers with random weights; none without MONAI."""
    try:
        return [Entry(name, name, "backbone", "random", name, open_backbone(name)) for name in BACKBONES]
    except ImportError:
        print("No EfficientNet: `pip install monai`")
        return []


def export_all(entries: list[Entry], folder: Path) -> None:
    """One ONNX file each; costs come from the file."""
    import onnx

    for entry in entries:
        entry.file = folder / f"{entry.name}.onnx"
        if isinstance(entry.net, SaliencyNet):
            export_onnx(entry.net, entry.file)
        else:
            export_reference(entry.net, entry.file, name=entry.name)
        kept = {p.key: p.value for p in onnx.load(entry.file).metadata_props}
        entry.macs, entry.parameters = int(kept["macs"]), int(kept["parameters"])


def score_all(
    entries: list[Entry], known: dict[str, Any], field: str, dataset: Dataset, limit: int | None
) -> dict[str, dict[str, float]]:
    """Scores on a data set by name; those of unchanged weights are taken from `known`, random ones have none."""
    found: dict[str, dict[str, float]] = {}
    missing = []
    for entry in entries:
        old = known.get(entry.name, {})
        if entry.weights == "random":
            continue
        if old.get("key") == entry.key and old.get(field) and limit is None:
            found[entry.name] = old[field]
        else:
            missing.append(entry)
    if not missing:
        return found
    sizes = sorted({entry.net.resolution for entry in missing})
    photos = build_evaluation_set(dataset, limit, resolutions=sizes)
    for entry in missing:
        began = time.perf_counter()
        scores = evaluate_net(entry.net, photos).to_json()
        found[entry.name] = {metric: float(scores[metric] or 0.0) for metric in METRICS}
        print(
            f"{entry.title}, {field}: CC {scores['cc']:.4f} ({time.perf_counter() - began:.0f} s)", flush=True
        )
    return found


def validation() -> Dataset:
    """The photos of the tables."""
    return open_dataset("osie", split="val")


def held_out() -> Dataset:
    """The photos of the charts."""
    return LastPhotos(open_dataset("osie", split="train"), HELD_OUT)


def object_scores(entries: list[Entry], known: dict[str, Any], limit: int | None) -> dict[str, Any]:
    """Max F-measure and MAE on ECSSD of the models that find salient objects; kept for unchanged weights."""
    found: dict[str, Any] = {}
    for entry in entries:
        if entry.kind != "model" or find_model(entry.name).task != "salient object":
            continue
        old = known.get(entry.name, {})
        if limit is None and old.get("key") == entry.key and old.get("object_scores"):
            found[entry.name] = old["object_scores"]
            continue
        scores = evaluate_masks(mask_predictor(entry.net), open_dataset("ecssd", split="all"), limit=limit)
        found[entry.name] = {"data": "ecssd", "max_f": scores.max_f, "mae": scores.mae}
        print(f"{entry.title}: max F {scores.max_f:.4f}, MAE {scores.mae:.4f} on ECSSD", flush=True)
    return found


def time_all(entries: list[Entry], threads: int, rounds: int) -> dict[str, float]:
    """Milliseconds by name: the median over rounds, in each of which all networks run in a random order."""
    sessions = {entry.name: onnx_session(entry.file, threads) for entry in entries}
    rng = np.random.default_rng(threads)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name in rng.permutation(list(sessions)):
            times[name].append(measure_latency(sessions[name], runs=3, warm_up=1).median_ms)
    return {name: float(np.median(values)) for name, values in times.items()}


def throughput(entry: Entry) -> float:
    """Photos a second in one batch, one thread."""
    batch = SMALLER_BATCH.get(entry.name, 64)
    latency = measure_latency(onnx_session(entry.file, 1), runs=1, warm_up=0, batch=batch)
    return 1e3 * batch / latency.median_ms


def energy_all(entries: list[Entry], country: str) -> dict[str, tuple[float, float]]:
    """(watt hours, grams of CO₂) per 1000 photos by name; empty without CodeCarbon."""
    import logging

    try:
        from codecarbon import OfflineEmissionsTracker
    except ImportError:
        return {}
    logging.getLogger("codecarbon").disabled = True
    tracker = OfflineEmissionsTracker(
        country_iso_code=country, output_methods=[], log_level="critical", allow_multiple_runs=True
    )
    found = {}
    for entry in entries:
        session = onnx_session(entry.file, 1)
        measure_latency(session, runs=1)
        tracker.start_task(entry.name)
        began, photos = time.perf_counter(), 0
        while time.perf_counter() - began < WATTED_SECONDS:
            measure_latency(session, runs=5, warm_up=0)
            photos += 5
        spent = tracker.stop_task()
        share = 1000 / photos
        found[entry.name] = (1e3 * spent.energy_consumed * share, 1e3 * spent.emissions * share)
    tracker.stop()
    return found


def dominance_rows(
    entries: list[Entry], scores: dict[str, dict[str, float]], latencies: dict[str, dict[str, float]]
) -> list[dict[str, Any]]:
    """For each scored model and device, the subnets that beat it."""
    rows = []
    for device, times in latencies.items():
        points = {
            e.name: Point(e.name, times[e.name], scores[e.name]["cc"]) for e in entries if e.name in scores
        }
        subnets = [points[e.name] for e in entries if e.kind == "subnet" and e.name in points]
        for entry in entries:
            if entry.kind in ("model", "alone") and entry.name in points:
                found: Dominance = dominance(points[entry.name], subnets)
                rows.append(
                    {
                        "model": entry.name,
                        "device": device,
                        "ms": points[entry.name].latency_ms,
                        "CC": points[entry.name].score,
                        "best subnet as fast": found.faster or "none",
                        "CC gained": float("nan") if found.gained is None else found.gained,
                        "fastest subnet as good": found.better or "none",
                        "latency saved %": float("nan") if found.saved is None else 100 * found.saved,
                        "dominated": "yes" if found.is_dominated else "no",
                    }
                )
    return rows


def publish_dominance(
    rows: list[dict[str, Any]], supernet: str, subnets: int, about: dict[str, Any] | None = None
) -> None:
    """The table of who dominates whom; nothing where nothing was scored."""
    if rows:
        publish(
            "dominance",
            "Which of our subnets dominates a reference model",
            pd.DataFrame(rows),
            command=COMMAND,
            note=f"CC on OSIE validation, measured; subnets: {subnets} measured ones of {supernet}. "
            "Gained: of the best subnet that is at least as fast; saved: by the fastest that is at least as good.",
            about=about,
        )


def score_again(bench: Workbench, known: dict[str, Any], results: Path) -> None:
    """New weights of the supernet in the tables of the last run: times depend on no weights, and stay."""
    entries = []
    for subnet in known["subnets"]:
        net = bench.net(bench.space.arch_of_id(subnet))
        entries.append(Entry(subnet, subnet, "subnet", "supernet", f"{bench.file.fingerprint} {subnet}", net))
    for field, dataset in (("scores", validation()), ("held_out", held_out())):
        found = score_all(entries, known["subnets"], field, dataset, None)
        for entry in entries:
            known["subnets"][entry.name][field] = found[entry.name]
    for entry in entries:
        known["subnets"][entry.name]["key"] = entry.key
    known["fingerprint"] = bench.file.fingerprint
    table = json.loads((OUT / "models.json").read_text())
    for row in table["rows"]:
        name = row["network"].partition("(")[2].rstrip(")")
        if name in known["subnets"]:
            row["CC"] = known["subnets"][name]["scores"]["cc"]
    frame = pd.DataFrame(table["rows"])
    publish("models", "Reference models and subnets", frame, command=COMMAND, note=NOTE, about=table["about"])
    others = [
        Entry(name, name, "alone" if name == ALONE else "model", line["weights"], line["key"], entries[0].net)
        for name, line in known["models"].items()
        if line["scores"]
    ]
    both = known["models"] | known["subnets"]
    scores = {entry.name: both[entry.name]["scores"] for entry in entries + others}
    latencies = {
        device: {entry.name: both[entry.name]["latency_ms"][device] for entry in entries + others}
        for device in DEVICES.values()
    }
    publish_dominance(
        dominance_rows(others + entries, scores, latencies), bench.id, len(entries), table["about"]
    )
    write_atomic(results / FOLDER / MEASURED, json.dumps(known, indent=1) + "\n")


def charted_devices(bench: Workbench, results: Path) -> list[str]:
    """The devices whose tables are of this machine: only beside those may what is timed here be drawn."""
    here, found = describe_machine(), []
    for name in DEVICES.values():
        there = load_device(results / "predictors" / bench.id, name, bench.space).details
        if all(there.get(key) == value for key, value in here.items()):
            found.append(name)
        else:
            print(
                f"{name} was measured on another machine ({there.get('processor')}): charts leave latencies out"
            )
    return found


def _or_none(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What can be measured with the data at hand."""
    try:
        return measure()
    except DataError as error:
        print(f"Not scored: {error}")
        return {}


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="turns of every network")
    parser.add_argument("--front-subnets", type=int, default=6, help="subnets of the front to measure")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="reference models to measure")
    parser.add_argument("--evaluations", type=int, default=20_000, help="of the search for the front")
    parser.add_argument("--limit", type=int, help="photos to score on; all by default")
    parser.add_argument("--scores-only", action="store_true", help="score the subnets of the last run again")
    parser.add_argument("--country", default="THA", help="ISO code, for CO₂")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = Settings.from_environment().results
    bench = Workbench.open(results)
    known = load_measured(results)
    if options.scores_only:
        score_again(bench, known, results)
        return
    entries, subnets = gather(
        bench,
        options.models,
        options.front_subnets,
        options.evaluations,
        results,
        known.get("models", {}),
    )
    with tempfile.TemporaryDirectory() as folder:
        export_all(entries, Path(folder))
        latencies = {device: time_all(entries, n, options.rounds) for n, device in DEVICES.items()}
        shown = [e for e in entries if e.kind != "subnet" or e.title in ("XS", "knee", "XL")]
        photos_a_second = {entry.name: throughput(entry) for entry in shown}
        energy = energy_all(shown, options.country)
        sizes = {entry.name: entry.file.stat().st_size for entry in entries}
    old = known.get("models", {}) | known.get("subnets", {})
    scores = _or_none(lambda: score_all(entries, old, "scores", validation(), options.limit))
    charted = _or_none(lambda: score_all(entries, old, "held_out", held_out(), options.limit))
    objects = _or_none(lambda: object_scores(entries, old, options.limit))
    rows = [
        {
            "network": entry.title if entry.title == entry.name else f"{entry.title} ({entry.name})",
            "weights": entry.weights,
            "macs M": entry.macs / 1e6,
            "parameters K": entry.parameters / 1e3,
            "file MB": sizes[entry.name] / 1e6,
            "ms, 1 thread": latencies[DEVICES[1]][entry.name],
            "ms, 2 threads": latencies[DEVICES[2]][entry.name],
            "photos/s, batch 64": photos_a_second[entry.name],
            "Wh / 1000": energy.get(entry.name, (float("nan"),) * 2)[0],
            "g CO₂ / 1000": energy.get(entry.name, (float("nan"),) * 2)[1],
            "CC": scores.get(entry.name, {}).get("cc", float("nan")),
        }
        for entry in shown
    ]
    publish("models", "Reference models and subnets", pd.DataFrame(rows), command=COMMAND, note=NOTE)
    publish_dominance(dominance_rows(entries, scores, latencies), bench.id, len(subnets))
    devices = charted_devices(bench, results)
    parts: dict[str, dict[str, Any]] = {"models": {}, "subnets": {}}
    for entry in entries:
        part = "subnets" if entry.kind == "subnet" else "models"
        parts[part][entry.name] = {
            "weights": entry.weights,
            "key": entry.key,
            "scores": scores.get(entry.name, {}),
            "held_out": charted.get(entry.name, {}),
            **({"object_scores": objects[entry.name]} if entry.name in objects else {}),
            "latency_ms": {device: latencies[device][entry.name] for device in devices},
        }
    content = {
        "supernet": bench.id,
        "fingerprint": bench.file.fingerprint,
        "command": COMMAND,
        "machine": describe_machine(),
        **parts,
    }
    if options.limit is None and options.models == list(MODELS):
        write_atomic(results / FOLDER / MEASURED, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
