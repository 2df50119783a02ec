"""Metrics against pysaliency, closed forms and the behaviour that the module promises."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from supernet import metrics
from supernet.data.density import fixation_counts
from supernet.data.registry import data_root, open_dataset
from supernet.errors import DataError

# Both sides sum in float64, in another order.
TOLERANCE = 1e-10
# pysaliency takes the logarithm of a probability as it is, the benchmark adds 2.2204e-16 to it.
GAIN_TOLERANCE = 1e-8

Array = npt.NDArray[Any]


@pytest.fixture(scope="module")
def pysaliency() -> Iterator[Any]:
    """pysaliency 0.2.22, with the two names that its surroundings have dropped since."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stub = types.ModuleType("pkg_resources")
        stub.resource_string = stub.resource_listdir = None  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "pkg_resources", stub)
        patch.setattr(np, "trapz", np.trapezoid, raising=False)
        import pysaliency as package
        import pysaliency.metrics

        yield package


@pytest.fixture(params=["cpu", "cuda", "lazy"])
def device(request: pytest.FixtureRequest) -> str:
    """Where tensors lie; `lazy` computes on the CPU and, as a GPU, refuses tensors of two devices."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU that CUDA knows")
    if request.param == "lazy":
        _start_lazy_backend()
    return str(request.param)


@lru_cache(maxsize=1)
def _start_lazy_backend() -> None:
    # A second start in one process is an error.
    import torch._lazy.ts_backend

    torch._lazy.ts_backend.init()  # type: ignore[no-untyped-call]


def random_case(seed: int, levels: int | None = None, size: tuple[int, int] = (24, 31)) -> list[Array]:
    """Predictions, densities (4, H, W) in [0, 1] and Poisson counts; with `levels`, predictions tie."""
    rng = np.random.default_rng(seed)
    prediction, density = rng.random((2, 4, *size))
    if levels:
        prediction = np.floor(prediction * levels) / levels
    return [prediction, density, rng.poisson(0.06, (4, *size))]


def tensors(*arrays: Array) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def points(counts: Array) -> tuple[Array, Array, Array]:
    """Image, y, x of every fixation in (B, H, W) counts, repeated as often as counted."""
    image, y, x = np.nonzero(counts)
    repeats = counts[image, y, x]
    return np.repeat(image, repeats), np.repeat(y, repeats), np.repeat(x, repeats)


def as_pysaliency(package: Any, maps: Array, counts: Array) -> tuple[Any, Any, Any]:
    """Stimuli, fixations and a model that answers with `maps`."""
    stimuli = package.Stimuli([np.full((*m.shape, 3), i, np.uint8) for i, m in enumerate(maps)])
    image, y, x = points(counts)
    fixations = package.FixationTrains.from_fixation_trains(
        [[v] for v in x], [[v] for v in y], [[0.0]] * len(x), image, np.zeros(len(x), int)
    )

    class Fixed(package.SaliencyMapModel):  # type: ignore[misc]
        def _saliency_map(self, stimulus: Any) -> Array:
            return np.asarray(maps[int(np.asarray(stimulus).flat[0])])

    return stimuli, fixations, Fixed()


def gain_of_pysaliency(package: Any, stimuli: Any, fixations: Any, maps: Array, baselines: Array) -> float:
    """Information gain of maps > 0 over baselines > 0, averaged within each image."""

    def model(chosen: Array) -> Any:
        class Fixed(package.Model):  # type: ignore[misc]
            def _log_density(self, stimulus: Any) -> Array:
                one = chosen[int(np.asarray(stimulus).flat[0])]
                return np.asarray(np.log(one / one.sum()))

        return Fixed()

    baseline = model(baselines)
    gain = model(maps).information_gain(stimuli, fixations, baseline_model=baseline, average="image")
    return float(gain)


@pytest.mark.parametrize("levels", [None, 2, 7])
@pytest.mark.parametrize("seed", [0, 1])
def test_maps_and_points_equal_pysaliency(pysaliency: Any, seed: int, levels: int | None) -> None:
    prediction, density, counts = random_case(seed, levels)
    table = metrics.score_batch(*tensors(prediction, density, counts))
    oracle = pysaliency.metrics
    image, y, x = points(counts)
    for i in range(len(prediction)):
        mine = image == i
        with np.errstate(divide="ignore"):
            expected_kld = oracle.MIT_KLDiv(prediction[i], density[i])
        assert float(table["cc"][i]) == pytest.approx(oracle.CC(prediction[i], density[i]), abs=TOLERANCE)
        assert float(table["kld"][i]) == pytest.approx(expected_kld, abs=TOLERANCE)
        assert float(table["sim"][i]) == pytest.approx(oracle.SIM(prediction[i], density[i]), abs=TOLERANCE)
        expected_nss = oracle.NSS(prediction[i], x[mine], y[mine]).mean()
        assert float(table["nss"][i]) == pytest.approx(expected_nss, abs=TOLERANCE)


@pytest.mark.parametrize("levels", [None, 2, 7])
@pytest.mark.parametrize("seed", [2, 3])
def test_areas_equal_pysaliency(pysaliency: Any, seed: int, levels: int | None) -> None:
    prediction, _, counts = random_case(seed, levels)
    stimuli, fixations, model = as_pysaliency(pysaliency, prediction, counts)
    maps, found = tensors(prediction, counts)
    judd = metrics.auc_judd(maps, found)
    assert float(judd.mean()) == pytest.approx(
        model.AUC_Judd(stimuli, fixations, jitter=False), abs=TOLERANCE
    )
    shuffled = metrics.shuffled_auc(maps, found, metrics.fixations_of_others(found))
    expected = model.sAUC(stimuli, fixations, average="image")
    assert float(shuffled.mean()) == pytest.approx(expected, abs=TOLERANCE)


def test_jitter_is_as_large_as_that_of_pysaliency(pysaliency: Any) -> None:
    prediction, _, counts = random_case(4, levels=2, size=(80, 80))
    stimuli, fixations, model = as_pysaliency(pysaliency, prediction, counts)
    maps, found = tensors(prediction, counts)
    jittered = float(metrics.auc_judd(maps, found, generator=torch.Generator().manual_seed(0)).mean())
    # Other random numbers: four images of 400 fixations agree to about a hundredth.
    assert jittered == pytest.approx(model.AUC_Judd(stimuli, fixations), abs=0.01)
    again = float(metrics.auc_judd(maps, found, generator=torch.Generator().manual_seed(0)).mean())
    assert jittered == again


def test_information_gain_equals_pysaliency(pysaliency: Any) -> None:
    prediction, density, counts = random_case(5)
    prediction, density = prediction + 0.01, density + 0.01
    stimuli, fixations, _ = as_pysaliency(pysaliency, prediction, counts)
    gain = metrics.information_gain(*tensors(prediction, counts, density))
    expected = gain_of_pysaliency(pysaliency, stimuli, fixations, prediction, density)
    assert float(gain.mean()) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.skipif(not (data_root() / "osie").is_dir(), reason="OSIE is not at SALNAS_DATA")
def test_real_photos_equal_pysaliency(pysaliency: Any) -> None:
    samples = [open_dataset("osie", split="val")[i] for i in range(3)]
    densities = np.stack([s.density for s in samples if s.density is not None])
    counts = np.stack([fixation_counts(s.fixations, s.size) for s in samples if s.fixations is not None])
    prediction = np.stack([s.image.astype(np.float64).mean(axis=2) for s in samples])
    table = metrics.score_batch(*tensors(prediction, densities, counts))
    stimuli, fixations, model = as_pysaliency(pysaliency, prediction, counts)
    for i, (mine, truth) in enumerate(zip(prediction, densities.astype(float), strict=True)):
        assert float(table["cc"][i]) == pytest.approx(pysaliency.metrics.CC(mine, truth), abs=TOLERANCE)
        with np.errstate(divide="ignore"):
            expected = pysaliency.metrics.MIT_KLDiv(mine, truth)
        assert float(table["kld"][i]) == pytest.approx(expected, abs=TOLERANCE)
        assert float(table["sim"][i]) == pytest.approx(pysaliency.metrics.SIM(mine, truth), abs=TOLERANCE)
    expected_auc = model.AUC_Judd(stimuli, fixations, jitter=False)
    assert float(table["auc"].mean()) == pytest.approx(expected_auc, abs=TOLERANCE)
    expected_nss = model.NSS(stimuli, fixations, average="image")
    assert float(table["nss"].mean()) == pytest.approx(expected_nss, abs=TOLERANCE)

    maps, found = tensors(prediction, counts)
    shuffled = metrics.shuffled_auc(maps, found, metrics.fixations_of_others(found))
    expected_shuffled = model.sAUC(stimuli, fixations, average="image")
    assert float(shuffled.mean()) == pytest.approx(expected_shuffled, abs=TOLERANCE)
    # pysaliency has no logarithm of black pixels, nor of densities where nobody looked.
    prediction += 1.0
    baselines = np.stack([densities.mean(axis=0, dtype=np.float64) + 1.0] * len(samples))
    gain = metrics.information_gain(*tensors(prediction, counts, baselines))
    expected_gain = gain_of_pysaliency(pysaliency, stimuli, fixations, prediction, baselines)
    assert float(gain.mean()) == pytest.approx(expected_gain, abs=GAIN_TOLERANCE)


# Devices --------------------------------------------------------------------------------------------


def every_metric(prediction: torch.Tensor, density: torch.Tensor, counts: torch.Tensor) -> dict[str, Any]:
    """All that the module computes of a batch, (B,) each."""
    return metrics.score_batch(prediction, density, counts) | {
        "shuffled_auc": metrics.shuffled_auc(prediction, counts, metrics.fixations_of_others(counts)),
        "information_gain": metrics.information_gain(prediction, counts, density),
        "mae": metrics.mae(prediction, density),
    }


def test_every_device_answers_alike(device: str) -> None:
    case = tensors(*random_case(6, levels=7))
    expected = every_metric(*case)
    for name, values in every_metric(*(part.to(device) for part in case)).items():
        assert values.device.type == device, name
        torch.testing.assert_close(values.cpu(), expected[name], rtol=0, atol=TOLERANCE)
    maps, masks = list(case[0]), list(case[1] > 0.5)
    there = [[part.to(device) for part in parts] for parts in (maps, masks)]
    assert metrics.max_f_measure(*there) == pytest.approx(metrics.max_f_measure(maps, masks), abs=TOLERANCE)
    noise = [torch.Generator().manual_seed(1) for _ in range(2)]
    jittered = metrics.auc_judd(case[0].to(device), case[2].to(device), generator=noise[0])
    there_and_here = jittered.cpu(), metrics.auc_judd(case[0], case[2], generator=noise[1])
    torch.testing.assert_close(*there_and_here, rtol=0, atol=TOLERANCE)


# Closed forms ---------------------------------------------------------------------------------------


def test_the_areas_of_four_pixels() -> None:
    prediction = torch.tensor([[[0.1, 0.4], [0.35, 0.8]]])
    fixations = torch.tensor([[[0, 0], [1, 1]]])
    # Fixated 0.35 and 0.8, unfixated 0.1 and 0.4. Judd's curve runs from (0, 1/2) at 0.8 straight to
    # (1/2, 1) at 0.35, so that 0.4 costs a quarter of its half; of the pairs 3 of 4 are in order.
    assert metrics.auc_judd(prediction, fixations).tolist() == [0.875]
    others = torch.tensor([[[1, 1], [0, 0]]])
    assert metrics.shuffled_auc(prediction, fixations, others).tolist() == [0.75]


def test_a_fixation_counted_twice_weighs_twice() -> None:
    prediction = torch.tensor([[[0.1, 0.4, 0.35, 0.8]]])
    nss = metrics.nss(prediction, torch.tensor([[[0, 0, 2, 1]]]))
    z = (prediction - prediction.mean()) / prediction.std(correction=0)
    assert float(nss) == pytest.approx(float((2 * z[0, 0, 2] + z[0, 0, 3]) / 3), abs=1e-6)


def test_the_f_measure_of_a_half_right_map() -> None:
    prediction = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 0, 0, 0]])
    precision, recall = 0.5, 1.0
    expected = 1.3 * precision * recall / (0.3 * precision + recall)
    assert metrics.max_f_measure([prediction], [mask]) == pytest.approx(expected)
    assert metrics.mae(prediction[None], mask[None]).tolist() == [0.25]


def test_the_f_measure_averages_before_it_divides() -> None:
    right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    mask = torch.tensor([[True, False]])
    score = metrics.max_f_measure([right, wrong], [mask, mask])
    # Above threshold 0: P = R = 1/2. At threshold 0 every pixel is taken: P = 1/2, R = 1.
    assert score == pytest.approx(1.3 * 0.5 / (0.3 * 0.5 + 1))


def test_the_f_measure_takes_images_of_any_size_bytes_and_255() -> None:
    maps = [torch.tensor([[255, 0]], dtype=torch.uint8), torch.tensor([[0.0], [1.0], [0.2]])]
    masks = [torch.tensor([[255, 0]]), torch.tensor([[0], [1], [0]])]
    assert metrics.max_f_measure(maps, masks) == pytest.approx(1.0)
    stacked = torch.rand(3, 5, 6)
    truth = torch.rand(3, 5, 6) > 0.5
    assert metrics.max_f_measure(stacked, truth) == metrics.max_f_measure(list(stacked), list(truth))


# What is undefined ----------------------------------------------------------------------------------


def test_flat_maps_have_the_promised_scores() -> None:
    flat, varied = torch.full((1, 5, 6), 0.3), torch.rand(1, 5, 6)
    fixations = torch.zeros(1, 5, 6)
    fixations[0, 2, 3] = 1
    assert metrics.cc(flat, varied).item() == 0
    assert metrics.cc(varied, flat).item() == 0
    assert metrics.cc(flat, flat).item() == 0
    assert metrics.nss(flat, fixations).item() == 0
    assert metrics.auc_judd(flat, fixations).item() == 0.5
    assert metrics.shuffled_auc(flat, fixations, 1 - fixations).item() == 0.5
    zero = torch.zeros(1, 5, 6)
    assert metrics.kld(zero, varied).item() == pytest.approx(metrics.kld(flat, varied).item())
    assert metrics.sim(zero, flat).item() == pytest.approx(1.0)


@pytest.mark.parametrize("value", [0.3, 0.0, -2.0])
def test_a_flat_map_is_uniform_to_information_gain(value: float) -> None:
    flat, varied = torch.full((1, 4, 5), value), torch.arange(1.0, 21.0).reshape(1, 4, 5)
    fixations = torch.zeros(1, 4, 5)
    fixations[0, 2, 3] = 1  # the value 14 of 1 to 20, whose sum is 210
    uniform = torch.ones(1, 4, 5)
    assert metrics.information_gain(flat, fixations, uniform).item() == pytest.approx(0, abs=1e-12)
    gain = np.log2(1 / 20) - np.log2(14 / 210)
    assert metrics.information_gain(flat, fixations, varied).item() == pytest.approx(gain)
    assert metrics.information_gain(varied, fixations, flat).item() == pytest.approx(-gain)


def test_one_fixation_is_enough() -> None:
    prediction = torch.arange(20.0).reshape(1, 4, 5)
    fixations = torch.zeros(1, 4, 5)
    fixations[0, 2, 3] = 1  # the value 13 of 0 to 19
    expected = (13 - 9.5) / float(prediction.std(correction=0))
    assert metrics.nss(prediction, fixations).item() == pytest.approx(expected)
    assert metrics.auc_judd(prediction, fixations).item() == pytest.approx((13 + 6 / 2) / 19)
    assert metrics.shuffled_auc(prediction, fixations, 1 - fixations).item() == pytest.approx(13 / 19)
    uniform = torch.ones(1, 4, 5)
    gain = metrics.information_gain(prediction, fixations, uniform).item()
    assert gain == pytest.approx(np.log2(13 / 190 * 20))


def test_images_without_fixations_are_nan_and_leave_the_others_alone() -> None:
    prediction, counts = torch.rand(2, 5, 6), torch.zeros(2, 5, 6)
    counts[1, 2, 3] = 1
    for values in (
        metrics.nss(prediction, counts),
        metrics.auc_judd(prediction, counts),
        metrics.shuffled_auc(prediction, counts, torch.ones(2, 5, 6)),
        metrics.information_gain(prediction, counts, torch.rand(2, 5, 6)),
    ):
        assert torch.isnan(values).tolist() == [True, False]
    everywhere = metrics.auc_judd(prediction, torch.ones(2, 5, 6))
    assert torch.isnan(everywhere).all()


NO_NUMBERS = pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])


@NO_NUMBERS
def test_numbers_that_are_none_spoil_their_image_only(bad: float, device: str) -> None:
    prediction, density = torch.rand(2, 5, 6), torch.rand(2, 5, 6)
    counts = torch.zeros(2, 5, 6)
    counts[0, 2, 3] = counts[1, 1, 1] = 1
    clean = every_metric(prediction, density, counts)
    prediction[0, 0, 0] = bad
    for name, values in every_metric(*(part.to(device) for part in (prediction, density, counts))).items():
        assert torch.isnan(values.cpu()).tolist() == [True, False], name
        assert float(values[1]) == pytest.approx(float(clean[name][1]), abs=TOLERANCE), name


@NO_NUMBERS
def test_numbers_that_are_none_in_the_truth_spoil_their_image_only(bad: float) -> None:
    prediction, truth = torch.rand(2, 5, 6), torch.rand(2, 5, 6)
    counts = torch.ones(2, 5, 6)
    truth[0, 0, 0] = bad
    for metric in (metrics.cc, metrics.kld, metrics.sim, metrics.mae):
        assert torch.isnan(metric(prediction, truth)).tolist() == [True, False]
    gain = metrics.information_gain(prediction, counts, truth)
    assert torch.isnan(gain).tolist() == [True, False]


@NO_NUMBERS
def test_the_f_measure_of_numbers_that_are_none_is_none(bad: float, device: str) -> None:
    maps, masks = [torch.rand(5, 6).to(device) for _ in range(2)], [torch.eye(5, 6).to(device)] * 2
    spoilt = torch.rand(5, 6)
    spoilt[2, 3] = bad
    assert np.isnan(metrics.max_f_measure([maps[0], spoilt.to(device)], masks))
    assert np.isnan(metrics.max_f_measure(maps, [spoilt.to(device), masks[1]]))
    assert 0 < metrics.max_f_measure(maps, masks) <= 1


def test_maps_of_other_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="resize the prediction"):
        metrics.cc(torch.rand(1, 5, 6), torch.rand(1, 6, 5))
    with pytest.raises(DataError):
        metrics.nss(torch.rand(5, 6), torch.rand(5, 6))
    with pytest.raises(DataError, match="no image"):
        metrics.max_f_measure([], [])


def test_means_leave_out_images_without_fixations() -> None:
    prediction, density = torch.rand(3, 5, 6), torch.rand(3, 5, 6)
    counts = torch.zeros(3, 5, 6)
    counts[:2, 2, 3] = 1
    table = metrics.score_batch(prediction, density, counts)
    scores = metrics.mean_scores(table)
    assert scores.n == 3
    assert scores.nss == pytest.approx(float(table["nss"][:2].mean()))
    assert scores.cc == pytest.approx(float(table["cc"].mean()))
    without = metrics.mean_scores(metrics.score_batch(prediction, density, torch.zeros(3, 5, 6)))
    assert np.isnan(without.nss)
    assert without.to_json()["auc"] is None


def test_means_show_a_broken_network() -> None:
    prediction = torch.rand(2, 5, 6)
    prediction[0] = torch.nan
    counts = torch.ones(2, 5, 6)
    counts[:, 0] = 0
    scores = metrics.mean_scores(metrics.score_batch(prediction, torch.rand(2, 5, 6), counts))
    assert all(np.isnan([scores.cc, scores.kld, scores.nss, scores.sim, scores.auc]))


def test_gradients_are_finite_and_point_uphill() -> None:
    torch.manual_seed(0)
    density = torch.rand(2, 5, 6, dtype=torch.float64)
    counts = (torch.rand(2, 5, 6) < 0.3).double()
    for metric, truth, sign in (
        (metrics.cc, density, 1),
        (metrics.sim, density, 1),
        (metrics.kld, density, -1),
        (metrics.nss, counts, 1),
    ):
        prediction = torch.rand(2, 5, 6, dtype=torch.float64, requires_grad=True)
        before = metric(prediction, truth).sum()
        (slope,) = torch.autograd.grad(before, prediction)
        after = metric((prediction + sign * 1e-3 * slope / slope.norm()).detach(), truth).sum()
        assert torch.isfinite(slope).all()
        assert sign * (after - before.detach()) > 0
    flat = torch.full((1, 5, 6), 0.5, requires_grad=True)
    (slope,) = torch.autograd.grad(metrics.cc(flat, density[:1]).sum(), flat)
    assert torch.isfinite(slope).all()


# Properties -----------------------------------------------------------------------------------------

unit = st.floats(0, 1, width=32)
shapes = st.tuples(st.just(1), st.integers(2, 6), st.integers(2, 6))


@st.composite
def cases(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shape = draw(shapes)
    prediction = draw(hnp.arrays(np.float32, shape, elements=unit))
    density = draw(hnp.arrays(np.float32, shape, elements=unit))
    counts = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 3)))
    # At least one pixel of each kind.
    counts.flat[0], counts.flat[-1] = 1, 0
    return torch.from_numpy(prediction), torch.from_numpy(density), torch.from_numpy(counts)


@given(cases())
@settings(max_examples=150, deadline=None)
def test_scores_lie_in_their_ranges(case: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    prediction, density, counts = case
    table = {name: float(v) for name, v in metrics.score_batch(prediction, density, counts).items()}
    assert -1 - 1e-9 <= table["cc"] <= 1 + 1e-9
    assert table["kld"] >= -1e-9
    assert -1e-9 <= table["sim"] <= 1 + 1e-9
    assert 0 <= table["auc"] <= 1
    assert abs(table["nss"]) <= np.sqrt(prediction.numel())
    others = torch.ones_like(counts)
    assert 0 <= float(metrics.shuffled_auc(prediction, counts, others)) <= 1


@given(cases(), st.floats(0.01, 100), st.integers(-3, 3))
@settings(max_examples=100, deadline=None)
def test_scores_do_not_depend_on_scale(
    case: tuple[torch.Tensor, torch.Tensor, torch.Tensor], factor: float, shift: int
) -> None:
    # Thousandths, so that neither scaling nor shifting merges two values.
    prediction, density, counts = (case[0].double() * 1000).round() / 1000, case[1], case[2]
    scaled = metrics.score_batch(prediction * factor, density, counts)
    before = metrics.score_batch(prediction, density, counts)
    for name, values in scaled.items():
        assert float(values) == pytest.approx(float(before[name]), abs=1e-6), name
    moved = metrics.score_batch(prediction + shift, density, counts)
    for name in ("cc", "nss", "auc"):
        assert float(moved[name]) == pytest.approx(float(before[name]), abs=1e-6), name


@given(cases())
@settings(max_examples=100, deadline=None)
def test_areas_see_ranks_only_and_turn_with_the_map(
    case: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    prediction, _, counts = case
    ranks = torch.unique(prediction, return_inverse=True)[1]
    assert float(metrics.auc_judd(ranks, counts)) == pytest.approx(
        float(metrics.auc_judd(prediction, counts)), abs=1e-9
    )
    others = torch.ones_like(counts)
    forth = float(metrics.shuffled_auc(ranks, counts, others))
    assert float(metrics.shuffled_auc(-ranks, counts, others)) == pytest.approx(1 - forth, abs=1e-9)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_the_truth_scores_best_and_mirrors_change_nothing(
    case: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    prediction, density, counts = case
    density = density.clone()
    density[0, 0, 0], density[0, 0, 1] = 0.25, 0.75
    assert float(metrics.cc(density, density)) == pytest.approx(1)
    assert float(metrics.kld(density, density)) == pytest.approx(0, abs=1e-9)
    assert float(metrics.sim(density, density)) == pytest.approx(1)
    plain = metrics.score_batch(prediction, density, counts)
    mirrored = metrics.score_batch(prediction.flip(2), density.flip(2), counts.flip(2))
    for name, values in mirrored.items():
        assert float(values) == pytest.approx(float(plain[name]), abs=1e-9), name


def test_a_batch_is_its_images() -> None:
    prediction, density, counts = tensors(*random_case(9))
    together = metrics.score_batch(prediction, density, counts)
    for i in range(len(prediction)):
        alone = metrics.score_batch(prediction[i : i + 1], density[i : i + 1], counts[i : i + 1])
        for name, values in together.items():
            assert float(values[i]) == pytest.approx(float(alone[name]), abs=1e-12), name
