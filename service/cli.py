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
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.text import Text
from typer.exceptions import TyperException

from service import display
from service.settings import Settings
from supernet.errors import SalnasError, SettingsError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from service.estimates import Estimates
    from service.ports import KeyStore
    from service.workbench import Workbench

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
device_app = typer.Typer(no_args_is_help=True, help="Devices whose latency can be predicted.")
front_app = typer.Typer(no_args_is_help=True, help="Read the front of a finished search.")
keys_app = typer.Typer(no_args_is_help=True, help="API keys of the service.")
app.add_typer(front_app, name="front")
app.add_typer(keys_app, name="keys")
app.add_typer(device_app, name="device")

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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, to standard output.")]


@app.command()
def space(
    name: Annotated[str, typer.Argument(help="Name of a space.")] = DEFAULT_SPACE,
    as_json: JsonOption = False,
) -> None:
    """Show what can be chosen in a search space."""
    from service.workbench import describe_space
    from supernet.space import get_space

    found = describe_space(get_space(name))
    _show(as_json, found, lambda: display.space_view(found))


@app.command()
def describe(
    arch: ArchText,
    space: Annotated[str | None, typer.Option(help="Space of max, min and random:SEED.")] = None,
    supernet: SupernetOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="List every layer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the costs of a subnet, what is predicted for it, and how it is built."""
    from service.workbench import describe_subnet, parse_arch

    estimates = _estimates(arch, space, supernet)
    found = describe_subnet(estimates, parse_arch(estimates.space, arch, files=True))
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
    device: Annotated[str | None, typer.Option(help="Device that latency_ms means.")] = None,
    metric: Annotated[str, typer.Option(help="Metric that accuracy means: cc, nss, sim, auc, kld.")] = "cc",
    seed: Annotated[int, typer.Option(help="Same seed, same front.")] = 0,
    evaluations: Annotated[int | None, typer.Option(help="Stop after so many subnets.")] = None,
    generations: Annotated[int | None, typer.Option(help="Stop after so many generations.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop after so many seconds.")] = None,
    engine: Annotated[str, typer.Option(help="nsga2, or an algorithm of pymoo by name.")] = "nsga2",
    out: Annotated[Path | None, typer.Option(help="Folder for the front and the record.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the search in --out.")] = False,
    supernet: SupernetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the Pareto front under constraints; without a limit, until it stops growing."""
    from service.workbench import DEFAULT_OBJECTIVES, SearchRequest
    from supernet.files import write_atomic

    if resume and out is None:
        raise SettingsError(
            "There is nothing to resume.", field="resume", remedy="Name the folder with --out."
        )
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
    with _progress("searching", request.stop().evaluations) as advance:
        result = bench.search(
            request,
            on_generation=lambda g: advance(g.evaluations, None),
            directory=out,
            resume=resume,
        )
    if out is not None:
        write_atomic(out / "subnets.csv", bench.front(result, request).table.to_csv(index=False))
    found = bench.front_json(result, request) | {"directory": None if out is None else str(out)}

    def view() -> RenderableType:
        parts = [display.front_view(found), display.search_summary(found)]
        return Group(*parts, f"Saved in {out}") if out else Group(*parts)

    _show(as_json, found, view)


@front_app.command("show")
def front_show(
    directory: Annotated[Path, typer.Argument(help="Folder that `salnas search --out` wrote.")],
    within: Annotated[
        list[str] | None, typer.Option(help="Keep subnets inside a bound such as 'macs<=1e9'; repeat.")
    ] = None,
    best: Annotated[int | None, typer.Option(min=1, help="Keep the best by the first objective.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the front of a finished search, or the part of it inside a budget."""
    from search.record import load_record
    from service.workbench import stored_front

    found = stored_front(load_record(directory), tuple(within or ()), best)
    _show(as_json, found, lambda: display.front_view(found))


@app.command()
def export(
    arch: ArchText,
    out: Annotated[Path, typer.Option("--out", help="ONNX file to write.")],
    precision: Annotated[str, typer.Option(help="fp32, fp16, or int8 (needs --photos).")] = "fp32",
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photos that int8 is calibrated and the file checked on.")
    ] = None,
    supernet: SupernetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a subnet as ONNX, checked against torch."""
    from service.pictures import load_folder

    if precision == "int8" and photos is None:
        raise SettingsError(
            "An int8 model is calibrated on photos.",
            field="photos",
            remedy="Name a folder of them with --photos.",
        )
    bench = _workbench(supernet)
    chosen = bench.arch(arch, files=True)
    target = _file_to_write(out, (".onnx",))
    report = bench.export(chosen, target, precision, load_folder(photos) if photos else ())
    found = {"subnet": bench.space.id_of(chosen), "supernet": bench.id, **_plain(asdict(report))}

    def view() -> RenderableType:
        facts = [
            ("file", str(report.path)),
            ("size", display.size(report.size_bytes)),
            ("parity", f"{report.parity_error:.1e} largest difference to torch"),
            ("precision", f"{report.precision}, opset {report.opset}"),
            ("sha256", report.sha256),
            ("time", display.duration(report.seconds)),
        ]
        return display.facts_view(found["subnet"], "exported", facts)

    _show(as_json, found, view)


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photos.")],
    out: Annotated[
        Path,
        typer.Option(help="Overlay to write (.png or .jpg; the raw map goes beside it as .npy) or a folder."),
    ],
    arch: ArchOption = "max",
    raw: Annotated[
        Path | None, typer.Option(help="Raw map of one photo: .npy, float32 in [0, 1], or .png, 16-bit grey.")
    ] = None,
    supernet: SupernetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict where people look in photos: an overlay to look at and the raw map for each."""
    from service.pictures import plan_outputs, write_prediction
    from supernet.images import load_image

    bench = _workbench(supernet)
    chosen = bench.arch(arch, files=True)
    plan = plan_outputs(images, out, raw)
    photos = [load_image(image) for image in images] if len(images) <= 16 else None
    found: dict[str, Any] = {"subnet": bench.space.id_of(chosen), "supernet": bench.id, "predictions": []}
    bench.net(chosen)
    with _progress("predicting", len(images)) as advance:
        for number, target in enumerate(plan):
            photo = photos[number] if photos else load_image(target.image)
            started = time.perf_counter()
            saliency = bench.predict(chosen, photo)
            seconds = time.perf_counter() - started
            write_prediction(target, photo, saliency)
            found["predictions"].append(target.to_json(saliency) | {"seconds": seconds})
            advance(number + 1, None)

    _show(as_json, found, lambda: display.predictions_view(found))


@app.command()
def evaluate(
    data: Annotated[str, typer.Option(help="Data set by name (osie, mit1003, …) or the folder of one.")],
    arch: ArchOption = "max",
    split: Annotated[str, typer.Option(help="train, val or all.")] = "val",
    limit: Annotated[int | None, typer.Option(help="Only the first so many photos.")] = None,
    per_photo: Annotated[Path | None, typer.Option(help="Write the scores of each photo as CSV.")] = None,
    supernet: SupernetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score a subnet on photos with recorded fixations or saliency maps."""
    from supernet.files import write_atomic

    bench = _workbench(supernet)
    chosen = bench.arch(arch, files=True)
    started = time.perf_counter()
    with _progress("evaluating", limit) as advance:
        evaluation = bench.evaluate(chosen, data, split=split, limit=limit, progress=advance)
    scores = evaluation.scores.to_json()
    photos = scores.pop("n")
    if per_photo is not None:
        write_atomic(per_photo, evaluation.to_csv())
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
    from predictors.fit import Job, fit_all, measure_accuracy, measure_latency

    job = Job(bench.file.path, bench.results, seed)
    with redirect_stdout(sys.stderr if as_json else sys.stdout):
        if what in ("accuracy", "all"):
            measure_accuracy(job, subnets=subnets, photos=photos, data=data)
        if what in ("latency", "all"):
            measure_latency(job, subnets=timed, threads=threads or [1, 2], rounds=rounds)
        if what in ("fit", "all"):
            fit_all(job)
    if as_json:
        _print_json({"supernet": bench.id, "quality": bench.estimates.quality()})


@device_app.command("list")
def device_list(supernet: SupernetOption = None, as_json: JsonOption = False) -> None:
    """Show the devices there are and how well their latency is predicted."""
    bench = _workbench(supernet)
    found = {"supernet": bench.id, "devices": bench.devices()}
    _show(as_json, found, lambda: display.devices_view(found))


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


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error, where that is a terminal; called with what is done and, if known, the total."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, known: bar.update(task, completed=done, total=total if known is None else known)
