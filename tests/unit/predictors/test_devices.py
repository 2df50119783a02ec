from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predictors.device_csv import Measurements, read_measurements
from predictors.devices import (
    Device,
    Registration,
    energy_path,
    list_devices,
    load_device,
    make_device,
    measured_on,
    predictor_path,
    remove_device,
    save_device,
    table_path,
)
from predictors.latency import LatencyPredictor
from predictors.pack import pack_rows
from predictors.ranking import quality
from supernet.errors import DeviceError, PredictorError
from supernet.sampling import covering_rows
from supernet.space import Space


@pytest.fixture(scope="module")
def built_in(known: LatencyPredictor) -> Device:
    return Device("cpu-1-thread", known)


def measurements(space: Space, latency_ms: Any, n: int = 30) -> Measurements:
    rows = pack_rows(space, n)
    return Measurements(tuple(space.ids(rows)), rows, latency_ms(rows))


def register(space: Space, built_in: Device, measured: Measurements, name: str = "pi-5") -> Device:
    return make_device(space, Registration(name, threads=4), measured, [built_in], np.random.default_rng(0))


def test_a_device_from_thirty_measurements(salnas: Space, built_in: Device, make_gadget: Any) -> None:
    gadget = make_gadget(60)
    device = register(
        salnas, built_in, measurements(salnas, lambda rows: 5 * gadget.latency_ms(salnas, rows))
    )
    unseen = covering_rows(salnas, np.random.default_rng(1), 200)
    found = quality(5 * gadget.latency_ms(salnas, unseen, noise=0.0), device.predictor.predict(unseen).mean)
    assert found.within_10 >= 0.95
    assert device.predictor.provenance["start"] == "cpu-1-thread"
    assert device.threads == 4


def test_the_file_says_how_many_threads_there_were(salnas: Space, built_in: Device, make_gadget: Any) -> None:
    measured = replace(measurements(salnas, lambda rows: make_gadget(60).latency_ms(salnas, rows)), threads=2)
    rng = np.random.default_rng(0)
    assert make_device(salnas, Registration("pi-5"), measured, [built_in], rng).threads == 2
    with pytest.raises(DeviceError, match="2 threads, not 4") as caught:
        register(salnas, built_in, measured)
    assert caught.value.field == "threads"


def test_nothing_is_learnt_from_a_device_of_the_same_measurements(
    salnas: Space, built_in: Device, make_gadget: Any, tmp_path: Path
) -> None:
    measured = measurements(salnas, lambda rows: make_gadget(60).latency_ms(salnas, rows))
    saved = save_device(tmp_path, register(salnas, built_in, measured), measured)
    registration, rng = Registration("again"), np.random.default_rng(0)
    again = make_device(salnas, registration, measured, [built_in, saved], rng)
    assert again.predictor.provenance["start"] == "cpu-1-thread"
    others = replace(measured, latency_ms=1.001 * measured.latency_ms)
    assert make_device(salnas, registration, others, [built_in, saved], rng).predictor.provenance[
        "start"
    ] == ("pi-5"), "one that was measured by itself is as good a start as any"


def test_a_saved_device_is_found_again(
    salnas: Space, built_in: Device, make_gadget: Any, tmp_path: Path
) -> None:
    measured = measurements(salnas, lambda rows: make_gadget(61).latency_ms(salnas, rows))
    saved = save_device(tmp_path, register(salnas, built_in, measured), measured)
    for name in ("cpu-1-thread", "cpu-1-thread-int8"):
        built_in.predictor.save(predictor_path(tmp_path, name))
    names = [device.name for device in list_devices(tmp_path, salnas)]
    assert names == ["cpu-1-thread", "cpu-1-thread-int8", "pi-5"], (
        "the first one is what the page begins with"
    )
    again = load_device(tmp_path, "pi-5", salnas)
    rows = salnas.sample(np.random.default_rng(0), 20)
    assert (again.predictor.predict(rows).mean == saved.predictor.predict(rows).mean).all()
    assert (again.threads, again.table) == (4, saved.table)
    assert again.table is not None
    stored = read_measurements(again.table, salnas)
    assert stored.ids == measured.ids
    assert (stored.latency_ms == measured.latency_ms).all()


def test_a_device_is_forgotten_and_one_that_was_timed_here_is_not(
    salnas: Space, built_in: Device, make_gadget: Any, tmp_path: Path
) -> None:
    measured = measurements(salnas, lambda rows: make_gadget(61).latency_ms(salnas, rows))
    save_device(tmp_path, register(salnas, built_in, measured), measured)
    remove_device(tmp_path, "pi-5", salnas)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DeviceError, match="no device"):
        remove_device(tmp_path, "pi-5", salnas)
    built_in.predictor.save(predictor_path(tmp_path, "cpu-1-thread"))
    table_path(tmp_path, "cpu-1-thread").write_bytes(b"hours of work")
    with pytest.raises(DeviceError, match="timed by this program"):
        remove_device(tmp_path, "cpu-1-thread", salnas)
    assert table_path(tmp_path, "cpu-1-thread").exists()


def test_a_device_that_was_timed_here_says_which_machine_that_is(
    salnas: Space, built_in: Device, tmp_path: Path
) -> None:
    assert built_in.description == ""
    shipped = Path(__file__).parents[3] / "results" / "predictors" / "salnas-osie"
    device = load_device(shipped, "cpu-2-threads", salnas)
    assert device.description.startswith(device.details["processor"])
    assert ", 2 threads, onnxruntime " in device.description
    known = device.predictor.provenance
    about = {**known["device"], "gpu": "NVIDIA H200", "runtime": "onnxruntime-cuda", "threads": 1}
    replace(device.predictor, provenance={**known, "device": about}).save(predictor_path(tmp_path, "cuda"))
    assert load_device(tmp_path, "cuda", salnas).description.startswith(
        "NVIDIA H200, 1 thread, onnxruntime-cuda"
    )


