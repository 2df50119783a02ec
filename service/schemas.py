"""The JSON of the API, with units and examples. Requests refuse fields that they do not know."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.devices import KnownDevice
from service.fronts import StoredFront
from service.jobs import Event, Failure, Job, JobState, Progress
from service.measurements import MOST_SUBNETS, PHOTOS
from service.settings import Settings
from service.use_cases import EFFORTS, MOST_ISLANDS, MOST_VERIFIED
from service.workbench import DEFAULT_OBJECTIVES

_DEFAULTS = Settings()
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Name = Annotated[str, StringConstraints(pattern=_NAME)]
Constraint = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Constraints = Annotated[
    list[Constraint],
    Field(
        max_length=20,
        description="Bounds on quantities, and choices of genes; all must hold.",
        examples=[["latency_ms<=40", "macs<=1.5e9", "resolution==256x192"]],
    ),
]
ArchInput = Annotated[
    str | dict[str, Any] | list[int],
    Field(
        description="`max`, `min`, `random:SEED`, an id, the JSON of a subnet, or a genotype.",
        examples=["max", "random:7"],
    ),
]
Metric = Literal["cc", "nss", "sim", "auc", "kld"]
Effort = Literal["quick", "balanced", "thorough"]
State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
assert set(EFFORTS) == set(Effort.__args__)  # type: ignore[attr-defined]


_DEVICE_STATES: dict[JobState, Literal["fitting", "ready", "failed"]] = {
    JobState.QUEUED: "fitting",
    JobState.RUNNING: "fitting",
    JobState.SUCCEEDED: "ready",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "failed",
}


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Problem(_Answer):
    """What went wrong (RFC 9457), about which field and value, and what to do."""

    type: str = Field(examples=["/problems/infeasible-budget"])
    title: str = Field(examples=["Infeasible budget"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["No subnet satisfies latency_ms<=0.1."])
    field: str | None = Field(None, examples=["latency_ms"])
    value: Any = Field(None, examples=[0.1])
    remedy: str | None = Field(None, examples=["The smallest possible latency_ms is 8.1, the largest 96."])
    errors: list[dict[str, Any]] | None = Field(None, description="All mistakes, where there are several.")


class SearchCreate(_Request):
    """A search for the Pareto front. Everything has a default."""

    supernet: Name | None = Field(None, description="Which supernet to search; the default one without.")
    objectives: list[Annotated[str, StringConstraints(min_length=1, max_length=100)]] = Field(
        list(DEFAULT_OBJECTIVES),
        min_length=2,
        max_length=4,
        description="Quantities to trade off: accuracy, latency_ms, latency_ms@DEVICE, energy_mj, "
        "energy_mj@DEVICE, macs, parameters, memory_bytes.",
        examples=[["accuracy", "latency_ms"]],
    )
    constraints: Constraints = []
    device: Name = Field(_DEFAULTS.device, description="The device that latency_ms and energy_mj mean.")
    accuracy_metric: Metric = Field("cc", description="The metric that accuracy means, on held-out photos.")
    seed: int = Field(0, ge=0, le=2**53 - 1, description="The same seed gives the same front.")
    effort: Effort = Field("balanced", description="How long to search, where no limit is given.")
    evaluations: int | None = Field(None, ge=1, description="Most subnets to score.")
    seconds: float | None = Field(None, gt=0, le=86_400, description="Most time to search, in s.")
    islands: int | None = Field(
        None, ge=1, le=MOST_ISLANDS, description="Search on so many islands, side by side on Ray."
    )
    verify: int | None = Field(
        None,
        ge=1,
        le=MOST_VERIFIED,
        description="Measure so many of the subnets found, on photos and on this machine, correct the predictors and "
        "search on: a front of measured subnets. Not on islands.",
    )


class SearchFork(_Request):
    """How a new search that begins with the front of another differs from it."""

    constraints: Constraints | None = Field(None, description="The same as before without.")
    effort: Effort = "balanced"
    seed: int | None = Field(None, ge=0, le=2**53 - 1, description="The same as before without.")


class ProgressOut(_Answer):
    """How far a search is."""

    generation: int
    evaluations: int
    subnets: int = Field(description="Size of the front so far.")
    hypervolume: float
    seconds: float = Field(description="Search time so far, in s.")
    fraction: float = Field(ge=0, le=1)
    remaining_seconds: float | None = Field(description="Estimated time left, in s.")

    @classmethod
    def of(cls, progress: Progress) -> ProgressOut:
        """From the domain."""
        return cls(**{name: getattr(progress, name) for name in cls.model_fields})


class FailureOut(_Answer):
    """Why a job failed, in the terms of a problem."""

    type: str
    detail: str
    field: str | None
    value: Any
    remedy: str | None

    @classmethod
    def of(cls, failure: Failure) -> FailureOut:
        """From the domain."""
        return cls(
            type=f"/problems/{failure.kind}",
            detail=failure.message,
            field=failure.field,
            value=failure.value,
            remedy=failure.remedy,
        )


class SearchResultOut(_Answer):
    """What a search found; present once it has ended."""

    subnets: int = Field(description="Size of the front.")
    knee: str | None = Field(description="Id of the subnet at the knee of the front.")
    hypervolume: float
    evaluations: int
    generations: int
    seconds: float = Field(description="Search time, in s.")
    reason: str = Field(description="Which condition ended it.", examples=["evaluations"])
    measurements: int | None = Field(None, description="Subnets measured, where the search was to verify.")
    failures: int | None = Field(None, description="Those of them that could not be measured.")
    rounds: list[dict[str, Any]] | None = Field(
        None,
        description="What each round of measurements brought: hypervolume of the measured front, errors.",
    )


class JobOut(_Answer):
    """What searches and exports have in common."""

    id: str
    state: State
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int = Field(description="How many workers have taken it.")
    error: FailureOut | None


class SearchOut(JobOut):
    """A search."""

    request: dict[str, Any] = Field(description="What was asked for, with all defaults.")
    progress: ProgressOut | None
    result: SearchResultOut | None
    cancel_requested: bool
    parent: str | None = Field(description="The search that this one was forked from.")
    links: dict[str, str]

    @classmethod
    def of(cls, job: Job) -> SearchOut:
        """From the domain."""
        here = f"/v1/searches/{job.id}"
        return cls(
            **_job(job),
            request=_request(job),
            progress=ProgressOut.of(job.progress) if job.progress else None,
            result=SearchResultOut(**job.result) if job.result else None,
            cancel_requested=job.cancel_requested,
            parent=job.parent,
            links={"self": here, "front": f"{here}/front", "events": f"{here}/events"},
        )


class SearchList(_Answer):
    """A page of searches, newest first."""

    searches: list[SearchOut]
    next_page_token: str | None = Field(description="Send as page_token for the next page; null at the end.")


class EventOut(_Answer):
    """Something that happened to a search."""

    id: int = Field(description="Counts from 1 without a gap.")
    time: datetime
    kind: str = Field(examples=["progress"])
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> EventOut:
        """From the domain."""
        return cls(id=event.number, time=_time(event.time), kind=event.kind, data=dict(event.data))


class EventList(_Answer):
    """A page of events, oldest first."""

    events: list[EventOut]
    next_page_token: str | None


class Quantity(_Answer):
    """A predicted quantity with the bounds of its 90 % interval, and its measured value where there is one."""

    predicted: float | None
    low: float | None = None
    high: float | None = None
    measured: float | None = None


class Subnet(BaseModel):
    """A subnet of a front. Further objectives appear under their own names."""

    model_config = ConfigDict(extra="allow", frozen=True)

    id: str = Field(examples=["salnas-0k3v9w2ta"])
    resolution: tuple[int, int] = Field(description="[height, width] of its input, in pixels.")
    accuracy: Quantity | None = Field(None, description="In the chosen metric.")
    latency_ms: Quantity | None = Field(None, description="On the chosen device, one photo, in ms.")
    energy_mj: Quantity | None = Field(
        None, description="On the chosen device, one photo, in mJ; where it was measured there."
    )
    macs: int = Field(description="Multiply-accumulates for one photo.")
    parameters: int
    memory_bytes: int = Field(description="Peak of activations, in bytes.")
    knee: bool = False


class FrontOut(_Answer):
    """The front of a search, within the bounds asked for."""

    search: str
    state: State
    objectives: list[str] = Field(examples=[["max:accuracy", "min:latency_ms"]])
    device: str
    accuracy_metric: str
    size: int = Field(description="Subnets on the front within the bounds, before k and page_size.")
    subnets: list[Subnet]
    knee: str | None
    hypervolume: float = Field(description="Of the whole front.")


class SubnetDescribe(_Request):
    """Which subnet to describe."""

    arch: ArchInput
    supernet: Name | None = None
    device: Name = _DEFAULTS.device
    accuracy_metric: Metric = "cc"


class SubnetQuery(_Request):
    """A budget."""

    constraints: Constraints = []
    k: int = Field(1, ge=1, le=100, description="How many subnets to return, best first.")
    by: str = Field("accuracy", max_length=100, description="What best means.", examples=["accuracy"])
    fresh: bool = Field(False, description="Search anew instead of reading the stored front.")
    supernet: Name | None = Field(None, description="Only with fresh.")
    device: Name = Field(_DEFAULTS.device, description="Only with fresh.")
    accuracy_metric: Metric = Field("cc", description="Only with fresh.")


class SubnetList(_Answer):
    """Pareto-optimal subnets within a budget, best first."""

    subnets: list[Subnet]


class ExportCreate(_Request):
    """A subnet to take home."""

    arch: ArchInput
    supernet: Name | None = None
    format: Literal["onnx", "torch", "openvino", "coreml"] = Field(
        "onnx",
        description="torch: a program for torch.export.load; openvino, coreml: a zip with the model, where the "
        "service has their packages.",
    )
    precision: Literal["fp32", "fp16", "int8"] = Field(
        "fp32", description="torch has fp32 only, int8 is for ONNX, calibrated on photos of the service."
    )


class ExportOut(JobOut):
    """An export and, once it has succeeded, the manifest of its file."""

    subnet: str
    supernet: str
    format: str
    precision: str
    manifest: dict[str, Any] | None = Field(
        description="sha256, size_bytes, opset, parity_error and correlation with the maps of torch (null for Core "
        "ML: not measured), seconds; input and output: names, types, shapes and what the values mean; latency_ms: "
        "median of some runs with onnxruntime on one thread of the service's machine."
    )
    links: dict[str, str]

    @classmethod
    def of(cls, job: Job) -> ExportOut:
        """From the domain."""
        here = f"/v1/exports/{job.id}"
        return cls(
            **_job(job),
            subnet=job.request["arch"],
            supernet=job.request["supernet"],
            format=job.request["format"],
            precision=job.request["precision"],
            manifest={k: v for k, v in job.result.items() if k != "artifact"} or None,
            links={"self": here, **({"file": f"{here}/file"} if job.state is JobState.SUCCEEDED else {})},
        )


class MeasurementCreate(_Request):
    """Subnets to measure on the service's machine."""

    subnets: list[ArchInput] = Field(min_length=1, max_length=MOST_SUBNETS, examples=[["min", "random:7"]])
    supernet: Name | None = None
    accuracy: bool = Field(False, description="Score them on photos that training left out.")
    latency: bool = Field(True, description="Time them, one photo at a time.")
    device: Name | None = Field(
        None, description="The device to time them as, which must be that machine; the service's own without."
    )
    accuracy_metric: Metric = Field("cc", description="The metric that accuracy means in the answer.")
    photos: int = Field(PHOTOS, ge=1, le=1000, description="Photos to score them on.")


