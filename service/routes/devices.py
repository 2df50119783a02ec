"""Devices: those that are there, those that users register, and the pack that measures one."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool

from service.context import READ, SUBMIT, Context, Service, demand
from service.devices import PACK_MODELS
from service.errors import NotReady, Unavailable
from service.http import Download
from service.jobs import Job, JobState
from service.keys import Scope
from service.routes.problems import PROBLEMS
from service.routes.searches import IdempotencyKey
from service.schemas import DeviceList, DeviceOut

router = APIRouter(prefix="/v1/devices", tags=["devices"], responses=PROBLEMS, dependencies=[READ])

DEVICES = "/v1/devices"
MOST_BYTES = 6_000_000
ZIP = "application/zip"

_LONGEST_WAIT = 120.0


@router.get("")
def list_devices(service: Service) -> DeviceList:
    """The devices whose latency, and perhaps energy, can be predicted, and those that are being learned."""
    default = service.settings.device
    return DeviceList(devices=[DeviceOut.of(d, default=default) for d in service.devices.all()])


@router.post("", status_code=202, dependencies=[SUBMIT])
def register_device(
    service: Service,
    response: Response,
    measurements: Annotated[
        UploadFile,
        Form(description="CSV with id, latency_ms and, if known, energy_mj; 10 to 100 subnets are enough."),
    ],
    name: Annotated[str, Form(min_length=1, max_length=64, description="What to call the device.")],
    runtime: Annotated[str, Form(max_length=200, description="Such as onnxruntime 1.31.")] = "",
    threads: Annotated[int | None, Form(ge=1, le=4096)] = None,
    description: Annotated[str, Form(max_length=2000)] = "",
    unit: Annotated[
        str | None,
        Form(pattern="^(ns|us|ms|s)$", description="Of the latencies, where the heading is wrong."),
    ] = None,
    supernet: Annotated[str | None, Form(max_length=64)] = None,
    idempotency_key: IdempotencyKey = None,
) -> DeviceOut:
    """Register a device from measured latencies; its predictor is fitted in some seconds.

    The same device with the same measurements is found, not made again.
    """
    from predictors.devices import Registration

    device = service.devices.register(
        Registration(name, runtime, threads, description),
        measurements.file.read(),
        unit=unit,
        supernet=supernet,
        key=idempotency_key,
    )
    response.headers["Location"] = f"{DEVICES}/{device.id}"
    return DeviceOut.of(device, default=service.settings.device)


@router.get("/{device_id}")
def read_device(device_id: str, service: Service) -> DeviceOut:
    """One device, with how well its latency is predicted."""
    return DeviceOut.of(service.devices.get(device_id), default=service.settings.device)


@router.delete("/{device_id}", status_code=204, dependencies=[SUBMIT])
def remove_device(device_id: str, service: Service) -> None:
    """Forget a device that was registered."""
    service.devices.remove(device_id)


@router.get(
    "/{device_id}/pack",
    response_class=Download,
    responses={200: {"content": {ZIP: {"schema": {"type": "string", "format": "binary"}}}}},
)
async def read_pack(
    device_id: str,
    request: Request,
    service: Service,
    models: Annotated[int, Query(ge=10, le=100, description="How many subnets to time.")] = PACK_MODELS,
    supernet: Annotated[str | None, Query(max_length=64)] = None,
) -> Download:
    """A zip with subnets as ONNX and a script that times them where only onnxruntime is installed.

    It is the same for every device of a space; the first one takes a moment to make, and a key that allows it.
    """
    job = await run_in_threadpool(service.devices.pack, models, supernet)
    if job is None:
        await demand(request, service, Scope.SUBMIT)
        job = await run_in_threadpool(service.devices.begin_pack, models, supernet)
    if not job.state.is_final:
        async with service.packs.place():
            job = await _waited_for(service, job)
    if not job.state.is_final:
        raise Unavailable("The pack is still being made.", remedy="Ask again in a moment.")
    if job.state is not JobState.SUCCEEDED:
        reason = job.failure.message if job.failure else "It was cancelled."
        raise NotReady(f"The pack could not be made: {reason}", remedy="Ask again to try again.")
    path = await run_in_threadpool(service.devices.pack_file, job)
    return Download(path, media_type=ZIP, filename=f"salnas-{device_id[:64]}.zip")


async def _waited_for(service: Context, job: Job) -> Job:
    """The job when it has ended, or as it is after the longest wait."""
    deadline = time.monotonic() + _LONGEST_WAIT
    while not job.state.is_final and time.monotonic() < deadline and not service.leaving.is_set():
        await asyncio.sleep(0.2)
        job = await run_in_threadpool(service.store.get, job.id)
    return job
