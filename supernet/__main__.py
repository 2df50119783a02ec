"""`python -m supernet`: training on a machine that has none of the service's packages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from supernet.card import write_card
from supernet.errors import SalnasError
from supernet.train import TrainConfig, train

_DEFAULTS = TrainConfig()

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def main() -> None:
    """Train supernets and write their cards."""


@app.command("train")
def train_command(
    data: Annotated[
        list[str] | None, typer.Option(help="Data set: a name or a folder; repeat to mix. [default: osie]")
    ] = None,
    out: Annotated[Path, typer.Option(help="Checkpoint to write, ….safetensors.")] = _DEFAULTS.out,
    space: Annotated[str, typer.Option(help="Search space.")] = _DEFAULTS.space,
    warm_start: Annotated[Path | None, typer.Option(help="MobileNetV2 weights to start from.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training photos.")] = _DEFAULTS.epochs,
    full_resolution_epochs: Annotated[
        int, typer.Option(help="Last epochs, in which each subnet sees its own resolution.")
    ] = _DEFAULTS.full_resolution_epochs,
    frozen_epochs: Annotated[
        int, typer.Option(help="Last epochs, under the batch-norm statistics that are shipped.")
    ] = _DEFAULTS.frozen_epochs,
    batch_size: Annotated[int, typer.Option(help="Photos a step.")] = _DEFAULTS.batch_size,
    random_subnets: Annotated[
        int, typer.Option(help="Random subnets a step, besides largest and smallest.")
    ] = _DEFAULTS.random_subnets,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate (SGD).")] = _DEFAULTS.learning_rate,
    held_out: Annotated[int, typer.Option(help="Training photos that only select.")] = _DEFAULTS.held_out,
    statistics_subnets: Annotated[
        int, typer.Option(help="Subnets whose batch-norm statistics are measured at the end.")
    ] = _DEFAULTS.statistics_subnets,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = _DEFAULTS.seed,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = _DEFAULTS.threads,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = _DEFAULTS.device,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not continue from a saved state.")] = False,
) -> None:
    """Train a supernet; run the same command again to continue after an interruption."""
    console = Console(stderr=True)
    try:
        config = TrainConfig(
            data=tuple(data or _DEFAULTS.data),
            space=space,
            out=out,
            warm_start=warm_start,
            epochs=epochs,
            full_resolution_epochs=full_resolution_epochs,
            frozen_epochs=frozen_epochs,
            batch_size=batch_size,
            random_subnets=random_subnets,
            learning_rate=learning_rate,
            held_out=held_out,
            statistics_subnets=statistics_subnets,
            seed=seed,
            threads=threads,
            device=device,
        )
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        ) as bar:
            task = bar.add_task("preparing", total=None)
            path = train(
                config,
                resume=not fresh,
                progress=lambda what, done, total: bar.update(
                    task, description=what, completed=done, total=total
                ),
            )
    except SalnasError as error:
        console.print(f"[red]Error:[/red] {error}", highlight=False)
        raise typer.Exit(2) from error
    typer.echo(str(path))


@app.command("card")
def card_command(
    checkpoint: Annotated[Path, typer.Argument(help="The supernet, ….safetensors.")],
    data: Annotated[
        list[str] | None, typer.Option(help="Data set to score on; repeat for more. [default: osie]")
    ] = None,
    note: Annotated[list[str] | None, typer.Option(help="A remark for the card; repeat for more.")] = None,
) -> None:
    """Score a supernet on validation photos and write its card beside it."""
    console = Console(stderr=True)
    names = data or ["osie"]
    command = " ".join(["python -m supernet card", checkpoint.name, *(f"--data {name}" for name in names)])
    try:
        card = write_card(checkpoint, data=names, notes=note or [], command=command)
    except SalnasError as error:
        console.print(f"[red]Error:[/red] {error}", highlight=False)
        raise typer.Exit(2) from error
    for set_name, by_subnet in card["scores"].items():
        for label, scores in by_subnet.items():
            figures = "  ".join(f"{k} {v:.4f}" for k, v in scores.items() if isinstance(v, float))
            typer.echo(f"{set_name}  {label:9} {figures}")


if __name__ == "__main__":
    app()
