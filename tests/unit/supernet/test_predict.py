"""Maps have the size of the photo, whatever it is."""

import numpy as np
import pytest
import torch
from PIL import Image

from supernet.network import SaliencyNet
from supernet.onnx_net import OnnxNet
from supernet.predict import predict_map
from supernet.space import get_space


@pytest.mark.parametrize("size", [(640, 480), (31, 77), (1, 1)])
@pytest.mark.parametrize("smooth", [True, False])
def test_the_map_has_the_size_of_the_photo(size: tuple[int, int], smooth: bool) -> None:
    torch.manual_seed(0)
    net = SaliencyNet(get_space("tiny").smallest()).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    saliency = predict_map(net, Image.fromarray(pixels), smooth=smooth)
    assert saliency.shape == (size[1], size[0])
    assert saliency.dtype == np.float32
    assert 0 <= saliency.min() <= saliency.max() <= 1


def test_smoothing_takes_the_edges_off() -> None:
    torch.manual_seed(0)
    net = SaliencyNet(get_space("tiny").smallest()).eval()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    rough, smooth = (predict_map(net, image, smooth=flag) for flag in (False, True))
    assert np.abs(np.diff(smooth)).max() < np.abs(np.diff(rough)).max()


@pytest.mark.parametrize("subnet", ["smallest", "largest"])
def test_onnxruntime_sees_what_torch_sees(subnet: str) -> None:
    torch.manual_seed(0)
    net = SaliencyNet(getattr(get_space("tiny"), subnet)()).eval()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    assert predict_map(OnnxNet(net), image) == pytest.approx(predict_map(net, image), abs=1e-5)
