"""The page: static files, and Plotly from the installed package, so that nothing is fetched from elsewhere."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from service.errors import NotFound

router = APIRouter(include_in_schema=False)

WEB = Path(__file__).parents[1] / "web"
_PLOTLY = "package_data/plotly.min.js"


@router.get("/plotly.min.js")
def read_plotly() -> FileResponse:
    """The plotting library of the page."""
    found = find_spec("plotly")
    path = Path(found.origin).parent / _PLOTLY if found and found.origin else None
    if path is None or not path.is_file():
        raise NotFound(
            "The plotly package is not installed.", field="plotly", remedy="Install it: make setup."
        )
    return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})


router.frontend("/", directory=WEB, fallback=None)
