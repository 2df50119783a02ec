"""A subnet written as an ONNX graph, node by node, with batch norms folded into convolutions.

The graph computes `SaliencyNet.forward` in evaluation mode, normalisation and sigmoid included, for any batch size.
Node names are those of `supernet.cost.layer_table` where there is a layer of that name.

The last two convolutions run at full resolution and take a third of the time of a small subnet if written as
defined. `head="fast"` writes the same function in another way (see `_fast_head`); `head="plain"` keeps them, for
runtimes that prefer it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from supernet.layers import ConvBN, MBConv, SqueezeExcite
from supernet.network import TAPS, SaliencyNet

if TYPE_CHECKING:
    import onnx

OPSET = 17
_IR_VERSION = (
    8  # of the first onnx release with opset 17, so that every runtime with the opset reads the file
)

InputType = Literal["uint8", "float32"]
Head = Literal["fast", "plain"]
Array = NDArray[Any]


def saliency_model(
    net: SaliencyNet, *, input_type: InputType = "uint8", head: Head = "fast", half: bool = False
) -> onnx.ModelProto:
    """`net` in evaluation mode as an ONNX model.

    Input `image` (batch, 3, H, W), RGB from 0 to 255; output `saliency` (batch, H, W) float32 in [0, 1]. With `half`
    weights and computation are float16, input and output are not.
    """
    from onnx import TensorProto, helper

    height, width = net.resolution
    graph = _Graph(half)
    x = _image(graph, input_type)
    x = _decode(graph, net, *_encode(graph, net, x))
    x = (_fast_head if head == "fast" else _plain_head)(graph, net, x)
    if half:
        x = graph.add("Cast", x, to=TensorProto.FLOAT)
    x = graph.add("Sigmoid", x)
    graph.add("Squeeze", x, graph.constant("channel", np.array([1])), name="saliency")
    kind = TensorProto.UINT8 if input_type == "uint8" else TensorProto.FLOAT
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "saliency",
            [helper.make_tensor_value_info("image", kind, ["batch", 3, height, width])],
            [helper.make_tensor_value_info("saliency", TensorProto.FLOAT, ["batch", height, width])],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="salnas",
    )


@dataclass
class _Graph:
    """Nodes and constants as they are added; a tensor is the name of the node that makes it."""

    half: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = name or f"{kind.lower()}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, values: Array, *, exact: bool = False) -> str:
        """A tensor of the file, in the precision of the graph where it is not integer or to be kept `exact`."""
        from onnx import numpy_helper

        if values.dtype.kind == "f" and not exact:
            values = values.astype(np.float16 if self.half else np.float32)
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def conv(
        self,
        name: str,
        x: str,
        weight: Array,
        bias: Array | None = None,
        *,
        strides: tuple[int, int] = (1, 1),
        pads: tuple[int, int] | None = None,
        groups: int = 1,
        transposed: bool = False,
    ) -> str:
        """Convolution with kernel `weight`, padded by `pads` (rows, columns) on both sides, "same" by default."""
        kernel = list(weight.shape[2:])
        inputs = [x, self.constant(f"{name}.weight", weight)]
        if bias is not None:
            inputs.append(self.constant(f"{name}.bias", bias))
        return self.add(
            "ConvTranspose" if transposed else "Conv",
            *inputs,
            name=name,
            kernel_shape=kernel,
            strides=list(strides),
            pads=list(pads or [k // 2 for k in kernel]) * 2,
            group=groups,
        )

    def swish(self, x: str) -> str:
        # onnxruntime fuses this pair; the operator Swish of opset 24 breaks its blocked layout and takes 40 % longer.
        return self.add("Mul", x, self.add("Sigmoid", x))

    def enlarge(self, x: str, rows: int, columns: int) -> str:
        """Bilinear up-sampling by whole factors."""
        values = np.array([1, 1, rows, columns], np.float32)
        factors = self.constant(f"factors.{rows}x{columns}", values, exact=True)
        return self.add("Resize", x, "", factors, mode="linear", coordinate_transformation_mode="half_pixel")


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array


def _folded(module: ConvBN) -> tuple[Array, Array]:
    """Kernel and bias of a convolution with its batch norm."""
    bn = module.bn
    assert bn.running_mean is not None
    assert bn.running_var is not None
    scale = _array(bn.weight) / np.sqrt(_array(bn.running_var) + np.float32(bn.eps))
    weight = _array(module.conv.weight) * scale[:, None, None, None]
    return weight, _array(bn.bias) - _array(bn.running_mean) * scale


def _conv_bn(graph: _Graph, name: str, x: str, module: ConvBN) -> str:
    conv = module.conv
    stride = conv.stride[0]
    x = graph.conv(name, x, *_folded(module), strides=(stride, stride), groups=conv.groups)
    return graph.swish(x) if module.swish else x


def _squeeze_excite(graph: _Graph, name: str, x: str, module: SqueezeExcite) -> str:
    gate = graph.add("GlobalAveragePool", x, name=f"{name}.pool")
    for part, layer in (("reduce", module.reduce), ("expand", module.expand)):
        assert layer.bias is not None
        gate = graph.conv(f"{name}.{part}", gate, _array(layer.weight), _array(layer.bias))
        if part == "reduce":
            gate = graph.add("Relu", gate)
    return graph.add("Mul", x, graph.add("HardSigmoid", gate, alpha=1 / 6, beta=0.5))


def _block(graph: _Graph, name: str, x: str, module: MBConv) -> str:
    y = x
    if isinstance(module.expand, ConvBN):
        y = _conv_bn(graph, f"{name}.expand", y, module.expand)
    y = _conv_bn(graph, f"{name}.depthwise", y, module.depthwise)
    if isinstance(module.se, SqueezeExcite):
        y = _squeeze_excite(graph, f"{name}.se", y, module.se)
    y = _conv_bn(graph, f"{name}.project", y, module.project)
    if module.stride == 2:
        x = graph.add("AveragePool", x, name=f"{name}.shortcut.pool", kernel_shape=[2, 2], strides=[2, 2])
    if module.projects_shortcut:
        x = graph.conv(f"{name}.shortcut", x, _array(module.shortcut.weight))
    return graph.add("Add", y, x)


def _image(graph: _Graph, input_type: InputType) -> str:
    """The photo less 127.5. Its scale goes into the first kernel; the shift can not, because that kernel pads
    with the zeros of a normalised photo."""
    from onnx import TensorProto

    x = "image"
    if graph.half or input_type == "uint8":
        x = graph.add("Cast", x, to=TensorProto.FLOAT16 if graph.half else TensorProto.FLOAT)
    return graph.add("Sub", x, graph.constant("grey", np.array(127.5)))


def _encode(graph: _Graph, net: SaliencyNet, x: str) -> tuple[str, list[str]]:
    """The last convolution's output and the taps of the decoder."""
    weight, bias = _folded(net.stem)
    if graph.half:  # the scaled kernel would fall among the subnormal numbers of float16
        x = graph.add("Mul", x, graph.constant("scale", np.array(1 / 127.5)))
    else:
        weight = weight / 127.5
    x = graph.swish(graph.conv("stem", x, weight, bias, strides=(2, 2)))
    taps = [x]
    for number, stage in enumerate(net.stages):
        assert isinstance(stage, nn.Sequential)
        for index, block in enumerate(stage):
            assert isinstance(block, MBConv)
            x = _block(graph, f"mb{number + 1}.{index}", x, block)
        if number in TAPS:
            taps.append(x)
    return _conv_bn(graph, "last", x, net.last), taps


