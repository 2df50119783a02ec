"""Means of supernets: refused where they would mean nothing. What they are is tested where statistics are fitted."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from supernet.average import average_supernets
from supernet.checkpoint import save_supernet
from supernet.errors import SettingsError
from supernet.network import Supernet
from supernet.space import get_space


@pytest.mark.parametrize("shares", [(1.0,), (0.6, 0.6), (1.5, -0.5), (1.0, 0.0), ()])
def test_shares_that_are_none_are_refused(tmp_path: Path, shares: Sequence[float]) -> None:
    with pytest.raises(SettingsError, match="add up to 1") as caught:
        average_supernets([tmp_path / "a", tmp_path / "b"], shares)
    assert (caught.value.field, caught.value.value) == ("share", list(shares))


def test_supernets_of_two_spaces_have_no_mean(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.safetensors" for name in ("tiny", "salnas")]
    for path in paths:
        save_supernet(path, Supernet(get_space(path.stem)), {})
    with pytest.raises(SettingsError, match=r"'salnas', .* of 'tiny'") as caught:
        average_supernets(paths, (0.5, 0.5))
    assert caught.value.field == "checkpoints"


def test_a_mean_of_means_names_every_training_once(tmp_path: Path) -> None:
    one, two, mean = (tmp_path / f"{name}.safetensors" for name in ("one", "two", "mean"))
    supernet = Supernet(get_space("tiny"))
    for path in (one, two):
        save_supernet(path, supernet, {"config": {"out": path.name, "held_out": 8}})
    save_supernet(mean, *average_supernets([one, two], (0.75, 0.25)))
    _, provenance = average_supernets([mean, two], (0.4, 0.6))
    shares = {part["of"]["config"]["out"]: part["share"] for part in provenance["average"]}
    assert shares == {"two.safetensors": 0.7, "one.safetensors": 0.3}
    assert provenance["config"] == {"held_out": 8}
    assert list(shares) == ["two.safetensors", "one.safetensors"]
