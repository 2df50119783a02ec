"""What can be searched: supernets and spaces."""

from __future__ import annotations

from fastapi import APIRouter

from service.context import READ, Service
from service.errors import NotFound
from service.routes.problems import PROBLEMS
from service.schemas import SpaceList, SpaceOut, SupernetList, SupernetOut
from service.supernets import SupernetFile
from service.workbench import describe_space
from supernet.space import get_space, list_spaces

router = APIRouter(prefix="/v1", responses=PROBLEMS, dependencies=[READ])


@router.get("/supernets", tags=["supernets"])
def list_supernets(service: Service) -> SupernetList:
    """The supernets at hand."""
    return SupernetList(supernets=[_supernet(service, file) for file in service.benches.files()])


@router.get("/supernets/{supernet_id}", tags=["supernets"])
def read_supernet(supernet_id: str, service: Service) -> SupernetOut:
    """One supernet: its space, the data it was trained on, its scores."""
    return _supernet(service, _file(service, supernet_id))


@router.get("/spaces", tags=["spaces"])
def read_spaces() -> SpaceList:
    """The names of all search spaces."""
    return SpaceList(spaces=list_spaces())


@router.get("/spaces/{name}", tags=["spaces"])
def read_space(name: str) -> SpaceOut:
    """A search space: its size and the choices of every gene."""
    if name not in list_spaces():
        raise _unknown("space", name, list_spaces())
    return SpaceOut(**describe_space(get_space(name)))


def _file(service: Service, supernet_id: str) -> SupernetFile:
    files = service.benches.files()
    for file in files:
        if file.id == supernet_id:
            return file
    raise _unknown("supernet", supernet_id, [file.id for file in files])


def _supernet(service: Service, file: SupernetFile) -> SupernetOut:
    return SupernetOut(**file.to_json(), default=file.id == service.settings.supernet)


def _unknown(kind: str, name: str, known: list[str]) -> NotFound:
    return NotFound(
        f"There is no {kind} {name[:80]!r}.",
        field=kind,
        value=name[:80],
        remedy=f"There are: {', '.join(known)}." if known else f"There is no {kind} at all yet.",
    )
