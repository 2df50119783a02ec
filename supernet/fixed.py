"""Networks that are not part of a supernet, on disk: reference models after training, standalone and pruned subnets.

A file is safetensors whose metadata say how to build the network: its kind with the name of a reference model, the
id of a subnet, or the channels of a CSNet. Weights are stored in half precision, batch-norm statistics in single.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from supernet.baselines.csnet import CSNet, CSNetArch
from supernet.baselines.registry import (
    CSNET_RESOLUTION,
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    ReferenceNet,
    build,
)
from supernet.checkpoint import read_tensors, write_tensors
from supernet.errors import CheckpointError, SalnasError
from supernet.layers import ConvBN, MBConv
from supernet.network import SaliencyNet
from supernet.prune import prune_bottlenecks
from supernet.space import get_space

FORMAT = "salnas-network-1"
_PRECISE = ("running_mean", "running_var", "num_batches_tracked")

Spec = dict[str, Any]
"""How to build a network: {"kind": "reference" | "subnet" | "csnet", …}."""


def spec_of(net: nn.Module, name: str | None = None) -> Spec:
    """The description from which `build_net` makes a network of the same shape as `net`.

    `name` is that of a reference model. Raises CheckpointError for other modules.
    """
    if isinstance(net, SaliencyNet):
        space = get_space(net.arch.space)
        widths = [block.depthwise.conv.out_channels for block in _bottlenecks(net)]
        return {"kind": "subnet", "space": space.name, "id": space.id_of(net.arch), "bottlenecks": widths}
    if isinstance(net, ReferenceNet) and isinstance(net.net, CSNet):
        return {"kind": "csnet", "resolution": list(net.resolution), "channels": csnet_channels(net.net.arch)}
    if isinstance(net, ReferenceNet) and name is not None:
        return {"kind": "reference", "name": name, "resolution": list(net.resolution)}
    raise CheckpointError(
        f"A {type(net).__name__} cannot be saved.",
        field="net",
        value=type(net).__name__,
        remedy="Pass a subnet or a reference model with its name.",
    )


def build_net(spec: Spec) -> SaliencyNet | ReferenceNet:
    """A network with random weights, in evaluation mode."""
    if spec["kind"] == "subnet":
        space = get_space(spec["space"])
        return _narrowed(SaliencyNet(space.arch_of_id(spec["id"])), spec["bottlenecks"]).eval()
    if spec["kind"] == "csnet":
        arch = _csnet_arch(spec["channels"])
        height, width = spec.get("resolution", CSNET_RESOLUTION)
        return ReferenceNet(CSNet(arch), (height, width), IMAGENET_MEAN, IMAGENET_DEVIATION).eval()
    net = build(spec["name"])
    height, width = spec["resolution"]
    net.resolution = (height, width)
    return net


def save_net(
    path: Path | str, net: nn.Module, provenance: Mapping[str, Any], name: str | None = None
) -> None:
    """Write a network whole or not at all; `provenance` is any JSON data. Raises CheckpointError."""
    tensors = {
        key: (tensor if key.endswith(_PRECISE) else tensor.half()).detach().cpu()
        for key, tensor in net.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        "network": json.dumps(spec_of(net, name)),
        "provenance": json.dumps(provenance),
    }
    write_tensors(Path(path), tensors, metadata)


def load_net(path: Path | str) -> tuple[SaliencyNet | ReferenceNet, dict[str, Any]]:
    """A saved network in evaluation mode and its provenance. Raises CheckpointError where the file is not one."""
    try:
        metadata, tensors = read_tensors(path)
        if metadata.get("format") != FORMAT:
            raise ValueError("it holds something else")
        net = build_net(json.loads(metadata["network"]))
        own = net.state_dict()
        net.load_state_dict({k: v.to(own[k].dtype) if k in own else v for k, v in tensors.items()})
        provenance: dict[str, Any] = json.loads(metadata.get("provenance", "{}"))
    except (OSError, SafetensorError, SalnasError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} does not hold a trained network: {str(error)[:200]}.",
            field="net",
            value=str(path),
            remedy="Give a file written by `salnas finetune` or `salnas distill`.",
        ) from error
    return net.eval(), provenance


def is_network(path: Path | str) -> bool:
    """Whether a file is one that `save_net` wrote, by what it says of itself."""
    try:
        with safe_open(str(path), "pt") as stored:
            return (stored.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False


def csnet_channels(arch: CSNetArch) -> dict[str, Any]:
    """The channels of a CSNet as plain data."""
    return {
        "stem": arch.stem,
        "stages": arch.stages,
        "fuse": arch.fuse,
        "dilated": arch.dilated,
        "merged": arch.merged,
    }


def _csnet_arch(channels: Mapping[str, Any]) -> CSNetArch:
    return CSNetArch(
        stem=tuple(channels["stem"]),
        stages=tuple(tuple(tuple(block) for block in stage) for stage in channels["stages"]),
        fuse=tuple(channels["fuse"]),
        dilated=tuple(tuple(convs) for convs in channels["dilated"]),
        merged=channels["merged"],
    )


def _bottlenecks(net: nn.Module) -> list[MBConv]:
    return [m for m in net.modules() if isinstance(m, MBConv) and isinstance(m.expand, ConvBN)]


@torch.no_grad()
def _narrowed(net: SaliencyNet, widths: list[int]) -> SaliencyNet:
    """`net` with the first `widths` channels of its bottlenecks."""
    blocks = _bottlenecks(net)
    if len(blocks) != len(widths):
        raise ValueError(f"{len(widths)} bottlenecks are described, the subnet has {len(blocks)}")
    if all(b.depthwise.conv.out_channels == w for b, w in zip(blocks, widths, strict=True)):
        return net
    for block, width in zip(blocks, widths, strict=True):
        block.depthwise.bn.weight.fill_(0.0)[:width] = 1.0
    return prune_bottlenecks(net, threshold=0.5)
