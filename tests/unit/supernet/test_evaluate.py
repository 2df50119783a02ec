"""The protocol of evaluation, on functions whose scores are known."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from supernet.data.density import fixation_counts
from supernet.data.files import FixationDataset
from supernet.data.registry import data_root, open_dataset
from supernet.data.sample import Sample
from supernet.data.synthetic import SyntheticDataset, synthetic
from supernet.errors import DataError
from supernet.evaluate import (
    EvaluationSet,
    build_evaluation_set,
    evaluate,
    evaluate_masks,
    evaluate_net,
    score_net,
)
from supernet.images import smooth_maps
from supernet.metric_names import METRICS
from supernet.metrics import auc_judd, cc

SMALL = (48, 64)


class Colourful(nn.Module):
    """Takes for salient what is colourful; learns nothing."""

    resolution = SMALL

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.modes: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        return (x.amax(dim=1) - x.amin(dim=1)) * self.scale


@pytest.fixture(scope="module")
def small() -> EvaluationSet:
    return build_evaluation_set(synthetic(9), resolutions=[SMALL, (24, 32)], map_size=(96, 128))


def test_a_set_holds_photos_truths_and_points(small: EvaluationSet) -> None:
    assert len(small) == 9
    assert small.names == synthetic(9).names
    assert small.images(SMALL, 2, 5).shape == (3, 3, *SMALL)
    assert small.images((24, 32), 0, 9).abs().max() <= 1
    assert small.map_size == (96, 128)
    sample = synthetic(9)[3]
    assert sample.fixations is not None
    assert sample.density is not None
    assert (small.fixations[3].numpy() == fixation_counts(sample.fixations, sample.size)).all()
    assert np.abs(small.truths[3].numpy() / 255 - sample.density).max() <= 0.5 / 255 + 1e-6
    assert len(build_evaluation_set(synthetic(9), 4, resolutions=[SMALL])) == 4
    with pytest.raises(DataError, match="64x48") as caught:
        build_evaluation_set(synthetic(2), resolutions=[(24, 32)]).images(SMALL, 0, 1)
    assert caught.value.field == "resolution"


def test_the_default_set_serves_both_resolutions() -> None:
    default = build_evaluation_set(synthetic(2))
    assert set(default.photos) == {(192, 256), (288, 384)}
    assert default.map_size == (384, 384)


def test_the_truth_scores_best(small: EvaluationSet) -> None:
    class Oracle(nn.Module):
        resolution = SMALL

        def __init__(self) -> None:
            super().__init__()
            self.seen = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += len(x)
            return small.truths[self.seen - len(x) : self.seen].float()

    scores = evaluate_net(Oracle(), small, smooth=False)
    assert scores.cc == pytest.approx(1)
    assert scores.kld == pytest.approx(0, abs=1e-9)
    assert scores.sim == pytest.approx(1)
    assert scores.auc > 0.9
    assert scores.n == 9
    smoothed = evaluate_net(Oracle(), small)
    assert 0.5 < smoothed.cc < 1
    good, flat = evaluate_net(Colourful(), small), evaluate(_flat, synthetic(9), resolution=SMALL).scores
    assert scores.cc > good.cc > 0.3 > flat.cc == 0
    assert flat.auc == 0.5


def _flat(x: torch.Tensor) -> torch.Tensor:
    return torch.full((len(x), 4, 4), 0.3)


def test_scores_do_not_depend_on_the_batch(small: EvaluationSet) -> None:
    reference = score_net(Colourful(), small, 9)
    for batch_size in (1, 2, 4):
        table = score_net(Colourful(), small, batch_size)
        for name in METRICS:
            assert table[name].shape == (9,)
            torch.testing.assert_close(table[name], reference[name], atol=1e-6, rtol=0)


def test_streaming_equals_the_set_in_memory(small: EvaluationSet) -> None:
    calls: list[tuple[int, int]] = []
    result = evaluate(
        Colourful(), synthetic(9), batch_size=4, map_size=(96, 128), progress=lambda *c: calls.append(c)
    )
    table = score_net(Colourful(), small)
    for name in METRICS:
        np.testing.assert_allclose(result.columns[name], table[name].numpy(), atol=1e-6)
    assert calls == [(4, 9), (8, 9), (9, 9)]
    assert result.names == small.names
    assert (result.dataset, result.split) == ("synthetic", "all")
    assert result.scores.cc == pytest.approx(float(result.columns["cc"].mean()))
    assert len(evaluate(Colourful(), synthetic(9), limit=2).names) == 2


def test_the_prediction_is_resized_and_smoothed_before_it_is_measured(small: EvaluationSet) -> None:
    net = Colourful()
    with torch.inference_mode():
        low = net(small.images(SMALL, 0, 1))
    expected = nn.functional.interpolate(low[:, None], size=(96, 128), mode="bilinear", antialias=True)[:, 0]
    smoothed = smooth_maps(expected)
    table = score_net(net, small)
    assert float(table["cc"][0]) == pytest.approx(float(cc(smoothed, small.truths[:1])), abs=1e-6)
    assert float(table["auc"][0]) == pytest.approx(float(auc_judd(smoothed, small.fixations[:1])), abs=1e-6)
    plain = score_net(net, small, smooth=False)
    assert float(plain["cc"][0]) == pytest.approx(float(cc(expected, small.truths[:1])), abs=1e-6)


def test_a_network_predicts_in_evaluation_mode_and_keeps_its_own(small: EvaluationSet) -> None:
    net = Colourful().train()
    evaluate_net(net, small)
    assert net.training
    assert not any(net.modes)
    assert net.scale.grad is None
    net.eval()
    evaluate_net(net, small)
    assert not net.training


def test_the_table_is_csv() -> None:
    class Pointless(SyntheticDataset):
        def __getitem__(self, index: int, /) -> Sample:
            sample = super().__getitem__(index)
            return replace(sample, fixations=None) if index == 1 else sample

    result = evaluate(Colourful(), Pointless((0, 1, 2)))
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [row["image"] for row in rows] == list(synthetic(3).names)
    assert float(rows[0]["cc"]) == pytest.approx(result.columns["cc"][0], abs=1e-6)
    assert rows[1]["nss"] == rows[1]["auc"] == ""
    assert result.scores.nss == pytest.approx(np.nanmean(result.columns["nss"]))
    assert result.scores.n == 3


def test_what_cannot_be_evaluated(small: EvaluationSet) -> None:
    with pytest.raises(DataError, match="resolution"):
        evaluate(_flat, synthetic(2))
    with pytest.raises(DataError, match="no photo"):
        evaluate(Colourful(), synthetic(2), limit=0)
    with pytest.raises(DataError, match="no photo"):
        build_evaluation_set(FixationDataset("empty", "val", (), ()))
    with pytest.raises(DataError, match="B, h, w"):
        evaluate(lambda x: torch.zeros(len(x), 1, 4, 4), synthetic(2), resolution=SMALL)
    with pytest.raises(DataError, match="no object masks"):
        evaluate_masks(lambda image: torch.zeros(image.shape[:2]), synthetic(2))
    with pytest.raises(DataError, match="evaluate_masks"):
        evaluate(Colourful(), Masks((0, 1)))


class Masks(SyntheticDataset):
    def __getitem__(self, index: int, /) -> Sample:
        sample = super().__getitem__(index)
        assert sample.density is not None
        return replace(sample, density=None, fixations=None, mask=sample.density > 0.5)


def test_object_maps() -> None:
    masks = [Masks((0, 1))[i].mask for i in range(2)]
    answers = iter([torch.from_numpy(m).float() for m in masks if m is not None])
    perfect = evaluate_masks(lambda image: next(answers), Masks((0, 1)))
    assert perfect.max_f == pytest.approx(1)
    assert (perfect.mae, perfect.n) == (0, 2)
    grey = evaluate_masks(lambda image: torch.full(image.shape[:2], 0.5), Masks((0, 1)))
    assert grey.mae == pytest.approx(0.5, abs=0.5 / 255)
    assert grey.max_f < 0.9


@pytest.mark.slow
@pytest.mark.skipif(not (data_root() / "osie").is_dir(), reason="OSIE is not at SALNAS_DATA")
def test_the_mean_map_of_osie_scores_what_was_measured() -> None:
    """CC 0.254, KLD 1.686, NSS 0.885, SIM 0.299: measured independently of this code, without smoothing."""
    train = open_dataset("osie", split="train")
    total = np.zeros((384, 384))
    for i in range(len(train)):
        density = train[i].density
        assert density is not None
        grey = Image.fromarray(np.rint(density * 255).astype(np.uint8))
        total += np.asarray(grey.resize((384, 384), Image.Resampling.BILINEAR))
    mean = torch.from_numpy(total)[None]
    val = open_dataset("osie", split="val")
    scores = evaluate(lambda x: mean.expand(len(x), -1, -1), val, resolution=SMALL, smooth=False).scores
    assert scores.n == 200
    assert scores.cc == pytest.approx(0.254, abs=6e-4)
    assert scores.kld == pytest.approx(1.686, abs=6e-4)
    assert scores.nss == pytest.approx(0.885, abs=6e-4)
    assert scores.sim == pytest.approx(0.299, abs=6e-4)
