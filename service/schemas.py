"""The JSON of the API, with units and examples. Requests refuse fields that they do not know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.devices import KnownDevice
from service.fronts import StoredFront
from service.jobs import Event, Failure, Job, JobState, Progress
from service.losses import NO_PHOTOS
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
SupernetName = Annotated[Name | None, Field(description="Which supernet; the service's default one without.")]
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


class _Open(BaseModel):
    """An answer that may say more than is described."""

    model_config = ConfigDict(extra="allow", frozen=True)


def _examples(*bodies: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(bodies)})


class Problem(_Answer):
    """What went wrong (RFC 9457), about which field and value, and what to do."""

    type: str = Field(
        description="Names the kind of problem; never changes.", examples=["/problems/infeasible-budget"]
    )
    title: str = Field(description="The kind in words.", examples=["Infeasible budget"])
    status: int = Field(description="The status of the answer.", examples=[422])
    detail: str = Field(
        description="What went wrong this time.",
        examples=["No subnet was found that satisfies latency_ms<=0.1."],
    )
    field: str | None = Field(
        None, description="The field of the request that it is about.", examples=["latency_ms"]
    )
    value: Any = Field(None, description="What was in that field.", examples=[0.1])
    remedy: str | None = Field(
        None,
        description="What to do about it.",
        examples=["The smallest latency_ms found is 8.1, the largest 96."],
    )
    errors: list[dict[str, Any]] | None = Field(None, description="All mistakes, where there are several.")


class SearchCreate(_Request):
    """A search for the Pareto front. Everything has a default."""

    model_config = _examples(
        {"objectives": ["accuracy", "latency_ms"], "constraints": ["latency_ms<=40"], "seed": 1},
        {"constraints": ["macs<=1.5e9", "resolution==256x192"], "effort": "thorough", "islands": 4},
    )

    supernet: SupernetName = None
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

    model_config = _examples({"constraints": ["latency_ms<=25"], "effort": "quick"})

    constraints: Constraints | None = Field(None, description="The same as before without.")
    effort: Effort = Field("balanced", description="How long to search.")
    seed: int | None = Field(None, ge=0, le=2**53 - 1, description="The same as before without.")


class ProgressOut(_Answer):
    """How far a search is."""

    generation: int = Field(description="Generations so far.")
    evaluations: int = Field(description="Subnets scored so far.")
    subnets: int = Field(description="Size of the front so far.")
    hypervolume: float = Field(description="Of the front so far, as a share of the box of the search.")
    seconds: float = Field(description="Search time so far, in s.")
    fraction: float = Field(ge=0, le=1, description="Share of its nearest limit; it may end earlier.")
    remaining_seconds: float | None = Field(description="Estimated time left, in s.")

    @classmethod
    def of(cls, progress: Progress) -> ProgressOut:
        """From the domain."""
        return cls(**{name: getattr(progress, name) for name in cls.model_fields})


class FailureOut(_Answer):
    """Why a job failed, in the terms of a problem."""

    type: str = Field(description="Names the kind of problem.", examples=["/problems/worker-died"])
    detail: str = Field(description="What went wrong.")
    field: str | None = Field(description="The field of the request that it is about.")
    value: Any = Field(description="What was in that field.")
    remedy: str | None = Field(description="What to do about it.")

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


class RoundOut(_Answer):
    """What one round of measurements brought."""

    number: int = Field(description="Counts from 1.")
    measurements: int = Field(description="Subnets measured until then.")
    hypervolume: float = Field(description="Of the measured front until then.")
    expected: float = Field(description="Gain of hypervolume that was expected of this round.")
    error: dict[str, float | None] = Field(
        description="Mean absolute error of the corrected predictions of this round, by quantity, in its unit."
    )
    seconds: float = Field(description="Time of this round, in s.")


class SearchResultOut(_Answer):
    """What a search found; present once it has ended."""

    subnets: int = Field(description="Size of the front.")
    knee: str | None = Field(description="Id of the subnet at the knee of the front.")
    hypervolume: float = Field(description="Of the front, as a share of the box of the search.")
    evaluations: int = Field(description="Subnets scored.")
    generations: int = Field(description="Generations of the search.")
    seconds: float = Field(description="Search time, in s.")
    reason: str = Field(description="Which condition ended it.", examples=["evaluations"])
    measurements: int | None = Field(None, description="Subnets measured, where the search was to verify.")
    failures: int | None = Field(None, description="Those of them that could not be measured.")
    rounds: list[RoundOut] | None = Field(None, description="What each round of measurements brought.")


class JobOut(_Answer):
    """What searches and exports have in common."""

    id: str = Field(description="Names the job.", examples=["search-01hzv9k3m2qwxyz0123ab"])
    state: State = Field(description="Where it is; the last three are final.")
    created_at: datetime = Field(description="When it was asked for, in UTC.")
    started_at: datetime | None = Field(description="When a worker first took it, in UTC.")
    finished_at: datetime | None = Field(description="When it ended, in UTC.")
    attempts: int = Field(description="How many workers have taken it.")
    error: FailureOut | None = Field(description="Why it failed; null unless it has.")


class SearchRequestOut(_Open):
    """What a search was asked for, with all defaults."""

    supernet: str = Field(description="The supernet that is searched.")
    objectives: list[str] = Field(description="Quantities to trade off.")
    constraints: list[str] = Field(description="Bounds on quantities, and choices of genes.")
    device: str = Field(description="The device that latency_ms and energy_mj mean.")
    accuracy_metric: str = Field(description="The metric that accuracy means.")
    seed: int = Field(description="Seed of everything random.")
    evaluations: int | None = Field(description="Most subnets to score; null: none such.")
    seconds: float | None = Field(description="Most time to search, in s; null: none such.")


class SearchOut(JobOut):
    """A search."""

    request: SearchRequestOut = Field(
        description="What was asked for, with all defaults; islands and verify where they were."
    )
    progress: ProgressOut | None = Field(description="How far it is; null before it begins.")
    result: SearchResultOut | None = Field(description="What it found; null until it has ended.")
    cancel_requested: bool = Field(description="Whether it will stop as soon as its worker notices.")
    parent: str | None = Field(description="The search that this one was forked from.")
    links: dict[str, str] = Field(description="Paths of the search itself, its front and its events.")

    @classmethod
    def of(cls, job: Job) -> SearchOut:
        """From the domain."""
        here = f"/v1/searches/{job.id}"
        return cls(
            **_job(job),
            request=SearchRequestOut(**_request(job)),
            progress=ProgressOut.of(job.progress) if job.progress else None,
            result=SearchResultOut(**job.result) if job.result else None,
            cancel_requested=job.cancel_requested,
            parent=job.parent,
            links={"self": here, "front": f"{here}/front", "events": f"{here}/events"},
        )


class SearchList(_Answer):
    """A page of searches, newest first."""

    searches: list[SearchOut] = Field(description="The searches of this page.")
    next_page_token: str | None = Field(description="Send as page_token for the next page; null at the end.")


class EventOut(_Answer):
    """Something that happened to a search."""

    id: int = Field(description="Counts from 1 without a gap.")
    time: datetime = Field(description="When it happened, in UTC.")
    kind: str = Field(
        description="A state that was entered, progress, or measured.",
        examples=["progress"],
    )
    data: dict[str, Any] = Field(
        description="Of progress what `ProgressOut` says; of a state it, the attempt and perhaps a message; of "
        "measured the values there are and will be."
    )

    @classmethod
    def of(cls, event: Event) -> EventOut:
        """From the domain."""
        return cls(id=event.number, time=_time(event.time), kind=event.kind, data=dict(event.data))


class EventList(_Answer):
    """A page of events, oldest first."""

    events: list[EventOut] = Field(description="The events of this page.")
    next_page_token: str | None = Field(
        description="Send as page_token for the next page; null at the end of what has happened."
    )


class Quantity(_Answer):
    """A predicted quantity with the bounds of its 90 % interval, and its measured value where there is one."""

    predicted: float | None = Field(description="What the predictor says, in the unit of the quantity.")
    low: float | None = Field(None, description="Lower end of the interval; null where it is not known.")
    high: float | None = Field(None, description="Upper end of the interval; null where it is not known.")
    measured: float | None = Field(None, description="What was measured; null where nothing was.")


class Subnet(_Open):
    """A subnet of a front. Further objectives appear under their own names."""

    id: str = Field(description="Names the subnet in its space.", examples=["salnas-0k3v9w2ta"])
    resolution: tuple[int, int] = Field(description="[height, width] of its input, in pixels.")
    accuracy: Quantity | None = Field(None, description="In the chosen metric.")
    latency_ms: Quantity | None = Field(None, description="On the chosen device, one photo, in ms.")
    energy_mj: Quantity | None = Field(
        None, description="On the chosen device, one photo, in mJ; where it was measured there."
    )
    macs: int = Field(description="Multiply-accumulates for one photo.")
    parameters: int = Field(description="Weights and biases.")
    memory_bytes: int = Field(description="Peak of activations, in bytes.")
    knee: bool = Field(False, description="Whether it is the knee of its front.")


class FrontOut(_Answer):
    """The front of a search, within the bounds asked for."""

    search: str = Field(description="Id of the search.")
    state: State = Field(description="Of the search; its front grows until that is final.")
    objectives: list[str] = Field(
        description="Quantities traded off, each with its direction.",
        examples=[["max:accuracy", "min:latency_ms"]],
    )
    device: str = Field(description="The device that latency_ms and energy_mj mean.")
    accuracy_metric: str = Field(description="The metric that accuracy means.")
    size: int = Field(description="Subnets on the front within the bounds, before k and page_size.")
    subnets: list[Subnet] = Field(description="Pareto-optimal subnets; with k the best of them first.")
    knee: str | None = Field(description="Id of the subnet at the knee; null where the front is empty.")
    hypervolume: float = Field(description="Of the whole front, as a share of the box of the search.")


class SubnetDescribe(_Request):
    """Which subnet to describe."""

    model_config = _examples({"arch": "random:7"}, {"arch": "min", "device": "cpu-2-threads"})

    arch: ArchInput
    supernet: SupernetName = None
    device: Name = Field(_DEFAULTS.device, description="The device that latency_ms means.")
    accuracy_metric: Metric = Field("cc", description="The metric that accuracy means.")


class StageOut(_Answer):
    """One stage of the encoder."""

    width: int = Field(description="Channels that it puts out.")
    depth: int = Field(description="Blocks.")
    kernel: int = Field(description="Side of its depthwise convolutions, in pixels.")
    expansion: int = Field(description="Factor by which its blocks widen.")


class ArchOut(_Open):
    """The choices that make a subnet; `arch` of a request takes it."""

    space: str = Field(description="The space that they are of.")
    resolution: tuple[int, int] = Field(description="[height, width] of the input, in pixels.")
    stem_width: int = Field(description="Channels of the first convolution.")
    stages: list[StageOut] = Field(description="The stages of the encoder, from the input on.")


class LayerOut(_Answer):
    """One operation of a subnet, and what it costs for one photo."""

    name: str = Field(description="Where it is.", examples=["decoder.5"])
    kind: str = Field(description="What it does.", examples=["conv"])
    c_in: int = Field(description="Channels in.")
    c_out: int = Field(description="Channels out.")
    kernel: int = Field(description="Side of the kernel, in pixels.")
    stride: int = Field(description="Step of the kernel, in pixels.")
    height: int = Field(description="Of the output, in pixels.")
    width: int = Field(description="Of the output, in pixels.")
    macs: int = Field(description="Multiply-accumulates.")
    parameters: int = Field(description="Weights and biases.")
    live_bytes: int = Field(description="Activations that are held meanwhile, in bytes.")


class PredictionsOut(_Answer):
    """What is predicted of a subnet, with intervals and measured values."""

    accuracy: dict[str, Quantity] = Field(description="By metric: cc, nss, sim, auc (no unit), kld (nat).")
    latency_ms: dict[str, Quantity] = Field(description="By device, one photo, in ms.")
    energy_mj: dict[str, Quantity] = Field(description="By device, one photo, in mJ.")


class SubnetDescription(_Open):
    """All that is known of a subnet without running it."""

    id: str = Field(description="Names the subnet in its space.", examples=["salnas-0k3v9w2ta"])
    space: str = Field(description="Its search space.")
    supernet: str | None = Field(description="The supernet whose predictions these are.")
    resolution: tuple[int, int] = Field(description="[height, width] of its input, in pixels.")
    parameters: int = Field(description="Weights and biases.")
    conv_macs: int = Field(description="The same as macs.")
    macs: int = Field(description="Multiply-accumulates for one photo.")
    memory_bytes: int = Field(description="Peak of activations, in bytes.")
    predictions: PredictionsOut = Field(description="Accuracy, latency and energy.")
    notes: list[str] = Field(description="What is missing, and why.")
    genotype: list[int] = Field(description="Index of the choice of every gene.")
    arch: ArchOut = Field(description="The choices that make it.")
    layers: list[LayerOut] = Field(description="Its operations, in the order they run.")


class SubnetQuery(_Request):
    """A budget."""

    model_config = _examples(
        {"constraints": ["latency_ms<=30"], "k": 3},
        {"constraints": ["macs<=1e9"], "by": "nss", "fresh": True},
    )

    constraints: Constraints = []
    k: int = Field(1, ge=1, le=100, description="How many subnets to return, best first.")
    by: str = Field("accuracy", max_length=100, description="What best means.", examples=["accuracy"])
    fresh: bool = Field(False, description="Search anew instead of reading the stored front.")
    supernet: Name | None = Field(None, description="Only with fresh.")
    device: Name = Field(_DEFAULTS.device, description="Only with fresh.")
    accuracy_metric: Metric = Field("cc", description="Only with fresh.")


class SubnetList(_Answer):
    """Pareto-optimal subnets within a budget, best first."""

    subnets: list[Subnet] = Field(description="The subnets, best first.")


class ExportCreate(_Request):
    """A subnet to take home."""

    model_config = _examples({"arch": "min"}, {"arch": "random:7", "format": "onnx", "precision": "int8"})

    arch: ArchInput
    supernet: SupernetName = None
    format: Literal["onnx", "torch", "openvino", "coreml"] = Field(
        "onnx",
        description="torch: a program for torch.export.load; openvino, coreml: a zip with the model, where the "
        "service has their packages.",
    )
    precision: Literal["fp32", "fp16", "int8"] = Field(
        "fp32", description="torch has fp32 only, int8 is for ONNX, calibrated on photos of the service."
    )


class TensorOut(_Answer):
    """What goes into, or comes out of, an exported file."""

    name: str = Field(description="By which a runtime calls it.", examples=["image"])
    type: str = Field(description="Of its numbers; image for Core ML.", examples=["uint8"])
    shape: list[int | str] = Field(
        description="Its sides; batch is any number of photos.", examples=[["batch", 3, 192, 256]]
    )
    values: str = Field(description="What the numbers mean.")


class AccuracyLoss(_Answer):
    """What int8 costs in accuracy, on labelled photos that trained no weight."""

    photos: int = Field(description="Photos that were scored; 0: none, see reason.")
    data: str | None = Field(description="Their data set.", examples=["osie"])
    fp32: dict[str, float | None] | None = Field(description="Scores in single precision, by metric.")
    int8: dict[str, float | None] | None = Field(description="Scores of the file, by metric.")
    loss: dict[str, float | None] | None = Field(
        description="What int8 loses by metric: positive is worse, also of kld."
    )
    reason: str | None = Field(description="Why nothing was measured.", examples=[NO_PHOTOS])


class ManifestOut(_Open):
    """An exported file, and how it compares with torch."""

    subnet: str = Field(description="Id of the subnet.")
    sha256: str = Field(description="Of the file, in hexadecimal digits.")
    size_bytes: int = Field(description="Of the file, in bytes.")
    format: str = Field(description="onnx, torch, openvino or coreml.")
    precision: str = Field(description="fp32, fp16 or int8.")
    opset: int = Field(description="Of ONNX; 0 for other formats.")
    parity_error: float | None = Field(
        description="Largest difference of a map to that of torch, maps being 0 to 1; null for Core ML: not measured."
    )
    correlation: float | None = Field(
        description="Least Pearson correlation of a map with that of torch; null where not measured."
    )
    seconds: float = Field(description="Time that the export took, in s.")
    latency_ms: float | None = Field(
        description="Median of some runs with onnxruntime on one thread of the service's machine, in ms; null for "
        "other formats."
    )
    input: TensorOut = Field(description="What goes in.")
    output: TensorOut = Field(description="What comes out.")
    accuracy_loss: AccuracyLoss | None = Field(
        None, description="What int8 costs in accuracy; null for other precisions."
    )


class ExportOut(JobOut):
    """An export and, once it has succeeded, the manifest of its file."""

    subnet: str = Field(description="Id of the subnet.")
    supernet: str = Field(description="The supernet that its weights are of.")
    format: str = Field(description="onnx, torch, openvino or coreml.")
    precision: str = Field(description="fp32, fp16 or int8.")
    manifest: ManifestOut | None = Field(description="What the file is; null until it has succeeded.")
    links: dict[str, str] = Field(
        description="Paths of the export itself and, once it has succeeded, of its file."
    )

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
            manifest=_manifest(job.result),
            links={"self": here, **({"file": f"{here}/file"} if job.state is JobState.SUCCEEDED else {})},
        )


class MeasurementCreate(_Request):
    """Subnets to measure on the service's machine."""

    model_config = _examples({"subnets": ["min", "random:7"], "accuracy": True, "photos": 40})

    subnets: list[ArchInput] = Field(
        min_length=1,
        max_length=MOST_SUBNETS,
        description="The subnets to measure.",
        examples=[["min", "random:7"]],
    )
    supernet: SupernetName = None
    accuracy: bool = Field(False, description="Score them on photos that training left out.")
    latency: bool = Field(True, description="Time them, one photo at a time.")
    device: Name | None = Field(
        None, description="The device to time them as, which must be that machine; the service's own without."
    )
    accuracy_metric: Metric = Field("cc", description="The metric that accuracy means in the answer.")
    photos: int = Field(PHOTOS, ge=1, le=1000, description="Photos to score them on.")


