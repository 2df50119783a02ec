"""What a search leaves on disk is whole, readable and checked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from search.record import load_manifest, load_record
from search.run import SearchResult, Stop, search
from search.synthetic import additive_space
from supernet.errors import CheckpointError

SPACE = additive_space(12, 2, 3)


@pytest.fixture
def done(tmp_path: Path) -> tuple[Path, SearchResult]:
    result = search(
        SPACE,
        SPACE,
        constraints=["latency_ms<=2"],
        stop=Stop(evaluations=4000),
        seed=9,
        warm_start=np.zeros((1, 12), dtype=np.int64),
        directory=tmp_path / "run",
        provenance={"predictors": {"accuracy": "abc"}},
    )
    return tmp_path / "run", result


def test_a_record_holds_inputs_and_outcome(done: tuple[Path, SearchResult]) -> None:
    directory, result = done
    record = load_record(directory)
    manifest = record.manifest
    assert record.front is not None
    pd.testing.assert_frame_equal(record.front.table, result.front)
    assert record.front.knee == result.knee
    assert (manifest.state, manifest.reason) == ("done", "evaluations")
    assert manifest.constraints == ("latency_ms<=2",)
    assert manifest.seed == 9
    assert manifest.warm_start == [[0] * 12]
    assert manifest.provenance == {"predictors": {"accuracy": "abc"}}
    assert manifest.space_fingerprint == SPACE.fingerprint
    assert {"python", "numpy", "moocore"} <= set(manifest.versions)
    assert manifest.hypervolume == result.hypervolume
    assert manifest.history == result.history
    assert manifest.history[-1].evaluations == manifest.evaluations >= 4000
    assert manifest.started <= str(manifest.finished)


def test_csv_and_parquet_agree(done: tuple[Path, SearchResult]) -> None:
    directory, result = done
    csv = pd.read_csv(directory / "front.csv")
    parquet = pd.read_parquet(directory / "front.parquet")
    assert csv["id"].tolist() == parquet["id"].tolist() == result.front["id"].tolist()
    np.testing.assert_array_equal(csv["accuracy"], parquet["accuracy"])


def test_nothing_temporary_stays(done: tuple[Path, SearchResult]) -> None:
    names = {path.name for path in done[0].iterdir()}
    assert names == {"manifest.json", "front.csv", "front.parquet", "state.npz"}


def test_a_changed_front_is_noticed(done: tuple[Path, SearchResult]) -> None:
    directory, result = done
    result.front.assign(accuracy=1.0).to_parquet(directory / "front.parquet", index=False)
    with pytest.raises(CheckpointError, match="not the one of its manifest"):
        load_record(directory)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1}'])
def test_a_corrupt_manifest_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"manifest\.json cannot be read"):
        load_manifest(tmp_path)


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="directory of a search"):
        load_record(tmp_path / "nowhere")


def test_a_corrupt_parquet_is_named(done: tuple[Path, SearchResult]) -> None:
    (done[0] / "front.parquet").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"front\.parquet cannot be read"):
        load_record(done[0])


def test_the_manifest_is_plain_json(done: tuple[Path, SearchResult]) -> None:
    content = json.loads((done[0] / "manifest.json").read_text())
    assert content["objectives"][0] == {"name": "accuracy", "direction": "max"}
