from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search.record import load_record
from service.estimates import Estimates
from service.workbench import (
    SearchRequest,
    Workbench,
    describe_space,
    describe_subnet,
    parse_arch,
    rows_of_ids,
    stored_front,
)
from supernet.cost import cost, layer_table
from supernet.errors import (
    CheckpointError,
    DataError,
    DeviceError,
    InfeasibleBudget,
    InvalidArch,
    InvalidConstraint,
    PredictorError,
    SalnasError,
    SettingsError,
)
from supernet.images import load_image
from supernet.network import Supernet, extract
from supernet.space import get_space
from tests.fixtures.tiny import TINY, write_data, write_photo, write_supernet

SPACE = get_space("tiny")


@pytest.fixture(scope="module")
def bench(results: Path) -> Workbench:
    return Workbench.open(results, TINY)


@pytest.fixture
def bare(tmp_path: Path) -> Workbench:
    write_supernet(tmp_path)
    return Workbench.open(tmp_path, TINY)


# --- subnets --------------------------------------------------------------------------------------------


def test_a_subnet_can_be_named_in_every_way(tmp_path: Path) -> None:
    largest = SPACE.largest()
    row = SPACE.encode(largest)
    path = tmp_path / "subnet.json"
    path.write_text(json.dumps(largest.to_json()))
    names = ["max", " max ", SPACE.id_of(largest), largest, largest.to_json(), row, row.tolist(), tuple(row)]
    assert {parse_arch(SPACE, name) for name in names} == {largest}
    assert parse_arch(SPACE, str(path), files=True) == largest
    assert parse_arch(SPACE, "min") == SPACE.smallest()
    assert parse_arch(SPACE, "random:3") == parse_arch(SPACE, "random:3") != parse_arch(SPACE, "random:4")


def test_a_path_is_read_only_where_files_are_allowed(tmp_path: Path) -> None:
    path = tmp_path / "subnet.json"
    path.write_text(json.dumps(SPACE.largest().to_json()))
    with pytest.raises(InvalidArch, match="path"):
        parse_arch(SPACE, str(path))


@pytest.mark.parametrize(
    "value",
    [
        "medium", "", "salnas-000000000", "tiny-zzzz", "random:one", None, 3, 0.5, [], [0], [9] * 13, [[0] * 13],
        [0.5] * 13, ["a"] * 13, [True] * 13, {}, {"wings": 2}, get_space("salnas").largest(), b"max", [None] * 13,
    ],
)  # fmt: skip
def test_what_names_no_subnet_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArch) as caught:
        parse_arch(SPACE, value)
    assert caught.value.field


def test_an_unknown_value_of_a_gene_is_named() -> None:
    arch = SPACE.largest().to_json()
    arch["stages"][1]["kernel"] = 7
    with pytest.raises(InvalidArch, match=r"mb2\.kernel") as caught:
        parse_arch(SPACE, arch)
    assert (caught.value.field, caught.value.value) == ("mb2.kernel", 7)
    assert "[3, 5]" in str(caught.value.remedy)