class MeasuredSubnet(_Answer):
    """What was measured of a subnet beside what is predicted; all null until the job has succeeded."""

    id: str = Field(description="Id of the subnet.")
    accuracy: Quantity | None = Field(None, description="In the chosen metric.")
    latency_ms: Quantity | None = Field(None, description="On the device, one photo, in ms.")
    scores: dict[str, float | None] | None = Field(
        None, description="Measured cc, nss, sim, auc and kld; null where they were not asked for."
    )
    failure: str | None = Field(None, description="Why it could not be measured.")


class MeasurementOut(JobOut):
    """A measurement of some subnets."""

    supernet: str = Field(description="The supernet that their weights are of.")
    device: str = Field(description="The device that they are timed as.")
    accuracy_metric: str = Field(description="The metric that accuracy means.")
    photos: int = Field(description="Photos to score them on.")
    fraction: float = Field(ge=0, le=1, description="How far it is.")
    subnets: list[MeasuredSubnet] = Field(description="The subnets, in the order they were named.")
    links: dict[str, str] = Field(description="Path of the measurement itself.")

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


class CardOut(_Open):
    """What is said of a supernet beside its weights; all of it may be missing."""

    sha256: str | None = Field(None, description="Of the file of weights, in hexadecimal digits.")
    subnets: dict[str, str] | None = Field(
        None, description="Ids of the smallest, a middle and the largest subnet."
    )
    scores: dict[str, dict[str, dict[str, Any]]] | None = Field(
        None, description="Scores of those subnets: by data set, then by subnet, then by metric."
    )
    scores_command: str | None = Field(None, description="The command that measured the scores.")
    notes: list[str] | None = Field(None, description="What else there is to know.")


