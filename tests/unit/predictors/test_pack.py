from __future__ import annotations

import ast
import csv
import json
import os
import subprocess
import sys
import threading
import time
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from predictors.device_csv import read_measurements
from predictors.measure_pack import energy_mj, find_meters
from predictors.pack import SUBNETS, pack_rows, write_pack
from predictors.runtimes import exporter
from predictors.tables import read_table
from supernet.network import Supernet
from supernet.space import Space

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "results" / "predictors" / "salnas-osie"
SCRIPT = ROOT / "predictors" / "measure_pack.py"


@pytest.fixture(scope="module")
def pack(tiny_supernet: Supernet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = pack_rows(tiny_supernet.space, 12)
    return write_pack(
        tiny_supernet.space, rows, exporter(tiny_supernet), tmp_path_factory.mktemp("pack") / "p.zip"
    )


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "measure.py"), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def unpacked(pack: Path, folder: Path) -> Path:
    with zipfile.ZipFile(pack) as archive:
        archive.extractall(folder)
    return folder


def test_the_script_needs_numpy_and_onnxruntime_only() -> None:
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names) == {
        "numpy",
        "onnxruntime",
    }


@pytest.mark.parametrize("table", sorted(SHIPPED.glob("latency-*.parquet")), ids=lambda path: path.stem)
def test_shipped_devices_were_measured_with_the_pack(table: Path, salnas: Space) -> None:
    """Who measured a pack goes on with the same one, and the report learns devices from it."""
    assert set(salnas.ids(pack_rows(salnas))) <= set(read_table(table).ids)


def test_a_pack_is_measured_and_loaded(pack: Path, tmp_path: Path, tiny: Space) -> None:
    folder = unpacked(pack, tmp_path)
    done = run(folder, "--threads", "1", "--rounds", "3", "--out", "mine.csv")
    assert done.returncode == 0, done.stderr
    assert "12/12" in done.stdout
    found = read_measurements(folder / "mine.csv", tiny, unit="ms")
    assert (found.rows == pack_rows(tiny, 12)).all()
    with (folder / "mine.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert {line["runtime"] for line in lines} == {f"onnxruntime {onnxruntime.__version__}"}
    assert all(float(line["noise"]) >= 0 for line in lines)


def test_a_measurement_goes_on_where_it_stopped(pack: Path, tmp_path: Path) -> None:
    folder = unpacked(pack, tmp_path)
    table = folder / "latency.csv"
    assert run(folder, "--models", "3", "--rounds", "3").returncode == 0
    before = table.read_text().splitlines()
    assert len(before) == 4
    with table.open("a") as stream:
        stream.write("tiny-0")  # killed in the middle of a line
    assert run(folder, "--models", "5", "--rounds", "3").returncode == 0
    after = table.read_text().splitlines()
    assert after[:4] == before
    assert len(after) == 6


def test_another_number_of_threads_needs_another_table(pack: Path, tmp_path: Path) -> None:
    folder = unpacked(pack, tmp_path)
    assert run(folder, "--models", "1", "--rounds", "3").returncode == 0
    before = (folder / "latency.csv").read_text()
    refused = run(folder, "--models", "2", "--rounds", "3", "--threads", "2")
    assert refused.returncode == 1
    assert "threads 1, not 2" in refused.stderr
    assert (folder / "latency.csv").read_text() == before
    assert "as before" in run(folder, "--models", "1", "--rounds", "3").stdout


def test_a_packed_zip_is_measured_too(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "measure.py").write_bytes(SCRIPT.read_bytes())
    done = run(tmp_path, "--pack", str(pack), "--models", "1", "--rounds", "3")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "latency.csv").exists()


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another interpreter, in whose environment are numpy and onnxruntime and nothing else."""
    folder = tmp_path_factory.mktemp("device")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in (np, onnxruntime):
        source = Path(str(package.__file__)).parent
        (site / source.name).symlink_to(source)
        if (libraries := source.parent / f"{source.name}.libs").is_dir():
            (site / libraries.name).symlink_to(libraries)
    return folder / "bin" / "python"


@pytest.mark.slow
def test_a_device_with_numpy_and_onnxruntime_alone(
    pack: Path, bare_python: Path, tmp_path: Path, tiny: Space
) -> None:
    folder = unpacked(pack, tmp_path)
    for name in ("torch", "onnx", "pandas", "predictors", "supernet"):
        tried = subprocess.run([bare_python, "-c", f"import {name}"], cwd=folder, capture_output=True)
        assert b"ModuleNotFoundError" in tried.stderr
    command = [str(bare_python), "measure.py", "--rounds", "3", "--models", "10", "--out", "bare.csv"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = read_measurements(folder / "bare.csv", tiny, unit="ms")
    assert (found.rows == pack_rows(tiny, 10)).all()
    assert found.runtime == f"onnxruntime {onnxruntime.__version__}"


def write_onnxruntime(folder: Path, version: str, session: str, *more_providers: str) -> None:
    """Another onnxruntime for the script in `folder`: a version, the code of its sessions, what it has."""
    providers = [*more_providers, "CPUExecutionProvider"]
    (folder / "onnxruntime.py").write_text(
        f"__version__ = {version!r}\n"
        "class SessionOptions: pass\n"
        f"def get_available_providers(): return {providers}\n"
        f"{session}\n"
    )


def test_an_onnxruntime_that_is_too_old_says_so(pack: Path, tmp_path: Path) -> None:
    folder = unpacked(pack, tmp_path)
    write_onnxruntime(
        folder,
        "1.8.0",
        "def InferenceSession(*a, **k): raise RuntimeError('Unsupported model IR version: 8')",
    )
    done = run(folder)
    assert done.returncode == 1
    assert "1.8.0 cannot load" in done.stderr
    assert "pip install --upgrade onnxruntime" in done.stderr


def test_a_gpu_that_onnxruntime_passes_over_is_not_timed(pack: Path, tmp_path: Path) -> None:
    folder = unpacked(pack, tmp_path)
    session = """
