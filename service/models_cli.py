"""The commands `salnas models`, `finetune` and `distill`: networks beside the supernet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from service import display
from service.settings import Settings
from supernet.errors import SettingsError

if TYPE_CHECKING:
    from service.remote import Remote
    from supernet.finetune import FinetuneConfig
    from supernet.workshop import Job

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to standard output.")]
Network = Annotated[
    str, typer.Argument(metavar="NETWORK", help="A reference model, a subnet (max, min, an id), or a file.")
]
OutOption = Annotated[Path, typer.Option(help="File to write, ….safetensors; its card goes beside it.")]
StartOption = Annotated[str, typer.Option(help="weights, imagenet or random.")]
EpochsOption = Annotated[int, typer.Option(help="Passes over the photos.")]
BatchOption = Annotated[int, typer.Option(help="Photos a step.")]
LossOption = Annotated[str, typer.Option(help="saliency, binary or probability.")]
OptimizerOption = Annotated[str, typer.Option(help="sgd or adam.")]
RateOption = Annotated[float, typer.Option(help="Peak learning rate.")]
PrecisionOption = Annotated[str, typer.Option(help="fp32, bf16, or auto: bf16 where the processor has it.")]
SeedOption = Annotated[int, typer.Option(help="Seed of everything random.")]
_WORDS = ("model", "finds", "weights")
ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="Ask this service instead (default: SALNAS_SERVER)."),
]
Show = Callable[[bool, Mapping[str, Any], Callable[[], Any]], None]
Service = Callable[["str | None"], AbstractContextManager["Remote | None"]]


def register(app: typer.Typer, show: Show, service_at: Service) -> None:
    """Add the commands to `app`; `show` prints plain data as a view or as JSON, `service_at` is whom to ask."""

    @app.command()
    def models(server: ServerOption = None, as_json: JsonOption = False) -> None:
        """List the networks of other papers: what they cost, their weights, and what was measured of them."""
        from service.models import list_models

        with service_at(server) as service:
            known = service.models() if service else list_models(Settings.from_environment().results)
        found = {"models": known}
        show(as_json, found, lambda: models_view(found["models"]))

    @app.command()
    def finetune(
        network: Network,
        out: OutOption,
        data: Annotated[
            list[str] | None,
            typer.Option(
                help="Data set by name or folder, osie unless said; with masks an object detector is trained."
                " Repeat it to mix several."
            ),
        ] = None,
        data_weight: Annotated[
            list[float] | None, typer.Option(help="Share of each --data in an epoch, in the same order.")
        ] = None,
        epoch_photos: Annotated[
            int | None, typer.Option(help="Photos of an epoch; all of them unless said.")
        ] = None,
        start: StartOption = "weights",
        epochs: EpochsOption = 10,
        batch_size: BatchOption = 10,
        loss: LossOption = "saliency",
        optimizer: OptimizerOption = "sgd",
        learning_rate: RateOption = 0.05,
        weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = 1e-5,
        smallest_crop: Annotated[
            float, typer.Option(help="Least share of a photo's area that augmentation leaves; 1: no crops.")
        ] = 0.8,
        decay: Annotated[
            str, typer.Option(help="standard, or dynamic: scales of batch norms fade with their output.")
        ] = "standard",
        prune: Annotated[
            float | None, typer.Option(help="First remove channels whose scale is below this.")
        ] = None,
        precision: PrecisionOption = "auto",
        held_out: Annotated[
            int, typer.Option(help="Last photos, which do not train; of masks, the test.")
        ] = 80,
        limit: Annotated[int | None, typer.Option(help="Train on the first so many photos.")] = None,
        resolution: Annotated[
            str | None, typer.Option(metavar="HxW", help="Photos of this size, for reference models.")
        ] = None,
        supernet: Annotated[str | None, typer.Option(help="Id or file of the supernet of subnets.")] = None,
        seed: SeedOption = 0,
        as_json: JsonOption = False,
    ) -> None:
        """Train one network: a rival, a subnet by itself, a pruned one. The same command again continues."""
        from supernet.finetune import FinetuneConfig
        from supernet.processor import chosen_precision
        from supernet.workshop import Job

        first, *others = data or ["osie"]
        job = Job(
            network,
            out,
            data=first,
            more_data=tuple(others),
            data_weights=tuple(data_weight or ()),
            epoch_photos=epoch_photos,
            start=start,
            supernet=_supernet_file(supernet),
            held_out=held_out,
            limit=limit,
            resolution=_size(resolution),
            prune=prune,
        )
        config = FinetuneConfig(
            epochs=epochs,
            batch_size=batch_size,
            loss=loss,
            optimizer=optimizer,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            smallest_crop=smallest_crop,
            decay=decay,
            precision=chosen_precision(precision),
            seed=seed,
        )
        _run(job, config, as_json, show, _command("finetune", job, config))

    @app.command()
    def distill(
        network: Network,
        photos: Annotated[Path, typer.Option(help="Folder of photos; they need no labels.")],
        out: OutOption,
        teacher: Annotated[str, typer.Option(help="The larger subnet, or a file.")] = "max",
        start: StartOption = "weights",
        epochs: EpochsOption = 10,
        hint_epochs: Annotated[int, typer.Option(help="Before them, passes that match features.")] = 0,
        batch_size: BatchOption = 10,
        loss: LossOption = "binary",
        optimizer: OptimizerOption = "adam",
        learning_rate: RateOption = 1e-3,
        precision: PrecisionOption = "auto",
        held_out: Annotated[
            int, typer.Option(help="Last photos, on which student and teacher are compared.")
        ] = 0,
        supernet: Annotated[str | None, typer.Option(help="Id or file of the supernet.")] = None,
        seed: SeedOption = 0,
        as_json: JsonOption = False,
    ) -> None:
        """Train a network on photos without labels, from the maps of a larger subnet."""
        from supernet.finetune import FinetuneConfig
        from supernet.processor import chosen_precision
        from supernet.workshop import Job

        job = Job(
            network,
            out,
            data=str(photos),
            start=start,
            targets="teacher",
            supernet=_supernet_file(supernet),
            teacher=teacher,
            held_out=held_out,
        )
        config = FinetuneConfig(
            epochs=epochs,
            hint_epochs=hint_epochs,
            batch_size=batch_size,
            loss=loss,
            optimizer=optimizer,
            learning_rate=learning_rate,
            precision=chosen_precision(precision),
            seed=seed,
        )
        _run(job, config, as_json, show, _command("distill", job, config))


def _run(job: Job, config: FinetuneConfig, as_json: bool, show: Show, command: str) -> None:
    from supernet.progress import shown_progress
    from supernet.workshop import run_job

    with shown_progress("preparing") as advance:
        card = run_job(
            job, config, command=command, progress=lambda what, done, total: advance(done, total, what)
        )
    found = {"path": str(job.out), **card}
    show(as_json, found, lambda: card_view(found))


def _command(name: str, job: Job, config: FinetuneConfig) -> str:
    """The command line that trains this, for the card."""
    from supernet.finetune import FinetuneConfig
    from supernet.workshop import Job

    words = [f"salnas {name} {job.network}"]
    if job.more_data:
        words += [f"--data {data}" for data in (job.data, *job.more_data)]
        words += [f"--data-weight {weight:g}" for weight in job.data_weights]
    defaults = asdict(Job(job.network, job.out)) | asdict(FinetuneConfig())
    told = {"network", "out", "supernet", "threads", "targets", "more_data", "data_weights"}
    told |= {"data"} if job.more_data else set()
    for field, value in (asdict(job) | asdict(config)).items():
        if field in told or value == defaults[field]:
            continue
        option = "photos" if name == "distill" and field == "data" else field.replace("_", "-")
        text = f"{value[0]}x{value[1]}" if isinstance(value, tuple) else f"{value}"
        words.append(f"--{option} {text}")
    return " ".join([*words, f"--out {Path(job.out).name}"])


def _supernet_file(name: str | None) -> Path:
    from service.supernets import find_supernet

    settings = Settings.from_environment()
    text = name or settings.supernet
    is_file = text.endswith(".safetensors") or "/" in text
    return Path(find_supernet(settings.results, Path(text) if is_file else text).path)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise SettingsError(
            f"{text!r} is no resolution.", field="resolution", value=text, remedy="Write 192x256."
        )
    return int(height), int(width)


def models_view(models: list[dict[str, Any]]) -> Table:
    """The reference models as a table of at most 80 columns; `--json` has all that is known of them."""
    names = ("model", "finds", "par. M", "macs M", "input", "weights", "CC", "max F", "ms")
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True, justify="left" if name in _WORDS else "right")
    for model in models:
        objects = model["object_scores"]
        cells = [model["accuracy"].get("cc"), objects.get("max_f")]
        times = model["latency_ms"].get("cpu-1-thread")
        table.add_row(
            model["id"],
            "fixations" if model["task"] == "saliency" else "objects",
            f"{model['parameters'] / 1e6:.3f}",
            f"{model['macs'] / 1e6:.0f}",
            display.resolution(model["resolution"]),
            model["weights"],
            *("–" if cell is None else f"{cell:.3f}" for cell in cells),
            "–" if times is None else f"{times:.1f}",
        )
    return table


def card_view(card: Mapping[str, Any]) -> Any:
    """What a training made."""
    facts = [
        ("file", card["path"]),
        ("size", display.size(card["size_bytes"])),
        ("parameters", f"{card['parameters']:,}"),
        ("macs", f"{card['macs'] / 1e6:.0f} M"),
        ("trained on", f"{card['training_photos']} photos of {card['data']}"),
        ("time", display.duration(card["seconds"])),
    ]
    for data, scores in card["scores"].items():
        shown = ", ".join(f"{k} {v:.4f}" for k, v in scores.items() if isinstance(v, float))
        facts.append((data, shown))
    return display.facts_view(card["network"], "trained", facts)