def _decode(graph: _Graph, net: SaliencyNet, x: str, taps: list[str]) -> str:
    """Decoder steps 0 to 4, up to the last up-sampling."""
    for step in range(5):
        x = _conv_bn(graph, f"decoder.{step}", x, _decoder_step(net, step))
        if step < 4:
            x = graph.add("Concat", graph.enlarge(x, 2, 2), taps[3 - step], axis=1)
    return x


def _decoder_step(net: SaliencyNet, step: int) -> ConvBN:
    module = net.decoder[step]
    assert isinstance(module, ConvBN)
    return module


def _plain_head(graph: _Graph, net: SaliencyNet, x: str) -> str:
    """Up-sampling and the two convolutions at full resolution, as defined."""
    x = graph.enlarge(x, 2, 2)
    x = _conv_bn(graph, "decoder.5", x, _decoder_step(net, 5))
    return graph.conv("decoder.6", x, *_folded(_decoder_step(net, 6)))


def _fast_head(graph: _Graph, net: SaliencyNet, x: str) -> str:
    """The same function as `_plain_head`, in a form that CPU kernels compute 1.9 times as fast.

    Decoder 5 reads rows that are blends of two rows of `x` (up-sampled in width only, the other half of the
    separable filter). Blending is linear, so it goes into the kernel: one kernel for even rows of the result, one for
    odd ones, side by side as channels on the grid of `x`. That fills the vector registers (16 or 24 channels become
    32 or 48) and spares half of an up-sampling. The first and last pair of rows, where the filter meets the border,
    have kernels of their own; a stride as long as the map computes just those. Decoder 6 has one output channel,
    which as a convolution takes as long as 16; as a transposed convolution it also puts even and odd rows into place.
    """
    rows = net.resolution[0] // 2
    kernel, bias = _folded(_decoder_step(net, 5))
    x = graph.enlarge(x, 1, 2)  # (B, w0, H/2, W)
    inner = graph.conv(
        "decoder.5", x, _paired_rows(kernel, 1, 0, 3, rows), np.tile(bias, 2), pads=(0, 1)
    )  # (B, 2·w0, H/2 - 2, W)
    both = [_paired_rows(kernel, 0, 0, 2, rows), _paired_rows(kernel, rows - 1, rows - 2, 2, rows)]
    border = graph.conv(
        "decoder.5.border", x, np.concatenate(both), np.tile(bias, 4), strides=(rows - 2, 1), pads=(0, 1)
    )  # (B, 4·w0, 2, W): kernels for the top and for the bottom, each at both
    kernel, bias = _folded(_decoder_step(net, 6))
    scatter = _scattered_rows(kernel)
    inner = graph.conv(
        "decoder.6", graph.swish(inner), scatter, strides=(2, 1), pads=(0, 1), transposed=True
    )  # (B, 1, H - 2, W)
    inner = graph.add("Pad", inner, graph.constant("frame", np.array([0, 0, 1, 0, 0, 0, 1, 0])))
    # Of its six rows only three lie inside the map: those of the top kernels at the top, of the bottom ones below.
    outside = np.zeros_like(scatter[:, :, :3])
    top = np.concatenate([outside, scatter[:, :, 1:]], axis=2)
    bottom = np.concatenate([scatter[:, :, :3], outside], axis=2)
    border = graph.conv(
        "decoder.6.border",
        graph.swish(border),
        np.concatenate([top, bottom]),
        bias,
        strides=(2 * rows, 1),
        pads=(3, 1),
        transposed=True,
    )  # (B, 1, H, W)
    return graph.add("Add", inner, border)