class SupernetOut(_Answer):
    """A supernet: its space, what it was trained on, its scores."""

    id: str = Field(description="Names the supernet.")
    default: bool = Field(description="Whether it is meant where none is named.")
    space: str = Field(description="Its search space.")
    space_fingerprint: str = Field(description="16 hexadecimal digits of the choices of that space.")
    provenance: dict[str, Any] = Field(
        description="How it was trained: command, settings, photos, time in s."
    )
    card: CardOut = Field(description="Its card; empty where it has none.")


class SupernetList(_Answer):
    """All supernets at hand."""

    supernets: list[SupernetOut] = Field(description="The supernets.")


class ReportOut(_Answer):
    """A figure that a paper prints."""

    metric: str = Field(description="What it is.", examples=["cc"])
    value: float = Field(description="The figure, in the unit of the metric.")
    data: str = Field(description="On what data, or at what size.")


class ModelOut(_Answer):
    """A network of another design, measured like a subnet where it has weights."""

    id: str = Field(description="Names the model.")
    title: str = Field(description="What to call it.")
    paper: str = Field(description="Where it was published.")
    task: str = Field(description="saliency, or salient object.")
    resolution: tuple[int, int] = Field(description="[height, width] of its input, in pixels.")
    parameters: int = Field(description="Weights and biases.")
    macs: int = Field(description="Multiply-accumulates for one photo.")
    weights: str = Field(
        description="trained, published, random, or absent: trained, measured, and not here."
    )
    licence: str = Field(description="Of its weights.")
    accuracy: dict[str, float] = Field(
        description="Scores on OSIE validation by metric; empty if not measured."
    )
    held_out_accuracy: dict[str, float] = Field(
        description="Scores on the photos that predicted accuracies speak of: where it stands beside a front."
    )
    object_scores: dict[str, Any] = Field(description="Max F-measure and MAE on object masks.")
    latency_ms: dict[str, float] = Field(description="Measured, by device, one photo, in ms.")
    reported: list[ReportOut] = Field(description="Figures that its paper prints.")