def test_a_description_agrees_with_cost_and_layers(bench: Workbench) -> None:
    arch = parse_arch(SPACE, "random:1")
    found = bench.describe(arch)
    exact = cost(SPACE, SPACE.encode(arch)[None])
    assert found["parameters"] == exact.parameters[0]
    assert found["conv_macs"] == found["macs"] == exact.macs[0] == sum(x["macs"] for x in found["layers"])
    assert found["memory_bytes"] == exact.memory_bytes[0] == max(x["live_bytes"] for x in found["layers"])
    assert len(found["layers"]) == len(layer_table(SPACE, arch))
    assert found["resolution"] == list(arch.resolution)
    assert parse_arch(SPACE, found["id"]) == parse_arch(SPACE, found["genotype"]) == arch
    assert parse_arch(SPACE, found["arch"]) == arch
    assert set(found["predictions"]["accuracy"]) == {"cc", "kld", "nss", "sim", "auc"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_subnet_is_described_without_a_supernet() -> None:
    space = get_space("salnas")
    found = describe_subnet(Estimates(None, space), space.largest())
    assert (found["supernet"], found["resolution"]) == (None, [288, 384])
    assert found["predictions"] == {"accuracy": {}, "latency_ms": {}, "energy_mj": {}}


def test_a_space_is_described_with_its_extremes() -> None:
    found = describe_space(get_space("salnas"))
    assert found["size"] == get_space("salnas").size == np.prod([len(g["choices"]) for g in found["genes"]])
    assert found["smallest"]["macs"] < found["largest"]["macs"]


def test_ids_become_rows_in_their_order() -> None:
    rows = SPACE.sample(np.random.default_rng(0), 7)
    np.testing.assert_array_equal(rows_of_ids(SPACE, SPACE.ids(rows)), rows)
    assert rows_of_ids(SPACE, []).shape == (0, len(SPACE.genes))


# --- search ---------------------------------------------------------------------------------------------


def test_a_front_keeps_its_constraints_and_repeats_for_a_seed(bench: Workbench) -> None:
    request = SearchRequest(constraints=("latency_ms<=9", "mb3.kernel==3"), seed=4, evaluations=2000)
    first, second = (bench.front_json(bench.search(request), request) for _ in range(2))
    assert first["subnets"] == second["subnets"]
    assert len(first["subnets"]) > 5
    for subnet in first["subnets"]:
        assert subnet["latency_ms"]["predicted"] <= 9
        assert parse_arch(SPACE, subnet["id"]).stages[2].kernel == 3
    assert first["knee"] in {subnet["id"] for subnet in first["subnets"]}
    assert first["evaluations_per_second"] > 0
    assert json.loads(json.dumps(first, allow_nan=False)) == first


def test_accuracy_means_the_chosen_metric(bench: Workbench) -> None:
    request = SearchRequest(metric="kld", device="cpu-2-threads", evaluations=1000)
    found = bench.search(request)
    best = found.front.sort_values("latency_ms").iloc[-1]
    assert best["accuracy"] == found.front["accuracy"].min()
    row = rows_of_ids(SPACE, [best["id"]])
    expected = bench.estimates.latency["cpu-2-threads"].predict(row).mean[0]
    assert best["latency_ms"] == pytest.approx(expected)


def test_any_metric_and_device_can_be_an_objective(bench: Workbench) -> None:
    request = SearchRequest(("sim", "latency_ms@cpu-2-threads", "macs"), evaluations=500)
    front = bench.front_json(bench.search(request), request)
    assert front["objectives"] == ["max:sim", "min:latency_ms@cpu-2-threads", "min:macs"]
    assert {"sim", "latency_ms@cpu-2-threads", "accuracy", "parameters"} <= set(front["subnets"][0])


@pytest.mark.parametrize(
    ("request_", "kind", "text"),
    [
        (SearchRequest(("accuracy", "beauty")), InvalidConstraint, "beauty"),
        (SearchRequest(("accuracy",)), InvalidConstraint, "objectives"),
        (SearchRequest(constraints=("mb9.kernel==3",)), InvalidConstraint, "mb9.kernel"),
        (SearchRequest(constraints=("mb3.kernel==4",)), InvalidConstraint, "3, 5"),
        (SearchRequest(constraints=("latency_ms<30",)), InvalidConstraint, "<="),
        (SearchRequest(constraints=("latency_ms",)), InvalidConstraint, "comparison"),
        (SearchRequest(constraints=("latency_ms<=0.1",)), InfeasibleBudget, "smallest latency_ms found"),
        (SearchRequest(constraints=("macs<=6e5", "accuracy>=0.6")), InfeasibleBudget, "together"),
        (SearchRequest(device="watch"), DeviceError, "cpu-2-threads"),
        (SearchRequest(constraints=("latency_ms@watch<=3",)), DeviceError, "watch"),
        (SearchRequest(engine="magic"), SettingsError, "nsga2"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(
    bench: Workbench, request_: SearchRequest, kind: type[SalnasError], text: str
) -> None:
    with pytest.raises(kind, match=text) as caught:
        bench.search(request_)
    assert caught.value.remedy
    if kind is not SettingsError:
        with pytest.raises(kind, match=text):
            bench.check(request_)


@pytest.mark.parametrize(
    "values", [{"seed": -1}, {"metric": "beauty"}, {"evaluations": 0}, {"seconds": -1.0}, {"generations": 0}]
)
def test_nonsense_in_a_request_is_refused_when_it_is_made(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        SearchRequest(**values)


def test_without_predictors_costs_can_be_searched_and_nothing_else(bare: Workbench) -> None:
    with pytest.raises(PredictorError, match="make predictors"):
        bare.search(SearchRequest())
    with pytest.raises(DeviceError, match="make predictors"):
        bare.search(SearchRequest(("macs", "parameters"), ("latency_ms<=3",)))
    found = bare.search(SearchRequest(("min:parameters", "max:macs"), evaluations=500))
    assert len(found.front) > 3
    assert bare.devices() == []


def test_a_stored_front_is_the_one_that_was_found(bench: Workbench, tmp_path: Path) -> None:
    request = SearchRequest(evaluations=1000, constraints=("latency_ms<=9",))
    result = bench.search(request, directory=tmp_path)
    record = load_record(tmp_path)
    assert record.manifest.provenance["supernet_fingerprint"] == bench.file.fingerprint
    stored = stored_front(record)
    live = bench.front_json(result, request)
    assert [s["id"] for s in stored["subnets"]] == [s["id"] for s in live["subnets"]]
    assert stored["subnets"][0]["accuracy"]["predicted"] == live["subnets"][0]["accuracy"]["predicted"]
    assert (stored["knee"], stored["supernet"]) == (live["knee"], TINY)
    part = stored_front(record, ("macs<=2e6",), best=2)
    assert len(part["subnets"]) == 2
    assert all(subnet["macs"] <= 2e6 for subnet in part["subnets"])


def test_an_unfinished_search_has_no_front_yet(bench: Workbench, tmp_path: Path) -> None:
    def give_up(generation: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.search(SearchRequest(evaluations=5000), directory=tmp_path, on_generation=give_up)
    with pytest.raises(CheckpointError, match="not finished"):
        stored_front(load_record(tmp_path))


# --- networks -------------------------------------------------------------------------------------------


def test_a_net_is_the_extracted_subnet(bench: Workbench) -> None:
    arch = parse_arch(SPACE, "random:2")
    x = torch.rand(1, 3, *arch.resolution)
    expected = extract(bench.supernet, arch)(x)
    assert torch.equal(bench.net(arch)(x), expected)
    assert not bench.net(arch).training
    assert not any(p.requires_grad for p in bench.net(arch).parameters())


def test_few_nets_are_kept(results: Path) -> None:
    bench = Workbench.open(results, TINY, cached_nets=2)
    first = [bench.net(parse_arch(SPACE, f"random:{seed}")) for seed in range(3)]
    assert bench.net(parse_arch(SPACE, "random:2")) is first[2]
    assert bench.net(parse_arch(SPACE, "random:0")) is not first[0]


def test_weights_are_loaded_once_by_many_threads(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from supernet import checkpoint

    loaded = []
    original = checkpoint.load_supernet

    def counting(path: Path) -> tuple[Supernet, dict[str, Any]]:
        loaded.append(path)
        return original(path)

    monkeypatch.setattr(checkpoint, "load_supernet", counting)
    bench = Workbench.open(results, TINY)
    gate = threading.Barrier(6)
    x = torch.rand(1, 3, 32, 32)

    def work(seed: int) -> bool:
        gate.wait()
        arch = parse_arch(SPACE, f"random:{seed % 3}")
        with torch.inference_mode():
            return torch.equal(bench.net(arch)(x), extract(bench.supernet, arch)(x))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
    assert len(loaded) == 1


def test_a_map_has_the_size_of_its_photo(bench: Workbench, tmp_path: Path) -> None:
    photo = load_image(write_photo(tmp_path / "photo.png", (50, 70)))
    found = bench.predict(SPACE.smallest(), photo)
    assert found.shape == (50, 70)
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1


def test_the_next_photos_of_a_subnet_are_seen_by_onnxruntime(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = load_image(write_photo(tmp_path / "photo.png", (50, 70)))
    arch = parse_arch(SPACE, "random:77")
    first = bench.predict(arch, photo)
    assert bench.predict(arch, photo) == pytest.approx(first, abs=1e-5)
    monkeypatch.setattr(bench, "net", lambda arch: pytest.fail("torch was asked again"))
    assert bench.predict(arch, photo) == pytest.approx(first, abs=1e-5)


def test_an_export_is_checked_and_says_what_it_is(bench: Workbench, tmp_path: Path) -> None:
    import onnx

    arch = parse_arch(SPACE, "random:6")
    report = bench.export(arch, tmp_path / "subnet.onnx")
    assert report.parity_error <= 1e-4
    assert 0 < report.latency_ms < 10_000
    model = onnx.load(tmp_path / "subnet.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert SPACE.id_of(arch) in metadata.values()
    assert bench.file.fingerprint in metadata.values()


def test_an_evaluation_reads_a_folder(bench: Workbench, tmp_path: Path) -> None:
    folder = write_data(tmp_path / "own", 10)
    steps: list[tuple[int, int]] = []
    found = bench.evaluate(SPACE.smallest(), str(folder), progress=lambda *step: steps.append(step))
    assert (found.dataset, found.split, found.scores.n) == ("own", "val", 2)
    assert steps[-1] == (2, 2)
    assert bench.evaluate(SPACE.smallest(), str(folder), split="all", limit=3).scores.n == 3


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"data": "nowhere"}, DataError),
        ({"data": "synthetic", "split": "test"}, DataError),
        ({"data": "synthetic", "limit": 0}, SettingsError),
    ],
)
def test_missing_data_is_refused(bench: Workbench, values: dict[str, Any], kind: type[SalnasError]) -> None:
    with pytest.raises(kind) as caught:
        bench.evaluate(SPACE.smallest(), **values)
    assert caught.value.remedy


def test_a_workbench_needs_a_supernet(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="make train-supernet"):
        Workbench.open(tmp_path)
