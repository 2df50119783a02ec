"""Use cases on one supernet, shared by the command line and the service: describe, search, export, predict, evaluate.

Opening a workbench reads a header; weights, predictors and torch are loaded when first needed, once. Nothing
about a workbench changes afterwards, so any number of threads may use it.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from service.estimates import COSTS, ENERGY, LATENCY, METRICS, Choice, Estimates, load_estimates
from service.supernets import SupernetFile, find_supernet
from supernet.cost import Operation, cost, layer_table
from supernet.errors import CheckpointError, DeviceError, InvalidArch, SettingsError
from supernet.formats import check_precision
from supernet.space import Arch, Rows, Space, get_space, list_spaces

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from predictors.devices import Device
    from predictors.latency import LatencyPredictor
    from search.again import Again
    from search.engine import Generation
    from search.executors import Executor
    from search.instruments import LatencyMeter
    from search.islands import Ring
    from search.measuring import Measurement, Outcome
    from search.problem import Objective
    from search.record import Record
    from search.run import SearchResult, Stop
    from search.stored import SavedFront
    from search.verify import Round, Verified
    from service.fronts import StoredFront
    from supernet.evaluate import Evaluation
    from supernet.export import ExportReport, Precision
    from supernet.network import SaliencyNet, Supernet
    from supernet.onnx_net import OnnxNet

T = TypeVar("T")

DEFAULT_OBJECTIVES = ("accuracy", "latency_ms")
DEFAULT_CHOICE = Choice("cc", "cpu-1-thread")
CACHED_NETS = 8
FRONT_TABLE = "subnets.csv"
"""File, in the folder of a search, of its front as a table for people: with intervals and what was measured."""
PREDICTED_SEARCH = "predicted"
"""Folder, in that of a verified search, of the search by predictions that it begins with."""


@dataclass(frozen=True)
class SearchRequest:
    """What to search for. `constraints` as users write them: latency_ms<=30, accuracy>=0.7, mb3.kernel==3.

    `device` is the one that latency_ms and energy_mj mean, `metric` the one that accuracy means. Without evaluations,
    generations or seconds the search ends when the front stops growing. Raises SettingsError.
    """

    objectives: tuple[str, ...] = DEFAULT_OBJECTIVES
    constraints: tuple[str, ...] = ()
    device: str = DEFAULT_CHOICE.device
    metric: str = DEFAULT_CHOICE.metric
    seed: int = 0
    evaluations: int | None = None
    generations: int | None = None
    seconds: float | None = None
    engine: str = "nsga2"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise SettingsError(
                f"The seed is {self.seed}.", field="seed", value=self.seed, remedy="It is 0 or above."
            )
        if self.metric not in METRICS:
            raise SettingsError(
                f"There is no metric {self.metric!r}.",
                field="metric",
                value=self.metric,
                remedy=f"Choose one of {', '.join(METRICS)}.",
            )
        self.stop()

    @property
    def choice(self) -> Choice:
        """What accuracy, latency_ms and energy_mj mean in this search."""
        return Choice(self.metric, self.device)

    def stop(self) -> Stop:
        """The stop condition."""
        from search.run import DEFAULT_STOP, Stop

        if self.evaluations is None and self.generations is None and self.seconds is None:
            return DEFAULT_STOP
        return Stop(evaluations=self.evaluations, generations=self.generations, seconds=self.seconds)

    def parsed_objectives(self) -> tuple[Objective, ...]:
        """The objectives with their directions; an accuracy measured by KLD is better when lower."""
        from search.problem import Objective

        found = tuple(Objective.parse(text) for text in self.objectives)
        if self.metric != "kld":
            return found
        return tuple(
            Objective("accuracy", "min") if text.strip() == "accuracy" else objective
            for text, objective in zip(self.objectives, found, strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Verification:
    """How a front is verified: at most `measurements` subnets are evaluated on the last `photos` of the training
    split of `data`, which no supernet is trained on, and timed."""

    measurements: int = 64
    data: str = "osie"
    photos: int = 80


class Workbench:
    """One supernet with its predictors, and what can be done with them."""

    def __init__(self, results: Path, file: SupernetFile, *, cached_nets: int = CACHED_NETS) -> None:
        self.results = results
        self.file = file
        self._supernet = _Once(self._load_supernet)
        self._estimates = _Once(lambda: load_estimates(results, file))
        self._net = lru_cache(maxsize=cached_nets)(self._extract)
        self._fast_net = lru_cache(maxsize=cached_nets)(self._convert)
        self._predictions = lru_cache(maxsize=cached_nets)(lambda arch: count())

    @classmethod
    def open(
        cls, results: Path, supernet: str | Path = "salnas-osie", *, cached_nets: int = CACHED_NETS
    ) -> Workbench:
        """Open the supernet with that id under `results`, or the one in a file given as a `Path`.

        Raises CheckpointError where there is none, or the file is corrupt or foreign.
        """
        return cls(results, find_supernet(results, supernet), cached_nets=cached_nets)

    @property
    def id(self) -> str:
        """Id of the supernet."""
        return self.file.id

    @property
    def space(self) -> Space:
        """The space of the supernet."""
        return self.file.space

    @property
    def estimates(self) -> Estimates:
        """Costs and predictors. Raises PredictorError where their files are corrupt or of another supernet."""
        return self._estimates.get()

    @property
    def supernet(self) -> Supernet:
        """The weights, in evaluation mode; loads torch."""
        return self._supernet.get()

    def arch(self, value: Any, *, files: bool = False) -> Arch:
        """max, min, random:SEED, an id, plain data or genotype → subnet (see `parse_arch`)."""
        return parse_arch(self.space, value, files=files)

    def net(self, arch: Arch) -> SaliencyNet:
        """The subnet as a module in evaluation mode; the last few are kept. Do not change it."""
        return self._net(arch)

    def describe(self, arch: Arch, choice: Choice = DEFAULT_CHOICE) -> dict[str, Any]:
        """All that is known of a subnet as plain data (see `describe_subnet`)."""
        return describe_subnet(self.estimates, arch, choice)

    def search(
        self,
        request: SearchRequest,
        *,
        on_generation: Callable[[Generation], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        directory: Path | None = None,
        resume: bool = False,
        save_every: float = 5.0,
        warm_start: Rows | None = None,
        ring: Ring | None = None,
        executor: Executor | None = None,
    ) -> SearchResult:
        """Search the space for the Pareto front that `request` asks for, beginning with `warm_start` (k, d).

        With `directory` a record is left there, its state every `save_every` seconds, from which `resume`
        continues. With a `ring` there are islands, each computed by `executor` (default: here, in turn).
        Raises InvalidConstraint, InfeasibleBudget (says what is possible), SettingsError (islands of another
        engine than nsga2), PredictorError and DeviceError (a predictor is missing).
        """
        from search.executors import InProcess
        from search.islands import search_islands
        from search.run import search

        names, objectives = self._wanted(request)
        if ring is None:
            find = partial(search, engine=request.engine)
        elif request.engine == "nsga2":
            find = partial(search_islands, ring=ring, executor=executor or InProcess())
        else:
            raise SettingsError(
                f"There are no islands of {request.engine}.",
                field="engine",
                value=request.engine,
                remedy="Choose nsga2, or leave the islands out.",
            )
        return find(
            self.space,
            partial(self.estimates.evaluate, names=names, choice=request.choice),
            objectives=objectives,
            constraints=request.constraints,
            seed=request.seed,
            stop=request.stop(),
            on_generation=on_generation,
            should_stop=should_stop,
            directory=directory,
            provenance=self._provenance(request),
            resume=resume,
            save_every=save_every,
            warm_start=warm_start,
        )

    def verify(
        self,
        request: SearchRequest,
        verification: Verification,
        *,
        on_generation: Callable[[Generation], None] | None = None,
        on_found: Callable[[SearchResult], None] | None = None,
        on_measured: Callable[[int, int], None] | None = None,
        on_round: Callable[[Round], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        directory: Path | None = None,
        resume: bool = False,
        save_every: float = 5.0,
        warm_start: Rows | None = None,
        ring: Ring | None = None,
        executor: Executor | None = None,
    ) -> Verified:
        """Search as `search` does, then measure what it found, correct the predictors and search on.

        `on_found` is called with what the search found, before anything is measured. The front that is returned
        holds measured subnets only. In `directory` every measured value is kept as soon as it is there, and used by
        the next call with that directory; `resume` continues the search before it too. Subnets are measured by
        `executor` (default: here, one after the other). Raises what `search` raises, DataError (no photos),
        DeviceError (a device that cannot be timed from here) and SettingsError (nothing to measure).
        """
        from search.verify import Effort, verify

        names, objectives = self._wanted(request)
        meters = self._meters(names, request.choice, verification, here=executor is None)
        effort = Effort(verification.measurements)
        found = self.search(
            request,
            on_generation=on_generation,
            should_stop=should_stop,
            directory=None if directory is None else directory / PREDICTED_SEARCH,
            resume=resume,
            save_every=save_every,
            warm_start=warm_start,
            ring=ring,
            executor=executor,
        )
        if on_found is not None:
            on_found(found)
        return verify(
            self.space,
            partial(self.estimates.evaluate, names=names, choice=request.choice),
            meters,
            objectives=objectives,
            constraints=request.constraints,
            seed=request.seed,
            effort=effort,
            warm_start=self.rows_of(found.front),
            executor=executor,
            on_round=on_round,
            on_measured=on_measured,
            should_stop=should_stop,
            directory=directory,
            provenance=self._provenance(request) | {"verification": asdict(verification)},
        )

    def measure(
        self,
        rows: Rows,
        names: Sequence[str],
        choice: Choice,
        *,
        data: str = Verification.data,
        photos: int = Verification.photos,
        directory: Path | None = None,
        on_measured: Callable[[int, int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Outcome | None:
        """Measure subnets (n, d) on this machine: `names` are accuracy (which gives all metrics) and latency_ms.

        Accuracy is on the last `photos` of the training split of `data`. In `directory` every value is kept as soon
        as it is there, and found again by the next call; `on_measured` is called then with how many there are and
        will be. Returns None where `should_stop` came first. Raises DataError (no photos), DeviceError (the device
        is unknown, or is not this machine), PredictorError (no subnet could be measured).
        """
        from search.executors import InProcess
        from search.measuring import Asker, MeasuredTable, Outcome

        meters = self._meters(names, choice, Verification(len(rows), data, photos), here=True)
        tables = [MeasuredTable(self.space, meter, directory) for meter in meters]
        asker = Asker(tables, InProcess(), len(rows), on_measured, should_stop)
        if len(asker.measure(rows)) < len(rows):
            return None
        columns = asker.values(rows)
        if all(np.isnan(column).all() for column in columns.values()):
            raise asker.refusal(rows)
        return Outcome(columns, tuple(asker.failures(rows)))

    def check_measurable(self, names: Sequence[str], choice: Choice) -> None:
        """Refuse columns that cannot be measured on any machine: DeviceError, SettingsError."""
        if not any(self.estimates.is_predicted(name) for name in names):
            raise SettingsError(
                "There is nothing to measure.",
                field="verify",
                value=list(names),
                remedy="Name accuracy or latency; costs are known without.",
            )
        self._devices_to_time(names, choice)

    def run_again(
        self, directory: Path, *, out: Path | None = None, executor: Executor | None = None
    ) -> tuple[Again, SearchRequest]:
        """Run the search recorded in `directory` again (see `search.again`), and what it was asked for.

        Raises CheckpointError where it is not the record of a search with this supernet.
        """
        from search.again import run_again
        from search.record import load_manifest

        provenance = load_manifest(directory).provenance
        if provenance.get("supernet_fingerprint") != self.file.fingerprint or "request" not in provenance:
            raise CheckpointError(
                f"The search in {directory} was not made with these weights of {self.id}.",
                field="supernet",
                value=provenance.get("supernet_fingerprint"),
                remedy="Name the supernet it was made with.",
            )
        asked = provenance["request"]
        names = ("objectives", "constraints")
        request = SearchRequest(**{**asked, **{name: tuple(asked[name]) for name in names}})
        columns, _ = self._wanted(request)
        verification = provenance.get("verification")
        meters = self._meters(columns, request.choice, Verification(**verification)) if verification else ()
        again = run_again(
            directory,
            self.space,
            partial(self.estimates.evaluate, names=columns, choice=request.choice),
            measurements=meters,
            executor=executor,
            out=out,
        )
        then, today = provenance.get("predictors", {}), self._predictor_fingerprints()
        refitted = {
            name: (then.get(name), today.get(name))
            for name in sorted({*then, *today})
            if then and then.get(name) != today.get(name)
        }
        return replace(again, differences={**again.differences, **refitted}), request

    def check(self, request: SearchRequest, *, verify: bool = False) -> None:
        """Refuse a request that cannot be searched for, or verified, with the errors of `search`; does not search."""
        from search.feasibility import feasible_rows
        from search.problem import make_problem

        names, objectives = self._wanted(request)
        if verify:
            self.check_measurable(names, request.choice)
        evaluate = lambda rows: self.estimates.evaluate(rows, names, request.choice)  # noqa: E731
        feasible_rows(make_problem(self.space, evaluate, objectives, request.constraints), request.seed)

    def front(self, result: SearchResult, request: SearchRequest) -> StoredFront:
        """The front of a finished search with every quantity that is known of its subnets."""
        from service.fronts import annotated

        rows = self.rows_of(result.front)
        return annotated(result.pareto, rows, self.estimates, request.choice, result.hypervolume)

    def front_json(self, result: SearchResult, request: SearchRequest) -> dict[str, Any]:
        """A finished search as plain data: the subnets of its front with predictions, and how it went.

        Of a verified one also `measurements`, `failures` and `rounds`.
        """
        from search.verify import Verified

        verified = result if isinstance(result, Verified) else None
        return {
            "supernet": self.id,
            "space": self.space.name,
            "objectives": [f"{o.direction}:{o.name}" for o in result.objectives],
            "constraints": list(request.constraints),
            "device": request.device,
            "accuracy_metric": request.metric,
            "seed": request.seed,
            "subnets": self.front(result, request).subnets(),
            "knee": result.knee,
            "hypervolume": result.hypervolume,
            "evaluations": result.evaluations,
            "evaluations_per_second": result.evaluations_per_second,
            "generations": result.generations,
            "seconds": result.seconds,
            "reason": result.reason,
            **({} if verified is None else measured_json(verified)),
        }

    def rows_of(self, front: pd.DataFrame) -> Rows:
        """The genotypes (n, d) of a front's table."""
        return rows_of_ids(self.space, front["id"].tolist())

    def devices(self) -> list[dict[str, Any]]:
        """The devices whose latency can be predicted, as plain data, with the held-out quality."""
        from predictors.devices import list_devices

        return [
            {
                "name": device.name,
                "runtime": device.runtime,
                "threads": device.threads,
                "description": device.description,
                "details": dict(device.details),
                "quality": device.predictor.quality.to_json(),
                "energy_quality": None if device.energy is None else device.energy.quality.to_json(),
                "held_out": device.predictor.held_out_to_json(),
            }
            for device in list_devices(self.results / "predictors" / self.id, self.space)
        ]

    def export(
        self,
        arch: Arch,
        path: Path,
        precision: str = "fp32",
        photos: Sequence[Image.Image] = (),
        form: str = "onnx",
    ) -> ExportReport:
        """Write a subnet in a format (see `supernet.formats`), checked against torch.

        `photos`, of any size, are what ONNX in int8 is calibrated on and checked with. Raises ExportError.
        """
        from supernet.export import export_coreml, export_onnx, export_openvino, export_torch
        from supernet.images import resize_photo

        check_precision(form, precision)
        net, metadata = self.net(arch), self._export_metadata(arch)
        if form == "torch":
            return export_torch(net, path, metadata=metadata)
        if form != "onnx":
            write = {"openvino": export_openvino, "coreml": export_coreml}[form]
            return write(net, path, metadata=metadata, precision=cast("Precision", precision))
        fitted = [np.asarray(resize_photo(photo, arch.resolution)).transpose(2, 0, 1) for photo in photos]
        return export_onnx(
            net,
            path,
            metadata=metadata,
            precision=cast("Precision", precision),
            photos=np.stack(fitted) if fitted else None,
            timed=True,
        )

    def predict(self, arch: Arch, image: Image.Image) -> NDArray[np.float32]:
        """The saliency map of a photo at its own size: (H, W) in [0, 1].

        The first photo of a subnet is seen by torch, which is ready sooner, the next ones by onnxruntime, which
        takes a third of the time; their maps differ by 1e-6.
        """
        from supernet.predict import predict_map

        is_first = next(self._predictions(arch)) == 0
        return predict_map(self.net(arch) if is_first else self._fast_net(arch), image)

    def evaluate(
        self,
        arch: Arch,
        data: str,
        *,
        split: str = "val",
        limit: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Evaluation:
        """Scores of a subnet on a named data set or a folder. Raises DataError."""
        from supernet.data.registry import open_dataset
        from supernet.evaluate import evaluate

        if limit is not None and limit < 1:
            raise SettingsError(
                f"The limit is {limit}.", field="limit", value=limit, remedy="It is 1 photo or more."
            )
        dataset = open_dataset(data, split=split)
        return evaluate(self.net(arch), dataset, limit=limit, progress=progress)

    def _wanted(self, request: SearchRequest) -> tuple[tuple[str, ...], tuple[Objective, ...]]:
        """Columns that the request needs, and its objectives; every mistake in names is told here."""
        from search.problem import Clause, make_problem

        estimates, choice = self.estimates, request.choice
        objectives = request.parsed_objectives()
        named = [o.name for o in objectives] + [Clause.parse(text).name for text in request.constraints]
        known = estimates.columns(choice)
        for name in named:
            if name not in known and estimates.is_predicted(name):
                estimates.predictor(name, choice)
        make_problem(
            self.space,
            lambda rows: estimates.evaluate(rows, known, choice),
            objectives,
            request.constraints,
        )
        return tuple(name for name in known if name in named), objectives

    def _meters(
        self, names: Sequence[str], choice: Choice, verification: Verification, *, here: bool = False
    ) -> list[Measurement]:
        """Instruments for the predicted ones among the columns `names`; with `here` for this machine."""
        from search.instruments import accuracy_meter

        timers = self._timers(names, choice)
        for timer in timers if here else ():
            timer.require_here()
        if not any(self.estimates.full_name(name, choice) in METRICS for name in names):
            return [*timers]
        meter = accuracy_meter(
            self.supernet,
            self.file.fingerprint,
            choice.metric,
            data=verification.data,
            photos=verification.photos,
        )
        return [*timers, meter]

    def _timers(self, names: Sequence[str], choice: Choice) -> list[LatencyMeter]:
        """Instruments for the latencies among the columns `names`. Raises DeviceError, also for an energy."""
        from search.instruments import latency_meter

        return [
            latency_meter(
                self.supernet,
                device,
                (f"{LATENCY}@{device.name}", *([LATENCY] if device.name == choice.device else [])),
            )
            for device in self._devices_to_time(names, choice)
        ]

    def _devices_to_time(self, names: Sequence[str], choice: Choice) -> list[Device]:
        """The devices whose latency is among the columns `names`. Raises DeviceError as `_timers` does."""
        from predictors.devices import how_timed

        full = [self.estimates.full_name(name, choice) for name in names]
        for name in full:
            if name.startswith(ENERGY):
                raise DeviceError(
                    f"{name} cannot be measured from here.",
                    field="verify",
                    value=name,
                    remedy="Search without verification, measure the front on the device, and register it again.",
                )
        wanted = dict.fromkeys(name.partition("@")[2] for name in full if name.startswith(LATENCY))
        devices = [self._device(name) for name in wanted]
        for device in devices:
            how_timed(device)
        return devices

    def _device(self, name: str) -> Device:
        """What is known of a device, be it one that was registered. Raises DeviceError."""
        from predictors.devices import Device, load_device, predictor_path

        predictor = self.estimates.predictor(LATENCY, Choice("", name))
        folder = self.results / "predictors" / self.id
        if predictor_path(folder, name).is_file():
            return load_device(folder, name, self.space)
        return Device(name, cast("LatencyPredictor", predictor))

    def _provenance(self, request: SearchRequest) -> dict[str, Any]:
        return {
            "supernet": self.id,
            "supernet_fingerprint": self.file.fingerprint,
            "predictors": self._predictor_fingerprints(),
            "request": request.to_json(),
        }

    def _predictor_fingerprints(self) -> dict[str, str]:
        """16 hexadecimal digits of the SHA-256 of each file of predictors."""
        files = sorted((self.results / "predictors" / self.id).glob("*.safetensors"))
        return {path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in files}

    def _export_metadata(self, arch: Arch) -> dict[str, str]:
        return {
            "subnet": self.space.id_of(arch),
            "supernet": self.id,
            "supernet_fingerprint": self.file.fingerprint,
        }

    def _load_supernet(self) -> Supernet:
        from supernet.checkpoint import load_supernet

        return load_supernet(self.file.path)[0]

    def _extract(self, arch: Arch) -> SaliencyNet:
        from supernet.network import extract

        return extract(self.supernet, arch).requires_grad_(False)

    def _convert(self, arch: Arch) -> OnnxNet:
        from supernet.onnx_net import OnnxNet

        return OnnxNet(self.net(arch))


def parse_arch(space: Space, value: Any, *, files: bool = False) -> Arch:
    """A subnet of `space` from what a user gave.

    `value` is a text (max, min, random:SEED, an id and, only where `files`, the path of a JSON file), the
    plain data of `Arch.to_json`, a genotype, or an `Arch`. Raises InvalidArch naming the gene or the value.
    """
    if isinstance(value, Arch):
        space.encode(value)
        return value
    if isinstance(value, str):
        if value.strip().endswith(".json") and not files:
            raise InvalidArch(
                "A path is no subnet here.",
                field="arch",
                value=value[:80],
                remedy="Send max, min, random:SEED, an id, or the content of the file.",
            )
        return space.parse_arch(value)
    if isinstance(value, Mapping):
        return space.arch_of_json(value)
    if isinstance(value, (list, tuple, np.ndarray)) and all(np.ndim(entry) == 0 for entry in value):
        return space.decode(np.asarray(value))
    raise InvalidArch(
        "This names no subnet.",
        field="arch",
        value=str(value)[:80],
        remedy="Give max, min, random:SEED, an id, a genotype, or the description of a subnet.",
    )


def describe_subnet(estimates: Estimates, arch: Arch, choice: Choice = DEFAULT_CHOICE) -> dict[str, Any]:
    """All that is known of a subnet without running it, as plain data.

    Resolution is [height, width]; `conv_macs` and `macs` are the same number, for one photo; `memory_bytes` is
    the peak of activations; `predictions` holds accuracy by metric, latency and energy by device, with bounds;
    `notes` says what is missing and why.
    """
    space = estimates.space
    row = space.encode(arch)[None]
    (summary,) = estimates.describe(row, choice)
    return {
        "id": summary["id"],
        "space": space.name,
        "supernet": estimates.supernet,
        "resolution": list(arch.resolution),
        "parameters": summary["parameters"],
        "conv_macs": summary["macs"],
        "macs": summary["macs"],
        "memory_bytes": summary["memory_bytes"],
        "predictions": estimates.predictions(row),
        "notes": [] if estimates.refusal is None else [str(estimates.refusal)],
        "genotype": row[0].tolist(),
        "arch": arch.to_json(),
        "layers": [_layer_json(operation) for operation in layer_table(space, arch)],
    }


def describe_space(space: Space) -> dict[str, Any]:
    """A space as plain data: its size, the choices of every gene, and the costs of its two extremes."""
    bare = Estimates(None, space)
    smallest, largest = bare.describe(np.stack([0 * space.sizes, space.sizes - 1]), DEFAULT_CHOICE)
    return {
        "name": space.name,
        "size": space.size,
        "fingerprint": space.fingerprint,
        "genes": [{"name": gene.name, "choices": list(gene.choices)} for gene in space.genes],
        "properties": [{"name": gene.name, "choices": list(gene.choices)} for gene in space.properties],
        "smallest": smallest,
        "largest": largest,
    }


def stored_front(
    record: Record | SavedFront,
    constraints: Sequence[str] = (),
    best: int | None = None,
    by: str | None = None,
) -> dict[str, Any]:
    """A front on disk, or its part within constraints, or the `best` of that by the column `by`, as plain data.

    Of a front without the record of its search, what only that knows is None. Raises CheckpointError where the
    search has not finished, InvalidConstraint, InfeasibleBudget.
    """
    from search.front import Front
    from search.stored import require_front
    from service.fronts import StoredFront

    found, manifest = require_front(record), record.manifest
    ids = found.table["id"].tolist()
    space = get_space(manifest.space) if manifest else _space_of_ids(ids)
    front = Front(found.table.assign(**asdict(cost(space, rows_of_ids(space, ids)))), found.objectives)
    front = front.within(constraints) if constraints else front
    front = front if best is None else front.best(best, by)
    request = manifest.provenance.get("request", {}) if manifest else {}
    predicted = tuple(o.name for o in front.objectives if o.name not in COSTS)
    table = front.table.assign(**_known_of(predicted, front.table, _table_beside(record, front.table)))
    searched = manifest is not None and manifest.objectives == found.objectives
    return {
        "supernet": manifest.provenance.get("supernet") if manifest else None,
        "space": space.name,
        "objectives": [f"{o.direction}:{o.name}" for o in front.objectives],
        "constraints": [*(manifest.constraints if manifest else ()), *constraints],
        "device": request.get("device"),
        "accuracy_metric": request.get("metric", DEFAULT_CHOICE.metric),
        "seed": manifest.seed if manifest else None,
        "subnets": StoredFront(table, front.objectives, predicted, 0.0).subnets(),
        "knee": front.knee,
        "hypervolume": manifest.hypervolume if manifest and searched else None,
        "evaluations": manifest.evaluations if manifest else None,
        "seconds": manifest.seconds if manifest else None,
        "reason": manifest.reason if manifest else None,
    }


def _table_beside(record: Record | SavedFront, front: pd.DataFrame) -> pd.DataFrame:
    """The lines of a front as `salnas search --out` wrote them for people: intervals and what was measured, too."""
    import pandas as pd

    from search.record import Record

    place = record.directory if isinstance(record, Record) else record.path
    folder = place.parent if place.stem == "front" and place.is_file() else place
    if not (folder / FRONT_TABLE).is_file():
        return front
    try:
        known = pd.read_csv(folder / FRONT_TABLE).drop_duplicates("id").set_index("id")
    except (OSError, ValueError, KeyError):  # people change it, and it is not the front itself
        return front
    return known.reindex(front["id"])


def _known_of(quantities: Sequence[str], front: pd.DataFrame, beside: pd.DataFrame) -> dict[str, Any]:
    """Intervals and measured values of `quantities`, by column, from `beside`, line for line; NaN where unknown."""
    import pandas as pd

    from service.fronts import ASIDE

    found: dict[str, Any] = {}
    for column in (f"{name}_{part}" for name in quantities for part in ASIDE):
        numbers = pd.to_numeric(beside[column], errors="coerce") if column in beside else None
        found[column] = math.nan if numbers is None else numbers.to_numpy(np.float64)
    verified = [name for name in quantities if f"{name}_predicted" in front]
    return found | {f"{name}_measured": front[name] for name in verified}


def _space_of_ids(ids: Sequence[str]) -> Space:
    """The space whose ids these are; InvalidArch where none is known."""
    name = next((name for name in list_spaces() if ids and ids[0].startswith(f"{name}-")), None)
    if name is None:
        raise InvalidArch(
            f"{ids[0] if ids else ''!r} is no id of a known space.",
            field="id",
            value=ids[0] if ids else None,
            remedy=f"Spaces: {', '.join(list_spaces())}.",
        )
    return get_space(name)


def measured_json(verified: Verified) -> dict[str, Any]:
    """How the verification of a search went, as plain data."""
    return {
        "measurements": verified.measurements,
        "failures": verified.failures,
        "rounds": [asdict(r) for r in verified.rounds],
    }


def rows_of_ids(space: Space, ids: Sequence[str]) -> Rows:
    """n ids → (n, d) genotypes. Raises InvalidArch."""
    if not ids:
        return np.empty((0, len(space.genes)), dtype=np.int64)
    return np.stack([space.row_of_id(identity) for identity in ids])


def _layer_json(operation: Operation) -> dict[str, Any]:
    values = operation._asdict()
    values["live_bytes"] = 4 * values.pop("live")
    return values


class _Once(Generic[T]):
    """A value made when first asked for, by one thread; an error is raised again at the next call."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[T] = []

    def get(self) -> T:
        """The value."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]