def test_a_missing_or_damaged_device(salnas: Space, tmp_path: Path) -> None:
    assert list_devices(tmp_path / "none", salnas) == []
    with pytest.raises(DeviceError, match="There is no device 'x'") as caught:
        load_device(tmp_path, "x", salnas)
    assert "none yet" in (caught.value.remedy or "")
    predictor_path(tmp_path, "y").write_bytes(b"nonsense")
    with pytest.raises(DeviceError) as caught:
        load_device(tmp_path, "x", salnas)
    assert "y" in (caught.value.remedy or "")
    with pytest.raises(PredictorError, match="latency-y"):
        list_devices(tmp_path, salnas)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "-x", "x" * 65, "x\n", "ä"])
def test_names_that_are_no_file_names(tmp_path: Path, name: str) -> None:
    for path in (predictor_path, table_path):
        with pytest.raises(DeviceError, match="cannot be called"):
            path(tmp_path, name)


def test_a_disturbed_measurement_is_left_out(salnas: Space, built_in: Device, make_gadget: Any) -> None:
    gadget = make_gadget(62)

    def disturbed(rows: Any) -> Any:
        latency = gadget.latency_ms(salnas, rows)
        latency[[4, 17]] *= 8.0
        return latency

    measured = measurements(salnas, disturbed)
    device = register(salnas, built_in, measured)
    (note,) = device.details["notes"]
    assert measured.ids[4] in note
    assert measured.ids[17] in note
    unseen = covering_rows(salnas, np.random.default_rng(1), 200)
    truth = gadget.latency_ms(salnas, unseen, noise=0.0)
    assert quality(truth, device.predictor.predict(unseen).mean).within_10 >= 0.9


def test_units_that_are_mixed_are_refused(salnas: Space, built_in: Device, make_gadget: Any) -> None:
    def mixed(rows: Any) -> Any:
        latency = make_gadget(63).latency_ms(salnas, rows)
        latency[5] *= 1000.0
        return latency

    measured = measurements(salnas, mixed)
    for known in ([built_in], []):
        with pytest.raises(DeviceError, match=measured.ids[5]):
            make_device(salnas, Registration("pi"), measured, known, np.random.default_rng(0))


def test_latencies_beside_the_wrong_ids_are_refused(
    salnas: Space, built_in: Device, make_gadget: Any
) -> None:
    def shuffled(rows: Any) -> Any:
        return np.random.default_rng(3).permutation(make_gadget(64).latency_ms(salnas, rows))

    with pytest.raises(DeviceError, match="do not go with the subnets"):
        register(salnas, built_in, measurements(salnas, shuffled))


def test_equal_latencies_are_refused(salnas: Space, built_in: Device) -> None:
    with pytest.raises(DeviceError, match="do not go with the subnets"):
        register(salnas, built_in, measurements(salnas, lambda rows: np.full(len(rows), 20.0)))


def test_without_any_known_device(salnas: Space, make_gadget: Any) -> None:
    measured = measurements(salnas, lambda rows: make_gadget(65).latency_ms(salnas, rows), n=60)
    device = make_device(salnas, Registration("first"), measured, [], np.random.default_rng(0))
    assert device.predictor.quality.spearman > 0.9


def test_threads_are_at_least_one(salnas: Space, built_in: Device, make_gadget: Any) -> None:
    measured = measurements(salnas, lambda rows: make_gadget(66).latency_ms(salnas, rows))
    with pytest.raises(DeviceError, match="0 threads"):
        make_device(salnas, Registration("x", threads=0), measured, [built_in], np.random.default_rng(0))


def test_energy_is_learned_kept_and_forgotten(
    salnas: Space, built_in: Device, make_gadget: Any, tmp_path: Path
) -> None:
    gadget, hungry = make_gadget(66), make_gadget(67)

    def energy_mj(rows: Any) -> Any:
        return 3.0 * gadget.latency_ms(salnas, rows, noise=0.0) + 2.0 * hungry.latency_ms(
            salnas, rows, noise=0.0
        )

    plain = measurements(salnas, lambda rows: gadget.latency_ms(salnas, rows))
    energies = energy_mj(plain.rows)
    energies[3] = np.nan
    measured = replace(plain, energy_mj=energies)
    device = save_device(tmp_path, register(salnas, built_in, measured), measured)
    found = load_device(tmp_path, "pi-5", salnas)
    assert device.energy is not None
    assert found.energy is not None
    unseen = covering_rows(salnas, np.random.default_rng(1), 200)
    assert quality(energy_mj(unseen), found.energy.predict(unseen).mean).within_10 >= 0.95
    assert found.energy.quantity == "energy"
    known = measured_on(found, salnas)
    assert known["latency_ms"] == dict(zip(measured.ids, measured.latency_ms.tolist(), strict=True))
    assert list(known["energy_mj"]) == [*measured.ids[:3], *measured.ids[4:]]

    save_device(tmp_path, register(salnas, built_in, plain), plain)
    assert not energy_path(tmp_path, "pi-5").exists()
    again = load_device(tmp_path, "pi-5", salnas)
    assert again.energy is None
    assert "energy_mj" not in measured_on(again, salnas)


def test_energies_beside_the_wrong_ids_are_refused(salnas: Space, built_in: Device, make_gadget: Any) -> None:
    plain = measurements(salnas, lambda rows: make_gadget(68).latency_ms(salnas, rows))
    shuffled = np.random.default_rng(3).permutation(5.0 * plain.latency_ms)
    with pytest.raises(DeviceError, match="energies do not go with the subnets"):
        register(salnas, built_in, replace(plain, energy_mj=shuffled))
