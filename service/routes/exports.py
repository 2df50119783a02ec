"""Exports and their files."""

from __future__ import annotations

from fastapi import APIRouter, Response

from service.context import READ, SUBMIT, Service
from service.http import Download
from service.routes.problems import PROBLEMS
from service.routes.searches import IdempotencyKey
from service.schemas import ExportCreate, ExportOut

router = APIRouter(prefix="/v1/exports", tags=["exports"], responses=PROBLEMS, dependencies=[READ])

OCTETS = "application/octet-stream"


@router.post("", status_code=202, dependencies=[SUBMIT])
def create_export(
    body: ExportCreate, service: Service, response: Response, idempotency_key: IdempotencyKey = None
) -> ExportOut:
    """Queue the export of a subnet, as ONNX, for torch, OpenVINO or Core ML."""
    job, _ = service.exports.submit(
        body.arch, form=body.format, precision=body.precision, supernet=body.supernet, key=idempotency_key
    )
    response.headers["Location"] = f"/v1/exports/{job.id}"
    return ExportOut.of(job)


@router.get("/{export_id}")
def read_export(export_id: str, service: Service) -> ExportOut:
    """An export: its state and, once it has succeeded, its manifest."""
    return ExportOut.of(service.exports.get(export_id))


@router.get(
    "/{export_id}/file",
    response_class=Download,
    responses={200: {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}},
)
def read_export_file(export_id: str, service: Service) -> Download:
    """The exported file."""
    path, name = service.exports.file(export_id)
    return Download(path, media_type=OCTETS, filename=name)
