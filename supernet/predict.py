"""The saliency map of one photo, at the size of the photo."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from supernet.baselines.registry import ReferenceNet
from supernet.images import resize_maps, smooth_maps, to_tensor
from supernet.network import SaliencyNet
from supernet.onnx_net import OnnxNet

SMOOTHED_SIZE = (384, 384)
"""Maps are smoothed at the size at which they are evaluated, so that looks and scores agree."""


@torch.inference_mode()
def predict_map(
    net: SaliencyNet | ReferenceNet | OnnxNet, image: Image.Image, *, smooth: bool = True
) -> NDArray[np.float32]:
    """(H, W) float32 in [0, 1], higher = more looked at, for an RGB photo of any size.

    `net` is in evaluation mode. With `smooth` as the published evaluation does it (`images.smooth_maps`).
    """
    saliency = net(to_tensor(image, net.resolution))
    if smooth:
        saliency = smooth_maps(resize_maps(saliency, SMOOTHED_SIZE))
    resized: NDArray[np.float32] = resize_maps(saliency, (image.height, image.width))[0].numpy()
    return resized.clip(0.0, 1.0)