def _paired_rows(kernel: Array, pair: int, first: int, count: int, rows: int) -> Array:
    """(out, in, 3, 3) kernel over a map up-sampled to 2·`rows` → (2·out, in, `count`, 3) over the map itself: result
    rows 2·`pair` and 2·`pair` + 1 from the map's rows `first` on."""
    shares = np.zeros((2, count, 3))
    for parity in range(2):
        for tap in range(3):
            row = 2 * pair + parity + tap - 1
            if not 0 <= row < 2 * rows:
                continue  # a convolution pads with zeros
            position = row / 2 - 0.25
            low = math.floor(position)
            for source, share in ((low, low + 1 - position), (low + 1, position - low)):
                shares[parity, min(max(source, 0), rows - 1) - first, tap] += share
    paired: Array = np.einsum("pst,oitx->poisx", shares, kernel)
    return paired.reshape(-1, kernel.shape[1], count, 3)


def _scattered_rows(kernel: Array) -> Array:
    """(1, c, 3, 3) kernel → (2·c, 1, 4, 3) of a transposed convolution that reads even and odd rows as channels and
    moves two rows a step."""
    flipped = kernel[0, :, None, ::-1, ::-1]
    scatter = np.zeros((2, *flipped.shape[:2], 4, 3))
    scatter[0, :, :, :3] = flipped
    scatter[1, :, :, 1:] = flipped
    return scatter.reshape(-1, 1, 4, 3)
