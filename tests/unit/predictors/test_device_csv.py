from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictors.device_csv import Measurements, read_measurements
from predictors.estimate import FloatArray
from supernet.cost import cost
from supernet.errors import DeviceError, SalnasError
from supernet.sampling import covering_rows
from supernet.space import Space, get_space

SALNAS = get_space("salnas")
ROWS = covering_rows(SALNAS, np.random.default_rng(0), 20)
IDS = SALNAS.ids(ROWS)
MS = cost(SALNAS, ROWS).macs / 2e7  # a device of 20 billion multiply-accumulates a second


def csv_of(
    values: FloatArray | list[str] = MS,
    ids: list[str] = IDS,
    heading: str = "id,latency_ms",
    separator: str = ",",
) -> str:
    lines = [f"{identity}{separator}{value}" for identity, value in zip(ids, values, strict=True)]
    return "\n".join([heading, *lines]) + "\n"


def read(text: str, **options: str) -> Measurements:
    return read_measurements(text.encode(), SALNAS, **options)


def refusal(text: str, **options: str) -> DeviceError:
    with pytest.raises(DeviceError) as caught:
        read(text, **options)
    assert caught.value.remedy
    assert caught.value.field
    return caught.value


def test_a_plain_table() -> None:
    found = read(csv_of())
    assert found.ids == tuple(IDS)
    assert (found.rows == ROWS).all()
    assert found.latency_ms == pytest.approx(MS)
    assert found.notes == ()


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(csv_of())
    assert len(read_measurements(path, SALNAS)) == 20
    with pytest.raises(DeviceError, match="cannot be read"):
        read_measurements(tmp_path / "none.csv", SALNAS)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + csv_of(),
        csv_of().replace("\n", "\r\n"),
        csv_of(heading="id;latency_ms", separator=";").replace(".", ","),
        csv_of(heading="id\tlatency_ms", separator="\t"),
        csv_of(heading="ID,Latency_ms"),
        csv_of(heading="id,latency (ms)"),
        "# measured on a rainy day; slowly\n" + csv_of(),
        csv_of().replace("\n", "\n\n"),
        csv_of(MS / 1e3, heading="id,latency_s"),
        csv_of(MS * 1e3, heading="id,latency_us"),
        csv_of(MS * 1e3, heading="id,latency_µs"),
        csv_of(MS * 1e6, heading="id,latency_ns"),
        csv_of(ids=[f" {i.upper()} " for i in IDS]),
    ],
    ids=[
        "bom",
        "crlf",
        "semicolon",
        "tab",
        "capitals",
        "brackets",
        "comment",
        "gaps",
        "s",
        "us",
        "µs",
        "ns",
        "ids",
    ],
)
def test_tables_as_people_write_them(text: str) -> None:
    assert read(text).latency_ms == pytest.approx(MS)


def test_more_columns_in_any_order() -> None:
    text = csv_of([f"note,{value},3" for value in MS], heading="id,remark,latency_ms,threads")
    assert read(text).latency_ms == pytest.approx(MS)


def test_threads_are_read_and_two_numbers_are_two_devices() -> None:
    heading = "id,note,latency_ms,threads"
    assert read(csv_of([f",{value},3" for value in MS], heading=heading)).threads == 3
    assert read(csv_of([f",{value},0" for value in MS], heading=heading)).threads is None, "as it likes"
    assert read(csv_of()).threads is None
    error = refusal(csv_of([*[f",{value},1" for value in MS[:-1]], f",{MS[-1]},2"], heading=heading))
    assert (error.field, error.value) == ("threads", ["1", "2"])
    assert "two" in refusal(csv_of([f",{value},two" for value in MS], heading=heading)).message


def test_missing_latencies_are_left_out_and_noted() -> None:
    values = [str(v) for v in MS]
    values[3], values[4], values[5] = "", "NaN", "n/a"
    found = read(csv_of(values))
    assert len(found) == 17
    assert IDS[3] not in found.ids
    assert "3 lines" in found.notes[0]


def test_repeats_are_combined() -> None:
    text = csv_of() + f"{IDS[0]},{1.2 * MS[0]}\n{IDS[1]},{1.1 * MS[1]}\n{IDS[1]},{50 * MS[1]}\n"
    found = read(text)
    assert found.latency_ms[0] == pytest.approx(1.1 * MS[0])
    assert found.latency_ms[1] == pytest.approx(1.1 * MS[1])  # the median of three does not mind the 50
    assert f"{IDS[0]}, {IDS[1]}." in found.notes[0]


def test_two_that_disagree_are_refused() -> None:
    error = refusal(csv_of() + f"{IDS[2]},{1.3 * MS[2]}\n")
    assert "Lines 4 and 22" in error.message
    assert IDS[2] in error.message


@pytest.mark.parametrize("wrong", ["0", "-3", "fast", "inf", "1e999", "0x10", "12 ms"])
def test_what_is_no_latency_is_named(wrong: str) -> None:
    values = [str(v) for v in MS]
    values[7] = wrong
    error = refusal(csv_of(values))
    assert error.message.startswith("Line 9:")
    assert error.field == "latency_ms"