class ModelList(_Answer):
    """All reference models."""

    models: list[ModelOut] = Field(description="The models.")


class GeneOut(_Answer):
    """Something that can be chosen."""

    name: str = Field(description="What is chosen, and of which stage.", examples=["mb3.kernel"])
    choices: list[Any] = Field(
        description="What there is to choose; a resolution is [height, width] in pixels.", examples=[[3, 5]]
    )


class ExtremeOut(_Answer):
    """A subnet and its exact costs."""

    id: str = Field(description="Id of the subnet.")
    resolution: tuple[int, int] = Field(description="[height, width] of its input, in pixels.")
    macs: int = Field(description="Multiply-accumulates for one photo.")
    parameters: int = Field(description="Weights and biases.")
    memory_bytes: int = Field(description="Peak of activations, in bytes.")


class SpaceOut(_Open):
    """A search space: its size, the choices of every gene, the costs of its extremes."""

    name: str = Field(description="Names the space.")
    size: int = Field(description="How many subnets it holds.")
    fingerprint: str = Field(description="16 hexadecimal digits of its choices.")
    genes: list[GeneOut] = Field(description="What can be chosen, in the order of genotypes.")
    properties: list[GeneOut] = Field(description="The same, with what has one choice only.")
    smallest: ExtremeOut = Field(description="The subnet with the first choice of every gene.")
    largest: ExtremeOut = Field(description="The subnet with the last choice of every gene.")


