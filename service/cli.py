"""The command line `salnas`: options in, plain data out, as a table or with --json as JSON and nothing else.

Progress and errors go to standard error. Bad input ends with exit code 2 and one message that names the field,
the value and the remedy. What a command does not need is not imported: torch only where a network runs.
"""

from __future__ import annotations

import io
import json
import math
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console, Group
from rich.text import Text
from typer.exceptions import TyperException

from service import display
from service.models_cli import ServerOption
from service.models_cli import register as register_models
from service.settings import Settings
from supernet.errors import SalnasError, SettingsError
from supernet.formats import check_precision, suffix_of
from supernet.progress import shown_progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from rich.console import RenderableType

    from search.executors import Executor
    from search.front import Front
    from search.run import SearchResult
    from service.estimates import Estimates
    from service.ports import KeyStore
    from service.remote import Remote
    from service.workbench import Workbench
    from supernet.baselines.measured import ReferencePoint

T = TypeVar("T")

DEFAULT_SPACE = "salnas"
BAD_INPUT = 2
INTERRUPTED = 130

app = typer.Typer(
    name="salnas",
    help="Find the best saliency network under a budget, look at its maps, take it home as ONNX.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(no_args_is_help=True, help="Look at data sets.")
device_app = typer.Typer(
    no_args_is_help=True, help="Devices whose latency, and perhaps energy, is predicted."
)
front_app = typer.Typer(no_args_is_help=True, help="Show, query, draw and compare fronts that were found.")
keys_app = typer.Typer(no_args_is_help=True, help="API keys of the service.")
app.add_typer(front_app, name="front")
app.add_typer(keys_app, name="keys")
app.add_typer(data_app, name="data")
app.add_typer(device_app, name="device")
predictor_app = typer.Typer(no_args_is_help=True, help="What the search believes, and how right it is.")
app.add_typer(predictor_app, name="predictor")

ArchText = Annotated[
    str, typer.Argument(metavar="ARCH", help="max, min, random:SEED, an id, or the path of a JSON file.")
]
ArchOption = Annotated[
    str, typer.Option("--arch", metavar="ARCH", help="max, min, random:SEED, an id, or a JSON file.")
]
SupernetOption = Annotated[
    str | None,
    typer.Option("--supernet", metavar="ID|FILE", help="Id of a supernet, or a .safetensors file."),
]
FrontObjectives = Annotated[
    list[str] | None,
    typer.Option("--objective", "-o", help="Look at these 2 to 4 columns; those that were searched for."),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME|FILE", help="A reference model, or a trained file, instead of a subnet."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to standard output.")]