class MeasuredSubnet(_Answer):
    """What was measured of a subnet beside what is predicted; all null until the job has succeeded."""

    id: str
    accuracy: Quantity | None = Field(None, description="In the chosen metric.")
    latency_ms: Quantity | None = Field(None, description="On the device, one photo, in ms.")
    scores: dict[str, float | None] | None = Field(
        None, description="Measured cc, nss, sim, auc and kld; null where they were not asked for."
    )
    failure: str | None = Field(None, description="Why it could not be measured.")


class MeasurementOut(JobOut):
    """A measurement of some subnets."""

    supernet: str
    device: str
    accuracy_metric: str
    photos: int
    fraction: float = Field(ge=0, le=1, description="How far it is.")
    subnets: list[MeasuredSubnet]
    links: dict[str, str]

    @classmethod
    def of(cls, job: Job) -> MeasurementOut:
        """From the domain."""
        request = job.request
        found = job.result.get("subnets", [{"id": name} for name in request["subnets"]])
        return cls(
            **_job(job),
            supernet=request["supernet"],
            device=request["device"],
            accuracy_metric=request["metric"],
            photos=request["photos"],
            fraction=job.progress.fraction if job.progress else 0.0,
            subnets=[MeasuredSubnet.model_validate(subnet) for subnet in found],
            links={"self": f"/v1/measurements/{job.id}"},
        )