class SpaceList(_Answer):
    """The names of all spaces."""

    spaces: list[str] = Field(description="The names.")


class DeviceOut(_Answer):
    """A device whose latency can be predicted, or is being learned."""

    id: str = Field(description="Names the device.")
    default: bool = Field(description="Whether it is meant where none is named.")
    builtin: bool = Field(description="Whether it came with a supernet.")
    state: Literal["fitting", "ready", "failed"] = Field(description="Whether it can be searched for.")
    supernets: list[str] = Field(description="Supernets whose subnets can be timed on it.")
    runtime: str = Field(description="Runtime that it was measured with.")
    threads: int | None = Field(description="Threads that it was measured with; null: not said.")
    description: str = Field(description="What else is known of it.")
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
    error: FailureOut | None = Field(description="Why its predictor could not be fitted.")

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

    devices: list[DeviceOut] = Field(description="The devices.")


class MapOut(_Answer):
    """A saliency map as numbers: rows from top to bottom, each from left to right, 0 to 1."""

    subnet: str = Field(description="Id of the subnet that predicted it.")
    height: int = Field(description="Of the map, in its points.")
    width: int = Field(description="Of the map, in its points.")
    photo_size: tuple[int, int] = Field(description="[height, width] of the photo, in pixels.")
    peak: tuple[int, int] = Field(description="[x, y] of the most salient point in the map.")
    values: list[list[float]] = Field(description="The rows.")


class Health(_Answer):
    """Whether the service lives, or is ready and if not why."""

    status: str = Field(description="alive, ready or not ready.")
    checks: dict[str, str] = Field(default={}, description="By part: ready, or what is wrong with it.")


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


def _manifest(result: Mapping[str, Any]) -> ManifestOut | None:
    shown = {name: value for name, value in result.items() if name != "artifact"}
    return ManifestOut(**shown) if shown else None


def _request(job: Job) -> dict[str, Any]:
    renamed = {"metric": "accuracy_metric"}
    hidden = {"fingerprint", "engine", "generations"}
    return {renamed.get(k, k): v for k, v in job.request.items() if k not in hidden}


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