@app.command()
def space(
    name: Annotated[str, typer.Argument(help="Name of a space.")] = DEFAULT_SPACE,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what can be chosen in a search space."""
    with _service(server) as service:
        found = service.client.space(name) if service else _space(name)
    _show(as_json, found, lambda: display.space_view(found))


@app.command()
def describe(
    arch: ArchText,
    space: Annotated[str | None, typer.Option(help="Space of max, min and random:SEED.")] = None,
    supernet: SupernetOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="List every layer.")] = False,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the costs of a subnet, what is predicted for it, and how it is built."""
    with _service(server) as service:
        found = service.describe(arch, space, supernet) if service else _described(arch, space, supernet)
    _show(as_json, found, lambda: display.subnet_view(found, layers=layers))


@app.command()
def search(
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective", "-o", help="What to optimise, 2 to 4 times: accuracy, latency_ms, macs, …"
        ),
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            "--constraint", "-c", help="A bound such as 'latency_ms<=30' or 'mb3.kernel==3'; repeat."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device that latency_ms and energy_mj mean.")] = None,
    metric: Annotated[str, typer.Option(help="Metric that accuracy means: cc, nss, sim, auc, kld.")] = "cc",
    seed: Annotated[int, typer.Option(help="Same seed, same front.")] = 0,
    evaluations: Annotated[int | None, typer.Option(help="Stop after so many subnets.")] = None,
    generations: Annotated[int | None, typer.Option(help="Stop after so many generations.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so many seconds.")] = None,
    engine: Annotated[str, typer.Option(help="nsga2, or an algorithm of pymoo by name.")] = "nsga2",
    islands: Annotated[
        int | None,
        typer.Option(
            help="Search on so many islands, in processes of their own (Ray; RAY_ADDRESS joins some)."
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Measure what is found, correct the predictors, search on.")
    ] = False,
    measurements: Annotated[int, typer.Option(min=1, help="With --verify: most subnets to measure.")] = 64,
    data: Annotated[
        str, typer.Option(help="With --verify: data set whose training photos are scored.")
    ] = "osie",
    photos: Annotated[int, typer.Option(min=1, help="With --verify: photos, the last of that split.")] = 80,
    out: Annotated[Path | None, typer.Option(help="Folder for the front and the record.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the search in --out.")] = False,
    supernet: SupernetOption = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the Pareto front under constraints; without a limit, until it stops growing."""
    from service.workbench import DEFAULT_OBJECTIVES, FRONT_TABLE, SearchRequest, Verification
    from supernet.files import write_atomic

    if resume and out is None:
        raise SettingsError(
            "There is nothing to resume.", field="resume", remedy="Name the folder with --out."
        )
    with _service(server) as service:
        if service is not None:
            _only_here(
                engine=(engine, "nsga2"),
                generations=(generations, None),
                data=(data, "osie"),
                photos=(photos, 80),
            )
            wanted = {
                "objectives": objective,
                "constraints": constraint,
                "device": device,
                "accuracy_metric": metric,
                "seed": seed,
                "evaluations": evaluations,
                "seconds": seconds,
                "islands": islands,
                "verify": measurements if verify else None,
                "supernet": supernet,
            }
            asked = {name: value for name, value in wanted.items() if value is not None}
            with shown_progress("measuring" if verify else "searching", evaluations) as advance:
                found = service.search(asked, advance, out=out, resume=resume)
            _show_search(as_json, found, out)
            return
    bench = _workbench(supernet)
    request = SearchRequest(
        objectives=tuple(objective or DEFAULT_OBJECTIVES),
        constraints=tuple(constraint or ()),
        device=device or _settings().device,
        metric=metric,
        seed=seed,
        evaluations=evaluations,
        generations=generations,
        seconds=seconds,
        engine=engine,
    )
    what = ("measuring", None) if verify else ("searching", request.stop().evaluations)
    with _islands(bench, islands) as where, shown_progress(*what) as advance:
        if verify:
            result: SearchResult = bench.verify(
                request,
                Verification(measurements, data, photos),
                on_measured=advance,
                directory=out,
                resume=resume,
                **where,
            )
        else:
            result = bench.search(
                request,
                on_generation=lambda g: advance(g.evaluations),
                directory=out,
                resume=resume,
                **where,
            )
    if out is not None:
        write_atomic(out / FRONT_TABLE, bench.front(result, request).table.to_csv(index=False))
    _show_search(as_json, bench.front_json(result, request), out)


@app.command()
def rerun(
    record: Annotated[
        Path, typer.Argument(metavar="RECORD", help="Folder that `salnas search --out` wrote.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for a record of its own.")] = None,
    supernet: SupernetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a recorded search again and tell whether its front is identical; what was measured is not repeated."""
    bench = _workbench(supernet)
    again, request = bench.run_again(record, out=out)
    found = bench.front_json(again.result, request) | {
        "record": str(record),
        "identical": again.identical,
        "differences": {name: list(pair) for name, pair in again.differences.items()},
    }
    _show(as_json, found, lambda: Group(display.search_summary(found), display.again_view(found)))


@front_app.command("show")
def front_show(
    front: Annotated[
        Path,
        typer.Argument(
            metavar="FRONT", help="Folder of a search, or CSV or Parquet; with --server, id of a search."
        ),
    ],
    within: Annotated[
        list[str] | None, typer.Option(help="Keep subnets inside a bound such as 'macs<=1e9'; repeat.")
    ] = None,
    best: Annotated[int | None, typer.Option(min=1, help="Keep the best by the first objective.")] = None,
    objective: FrontObjectives = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a front with its knee and hypervolume, or the part of it inside a budget."""
    found = _stored_front(front, within, best, None, objective, server)
    _show(as_json, found, lambda: Group(display.front_view(found), display.front_facts(found)))


@front_app.command("query")
def front_query(
    front: Annotated[
        Path,
        typer.Argument(
            metavar="FRONT", help="Folder of a search, or CSV or Parquet; with --server, id of a search."
        ),
    ],
    constraint: Annotated[
        list[str] | None,
        typer.Option("--constraint", "-c", help="A bound such as 'latency_ms<=30' or 'stem.width==16'."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Subnets to return, best first.")] = 1,
    by: Annotated[str | None, typer.Option(help="What best means; the first objective.")] = None,
    objective: FrontObjectives = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a budget from a stored front: the best subnets inside it, without a search."""
    found = _stored_front(front, constraint, k, by, objective, server)
    _show(as_json, found, lambda: display.front_view(found))


@front_app.command("plot")
def front_plot(
    fronts: Annotated[
        list[Path],
        typer.Argument(
            metavar="FRONT...", help="Folders of searches, or CSV or Parquet; with --server, ids of searches."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="PNG, SVG or PDF for a talk; HTML to explore.")],
    title: Annotated[
        str | None, typer.Option(help="Heading. [default: the device of a single front]")
    ] = None,
    budget: Annotated[float | None, typer.Option(help="Limit on the second objective, in its unit.")] = None,
    attainment: Annotated[
        bool, typer.Option("--attainment", help="What some, half and all of the runs attain.")
    ] = False,
    models: Annotated[
        bool, typer.Option(help="FastSal and CSNet beside the front, where they were measured.")
    ] = True,
    objective: FrontObjectives = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw one front, several in one picture, or what several runs of one search attain."""
    from search.plot import plot_attainment, plot_fronts
    from search.references import place_references, within_reach

    named, request, known = _named_fronts(fronts, objective, server, models=models and not attainment)
    title = title or _plot_title(named, request)
    placed: dict[str, tuple[float, float]] = {}
    shown: dict[str, tuple[float, float]] = {}
    if attainment:
        plot_attainment(list(named.values()), out, title=title, budget=budget)
    else:
        placed = place_references(known, next(iter(named.values())).objectives, request)
        shown = within_reach(placed, named.values())
        plot_fronts(named, out, title=title, budget=budget, references=shown)
    outside = [title for title in placed if title not in shown]
    found = {
        "path": str(out),
        "fronts": list(named),
        "models": list(shown),
        "models_outside": outside,
        "size_bytes": out.stat().st_size,
    }
    left_out = f"; too far to the right for it: {', '.join(outside)}" if outside else ""
    _show(as_json, found, lambda: Text(f"Drawn in {out}{left_out}"))


@front_app.command("compare")
def front_compare(
    fronts: Annotated[
        list[Path],
        typer.Argument(
            metavar="FRONT...", help="Folders of searches, or CSV or Parquet; with --server, ids of searches."
        ),
    ],
    objective: FrontObjectives = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare fronts in one box: hypervolume, share of the joint front, knees, what runs attain together."""
    from search.front import MOST_ATTAINED, attained_volumes, compare

    named, _, _ = _named_fronts(fronts, objective, server)
    objectives = next(iter(named.values())).objectives
    attained = attained_volumes(list(named.values())) if len(objectives) <= MOST_ATTAINED else None
    found = {
        "objectives": [f"{o.direction}:{o.name}" for o in objectives],
        "fronts": compare(named).to_dict("records"),
        "attainment": [] if attained is None else attained.to_dict("records"),
    }
    _show(as_json, found, lambda: display.comparison_view(found))


def _plot_title(named: Mapping[str, Front], request: Mapping[str, Any]) -> str | None:
    """On which device the latencies of a single front are, where it has any."""
    device = request.get("device")
    (front, *others) = named.values()
    times = any(objective.name == "latency_ms" for objective in front.objectives)
    return f"Pareto front, latency on {device}" if device and times and not others else None


def _named_fronts(
    fronts: Sequence[Path], objectives: list[str] | None, server: str | None, *, models: bool = False
) -> tuple[dict[str, Front], Mapping[str, Any], list[ReferencePoint]]:
    """Fronts by name, of folders and files here or of searches of a service; what the first search was asked for;
    with `models` the measured reference models."""
    with _service(server) as service:
        if service is not None:
            named, asked = service.fronts([str(front) for front in fronts], objectives or ())
            return named, asked, service.reference_points() if models else []
    from search.stored import open_fronts
    from supernet.baselines.measured import reference_points

    saved = open_fronts(fronts, objectives or ())
    request = next(iter(saved.values())).request
    known = reference_points(_settings().results) if models else []
    return {name: one.front for name, one in saved.items()}, request, known


def _stored_front(
    front: Path,
    constraints: list[str] | None,
    best: int | None,
    by: str | None,
    objectives: list[str] | None,
    server: str | None,
) -> dict[str, Any]:
    """The front of a folder or file here, or that of a search of a service, as plain data."""
    with _service(server) as service:
        if service is not None:
            _only_here(by=(by, None), objective=(objectives, None))
            return service.front(str(front), tuple(constraints or ()), best)
    from search.stored import open_front
    from service.workbench import stored_front

    return stored_front(open_front(front, objectives or ()), tuple(constraints or ()), best, by)


@app.command()
def export(
    out: Annotated[
        Path, typer.Option("--out", help="File to write: .onnx, .pt2 for torch, .zip for the others.")
    ],
    precision: Annotated[str, typer.Option(help="fp32, fp16, or int8 (needs --photos).")] = "fp32",
    form: Annotated[
        str, typer.Option("--format", help="onnx, torch (torch.export), openvino or coreml.")
    ] = "onnx",
    arch: Annotated[
        str, typer.Argument(metavar="ARCH", help="max, min, random:SEED, an id, or the path of a JSON file.")
    ] = "",
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photos that int8 is calibrated and the file checked on.")
    ] = None,
    model: ModelOption = None,
    supernet: SupernetOption = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a subnet, or a reference model, as ONNX, checked against torch; a subnet in other formats too."""
    if bool(arch) == bool(model):
        raise SettingsError(
            "Name a subnet or a model to export, one of them.",
            field="arch",
            remedy="Such as max, or --model fastsal-a.",
        )
    target = _file_to_write(out, (suffix_of(form),))
    if model:
        _refuse_server(server, "Reference models are exported")
        found = _exported_model(model, target, precision, form)
    else:
        with _service(server) as service:
            if service is not None:
                _only_here(photos=(photos, None))
                found = service.export(arch, target, precision, supernet, form)
            else:
                found = _exported(arch, target, precision, photos, supernet, form)

    def view() -> RenderableType:
        error = found["parity_error"]
        facts = [
            ("file", str(found["path"])),
            ("size", display.size(found["size_bytes"])),
            ("parity", "not measured" if error is None else f"{error:.1e} largest difference to torch"),
            ("precision", found["precision"] + (f", opset {found['opset']}" if found["opset"] else "")),
            *([("accuracy", display.loss(found["accuracy_loss"]))] if found.get("accuracy_loss") else []),
            ("sha256", found["sha256"]),
            ("time", display.duration(found["seconds"])),
        ]
        return display.facts_view(found["subnet"], "exported", facts)

    _show(as_json, found, view)


@app.command()
def predict(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Photos, folders of photos, or one film.")
    ],
    out: Annotated[
        Path,
        typer.Option(help="Overlay to write (.png or .jpg; the raw map goes beside it as .npy) or a folder."),
    ],
    arch: ArchOption = "max",
    raw: Annotated[
        Path | None, typer.Option(help="Raw map of one photo: .npy, float32 in [0, 1], or .png, 16-bit grey.")
    ] = None,
    model: ModelOption = None,
    supernet: SupernetOption = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict where people look in photos: an overlay to look at and the raw map for each; or in a film.

    With --model csnet-x2 it is the salient object, and its mask is written too.
    """
    from service.models import finds_objects
    from service.pictures import expand_folders, plan_outputs, write_mask, write_prediction
    from supernet.images import load_image
    from supernet.video import is_film

    if not model and any(is_film(image) for image in images):
        _predict_film(images, out, arch, supernet, server, as_json)
        return
    if model:
        _refuse_server(server, "Reference models predict")
    images = expand_folders(images)
    plan = plan_outputs(images, out, raw)
    predictor = _model_predictor(model) if model else _predictor(server, arch, supernet)
    with predictor as (identity, found_in, predict_one):
        photos = [load_image(image) for image in images] if len(images) <= 16 else None
        found: dict[str, Any] = {"subnet": identity, "supernet": found_in, "predictions": []}
        for number, target in _each(plan, "predicting"):
            photo = photos[number] if photos else load_image(target.image)
            started = time.perf_counter()
            saliency = predict_one(photo, target.image)
            seconds = time.perf_counter() - started
            write_prediction(target, photo, saliency)
            mask = {"mask": str(write_mask(target, saliency))} if model and finds_objects(model) else {}
            found["predictions"].append(target.to_json(saliency) | mask | {"seconds": seconds})

    _show(as_json, found, lambda: display.predictions_view(found))


def _predict_film(
    films: list[Path], out: Path, arch: str, supernet: str | None, server: str | None, as_json: bool
) -> None:
    from supernet.video import predict_film

    _refuse_server(server, "A film is predicted")
    if len(films) > 1:
        raise SettingsError(
            "A film is predicted alone.",
            field="image",
            value=[str(film) for film in films],
            remedy="Pass one film.",
        )
    target = out if out.suffix else out / f"{films[0].stem}.mp4"
    bench = _workbench(supernet)
    chosen = bench.arch(arch, files=True)
    with shown_progress("predicting") as advance:
        report = predict_film(lambda frame: bench.predict(chosen, frame), films[0], target, progress=advance)
    identity = {"subnet": bench.space.id_of(chosen), "supernet": bench.id}
    found = identity | {"film": str(report.path), "frames": report.frames, "fps": report.fps}
    found |= {"size": list(report.size), "peaks": [list(peak) for peak in report.peaks]}
    found |= {"announced": report.announced, "cut_off": report.is_cut_off}
    facts = [("film", str(report.path)), ("frames", f"{report.frames} at {report.fps:g} a second")]
    if report.is_cut_off:
        facts.append(("cut off", f"{films[0].name} says that it has about {report.announced} frames"))
    _show(as_json, found, lambda: display.facts_view(identity["subnet"], "predicted", facts))


@app.command()
def evaluate(
    data: Annotated[str, typer.Option(help="Data set by name (osie, mit1003, …) or the folder of one.")],
    arch: ArchOption = "max",
    split: Annotated[str, typer.Option(help="train, val or all.")] = "val",
    limit: Annotated[int | None, typer.Option(help="Only the first so many photos.")] = None,
    per_photo: Annotated[Path | None, typer.Option(help="Write the scores of each photo as CSV.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML page with the worst and the best photos.")
    ] = None,
    model: ModelOption = None,
    supernet: SupernetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score a subnet on photos with recorded fixations or saliency maps; a --model also on object masks."""
    from supernet.files import write_atomic

    if model:
        found = _evaluated_model(model, data, split, limit)
        _show(as_json, found, lambda: display.scores_view(found))
        return
    bench = _workbench(supernet)
    chosen = bench.arch(arch, files=True)
    started = time.perf_counter()
    with shown_progress("evaluating", limit) as advance:
        evaluation = bench.evaluate(chosen, data, split=split, limit=limit, progress=advance)
    scores = evaluation.scores.to_json()
    photos = scores.pop("n")
    if per_photo is not None:
        write_atomic(per_photo, evaluation.to_csv())
    if report is not None:
        from supernet.data.registry import open_dataset
        from supernet.report import write_report

        write_report(
            _file_to_write(report, (".html",)),
            evaluation,
            open_dataset(data, split=split),
            lambda image: bench.predict(chosen, image),
            subnet=bench.space.id_of(chosen),
            supernet=bench.id,
        )
    found = {
        "subnet": bench.space.id_of(chosen),
        "supernet": bench.id,
        "data": evaluation.dataset,
        "split": evaluation.split,
        "photos": photos,
        "scores": scores,
        "seconds": time.perf_counter() - started,
    }
    _show(as_json, found, lambda: display.scores_view(found))


@app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def train(context: typer.Context, as_json: JsonOption = False) -> None:
    """Train a supernet; run the same command again to continue. `salnas train --help` lists its options."""
    from supernet.__main__ import app as training

    # One definition of the options: those of `python -m supernet train`.
    command = typer.main.get_command(training)
    printed = io.StringIO()
    try:
        with (
            redirect_stdout(printed if as_json else sys.stdout),
            command.make_context("salnas", ["train", *context.args]) as inner,
        ):
            command.invoke(inner)
    except typer.Exit as ended:
        if as_json and isinstance(ended.__cause__, SalnasError):
            _print_json(_error_json(ended.__cause__))
        raise
    if as_json:
        _print_json({"checkpoint": printed.getvalue().strip()})


@data_app.command("check")
def data_check(
    data: Annotated[str, typer.Argument(metavar="DIR", help="Folder of a data set, or its name.")],
    as_json: JsonOption = False,
    most: Annotated[int, typer.Option(min=1, help="Show so many problems.")] = 20,
) -> None:
    """Read every file of a data set; say what it holds and which files are wrong. Exit code 1 if any is."""
    from supernet.data.check import check_dataset

    with shown_progress("reading") as advance:
        report = check_dataset(data, progress=advance)
    _show(as_json, report.to_json(), lambda: Text("\n".join(report.lines(most))))
    if not report.is_sound:
        raise typer.Exit(1)


@app.command()
def collect(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help="accuracy, latency, fit (to the tables there are), or all.")
    ] = "all",
    supernet: SupernetOption = None,
    data: Annotated[str, typer.Option(help="Data set whose training photos are scored.")] = "osie",
    photos: Annotated[int, typer.Option(min=1, help="Photos, the last of the training split.")] = 80,
    subnets: Annotated[int, typer.Option(min=2, help="Subnets to evaluate.")] = 300,
    timed: Annotated[int, typer.Option(min=2, help="Subnets to time on each device.")] = 200,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Threads of a device; repeat. Default 1 and 2.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=3, help="Inferences of each timed subnet.")] = 15,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the subnets that are drawn.")] = 0,
    runtime: Annotated[
        str,
        typer.Option(
            help="Runtime to time: onnxruntime, onnxruntime-int8, onnxruntime-cuda, openvino or torch."
        ),
    ] = "onnxruntime",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Measure on so many workers (Ray; RAY_ADDRESS joins a cluster)."),
    ] = None,
    device: Annotated[str, typer.Option(help="Where accuracy is evaluated: cpu or cuda.")] = "cpu",
    machine: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="What to call this machine: devices NAME-1-thread and so on. Default: cpu."
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Measure subnets and fit the predictors; the same command again continues where it stopped."""
    steps = ("accuracy", "latency", "fit")
    if what not in (*steps, "all"):
        raise SettingsError(
            f"{what!r} cannot be collected.",
            field="what",
            value=what,
            remedy="Say accuracy, latency, fit or all.",
        )
    bench = _workbench(supernet)
    from predictors.fit import Job, fit_all, measure_accuracy, measure_latency, timed_devices

    job, counts = Job(bench.file.path, bench.results, seed), threads or [1, 2]
    devices = list(timed_devices(counts, runtime, machine))
    with redirect_stdout(sys.stderr if as_json else sys.stdout), _workers(workers, devices) as executor:
        if what in ("accuracy", "all"):
            measure_accuracy(job, subnets=subnets, photos=photos, data=data, device=device, executor=executor)
        if what in ("latency", "all"):
            measure_latency(
                job,
                subnets=timed,
                threads=counts,
                rounds=rounds,
                runtime_name=runtime,
                machine=machine,
                executor=executor,
            )
        if what in ("fit", "all"):
            fit_all(job)
    if as_json:
        _print_json({"supernet": bench.id, "quality": bench.estimates.quality()})


@device_app.command("list")
def device_list(
    supernet: SupernetOption = None, server: ServerOption = None, as_json: JsonOption = False
) -> None:
    """Show the devices there are and how well their latency is predicted."""
    with _service(server) as service:
        if service is not None:
            found = service.devices(supernet)
        else:
            bench = _workbench(supernet)
            found = {"supernet": bench.id, "devices": bench.devices()}
    _show(as_json, found, lambda: display.devices_view(found))


@device_app.command("pack")
def device_pack(
    out: Annotated[Path, typer.Argument(metavar="ZIP", help="Zip to write.")],
    models: Annotated[
        int, typer.Option(min=10, max=100, help="10 rank subnets, 30 predict within 10 %.")
    ] = 30,
    supernet: SupernetOption = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the pack that measures a device with nothing but Python, numpy and onnxruntime."""
    target = _file_to_write(out, (".zip",))
    with _service(server) as service:
        if service is not None:
            service.pack(target, models, supernet)
        else:
            from predictors.pack import pack_rows, write_pack
            from predictors.runtimes import exporter

            bench = _workbench(supernet)
            write_pack(bench.space, pack_rows(bench.space, models), exporter(bench.supernet), target)
    found = {"file": str(target), "models": models, "bytes": target.stat().st_size}
    lines = f"{target}\nOn the device: unpack it, pip install numpy onnxruntime, python measure.py --help"
    _show(as_json, found, lambda: Text(lines))


@device_app.command("add")
def device_add(
    name: Annotated[str, typer.Argument(help="What the device is called from now on.")],
    csv: Annotated[
        Path,
        typer.Argument(metavar="CSV", help="Columns id, latency_ms, perhaps energy_mj: the pack's table."),
    ],
    runtime: Annotated[str, typer.Option(help="Runtime it was measured with.")] = "",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads it was measured with.")] = None,
    description: Annotated[str, typer.Option(help="What else to remember.")] = "",
    unit: Annotated[str | None, typer.Option(help="ms, s, us or ns, where the heading is wrong.")] = None,
    replace_it: Annotated[bool, typer.Option("--replace", help="Replace a device of that name.")] = False,
    supernet: SupernetOption = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn the latency of a device, and its energy, from measurements of 10 subnets or more."""
    about: dict[str, Any] = {"runtime": runtime, "threads": threads, "description": description, "unit": unit}
    with _service(server) as service:
        if service is not None:
            found = service.add_device(name, csv, replace_it=replace_it, supernet=supernet, **about)
        else:
            found = _added_device(name, csv, replace_it=replace_it, supernet=supernet, **about)
    quality = found["quality"]
    facts = [
        ("measured", f"{quality['n']:.0f} subnets"),
        ("Spearman's ρ", f"{quality['spearman']:.3f} (held out)"),
        ("Kendall's τ", f"{quality['kendall']:.3f} (held out)"),
        ("within 10 %", f"{quality['within_10']:.0%}"),
        ("energy within 10 %", _share(found["energy_quality"])),
        *([("learnt from", str(found["start"]))] if "start" in found else []),
        *(("note", note) for note in found["notes"]),
    ]
    _show(as_json, found, lambda: display.facts_view(name, "added", facts))


@device_app.command("remove")
def device_remove(
    name: Annotated[str, typer.Argument(help="A device that was added.")],
    supernet: SupernetOption = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a device that was added, and its measurements."""
    with _service(server) as service:
        if service is not None:
            service.client.remove_device(name)
        else:
            from predictors.devices import remove_device

            bench = _workbench(supernet)
            remove_device(bench.results / "predictors" / bench.id, name, bench.space)
    _show(as_json, {"removed": name}, lambda: Text(f"{name} is forgotten"))


def _added_device(
    name: str,
    csv: Path,
    *,
    runtime: str,
    threads: int | None,
    description: str,
    unit: str | None,
    replace_it: bool,
    supernet: str | None,
) -> dict[str, Any]:
    import numpy as np

    from predictors.device_csv import read_measurements
    from predictors.devices import Registration, list_devices, make_device, predictor_path, save_device

    bench = _workbench(supernet)
    folder = bench.results / "predictors" / bench.id
    if predictor_path(folder, name).exists() and not replace_it:
        raise SettingsError(
            f"There is a device {name!r} already.",
            field="name",
            value=name,
            remedy="Choose another name, or say --replace.",
        )
    measured = read_measurements(csv, bench.space, unit=unit)
    known = list_devices(folder, bench.space)
    registration = Registration(name, runtime, threads, description)
    device = make_device(bench.space, registration, measured, known, np.random.default_rng(0))
    save_device(folder, device, measured)
    return {
        "name": name,
        "start": device.predictor.provenance["start"],
        "notes": device.details["notes"],
        "quality": device.predictor.quality.to_json(),
        "energy_quality": None if device.energy is None else device.energy.quality.to_json(),
    }


def _share(quality: Mapping[str, Any] | None) -> str:
    return "not measured" if quality is None else f"{quality['within_10']:.0%}"


@predictor_app.command("report")
def predictor_report(
    out: Annotated[
        Path | None, typer.Option(help="Folder for predictors.md and its plots; default results/benchmarks.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds and repeats.")] = 0,
    supernet: SupernetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tables and plots of what the predictors say of subnets that they have not seen."""
    from predictors.fit import Job, write_report

    bench = _workbench(supernet)
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        path = write_report(
            Job(bench.file.path, bench.results, seed), out or bench.results / "benchmarks", _progress_line
        )
    figures = json.loads(path.with_suffix(".json").read_text())
    found = {"supernet": bench.id, "file": str(path), **figures}
    _show(as_json, found, lambda: Text(f"Wrote {path}"))


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; any but loopback demands API keys.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Start the HTTP service with its page; Ctrl-C ends it."""
    found = _settings()
    settings = replace(found, host=host or found.host, port=found.port if port is None else port)
    _check_free(settings.host, settings.port)
    url = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{settings.port}"
    from service.main import serve as run_service

    if as_json:
        _print_json({"url": url})
    else:
        Console(stderr=True, highlight=False).print(f"SalNAS at {url}, its API at {url}/docs; Ctrl-C ends it")
    run_service(settings)


@keys_app.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for.")],
    scope: Annotated[str, typer.Option(help="read, submit (and read), or admin (and all).")] = "submit",
    as_json: JsonOption = False,
) -> None:
    """Make a key and show it, this once."""
    from service.keys import new_key, parse_scope

    key, text = new_key(name, parse_scope(scope), time.time())
    with _key_store() as store:
        store.add_key(key)
    found = {"id": key.id, "name": key.name, "scope": key.scope.value, "key": text}
    _show(as_json, found, lambda: Text(text, no_wrap=True, overflow="ignore"))


@keys_app.command("list")
def keys_list(as_json: JsonOption = False) -> None:
    """Show the keys there are, without their secrets."""
    with _key_store() as store:
        keys = [{n: v for n, v in asdict(key).items() if n != "digest"} for key in store.api_keys()]
    _show(as_json, {"keys": keys}, lambda: display.keys_view(keys))


@keys_app.command("revoke")
def keys_revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the key, as `salnas keys list` shows it.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Take a key out of force, at once."""
    from service.errors import NotFound

    with _key_store() as store:
        key = store.key(key_id)
        if key is None:
            raise NotFound(
                f"There is no key {key_id[:80]!r}.",
                field="id",
                value=key_id[:80],
                remedy="See `salnas keys list`.",
            )
        store.replace_key(key.revoke(time.time()))
    _show(as_json, {"id": key_id, "revoked": True}, lambda: Text(f"{key_id} opens nothing any more."))


@contextmanager
def _key_store() -> Iterator[KeyStore]:
    from service.processes import database_url
    from service.store.sql import open_store

    store = open_store(database_url(_settings()))
    try:
        yield store
    finally:
        store.close()


def _check_free(host: str, port: int) -> None:
    """SettingsError where nothing can listen there."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise SettingsError(
            f"Nothing can listen on {host}:{port}: {error.strerror or error}.",
            field="port",
            value=port,
            remedy="Choose another one with --port.",
        ) from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(words))


def run(words: Sequence[str]) -> int:
    """Run one command; returns its exit code: 0, 2 for bad input, 130 where it was interrupted."""
    as_json = "--json" in words
    try:
        code = typer.main.get_command(app).main(list(words), prog_name="salnas", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SalnasError as error:
        return _fail(as_json, error)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "salnas"
        if getattr(error, "option_name", None) == "--server":
            return _fail(as_json, UsageMistake(f"`{path}` works on this machine only.", **_WITHOUT_SERVER))
        return _fail(as_json, UsageMistake(error.format_message(), remedy=f"See `{path} --help`."))
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except OSError as error:
        return _fail(as_json, _file_mistake(error))


class UsageMistake(SalnasError):
    """Words that are no command line."""

    kind = "usage"


class FileMistake(SalnasError):
    """A file that cannot be read or written."""

    kind = "file"


def _file_mistake(error: OSError) -> FileMistake:
    return FileMistake(
        f"{error.strerror or error}.",
        field="path",
        value=error.filename,
        remedy="Check that the path exists and may be written, and that the disk has room.",
    )


def _fail(as_json: bool, error: SalnasError) -> int:
    """Tell an error to a person, and with --json to a program too."""
    if as_json:
        _print_json(_error_json(error))
    text = Text.assemble(("Error: ", "bold red"), error.message)
    if error.field is not None:
        value = ", ".join(map(str, error.value)) if isinstance(error.value, (list, tuple)) else error.value
        text.append(f"\n  {error.field}" + ("" if value is None else f" = {value}"))
    if error.remedy is not None:
        text.append(f"\n  {error.remedy}")
    Console(stderr=True, highlight=False, soft_wrap=True).print(text)
    return BAD_INPUT


def _error_json(error: SalnasError) -> dict[str, Any]:
    names = ("message", "field", "value", "remedy")
    return {"error": {"type": error.kind, **{name: getattr(error, name) for name in names}}}


def _settings() -> Settings:
    return Settings.from_environment()


def _workbench(supernet: str | None) -> Workbench:
    """The supernet that was named, or the one of the settings."""
    from service.workbench import Workbench

    settings = _settings()
    name = supernet or settings.supernet
    is_file = name.endswith(".safetensors") or "/" in name
    return Workbench.open(settings.results, Path(name) if is_file else name, cached_nets=settings.cached_nets)


@contextmanager
def _service(server: str | None) -> Iterator[Remote | None]:
    """The service to ask, None where commands do their work here."""
    settings = _settings()
    address = server or settings.server
    if not address:
        yield None
        return
    from service.client import Client
    from service.remote import Remote

    with Client(address, settings.api_key or None) as client:
        yield Remote(client)


_WITHOUT_SERVER = {"field": "server", "remedy": "Leave --server out."}


def _refuse_server(server: str | None, what: str) -> None:
    """Refuse a --server that cannot help; one in the environment is not meant for this."""
    if server is not None:
        raise SettingsError(f"{what} on this machine only.", value=server, **_WITHOUT_SERVER)


def _only_here(**options: tuple[object, object]) -> None:
    """Refuse options (value, default) that a service does not take."""
    for name, (value, default) in options.items():
        if value != default:
            raise SettingsError(
                f"--{name} does not go with --server.",
                field=name,
                value=str(value),
                remedy="Leave it out, or leave --server and SALNAS_SERVER out.",
            )


def _space(name: str) -> dict[str, Any]:
    from service.workbench import describe_space
    from supernet.space import get_space

    return describe_space(get_space(name))


def _described(arch: str, space: str | None, supernet: str | None) -> dict[str, Any]:
    from service.workbench import describe_subnet, parse_arch

    estimates = _estimates(arch, space, supernet)
    return describe_subnet(estimates, parse_arch(estimates.space, arch, files=True))


def _exported(
    arch: str, out: Path, precision: str, photos: Path | None, supernet: str | None, form: str
) -> dict[str, Any]:
    from service.losses import accuracy_loss
    from service.pictures import load_folder

    check_precision(form, precision)
    if precision == "int8" and photos is None:
        raise SettingsError(
            "An int8 model is calibrated on photos.",
            field="photos",
            remedy="Name a folder of them with --photos.",
        )
    bench = _workbench(supernet)
    chosen = bench.arch(arch, files=True)
    report = bench.export(chosen, out, precision, load_folder(photos) if photos else (), form)
    found = {"subnet": bench.space.id_of(chosen), "supernet": bench.id, **_plain(asdict(report))}
    return found | ({"accuracy_loss": accuracy_loss(bench.net(chosen), out)} if precision == "int8" else {})


def _exported_model(model: str, out: Path, precision: str, form: str) -> dict[str, Any]:
    from service.models import export_model

    for name, value, only in (("format", form, "onnx"), ("precision", precision, "fp32")):
        if value != only:
            raise SettingsError(
                f"Reference models are exported in {only}.", field=name, value=value, remedy="Leave it out."
            )
    report = export_model(model, _settings().results, out)
    return {"subnet": model, "supernet": None, **_plain(report)}


@contextmanager
def _predictor(
    server: str | None, arch: str, supernet: str | None
) -> Iterator[tuple[str, str, Callable[[Image.Image, Path], NDArray[np.float32]]]]:
    """Id of the subnet and its supernet, and what maps a photo (also given by its path), here or at a service."""
    with _service(server) as service:
        if service is not None:
            subnet = service.subnet_id(arch, supernet)
            yield (
                subnet,
                service.supernet_id(supernet),
                lambda photo, path: service.predict(photo, path, subnet, supernet),
            )
            return
        bench = _workbench(supernet)
        chosen = bench.arch(arch, files=True)
        bench.net(chosen)
        yield bench.space.id_of(chosen), bench.id, lambda photo, path: bench.predict(chosen, photo)


def _evaluated_model(model: str, data: str, split: str, limit: int | None) -> dict[str, Any]:
    from service.models import evaluate_model, open_model

    started = time.perf_counter()
    net = open_model(model, _settings().results)
    with shown_progress("evaluating", limit) as advance:
        scored = evaluate_model(net, data, split=split, limit=limit, progress=advance)
    return {"subnet": model, "supernet": None, **scored, "seconds": time.perf_counter() - started}


@contextmanager
def _model_predictor(
    model: str,
) -> Iterator[tuple[str, str, Callable[[Image.Image, Path], NDArray[np.float32]]]]:
    from service.models import finds_objects, open_model, predict_with

    predict_one = predict_with(open_model(model, _settings().results), objects=finds_objects(model))
    yield model, "", lambda photo, path: predict_one(photo)


def _each(items: Sequence[T], what: str) -> Iterator[tuple[int, T]]:
    """The items with their places, and a bar that follows."""
    with shown_progress(what, len(items)) as advance:
        for number, item in enumerate(items):
            yield number, item
            advance(number + 1)


def _show_search(as_json: bool, front: Mapping[str, Any], out: Path | None) -> None:
    found = {**front, "directory": None if out is None else str(out)}

    def view() -> RenderableType:
        parts = [display.front_view(found), display.search_summary(found)]
        return Group(*parts, f"Saved in {out}") if out else Group(*parts)

    _show(as_json, found, view)


@contextmanager
def _workers(workers: int | None, devices: Sequence[str]) -> Iterator[Executor | None]:
    """What measurements are spread over, where they are to be."""
    if workers is None:
        yield None
        return
    from search.distributed import RayExecutor

    with RayExecutor(workers=workers, devices=devices) as executor:
        yield executor


def _progress_line(text: str) -> None:
    Console(stderr=True, highlight=False).print(text)


@contextmanager
def _islands(bench: Workbench, islands: int | None) -> Iterator[dict[str, Any]]:
    """What a search needs to run on islands, as arguments; none where there are to be none."""
    if islands is None:
        yield {}
        return
    from search.distributed import RayExecutor
    from search.islands import Ring

    ring = Ring(islands)
    with RayExecutor(devices=bench.estimates.devices) as executor:
        yield {"ring": ring, "executor": executor}


def _estimates(arch: str, space: str | None, supernet: str | None) -> Estimates:
    """What is known of the subnets of the space that is meant; costs alone where it has no supernet.

    The space is the one that is named, else that of the named supernet, else that of an id, else that of the
    settings' supernet.
    """
    from service.estimates import Estimates
    from service.supernets import list_supernets
    from service.workbench import Workbench
    from supernet.space import get_space, list_spaces

    settings = _settings()
    if supernet is not None:
        bench = _workbench(supernet)
        if space not in (None, bench.space.name):
            raise SettingsError(
                f"Supernet {bench.id} is of space {bench.space.name}.",
                field="space",
                value=space,
                remedy="Leave --space or --supernet out.",
            )
        return bench.estimates
    wanted = space or next((name for name in list_spaces() if arch.startswith(f"{name}-")), None)
    files = list_supernets(settings.results)
    fitting = [item for item in files if wanted in (None, item.space.name)]
    chosen = [item for item in fitting if item.id == settings.supernet] or (fitting if wanted else [])
    if chosen:
        return Workbench(settings.results, chosen[0]).estimates
    return Estimates(None, get_space(wanted or DEFAULT_SPACE))


def _file_to_write(path: Path, suffixes: tuple[str, ...]) -> Path:
    if path.suffix.lower() not in suffixes or path.is_dir():
        raise SettingsError(
            f"{path} cannot be written.",
            field="out",
            value=str(path),
            remedy=f"Name a file that ends in {' or '.join(suffixes)}.",
        )
    return path


def _show(as_json: bool, found: Mapping[str, Any], view: Callable[[], RenderableType]) -> None:
    if as_json:
        _print_json(found)
    else:
        Console(highlight=False).print(view())


def _print_json(found: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False, default=str, allow_nan=False))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that JSON has: paths as text, nothing for what is no finite number."""
    texts = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    return {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in texts.items()}


register_models(app, _show, _service)
