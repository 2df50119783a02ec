"""The warm start keeps the features of the source network."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from supernet.errors import CheckpointError
from supernet.images import to_tensor
from supernet.network import Supernet
from supernet.space import get_space
from supernet.warmstart import load_source, warm_start


def test_a_file_that_is_no_source(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(CheckpointError, match="no MobileNetV2"):
        load_source(path)
    path.write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="no MobileNetV2"):
        load_source(path)


@pytest.mark.slow
def test_stages_reproduce_the_source(data_root: Path, weights_root: Path) -> None:
    photos = torch.cat(
        [
            to_tensor(Image.open(path).convert("RGB"), (96, 128))
            for path in sorted((data_root / "osie" / "stimuli").iterdir())[:24]
        ]
    )
    torch.manual_seed(0)
    supernet = Supernet(get_space("salnas"))
    source = load_source(weights_root / "mobilenet_v2_1.0_imagenet.safetensors")
    explained = warm_start(supernet, source, photos)
    assert len(explained) == 7
    assert min(explained) > 0.85


def test_a_space_of_another_shape_is_refused_before_anything_changes(weights_root: Path) -> None:
    supernet = Supernet(get_space("tiny"))
    before = [weight.clone() for weight in supernet.weights.parameters()]
    source = load_source(weights_root / "mobilenet_v2_1.0_imagenet.safetensors")
    with pytest.raises(CheckpointError, match=r"does not fit into the space tiny.*--warm-start"):
        warm_start(supernet, source, torch.rand(2, 3, 96, 128))
    assert all(torch.equal(*pair) for pair in zip(before, supernet.weights.parameters(), strict=True))
