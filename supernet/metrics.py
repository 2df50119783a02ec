"""How well a saliency map predicts where people look.

Notation: predictions and densities are (B, H, W), any real scale, predictions higher = more salient;
fixations are (B, H, W) with the number of fixations in each pixel, any numeric type; results are (B,)
float64, one value per image, on the device of the prediction. Nothing is averaged over images here
except in `Scores` and `max_f_measure`.

The definitions are those of pysaliency 0.2.22 (Kümmerer et al.), the code of the MIT/Tuebingen
benchmark, and equal it to rounding. Where a value is undefined the answers are these:

flat prediction         cc 0, nss 0, AUC 0.5; kld and sim take a flat or all-zero map as uniform
flat density            cc 0 (pysaliency: NaN); kld and sim as above
no fixation             NaN for nss, both AUCs and information gain; leave such images out of means
one fixation            counts as any other number of them
no pixel unfixated      NaN for auc_judd
NaN or infinity         NaN for that image, the others are untouched; NaN for `max_f_measure`, one value of all
negative values         kld, sim, information gain lift the map so that its lowest value is 0

`cc`, `kld`, `nss` and `sim` can be differentiated with respect to the prediction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import torch

from supernet.errors import DataError

#: Added inside the logarithm and to the quotient by the MIT benchmark; MATLAB's eps.
EPSILON = 2.2204e-16
#: Standard deviation of the noise that breaks ties in pysaliency's AUC_Judd.
JITTER = 1e-7
#: Weight of precision against recall in the F-measure (Achanta et al., 2009).
BETA_SQUARED = 0.3


def cc(prediction: torch.Tensor, density: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation of prediction and density: (B, H, W) twice -> (B,) in [-1, 1], higher better.

    Source: Bylinskii et al. 2018, "What do different evaluation metrics tell us about saliency models?".
    """
    _check_pair(prediction, density)
    return _correlation(_standardised(_flat(prediction)), _standardised(_flat(density)))


