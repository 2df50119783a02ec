"""Checkpoints of the public AlphaNet and SalNAS code, put into a supernet of ours.

Both name a tensor by the layer it belongs to: `first_conv`, `blocks.0` to `blocks.36` for the inverted bottlenecks
of all stages in order, `last_conv.final_expand_layer` and, in SalNAS only, `decode_output0` to `decode_output6`;
names may begin with `module.`. AlphaNet's classifier is left out and the decoder keeps its random weights: train
such a supernet with `--start-from`.

Two things differ from the public function. There the decoder enlarges maps with aligned corners; ours does not. And
there a narrow subnet reads the skip half of a decoder kernel from another place; the largest one does not. Batch-norm
statistics are not in such files and must be fitted on photos.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from supernet.errors import CheckpointError
from supernet.network import Supernet
from supernet.space import Space

_LAYERS = {
    "expand": "inverted_bottleneck",
    "depthwise": "depth_conv",
    "project": "point_linear",
    "se.reduce": "depth_conv.se.fc.reduce",
    "se.expand": "depth_conv.se.fc.expand",
}
_WRAPPERS = ("student", "state_dict", "model")


def import_public(path: Path | str, space: Space) -> tuple[Supernet, bool]:
    """A supernet with the weights of a public checkpoint, and whether its decoder came with them.

    `path`: what torch.save wrote, read without running anything in it, or safetensors. Raises CheckpointError for a
    file that cannot be read and for tensors of another space, naming the first.
    """
    tensors = read_state_dict(Path(path))
    supernet = Supernet(space)
    wanted = dict(public_names(supernet))
    with_decoder = any(name.startswith("decode_output") for name in tensors)
    own = dict(supernet.named_parameters())
    with torch.no_grad():
        for name, public in wanted.items():
            if public.startswith("decode_output") and not with_decoder:
                continue
            own[name].copy_(_fitting(tensors, public, own[name], Path(path)))
    return supernet.eval(), with_decoder


def public_names(supernet: Supernet) -> Iterator[tuple[str, str]]:
    """Each parameter of ours with its name in the public code."""
    starts = [0]
    for choices in supernet.space.stages:
        starts.append(starts[-1] + max(choices.depths))
    for name, _ in supernet.named_parameters():
        words = name.split(".")[1:]
        if words[0] == "stem":
            yield name, f"first_conv.{_inside(words[1:])}"
        elif words[0] == "last":
            yield name, f"last_conv.final_expand_layer.{_inside(words[1:])}"
        elif words[0] == "decoder":
            # The five that are followed by an up-sampling are the first of a sequence.
            place = f"{words[1]}.0" if int(words[1]) < 5 else words[1]
            yield name, f"decode_output{place}.{_inside(words[2:])}"
        else:
            block = f"blocks.{starts[int(words[1])] + int(words[2])}"
            yield name, f"{block}.{_block_name(words[3:])}"


def _block_name(words: list[str]) -> str:
    if words[0] == "shortcut":
        return "shortcut.conv.conv.weight"
    layer = ".".join(words[:2]) if words[0] == "se" else words[0]
    rest = words[2:] if words[0] == "se" else [_inside(words[1:])]
    return ".".join(["mobile_inverted_conv", _LAYERS[layer], *rest])


def _inside(words: list[str]) -> str:
    """`conv.weight` → `conv.conv.weight`, `bn.bias` → `bn.bn.bias`."""
    return ".".join([words[0], *words])


def _fitting(tensors: Mapping[str, Tensor], name: str, own: Tensor, path: Path) -> Tensor:
    if name not in tensors:
        raise CheckpointError(
            f"{path} lacks {name}.",
            field="checkpoint",
            value=name,
            remedy="It must be a supernet of the public AlphaNet or SalNAS code.",
        )
    found = tensors[name]
    if name == "decode_output0.0.conv.conv.weight" and found.dim() == 4:
        # Published with as many inputs as a last convolution that is not there; the first ones are used.
        found = found[:, : own.shape[1]]
    if found.shape != own.shape:
        raise CheckpointError(
            f"{path} holds another space: {name} is {tuple(found.shape)}, not {tuple(own.shape)}.",
            field="checkpoint",
            value=list(found.shape),
            remedy="Only the search space of Table 1 can be imported.",
        )
    return found.float()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by public name, without `module.`; nothing in the file is run. Raises CheckpointError."""
    try:
        content: Any
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever a damaged archive makes it stumble over.
        known = isinstance(error, OSError | SafetensorError)
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: {error if known else type(error).__name__}.",
            field="checkpoint",
            value=str(path),
            remedy="It may be damaged, or hold more than tensors: save its state dict alone.",
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        content = {}
    return {str(k).removeprefix("module."): v for k, v in content.items() if isinstance(v, Tensor)}
