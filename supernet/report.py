"""An evaluation as one HTML file: mean scores, how they spread, and the photos that went best and worst.

The file needs nothing beside it: pictures are inside, styles too, and there is no script.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from supernet.data.sample import Dataset, Sample
from supernet.evaluate import Evaluation
from supernet.files import write_atomic
from supernet.images import overlay

SHOWN = 10
_WIDTH = 320
_BARS = 24
_TITLES = {"cc": "CC", "kld": "KLD", "nss": "NSS", "sim": "SIM", "auc": "AUC"}
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1a22; --soft: #6a6573; --line: #d9d5df; --bar: #8a4fa3; --page: #fbfafc; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ece9f1; --soft: #a29caf; --line: #3a3644; --bar: #b583cc; --page: #17151c; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 68rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { color: var(--soft); margin: .3rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
figure { margin: 0 0 1.4rem; } figcaption { color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
.row { display: grid; grid-template-columns: repeat(3, 1fr); gap: .5rem; }
.row img { width: 100%; height: auto; display: block; border-radius: 3px; }
.heads { color: var(--soft); font-size: .85rem; margin-bottom: .3rem; }
svg { max-width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 11px; } svg rect { fill: var(--bar); }
"""

Predict = Callable[[Image.Image], npt.NDArray[np.float32]]


def write_report(
    path: Path,
    evaluation: Evaluation,
    dataset: Dataset,
    predict: Predict,
    *,
    subnet: str,
    supernet: str,
    shown: int = SHOWN,
) -> None:
    """Write `path`, whole or not at all: the `shown` worst and best photos of `evaluation` by CC, predicted again.

    `dataset` is what was evaluated, in its order; `predict` gives the map of a photo at its size.
    """
    order = ranked(evaluation)
    worst, best = order[:shown], order[::-1][:shown]
    parts = [
        f"<h1>{_text(subnet)} on {_text(evaluation.dataset)}</h1>",
        f"<p>Supernet {_text(supernet)}, split {_text(evaluation.split)}, {evaluation.scores.n} photos. Metrics are "
        "taken per photo and averaged; maps are smoothed as in the evaluation.</p>",
        _table(evaluation),
        "<h2>CC of all photos</h2>",
        histogram(evaluation.columns["cc"]),
        f"<h2>Worst {len(worst)}</h2>",
        *_figures(evaluation, dataset, predict, worst),
        f"<h2>Best {len(best)}</h2>",
        *_figures(evaluation, dataset, predict, best),
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(subnet)} on {_text(evaluation.dataset)}</title><style>{_STYLE}</style></head><body>"
    )
    write_atomic(path, head + "\n".join(parts) + "</body></html>\n")


def ranked(evaluation: Evaluation) -> list[int]:
    """Positions of the photos from the worst CC to the best; those without one are left out."""
    values = evaluation.columns["cc"]
    return [int(i) for i in np.argsort(values, kind="stable") if not math.isnan(values[i])]


def _table(evaluation: Evaluation) -> str:
    lines = [
        "<table><tr><th>metric</th><th>mean</th><th>worst tenth</th><th>median</th><th>best tenth</th></tr>"
    ]
    for name, title in _TITLES.items():
        values = evaluation.columns[name]
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
        if name == "kld":
            low, high = high, low
        cells = "".join(f"<td>{value:.3f}</td>" for value in (values.mean(), low, middle, high))
        lines.append(f"<tr><td>{title}</td>{cells}</tr>")
    return "".join([*lines, "</table>"])


def histogram(values: npt.NDArray[np.float64]) -> str:
    """Bars of how many photos lie in each step of CC, as SVG."""
    values = values[np.isfinite(values)]
    low = min(0.0, math.floor(float(values.min(initial=0.0)) * 10) / 10)
    counts, edges = np.histogram(values, bins=_BARS, range=(low, 1.0))
    width, height = 640, 140
    step, highest = width / _BARS, max(int(counts.max()), 1)
    bars = []
    for i, count in enumerate(counts):
        tall = 110 * count / highest
        place = (
            f'x="{i * step + 1:.1f}" y="{height - 20 - tall:.1f}" width="{step - 2:.1f}" height="{tall:.1f}"'
        )
        title = f"{edges[i]:.2f} to {edges[i + 1]:.2f}: {count} photos"
        bars.append(f"<rect {place}><title>{title}</title></rect>")
    marks = [
        f'<text x="{i * step:.1f}" y="{height - 4}">{edges[i]:.2f}</text>'
        for i in range(0, _BARS, _BARS // 6)
    ]
    frame = f'viewBox="0 0 {width} {height}" width="{width}"'
    label = f'role="img" aria-label="CC of {len(values)} photos"'
    return f"<svg {frame} {label}>{''.join(bars + marks)}</svg>"


def _figures(
    evaluation: Evaluation, dataset: Dataset, predict: Predict, positions: Sequence[int]
) -> list[str]:
    heads = '<div class="row heads"><span>photo</span><span>where people looked</span><span>prediction</span></div>'
    return [heads, *(_figure(evaluation, dataset[i], predict, i) for i in positions)]


def _figure(evaluation: Evaluation, sample: Sample, predict: Predict, position: int) -> str:
    photo = Image.fromarray(sample.image)
    truth = sample.density if sample.density is not None else np.zeros(sample.size, np.float32)
    pictures = {
        "photo": photo,
        "truth": overlay(photo, truth),
        "prediction": overlay(photo, predict(photo)),
    }
    images = "".join(
        f'<img alt="{what} of {_text(sample.name)}" src="{_data_url(picture)}">'
        for what, picture in pictures.items()
    )
    scores = ", ".join(
        f"{title} {evaluation.columns[name][position]:.3f}"
        for name, title in _TITLES.items()
        if math.isfinite(evaluation.columns[name][position])
    )
    return f'<figure><div class="row">{images}</div><figcaption>{_text(sample.name)}: {scores}</figcaption></figure>'


def _data_url(picture: Image.Image) -> str:
    stream = io.BytesIO()
    small = picture.copy()
    small.thumbnail((_WIDTH, _WIDTH))
    small.save(stream, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _text(text: str) -> str:
    return html.escape(text, quote=True)