class InferenceSession:
    def __init__(self, *a, **k): pass
    def get_providers(self): return ['CPUExecutionProvider']
"""
    write_onnxruntime(folder, "1.30.0", session, "CUDAExecutionProvider")
    done = run(folder, "--provider", "CUDAExecutionProvider")
    assert done.returncode == 1
    assert "cannot run on CUDAExecutionProvider" in done.stderr
    assert not (folder / "latency.csv").exists()


@pytest.mark.parametrize("option", ["--threads=-1", "--rounds=1", "--models=-2", "--provider=AbacusProvider"])
def test_options_that_make_no_sense(pack: Path, tmp_path: Path, option: str) -> None:
    done = run(unpacked(pack, tmp_path), option)
    assert done.returncode == 2
    assert "error" in done.stderr


def test_models_are_light_and_run(pack: Path, tiny: Space) -> None:
    with zipfile.ZipFile(pack) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert manifest["reference"]["id"] == tiny.id_of(tiny.smallest())
        assert [model["id"] for model in manifest["models"]] == tiny.ids(pack_rows(tiny, 12))
        largest = archive.getinfo(manifest["models"][1]["file"])
        assert largest.compress_size < 0.7 * largest.file_size
        session = onnxruntime.InferenceSession(archive.read(largest), providers=["CPUExecutionProvider"])
    shape = [1, *session.get_inputs()[0].shape[1:]]
    (saliency,) = session.run(None, {"image": np.full(shape, 100, np.uint8)})
    assert np.isfinite(saliency).all()


def test_equal_packs_are_equal_files(pack: Path, tiny_supernet: Supernet, tmp_path: Path) -> None:
    space = tiny_supernet.space
    again = write_pack(space, pack_rows(space, 12), exporter(tiny_supernet), tmp_path / "q.zip")
    assert again.read_bytes() == pack.read_bytes()


def test_pack_rows_differ_and_every_prefix_is_a_pack(salnas: Space) -> None:
    rows = pack_rows(salnas, SUBNETS)
    assert len(np.unique(salnas.indices(rows))) == SUBNETS
    assert (rows[:10] == pack_rows(salnas, 10)).all()
    assert (rows[0] == 0).all()
    assert (rows[1] == salnas.sizes - 1).all()
    assert set(rows[:10, 0]) == {0, 1}
    drawn = [np.bincount(rows[:, gene], minlength=int(k)) for gene, k in enumerate(salnas.sizes)]
    assert min(int(counts[[0, -1]].min()) for counts in drawn) >= 4


@contextmanager
def meter_of(watts: float, path: Path) -> Iterator[Path]:
    """A file that counts microjoules as a processor of constant power does."""
    over = threading.Event()
    other = path.with_suffix(".new")

    def count() -> None:
        began = time.perf_counter()
        while not over.is_set():
            other.write_text(f"{1e6 * watts * (time.perf_counter() - began):.0f}\n")
            os.replace(other, path)
            over.wait(0.001)

    path.write_text("0\n")
    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield path
    finally:
        over.set()
        thread.join()


def test_energy_is_measured_where_there_is_a_meter(pack: Path, tmp_path: Path, tiny: Space) -> None:
    folder = unpacked(pack, tmp_path)
    with meter_of(30.0, tmp_path / "watts") as meter:
        done = run(folder, "--rounds", "3", "--models", "10", "--meter", str(meter), "--out", "mine.csv")
    assert done.returncode == 0, done.stderr
    found = read_measurements(folder / "mine.csv", tiny, unit="ms")
    assert found.energy_mj is not None
    watts = found.energy_mj / found.latency_ms
    assert 15 < np.median(watts) < 120, "30 watts, with other work beside"


def test_energy_of_one_photo(tmp_path: Path) -> None:
    meter, spent = tmp_path / "energy_uj", [999_000]
    meter.write_text("999000\n")
    (tmp_path / "max_energy_range_uj").write_text("1000000\n")

    def photo() -> float:
        time.sleep(0.001)
        spent[0] += 5000
        meter.write_text(f"{spent[0] % 1_000_000}\n")
        return 1.0

    assert energy_mj(photo, [str(meter)], 0.0) == pytest.approx(5.0), "over the end of the counter"
    assert energy_mj(photo, [str(meter)], 0.02) == pytest.approx(5.0)


def test_meters_are_those_of_whole_processors(tmp_path: Path) -> None:
    pattern = str(tmp_path / "*-rapl:[0-9]")
    assert find_meters(pattern) == []
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "dtpm"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text("12\n")
    assert [Path(path).parent.name for path in find_meters(pattern)] == ["intel-rapl:0", "intel-rapl:1"]
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("")
    assert find_meters(pattern) == [], "half of the processors would be half of the truth"


def test_a_meter_that_is_none(pack: Path, tmp_path: Path) -> None:
    folder = unpacked(pack, tmp_path)
    done = run(folder, "--meter", str(folder / "manifest.json"))
    assert done.returncode == 2
    assert "microjoules" in done.stderr
