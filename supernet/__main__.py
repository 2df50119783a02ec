"""`python -m supernet`: training on a machine that has none of the service's packages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from supernet.card import write_card
from supernet.data.check import check_dataset
from supernet.errors import SalnasError
from supernet.processor import chosen_device, chosen_precision
from supernet.progress import shown_progress
from supernet.refit import import_checkpoint, refit_statistics
from supernet.train import train
from supernet.train_config import CHOICES, TrainConfig

_DEFAULTS = TrainConfig()
MeasuredOption = Annotated[int, typer.Option(min=2, help="Subnets whose statistics are measured.")]

app = typer.Typer(add_completion=False, no_args_is_help=True)
data_app = typer.Typer(no_args_is_help=True, help="Look at data sets.")
app.add_typer(data_app, name="data")


class FileMistake(SalnasError):
    """A file that cannot be read or written."""

    kind = "file"


def _names(field: str) -> str:
    """The names that a setting can be, as a sentence."""
    *others, last = CHOICES[field]
    return f"{', '.join(others)} or {last}."


@app.callback()
def main() -> None:
    """Train supernets and write their cards."""


@app.command("train")
def train_command(
    data: Annotated[
        list[str] | None, typer.Option(help="Data set: a name or a folder; repeat to mix. [default: osie]")
    ] = None,
    data_weight: Annotated[
        list[float] | None, typer.Option(help="Share of each data set, in their order. [default: equal]")
    ] = None,
    epoch_photos: Annotated[
        int | None,
        typer.Option(help="Photos of an epoch, drawn anew for each. [default: as many as there are]"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Checkpoint to write, ….safetensors.")] = _DEFAULTS.out,
    space: Annotated[str, typer.Option(help="Search space.")] = _DEFAULTS.space,
    warm_start: Annotated[Path | None, typer.Option(help="MobileNetV2 weights to start from.")] = None,
    start_from: Annotated[
        Path | None, typer.Option(help="Supernet to train further, instead of a warm start.")
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training photos.")] = _DEFAULTS.epochs,
    full_resolution_epochs: Annotated[
        int, typer.Option(help="Last epochs, in which each subnet sees its own resolution.")
    ] = _DEFAULTS.full_resolution_epochs,
    frozen_epochs: Annotated[
        int, typer.Option(help="Last epochs, under the batch-norm statistics that are shipped.")
    ] = _DEFAULTS.frozen_epochs,
    batch_size: Annotated[int, typer.Option(help="Photos a step.")] = _DEFAULTS.batch_size,
    smallest_crop: Annotated[
        float, typer.Option(help="Least share of a photo's area that augmentation leaves; 1: no crops.")
    ] = _DEFAULTS.smallest_crop,
    random_subnets: Annotated[
        int, typer.Option(help="Random subnets a step, besides largest and smallest.")
    ] = _DEFAULTS.random_subnets,
    largest_every: Annotated[
        int, typer.Option(help="Steps between two of the largest subnet; 0: it takes part in none.")
    ] = _DEFAULTS.largest_every,
    loss: Annotated[str, typer.Option(help=_names("loss"))] = _DEFAULTS.loss,
    distillation: Annotated[
        str, typer.Option(help=f"What subnets learn from besides the truth: {_names('distillation')}")
    ] = _DEFAULTS.distillation,
    alpha: Annotated[
        float, typer.Option(help="Share of the truth in self-kd, and beside teachers.")
    ] = _DEFAULTS.alpha,
    teacher: Annotated[
        list[Path] | None,
        typer.Option(
            help="Trained network, or supernet for its largest subnet, whose maps are mixed into the truths; repeat"
            " it for the mean of several."
        ),
    ] = None,
    optimizer: Annotated[str, typer.Option(help=_names("optimizer"))] = _DEFAULTS.optimizer,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = _DEFAULTS.learning_rate,
    schedule: Annotated[
        str, typer.Option(help="cosine, with a warm-up, or restarts, as published.")
    ] = _DEFAULTS.schedule,
    restart_epochs: Annotated[
        int, typer.Option(help="With restarts: epochs of a cosine.")
    ] = _DEFAULTS.restart_epochs,
    accumulate: Annotated[int, typer.Option(help="Batches of one update.")] = _DEFAULTS.accumulate,
    execution: Annotated[
        str, typer.Option(help="sliced, or masked, which suits a GPU.")
    ] = _DEFAULTS.execution,
    precision: Annotated[
        str, typer.Option(help="fp32, bf16, or auto: bf16 where the processor has it.")
    ] = "auto",
    held_out: Annotated[int, typer.Option(help="Training photos that only select.")] = _DEFAULTS.held_out,
    statistics_subnets: Annotated[
        int, typer.Option(help="Subnets whose batch-norm statistics are measured at the end.")
    ] = _DEFAULTS.statistics_subnets,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = _DEFAULTS.seed,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = _DEFAULTS.threads,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = _DEFAULTS.device,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard, which must be installed.")
    ] = None,
    energy_country: Annotated[
        str | None, typer.Option(help="Measure the energy with CodeCarbon, in a country such as THA.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not continue from a saved state.")] = False,
) -> None:
    """Train a supernet; run the same command again to continue after an interruption."""
    with _errors():
        config = TrainConfig(
            data=tuple(data or _DEFAULTS.data),
            data_weights=tuple(data_weight or ()),
            epoch_photos=epoch_photos,
            space=space,
            out=out,
            warm_start=warm_start,
            start_from=start_from,
            epochs=epochs,
            full_resolution_epochs=full_resolution_epochs,
            frozen_epochs=frozen_epochs,
            batch_size=batch_size,
            random_subnets=random_subnets,
            largest_every=largest_every,
            smallest_crop=smallest_crop,
            loss=loss,
            distillation=distillation,
            alpha=alpha,
            teachers=tuple(teacher or ()),
            optimizer=optimizer,
            learning_rate=learning_rate,
            schedule=schedule,
            restart_epochs=restart_epochs,
            accumulate=accumulate,
            execution=execution,
            precision=chosen_precision(precision, device),
            held_out=held_out,
            statistics_subnets=statistics_subnets,
            seed=seed,
            threads=threads,
            device=str(chosen_device(device)),
            tensorboard=tensorboard,
            energy_country=energy_country,
        )
        with shown_progress("preparing") as advance:
            path = train(
                config, resume=not fresh, progress=lambda what, done, total: advance(done, total, what)
            )
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
    names = data or ["osie"]
    command = " ".join(["python -m supernet card", checkpoint.name, *(f"--data {name}" for name in names)])
    with _errors():
        card = write_card(checkpoint, data=names, notes=note or [], command=command)
    for set_name, by_subnet in card["scores"].items():
        for label, scores in by_subnet.items():
            figures = "  ".join(f"{k} {v:.4f}" for k, v in scores.items() if isinstance(v, float))
            typer.echo(f"{set_name}  {label:9} {figures}")


@app.command("import")
def import_command(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of the public AlphaNet or SalNAS code.")],
    out: Annotated[Path, typer.Option(help="Supernet to write, ….safetensors.")],
    data: Annotated[str, typer.Option(help="Photos that batch-norm statistics are fitted on.")] = "osie",
    subnets: MeasuredOption = _DEFAULTS.statistics_subnets,
) -> None:
    """Turn a public checkpoint into a supernet; one of AlphaNet must then be trained with --start-from."""
    with _errors() as console:
        path, with_decoder = import_checkpoint(checkpoint, out, data, subnets=subnets)
        if not with_decoder:
            console.print(f"No decoder in it: train with --start-from {path}.", highlight=False)
    typer.echo(str(path))


@app.command("statistics")
def statistics_command(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="A supernet's .safetensors file; of several, the weights are averaged."),
    ],
    out: Annotated[Path, typer.Option(help="Supernet to write, ….safetensors.")],
    share: Annotated[
        list[float] | None, typer.Option(help="Of each of several supernets in the mean.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Training photos to fit on; repeat for all it was trained on. [default: osie]"),
    ] = None,
    data_weight: Annotated[
        list[float] | None, typer.Option(help="Share of each data set, in their order. [default: equal]")
    ] = None,
    subnets: MeasuredOption = _DEFAULTS.statistics_subnets,
    photos: Annotated[
        int, typer.Option(min=1, help="Photos they are measured on; some on six times as many.")
    ] = _DEFAULTS.statistics_photos,
    seed: Annotated[int, typer.Option(help="Seed of the subnets that are drawn.")] = 0,
) -> None:
    """Fit the batch-norm statistics of a supernet anew, or of the mean of several that come from one another."""
    with _errors(), shown_progress("measuring statistics") as advance:
        path = refit_statistics(
            checkpoints,
            out,
            data or ["osie"],
            data_weights=data_weight or [],
            shares=share or [1.0],
            subnets=subnets,
            photos=photos,
            seed=seed,
            precision=chosen_precision("auto"),
            progress=lambda what, done, total: advance(done, total, what),
        )
    typer.echo(str(path))


@data_app.callback()
def data_main() -> None:
    """Look at data sets."""


@data_app.command("check")
def data_check_command(
    data: Annotated[str, typer.Argument(metavar="DIR", help="Folder of a data set, or its name.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    most: Annotated[int, typer.Option(min=1, help="Show so many problems.")] = 20,
) -> None:
    """Read every file of a data set; say what it holds and which files are wrong. Exit code 1 if any is."""
    with _errors(), shown_progress("reading") as advance:
        report = check_dataset(data, progress=advance)
    typer.echo(json.dumps(report.to_json(), indent=1) if as_json else "\n".join(report.lines(most)))
    if not report.is_sound:
        raise typer.Exit(1)


@contextmanager
def _errors() -> Iterator[Console]:
    """Standard error; an error of ours, or of a file, becomes one message and the exit code 2."""
    console = Console(stderr=True)
    try:
        yield console
    except (SalnasError, OSError) as error:
        mistake = error if isinstance(error, SalnasError) else _file_mistake(error)
        console.print(f"[red]Error:[/red] {escape(str(mistake))}", highlight=False)
        raise typer.Exit(2) from mistake


def _file_mistake(error: OSError) -> FileMistake:
    where = f"{error.filename}: " if error.filename else ""
    return FileMistake(
        f"{where}{error.strerror or error}.",
        field="path",
        value=error.filename,
        remedy="Check that the path exists and may be written, and that the disk has room.",
    )


if __name__ == "__main__":
    app()