@pytest.mark.parametrize("wrong", ["salnas-00000000", "resnet50", IDS[5][:-1], IDS[5][:-2] + "zz"])
def test_what_is_no_id_is_named(wrong: str) -> None:
    error = refusal(csv_of(ids=[*IDS[:5], wrong, *IDS[6:]]))
    assert error.message.startswith("Line 7:")
    assert error.field == "id"


@pytest.mark.parametrize(
    ("factor", "heading", "likelier"),
    [
        (1e-3, "latency_ms", "s"),
        (1e3, "latency_ms", "us"),
        (1.0, "latency_s", "ms"),
        (1e-3, "latency_us", "ms"),
    ],
)
def test_a_wrong_unit_is_noticed(factor: float, heading: str, likelier: str) -> None:
    error = refusal(csv_of(MS * factor, heading=f"id,{heading}"))
    assert error.field == "unit"
    assert f"latency_{likelier}" in (error.remedy or "")


def test_a_unit_that_was_said_is_believed() -> None:
    assert read(csv_of(MS * 1e3), unit="ms").latency_ms == pytest.approx(MS * 1e3)
    assert read(csv_of(MS * 1e3), unit="us").latency_ms == pytest.approx(MS)
    assert refusal(csv_of(), unit="days").field == "unit"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "id"),
        ("\n\n", "id"),
        ("latency_ms\n3\n", "id"),
        ("id,id,latency_ms\n", "id"),
        ("id,speed\n", "latency_ms"),
        ("id,latency_ms,latency_us\n", "latency_ms"),
        ("id,latency_ms\n", "rows"),
        (csv_of(MS[:9], IDS[:9]), "rows"),
        ("x" * 6_000_000, "csv"),
    ],
)
def test_files_that_are_no_measurements(text: str, field: str) -> None:
    assert refusal(text).field == field


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(DeviceError, match="not text"):
        read_measurements(b"PK\x03\x04\xff\xfe", SALNAS)


def test_ids_of_another_space() -> None:
    tiny: Space = get_space("tiny")
    with pytest.raises(DeviceError, match="space tiny"):
        read_measurements(csv_of().encode(), tiny)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode()))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with pytest.raises(SalnasError):
        read_measurements(content, SALNAS)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*IDS, "", "x"]), st.sampled_from(["1", "30.5", "", "-1", "nan", '"', ",", "#"])
        ),
        max_size=30,
    )
)
def test_any_lines_are_read_or_refused(lines: list[tuple[str, str]]) -> None:
    text = csv_of() + "\n".join(",".join(line) for line in lines)
    try:
        found = read(text)
    except DeviceError:
        return
    assert len(found) == 20
    assert (found.latency_ms > 0).all()


def test_the_runtime_is_read_and_two_of_them_are_refused() -> None:
    lines = [f"{identity},{value},onnxruntime 1.31.1" for identity, value in zip(IDS, MS, strict=True)]
    text = "\n".join(["id,latency_ms,runtime", *lines])
    assert read(text).runtime == "onnxruntime 1.31.1"
    assert read(csv_of()).runtime == ""
    error = refusal(text.replace("1.31.1", "1.30.0", 3))
    assert error.field == "runtime"
    assert error.value == ["onnxruntime 1.30.0", "onnxruntime 1.31.1"]


def with_energy(energies: list[str] | FloatArray, heading: str = "energy_mj") -> str:
    values = [f"{ms},{energy}" for ms, energy in zip(MS, energies, strict=True)]
    return csv_of(values, heading=f"id,latency_ms,{heading}")


@pytest.mark.parametrize(
    ("heading", "factor"),
    [("energy_mj", 1.0), ("Energy (J)", 1e3), ("energy_µJ", 1e-3), ("energy_mwh", 3600.0)],
)
def test_energy_is_read_in_its_unit(heading: str, factor: float) -> None:
    found = read(with_energy(4.0 * MS / factor, heading))
    assert found.energy_mj == pytest.approx(4.0 * MS)
    assert found.notes == ()
    assert read(csv_of()).energy_mj is None


def test_energy_of_some_subnets_only() -> None:
    energies = [str(value) for value in 4.0 * MS]
    found = read(with_energy(["", "nan", *energies[2:]]))
    assert found.energy_mj is not None
    assert np.isnan(found.energy_mj[:2]).all()
    assert found.energy_mj[2:] == pytest.approx(4.0 * MS[2:])
    assert found.notes == ("2 subnets have a latency and no energy.",)
    few = read(with_energy([*energies[:9], *[""] * 11]))
    assert few.energy_mj is None
    assert "of 9 subnets, and 10 are needed" in few.notes[0]


def test_energies_that_cannot_be_meant() -> None:
    error = refusal(with_energy(4e6 * MS))
    assert error.field == "energy_mj"
    assert "watts" in error.message
    error = refusal(with_energy(["-1", *[str(value) for value in MS[1:]]]))
    assert error.field == "energy_mj"
    assert "Line 2: '-1' is not an energy." in error.message
    error = refusal(csv_of([f"{ms},1,1" for ms in MS], heading="id,latency_ms,energy_mj,energy_j"))
    assert error.field == "energy_mj"
