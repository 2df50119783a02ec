"""Questions about subnets that are answered at once: what is this one, which fit a budget, what do they see."""

from __future__ import annotations

import io
import zlib
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import numpy as np
from fastapi import APIRouter, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from numpy.typing import NDArray
from PIL import Image

from service.context import READ, Service
from service.estimates import Choice
from service.http import accepted
from service.ports import Bench
from service.routes.problems import PROBLEMS
from service.schemas import MapOut, SubnetDescribe, SubnetDescription, SubnetList, SubnetQuery

if TYPE_CHECKING:
    from supernet.space import Arch

router = APIRouter(prefix="/v1", responses=PROBLEMS, dependencies=[READ])

JSON, PNG, JPEG, NPY = "application/json", "image/png", "image/jpeg", "application/x-npy"
PREDICTIONS = "/v1/predictions"

_LONGEST_SIDE = 2048
"""Photos are made smaller to this before anything else, so that no answer needs much memory."""

_LONGEST_NUMBERS = 256


@router.post("/subnets:describe", tags=["subnets"], response_model=SubnetDescription)
def describe_subnet(body: SubnetDescribe, service: Service) -> dict[str, Any]:
    """Layers, macs, parameters, memory and predictions of a subnet."""
    choice = Choice(body.accuracy_metric, body.device)
    return service.subnets.describe(body.arch, supernet=body.supernet, choice=choice)


@router.post("/subnets:query", tags=["subnets"], response_model=SubnetList)
async def query_subnets(body: SubnetQuery, service: Service) -> Response:
    """The best subnets within a budget, at once from the stored front or, with `fresh`, from a new search."""
    if body.fresh:
        choice = Choice(body.accuracy_metric, body.device)
        search = partial(service.subnets.query_fresh, supernet=body.supernet, choice=choice)
        async with service.fresh.place():
            found = await run_in_threadpool(search, body.constraints, k=body.k, by=body.by)
    else:
        answer = partial(service.subnets.query, body.constraints, k=body.k, by=body.by)
        # A thread costs more than the answer, once the front is in memory.
        found = answer() if service.subnets.is_ready else await run_in_threadpool(answer)
    return JSONResponse({"subnets": found})


@router.post(
    "/predictions",
    tags=["predictions"],
    response_model=MapOut,
    responses={200: {"content": {PNG: {}, JPEG: {}, NPY: {}}, "description": "The saliency map."}},
)
async def predict(
    request: Request,
    service: Service,
    image: Annotated[UploadFile, Form(description="A JPEG, PNG or WebP photo.")],
    arch: Annotated[str, Form(max_length=100, description="max, min, random:SEED, or an id.")] = "max",
    supernet: Annotated[str | None, Form(max_length=64)] = None,
    style: Annotated[
        str,
        Form(pattern="^(overlay|heat|grey)$", description="The picture: over the photo, alone, or in grey."),
    ] = "overlay",
    longest_side: Annotated[
        int | None,
        Form(ge=16, le=_LONGEST_SIDE, description="Longest side of the map, in pixels; 256 for numbers."),
    ] = None,
) -> Response:
    """The saliency map of a photo: a PNG or JPEG picture, or numbers as JSON or as a .npy file, by Accept.

    As JPEG an overlay is a seventh of the size, and sooner there; its values are not exact. Photos with a side beyond
    2048 pixels are made smaller first. A JPEG may have 50 million pixels, a PNG or WebP 25 million.
    """
    media = accepted(request, (PNG, JPEG, JSON, NPY))
    async with service.predictions.place():
        bench = await run_in_threadpool(service.benches.get, supernet)
        answer = partial(_answer, bench, bench.arch(arch), image.file, media, style, longest_side)
        return await run_in_threadpool(answer)


def _answer(
    bench: Bench, subnet: Arch, image: BinaryIO, media: str, style: str, longest_side: int | None
) -> Response:
    from supernet.images import load_upload

    photo = load_upload(image.read(), _LONGEST_SIDE)
    size = photo.size
    saliency = bench.predict(subnet, photo)
    shown = longest_side or (_LONGEST_NUMBERS if media == JSON else _LONGEST_SIDE)
    photo.thumbnail((shown, shown))
    saliency = _resized(saliency, photo.size)
    identity = bench.space.id_of(subnet)
    if media == JSON:
        return JSONResponse(_numbers(identity, saliency, size), headers={"Vary": "Accept"})
    headers = {"Vary": "Accept", "X-Subnet": identity}
    if media == NPY:
        return Response(_array(saliency), media_type=NPY, headers=headers)
    return Response(_picture(photo, saliency, style, media), media_type=media, headers=headers)


def _resized(saliency: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W) → (h, w) for `size` = (w, h)."""
    if saliency.shape == (size[1], size[0]):
        return saliency
    resized = Image.fromarray(saliency).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.float32)


def _numbers(subnet: str, saliency: NDArray[np.float32], photo: tuple[int, int]) -> dict[str, Any]:
    y, x = np.unravel_index(int(saliency.argmax()), saliency.shape)
    return {
        "subnet": subnet,
        "height": saliency.shape[0],
        "width": saliency.shape[1],
        "photo_size": [photo[1], photo[0]],
        "peak": [int(x), int(y)],
        "values": np.round(saliency.astype(np.float64), 5).tolist(),
    }


def _array(saliency: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, saliency, allow_pickle=False)
    return stream.getvalue()


def _picture(photo: Image.Image, saliency: NDArray[np.float32], style: str, media: str) -> bytes:
    from supernet.images import heat, overlay, stretch

    if style == "overlay":
        picture = overlay(photo, saliency)
    elif style == "heat":
        picture = heat(saliency)
    else:
        picture = Image.fromarray(np.rint(255 * stretch(saliency)).astype(np.uint8))
    stream = io.BytesIO()
    if media == JPEG:
        picture.save(stream, format="JPEG", quality=90)
        return stream.getvalue()
    # Photographs hardly repeat themselves: to look for repetitions takes longer and saves nothing.
    picture.save(stream, format="PNG", compress_level=1, compress_type=zlib.Z_HUFFMAN_ONLY)
    return stream.getvalue()