def kld(prediction: torch.Tensor, density: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of the prediction from the density, in nats, lower better, 0 = equal.

    (B, H, W) twice -> (B,). Both are divided by their sums; 2.2204e-16 is added to the quotient's
    denominator and inside the logarithm (MIT_KLDiv of pysaliency).
    """
    _check_pair(prediction, density)
    return _divergence(_distribution(_flat(prediction)), _distribution(_flat(density)))


def sim(prediction: torch.Tensor, density: torch.Tensor) -> torch.Tensor:
    """Similarity, the overlap of two distributions: (B, H, W) twice -> (B,) in [0, 1], higher better."""
    _check_pair(prediction, density)
    return _overlap(_distribution(_flat(prediction)), _distribution(_flat(density)))


def nss(prediction: torch.Tensor, fixations: torch.Tensor) -> torch.Tensor:
    """Normalised scanpath saliency: mean over fixations of the standardised prediction.

    (B, H, W) twice -> (B,), in standard deviations, higher better, chance 0.
    """
    _check_pair(prediction, fixations)
    return _mean_at(_standardised(_flat(prediction)), _flat(fixations))


def auc_judd(
    prediction: torch.Tensor, fixations: torch.Tensor, *, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Area under the ROC curve of fixated against unfixated pixels: (B, H, W) twice -> (B,) in [0, 1].

    Higher better, chance 0.5. Thresholds are the values at fixations, as in Judd et al. 2009, so of the
    unfixated pixels between two thresholds half count as false positives. Equals AUC_Judd of pysaliency
    without jitter; with `generator`, noise of 1e-7 breaks ties as its jitter does (its random numbers
    differ).
    """
    _check_pair(prediction, fixations)
    values = _flat(prediction)
    if generator is not None:
        noise = torch.randn(values.shape, dtype=values.dtype, generator=generator, device=generator.device)
        values = values + JITTER * noise.to(values.device)
    counts = _flat(fixations)
    undefined = ~torch.isfinite(values).all(dim=1) | (counts.sum(dim=1) == 0)
    values = torch.where(undefined[:, None], 0.0, values)

    thresholds, weights = _at_points(values, counts)  # (B, P) ascending, inf where unused
    # At each threshold: what lies strictly below it, fixated pixels, fixations and all pixels.
    pixels = torch.searchsorted(thresholds, thresholds)  # (B, P)
    missed = _cumulative(weights).gather(1, pixels)  # (B, P) fixations
    rejected = torch.searchsorted(_sorted(values), thresholds) - pixels  # (B, P) unfixated pixels
    unfixated = (counts == 0).sum(dim=1, keepdim=True)
    hit_rate = 1 - missed / counts.sum(dim=1, keepdim=True)
    false_alarms = 1 - rejected.double() / unfixated
    everything, nothing = torch.ones_like(hit_rate[:, :1]), torch.zeros_like(hit_rate[:, :1])
    hit_rate = torch.cat([everything, hit_rate, nothing], dim=1)
    false_alarms = torch.cat([everything, false_alarms, nothing], dim=1)
    area = -torch.trapezoid(hit_rate, false_alarms, dim=1)
    return torch.where(undefined, math.nan, area)


def shuffled_auc(
    prediction: torch.Tensor, fixations: torch.Tensor, other_fixations: torch.Tensor
) -> torch.Tensor:
    """Probability that a fixation is more salient than one of another photo: (B, H, W) x 3 -> (B,).

    Higher better, chance 0.5, ties count half. `other_fixations` are fixations of other photos, scaled
    to this one (see `fixations_of_others`); a model that only knows the centre bias scores 0.5. Equals
    sAUC of pysaliency, averaged within the image.
    """
    _check_pair(prediction, fixations)
    _check_pair(prediction, other_fixations)
    values, counts, others = _flat(prediction), _flat(fixations), _flat(other_fixations)
    undefined = ~torch.isfinite(values).all(dim=1) | (counts.sum(dim=1) == 0) | (others.sum(dim=1) == 0)
    values = torch.where(undefined[:, None], 0.0, values)

    positives, weights = _at_points(values, counts)
    negatives, negative_weights = _at_points(values, others)
    cumulative = _cumulative(negative_weights)
    lower = cumulative.gather(1, torch.searchsorted(negatives, positives))
    lower_or_equal = cumulative.gather(1, torch.searchsorted(negatives, positives, right=True))
    wins = (weights * (lower + lower_or_equal) / 2).sum(dim=1)
    result = wins / (weights.sum(dim=1) * cumulative[:, -1])
    return torch.where(undefined, math.nan, result)


def fixations_of_others(fixations: torch.Tensor) -> torch.Tensor:
    """For each image of (B, H, W), how often each pixel was fixated on the B - 1 other images."""
    return fixations.sum(dim=0, keepdim=True) - fixations


def information_gain(
    prediction: torch.Tensor, fixations: torch.Tensor, baseline: torch.Tensor
) -> torch.Tensor:
    """How much likelier fixations are under the prediction than under `baseline`: (B, H, W) x 3 -> (B,).

    In bits per fixation, higher better, 0 = no better than the baseline (commonly the mean density of
    the training set). Both maps are divided by their sums; 2.2204e-16 is added to each probability.
    Source: Kümmerer et al. 2015, "Information-theoretic model comparison unifies saliency metrics".
    """
    _check_pair(prediction, fixations)
    _check_pair(prediction, baseline)
    p, b, counts = _distribution(_flat(prediction)), _distribution(_flat(baseline)), _flat(fixations)
    return _mean_at(torch.log2(p + EPSILON) - torch.log2(b + EPSILON), counts)


def mae(prediction: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute error of object maps in [0, 1]: (B, H, W) twice -> (B,), lower better."""
    _check_pair(prediction, mask)
    error = (_flat(prediction) - _flat(mask)).abs().mean(dim=1)
    return torch.where(torch.isfinite(error), error, math.nan)


def max_f_measure(predictions: Iterable[torch.Tensor], masks: Iterable[torch.Tensor]) -> float:
    """Largest F-measure over 256 thresholds, in [0, 1], higher better.

    `predictions` are maps (H, W) in [0, 1] or uint8, `masks` (H, W) with object pixels above 0.5, one
    of each per image; sizes may differ between images, and a (B, H, W) tensor will do. Maps are
    rounded to 8 bits; at threshold t the pixels >= t are taken. Precision and recall are averaged over
    images at each threshold, then F = 1.3 P R / (0.3 P + R) (Achanta et al. 2009). Where no pixel is
    taken the precision is 1 (nothing found is nothing wrong), where the mask is empty the recall is 0.
    NaN where any map or mask is not finite, as means of the other metrics. Raises DataError without images.
    """
    precision = torch.zeros(256, dtype=torch.float64)
    recall = torch.zeros(256, dtype=torch.float64)
    n = 0
    for prediction, mask in zip(predictions, masks, strict=True):
        p, r = _precision_recall(prediction, mask)
        precision, recall, n = precision + p, recall + r, n + 1
    if n == 0:
        raise DataError(
            "There is no image to measure.", field="predictions", value=0, remedy="Pass at least one map."
        )
    precision, recall = precision / n, recall / n
    f = (1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall).clamp_min(1e-12)
    return float(f.max())


def _precision_recall(prediction: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(256,) each, on the CPU, for one (H, W) map; NaN where map or mask is not finite."""
    _check_pair(prediction[None], mask[None])
    if not (torch.isfinite(prediction).all() and torch.isfinite(mask).all()):
        undefined = torch.full((256,), math.nan, dtype=torch.float64)
        return undefined, undefined
    is_bytes = prediction.dtype == torch.uint8
    levels = (prediction if is_bytes else (prediction.double() * 255).round().clamp(0, 255)).long().flatten()
    # Above 0.5, so that masks of 0 and 1 and masks of 0 and 255 mean the same.
    objects = (mask > 0.5).flatten()
    taken = _at_least(torch.bincount(levels, minlength=256))
    hits = _at_least(torch.bincount(levels[objects], minlength=256))
    precision = torch.where(taken > 0, hits / taken.clamp_min(1), 1.0)
    return precision, hits / objects.sum().clamp_min(1).cpu()


def _at_least(histogram: torch.Tensor) -> torch.Tensor:
    """(256,) histogram -> float64 number of pixels at or above each level, on the CPU."""
    return histogram.flip(0).cumsum(0).flip(0).double().cpu()


@dataclass(frozen=True)
class Scores:
    """Means over the `n` images of a data set where each metric is defined.

    nss and auc are NaN for a set without fixations.
    """

    cc: float
    kld: float
    nss: float
    sim: float
    auc: float
    n: int

    def to_json(self) -> dict[str, float | int | None]:
        """Plain numbers; NaN, which JSON has not, becomes None."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def score_batch(
    prediction: torch.Tensor, density: torch.Tensor, fixations: torch.Tensor
) -> dict[str, torch.Tensor]:
    """All metrics of `Scores` for a batch: (B, H, W) three times -> name to (B,) float64."""
    _check_pair(prediction, density)
    _check_pair(prediction, fixations)
    values, truth = _flat(prediction), _flat(density)
    standardised, distribution, true_distribution = (
        _standardised(values),
        _distribution(values),
        _distribution(truth),
    )
    return {
        "cc": _correlation(standardised, _standardised(truth)),
        "kld": _divergence(distribution, true_distribution),
        "nss": _mean_at(standardised, _flat(fixations)),
        "sim": _overlap(distribution, true_distribution),
        "auc": auc_judd(prediction, fixations),
    }


def mean_scores(table: dict[str, torch.Tensor]) -> Scores:
    """Mean of each column (n,) over the images; nss and auc over those with fixations.

    A NaN of cc, kld or sim, which comes from a NaN prediction, makes that mean NaN.
    """
    has_fixations = ~torch.isnan(table["nss"]) | torch.isnan(table["cc"])
    means = {name: float(table[name].mean()) for name in ("cc", "kld", "sim")}
    means |= {name: float(table[name][has_fixations].mean()) for name in ("nss", "auc")}
    return Scores(n=len(table["cc"]), **means)


def _check_pair(first: torch.Tensor, second: torch.Tensor) -> None:
    if first.ndim != 3 or first.shape != second.shape or first[:1].numel() == 0:
        raise DataError(
            f"Maps of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared.",
            field="shape",
            value=[list(first.shape), list(second.shape)],
            remedy="Both must be (B, H, W) of one size; resize the prediction first.",
        )


def _flat(maps: torch.Tensor) -> torch.Tensor:
    """(B, H, W) of any type -> (B, H * W) float64."""
    return maps.reshape(len(maps), -1).double()


def _correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Of standardised rows, (B, N) twice -> (B,)."""
    return (first * second).mean(dim=1)


def _divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Of distributions, (B, N) twice -> (B,)."""
    return (q * torch.log(EPSILON + q / (p + EPSILON))).sum(dim=1)


def _overlap(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Of distributions, (B, N) twice -> (B,)."""
    return torch.minimum(p, q).sum(dim=1)


def _mean_at(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Mean of the values over fixations, (B, N) twice -> (B,); NaN without any."""
    return (values * counts).sum(dim=1) / counts.sum(dim=1)


def _standardised(values: torch.Tensor) -> torch.Tensor:
    """(B, N) with mean 0 and deviation 1 in each row; 0 where a row is flat, NaN where it is not finite."""
    # A row of one value may have a mean that is off by rounding; its range is exactly 0.
    is_flat = (values.amax(dim=1, keepdim=True) - values.amin(dim=1, keepdim=True)) == 0
    centred = values - values.mean(dim=1, keepdim=True)
    variance = centred.square().mean(dim=1, keepdim=True)
    # Replaced before the square root, whose gradient at 0 is infinite.
    deviation = torch.where(is_flat, 1.0, variance).sqrt()
    return torch.where(is_flat, 0.0, centred / deviation)


def _distribution(values: torch.Tensor) -> torch.Tensor:
    """(B, N) lifted to >= 0 and divided by its sum; uniform where that is 0, NaN where it is not finite."""
    lowest = values.amin(dim=1, keepdim=True)
    lifted = torch.where(lowest < 0, values - lowest, values)
    total = lifted.sum(dim=1, keepdim=True)
    empty = total == 0
    return torch.where(empty, 1.0 / values.shape[1], lifted / torch.where(empty, 1.0, total))


def _sorted(values: torch.Tensor) -> torch.Tensor:
    """(B, N) float64, each row ascending."""
    if values.device.type == "cpu":
        # NumPy's vectorised sort is some twenty times as fast as torch's on one core.
        return torch.from_numpy(np.sort(values.detach().numpy(), axis=1))
    return values.sort(dim=1).values


def _at_points(values: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, N) twice -> values at pixels with counts (B, P) ascending, filled up with inf, and their counts."""
    present = counts > 0
    widest = max(1, int(present.sum(dim=1).max()))
    picked = counts.topk(widest, dim=1).indices
    weights = counts.gather(1, picked)
    points = torch.where(weights > 0, values.gather(1, picked), math.inf)
    ordered, order = points.sort(dim=1)
    return ordered, weights.gather(1, order)


def _cumulative(weights: torch.Tensor) -> torch.Tensor:
    """(B, P) -> (B, P + 1) sums of the first 0, 1, ..., P."""
    return torch.cat([torch.zeros_like(weights[:, :1]), weights.cumsum(dim=1)], dim=1)
