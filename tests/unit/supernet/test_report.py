"""The report shows the right photos and holds everything it shows."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from supernet.data.synthetic import SyntheticDataset, synthetic
from supernet.evaluate import evaluate
from supernet.report import histogram, ranked, write_report


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]


def centre(image: Image.Image) -> NDArray[np.float32]:
    y, x = np.mgrid[-1 : 1 : image.height * 1j, -1 : 1 : image.width * 1j]
    return np.asarray(np.exp(-2 * (x**2 + y**2)), np.float32)


def test_worst_and_best_are_shown(tmp_path: Path) -> None:
    dataset = SyntheticDataset(tuple(range(9)), name="<b>mine</b>")
    evaluation = evaluate(lambda x: x.mean(1), dataset, resolution=(48, 64))
    path = tmp_path / "report.html"
    write_report(path, evaluation, dataset, centre, subnet="tiny-000", supernet="one", shown=3)
    text = path.read_text(encoding="utf-8")
    order = np.argsort(evaluation.columns["cc"])
    captions = re.findall(r"<figcaption>(\S+?): CC (-?[\d.]+)", text)
    expected = [*order[:3], *order[::-1][:3]]
    assert [name for name, _ in captions] == [dataset.names[i] for i in expected]
    assert [float(cc) for _, cc in captions] == [
        round(float(evaluation.columns["cc"][i]), 3) for i in expected
    ]
    assert f"<td>{evaluation.scores.cc:.3f}</td>" in text
    reader = Reader()
    reader.feed(text)
    assert "script" not in reader.tags
    assert "b" not in reader.tags
    assert len(reader.sources) == 18
    for source in reader.sources:
        head, data = source.split(",", 1)
        assert head == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (128, 96)


def test_photos_without_a_score_are_left_out() -> None:
    evaluation = evaluate(lambda x: x.mean(1), synthetic(4), resolution=(48, 64))
    evaluation.columns["cc"][1] = np.nan
    assert 1 not in ranked(evaluation)
    assert len(ranked(evaluation)) == 3


def test_the_bars_count_every_photo() -> None:
    values = np.array([-0.25, 0.0, 0.5, 0.99, 1.0, np.nan])
    assert sum(map(int, re.findall(r": (\d+) photos", histogram(values)))) == 5
    assert "<svg" in histogram(np.array([]))