class SupernetOut(_Answer):
    """A supernet: its space, what it was trained on, its scores."""

    id: str
    default: bool
    space: str
    space_fingerprint: str
    provenance: dict[str, Any]
    card: dict[str, Any]


class SupernetList(_Answer):
    """All supernets at hand."""

    supernets: list[SupernetOut]


class ModelOut(_Answer):
    """A network of another design, measured like a subnet where it has weights."""

    id: str
    title: str
    paper: str
    task: str = Field(description="saliency, or salient object.")
    resolution: tuple[int, int] = Field(description="[height, width]")
    parameters: int
    macs: int
    weights: str = Field(description="trained, published or random.")
    licence: str
    accuracy: dict[str, float] = Field(
        description="Scores on OSIE validation by metric; empty if not measured."
    )
    held_out_accuracy: dict[str, float] = Field(
        description="Scores on the photos that predicted accuracies speak of: where it stands beside a front."
    )
    object_scores: dict[str, Any] = Field(description="Max F-measure and MAE on object masks.")
    latency_ms: dict[str, float] = Field(description="Measured, by device.")
    reported: list[dict[str, Any]] = Field(description="Figures that its paper prints.")


class ModelList(_Answer):
    """All reference models."""

    models: list[ModelOut]


class SpaceOut(_Answer):
    """A search space: its size, the choices of every gene, the costs of its extremes."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str
    size: int
    fingerprint: str
    genes: list[dict[str, Any]]


class SpaceList(_Answer):
    """The names of all spaces."""

    spaces: list[str]


class DeviceOut(_Answer):
    """A device whose latency can be predicted, or is being learned."""

    id: str
    default: bool
    builtin: bool = Field(description="Whether it came with a supernet.")
    state: Literal["fitting", "ready", "failed"]
    supernets: list[str] = Field(description="Supernets whose subnets can be timed on it.")
    runtime: str
    threads: int | None
    description: str
    quality: dict[str, float] | None = Field(
        description="On subnets held out from the fit: number n, rank correlations kendall and spearman, share "
        "within_10 of predictions off by at most 10 %, mean absolute error mae in ms."
    )
    energy_quality: dict[str, float] | None = Field(
        description="The same of energy, mae in mJ; null where the energy is not known."
    )
    held_out: dict[str, list[float]] | None = Field(
        description="Latencies in ms that were measured, and what was predicted for them unseen: two lists."
    )
    notes: list[str] = Field(description="What was left out of the measurements, and why.")
    error: FailureOut | None

    @classmethod
    def of(cls, device: KnownDevice, *, default: str) -> DeviceOut:
        """From the domain."""
        job = device.job
        return cls(
            id=device.id,
            default=device.id == default,
            builtin=job is None,
            state=_DEVICE_STATES[job.state] if job else "ready",
            supernets=list(device.supernets),
            runtime=device.runtime,
            threads=device.threads,
            description=device.description,
            quality=None if device.quality is None else dict(device.quality),
            energy_quality=None if device.energy_quality is None else dict(device.energy_quality),
            held_out=None if device.held_out is None else dict(device.held_out),
            notes=list(device.notes),
            error=FailureOut.of(job.failure) if job and job.failure else None,
        )


class DeviceList(_Answer):
    """All devices."""

    devices: list[DeviceOut]


class MapOut(_Answer):
    """A saliency map as numbers: rows from top to bottom, each from left to right, 0 to 1."""

    subnet: str
    height: int
    width: int
    photo_size: tuple[int, int] = Field(description="[height, width] of the photo, in pixels.")
    peak: tuple[int, int] = Field(description="[x, y] of the most salient point in the map.")
    values: list[list[float]]


class Health(_Answer):
    """Whether the service lives, or is ready and if not why."""

    status: str
    checks: dict[str, str] = {}


def front_json(job: Job, front: StoredFront, *, size: int) -> dict[str, Any]:
    """A front as `FrontOut` describes it, as plain data: fronts of thousands of subnets are not validated."""
    return {
        "search": job.id,
        "state": job.state.value,
        "objectives": [f"{o.direction}:{o.name}" for o in front.objectives],
        "device": job.request.get("device"),
        "accuracy_metric": job.request.get("metric"),
        "size": size,
        "subnets": front.subnets(),
        "knee": front.knee,
        "hypervolume": front.hypervolume,
    }


def _job(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state.value,
        "created_at": _time(job.created),
        "started_at": None if job.started is None else _time(job.started),
        "finished_at": None if job.finished is None else _time(job.finished),
        "attempts": job.attempts,
        "error": FailureOut.of(job.failure) if job.failure else None,
    }


def _request(job: Job) -> dict[str, Any]:
    renamed = {"metric": "accuracy_metric"}
    hidden = {"fingerprint", "engine", "generations"}
    return {renamed.get(k, k): v for k, v in job.request.items() if k not in hidden}


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
