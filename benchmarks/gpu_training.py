"""Training speed on a GPU: photos a second at batch 64, 384x288, four subnets a step, in bfloat16.

A step is forward, the paper's loss and backward of each subnet, then an update; photos and maps are random and lie on
the device, so reading data is not in it. Sliced and masked execution are timed from the very first step, since sliced
execution meets new shapes at every random subnet. Beside the time stands its bound: the bytes that the layers of a
step must read and write, measured layer by layer at the size that is executed, over the bandwidth of the memory,
measured by copying.

`--device cpu --space tiny --batch-size 2 --steps 2` tries the command where there is no GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import print_table, publish
from supernet.data.cache import Batch
from supernet.losses import saliency_loss
from supernet.masked import masked_forward
from supernet.network import DROP_RATE, Supernet, extract
from supernet.space import Arch, get_space

Forward = Callable[[Tensor, Arch, float], Tensor]


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def step_seconds(
    forward: Forward, archs: list[Arch], batch: Batch, optimizer: torch.optim.Optimizer
) -> float:
    """Wall time of an update by some subnets on one batch."""
    device = str(batch.images.device)
    wait(device)
    started = time.perf_counter()
    optimizer.zero_grad()
    for number, arch in enumerate(archs):
        with torch.autocast(batch.images.device.type, torch.bfloat16):
            predicted = forward(batch.images, arch, DROP_RATE if number == 0 else 0.0)
        loss = saliency_loss(predicted.float(), batch.maps, batch.counts, "cc+kld+nss").mean()
        loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    wait(device)
    return time.perf_counter() - started


def bytes_of(supernet: Supernet, arch: Arch, photos: Tensor) -> int:
    """Bytes that forward and backward of `arch` move at least: what layers read and write in bfloat16, three times.

    Once forward; backward reads what went in and the gradient of what came out and writes the gradient of what went
    in, about twice as much. Activation functions count as fused into the layer before them.
    """
    moved = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            weights = sum(parameter.numel() for parameter in module.parameters())
            moved += 2 * (inputs[0].numel() + output.numel() + weights)

    net = extract(supernet, arch).eval().to(photos.device)
    hooks = [module.register_forward_hook(count) for module in net.modules()]
    with torch.no_grad():
        net(photos[:1])
    for hook in hooks:
        hook.remove()
    return 3 * moved * len(photos)


def random_batch(size: int, resolution: tuple[int, int], device: str) -> Batch:
    """Photos (size, 3, H, W), maps and counts (size, H / 4, W / 4) of noise on `device`."""
    height, width = resolution
    photos = torch.randn(size, 3, height, width, device=device).contiguous(memory_format=torch.channels_last)
    maps = torch.rand(size, height // 4, width // 4, device=device)
    return Batch(photos, maps, (maps > 0.99).float())


def bandwidth(device: str, megabytes: int = 1024) -> float:
    """Bytes a second that a copy reads and writes."""
    source = torch.empty(megabytes << 20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = []
    for _ in range(5):
        wait(device)
        started = time.perf_counter()
        target.copy_(source)
        wait(device)
        times.append(time.perf_counter() - started)
    return 2 * source.numel() / statistics.median(times)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--space", default="salnas")
    arguments = parser.parse_args()
    device, size = arguments.device, arguments.batch_size
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here. Try --device cpu --space tiny --batch-size 2 --steps 2.")
    torch.manual_seed(0)
    space = get_space(arguments.space)
    height, width = space.largest().resolution
    supernet = Supernet(space).train().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = random_batch(size, (height, width), device)
    photos = batch.images
    optimizer = torch.optim.SGD(supernet.parameters(), lr=1e-4, momentum=0.9)
    executions: dict[str, Forward] = {
        "sliced": lambda x, arch, drop: supernet(x, arch, drop_rate=drop),
        "masked": lambda x, arch, drop: masked_forward(supernet, x, arch, drop_rate=drop),
    }
    copied = bandwidth(device, 1024 if device.startswith("cuda") else 64)
    large = bytes_of(supernet, space.largest(), photos)
    small = bytes_of(supernet, space.smallest(), photos)
    rows = []
    for name, forward in executions.items():
        rng = np.random.default_rng(0)
        times = []
        for _ in range(arguments.steps):
            middle = space.decode_many(space.sample(rng, 2))
            archs = [space.largest(), *middle, space.smallest()]
            times.append(step_seconds(forward, archs, batch, optimizer))
        first, late = sum(times), times[len(times) // 2 :]
        # The largest size bounds every masked subnet; sliced ones lie between the smallest and the largest.
        moved = 4 * large if name == "masked" else 2 * (large + small)
        rows.append(
            {
                "execution": name,
                "photos a second, from the first step": size * len(times) / first,
                "photos a second, second half": size / statistics.median(late),
                "gigabytes a step": moved / 1e9,
                "of the memory's bandwidth": moved / statistics.median(late) / copied,
            }
        )
    frame = pd.DataFrame(rows)
    title = f"Training steps at {width}x{height}, batch {size}, four subnets, bfloat16, on {device}"
    if not device.startswith("cuda") or space.name != "salnas":
        from rich.console import Console

        print_table(Console(), title, frame)
        return
    publish(
        "gpu-training",
        f"{title}: {torch.cuda.get_device_name(device)}",
        frame,
        command=f"python benchmarks/gpu_training.py --batch-size {size} --steps {arguments.steps}",
        note=f"A copy reads and writes {copied / 1e9:,.0f} gigabytes a second.",
    )


if __name__ == "__main__":
    main()
