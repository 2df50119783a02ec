"""The networks of other papers that subnets are compared with."""

from __future__ import annotations

from fastapi import APIRouter

from service.context import READ, Service
from service.models import list_models
from service.routes.problems import PROBLEMS
from service.schemas import ModelList, ModelOut

router = APIRouter(prefix="/v1", responses=PROBLEMS, dependencies=[READ])


@router.get("/models", tags=["models"])
def read_models(service: Service) -> ModelList:
    """The reference models, with what was measured of them."""
    return ModelList(models=[ModelOut(**found) for found in list_models(service.settings.results)])
