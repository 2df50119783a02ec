"""The card says what the evaluation says."""

import json
from pathlib import Path

import torch

from supernet.card import middle, write_card
from supernet.checkpoint import save_supernet
from supernet.network import Supernet
from supernet.space import get_space

TINY = get_space("tiny")


def test_the_card_holds_scores_and_provenance(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_supernet(path, Supernet(TINY), {"data": "none"})
    card = write_card(path, data=["synthetic"], notes=["random weights"], command="a test")
    assert json.loads(path.with_suffix(".json").read_text()) == card
    scores = card["scores"]["synthetic validation"]
    assert set(scores) == {"smallest", "middle", "largest"}
    assert all(-1 <= s["cc"] <= 1 and 0 <= s["auc"] <= 1 for s in scores.values())
    assert card["subnets"]["largest"] == TINY.id_of(TINY.largest())
    assert card["provenance"] == {"data": "none"}


def test_the_middle_lies_between() -> None:
    row = TINY.encode(middle(TINY))
    assert (row <= TINY.sizes - 1).all()
    assert middle(TINY).resolution == min(TINY.resolutions)
