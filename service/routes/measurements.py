"""Measurements of subnets on the service's machine."""

from __future__ import annotations

from fastapi import APIRouter, Response

from service.context import READ, SUBMIT, Service
from service.routes.problems import PROBLEMS
from service.routes.searches import IdempotencyKey
from service.schemas import MeasurementCreate, MeasurementOut

router = APIRouter(prefix="/v1/measurements", tags=["measurements"], responses=PROBLEMS, dependencies=[READ])


@router.post("", status_code=202, dependencies=[SUBMIT])
def create_measurement(
    body: MeasurementCreate, service: Service, response: Response, idempotency_key: IdempotencyKey = None
) -> MeasurementOut:
    """Queue the measurement of subnets: their latency on this machine, their accuracy on photos, or both."""
    job, _ = service.measurements.submit(
        body.subnets,
        accuracy=body.accuracy,
        latency=body.latency,
        device=body.device,
        metric=body.accuracy_metric,
        photos=body.photos,
        supernet=body.supernet,
        key=idempotency_key,
    )
    response.headers["Location"] = f"/v1/measurements/{job.id}"
    return MeasurementOut.of(job)


@router.get("/{measurement_id}")
def read_measurement(measurement_id: str, service: Service) -> MeasurementOut:
    """A measurement: its state and, once it has succeeded, the values beside the predicted ones."""
    return MeasurementOut.of(service.measurements.get(measurement_id))
