"""Plain data as tables for people: at most 100 columns wide, units that suit the size of a number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_SHOWN = 20
_MOST_QUANTITIES = 5
_BETTER = {"kld": "lower", "mae": "lower"}
_LABELS = {"auc": "AUC", "max_f": "max F", "mae": "MAE"}
_NO_QUANTITY = ("id", "resolution", "knee")
_HEADINGS = {"latency_ms": "latency", "energy_mj": "energy", "parameters": "params", "memory_bytes": "memory"}


def count(value: float) -> str:
    """12345678 → 12.3 M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{_digits(value / limit)} {unit}"
    return f"{value:g}"


def size(value: float) -> str:
    """Bytes in decimal units: 12345678 → 12.3 MB."""
    return f"{count(value)}B" if value >= 1e3 else f"{value:g} B"


def duration(seconds: float) -> str:
    """0.0123 → 12.3 ms, 3.2 → 3.20 s, 200 → 3 min 20 s."""
    if seconds < 1:
        return f"{_digits(seconds * 1e3)} ms"
    if seconds < 120:
        return f"{_digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def resolution(height_width: Sequence[int]) -> str:
    """[288, 384] → 384×288, width first as people say it."""
    return f"{height_width[1]}×{height_width[0]}"


def big_number(value: int) -> str:
    """Exact below a million, then a power of ten."""
    if value < 1_000_000:
        return f"{value:,}"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa} · 10{_superscript(int(exponent))}"


def space_view(space: Mapping[str, Any]) -> RenderableType:
    """A space: the choices of every property, and its extremes."""
    choices = {item["name"]: item["choices"] for item in space["properties"]}
    free = len(space["genes"])
    stages = list(dict.fromkeys(name.partition(".")[0] for name in choices if name != "resolution"))
    properties = ("width", "depth", "kernel", "expansion")
    table = _table("stage", *properties, justify="left")
    for stage in stages:
        values = (choices.get(f"{stage}.{name}", ()) for name in properties)
        table.add_row(stage, *(" ".join(str(v) for v in found) or "–" for found in values))
    extremes = _table("", "id", "resolution", "parameters", "macs", "memory")
    for name in ("smallest", "largest"):
        found = space[name]
        extremes.add_row(name, found["id"], resolution(found["resolution"]), *_costs(found))
    return Group(
        _title(f"Space {space['name']}", f"{big_number(space['size'])} subnets, {free} genes"),
        Text(f"resolution  {'  '.join(resolution(r) for r in choices['resolution'])}"),
        table,
        extremes,
    )


def subnet_view(subnet: Mapping[str, Any], *, layers: bool = False) -> RenderableType:
    """A subnet: its numbers, predictions with their intervals, and its stages or all its layers."""
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_column(style="dim")
    facts.add_row("resolution", resolution(subnet["resolution"]))
    facts.add_row("parameters", count(subnet["parameters"]))
    facts.add_row("macs", f"{count(subnet['macs'])} for one photo")
    facts.add_row("memory", f"{size(subnet['memory_bytes'])} of activations at the peak")
    for metric, value in subnet["predictions"]["accuracy"].items():
        facts.add_row(_label(metric), _estimate(value, _score))
    for device, value in subnet["predictions"]["latency_ms"].items():
        facts.add_row("latency", f"{_estimate(value, _milliseconds)}  on {device}")
    for device, value in subnet["predictions"].get("energy_mj", {}).items():
        facts.add_row("energy", f"{_estimate(value, _millijoules)}  on {device}")
    for note in subnet["notes"]:
        facts.add_row("note", Text(note, style="yellow"))
    detail = _layers(subnet["layers"]) if layers else _stages(subnet["arch"])
    trained = f"of supernet {subnet['supernet']}" if subnet["supernet"] else "no supernet, so no predictions"
    return Group(_title(subnet["id"], trained), facts, detail)


def front_view(front: Mapping[str, Any], shown: int = _SHOWN) -> RenderableType:
    """A front as one line per subnet; of a long one, `shown` lines evenly spread and the knee."""
    subnets = front["subnets"]
    kept = _spread(subnets, front["knee"], shown)
    quantities = _quantities(front)
    labels = {**_HEADINGS, "accuracy": _label(front["accuracy_metric"])}
    table = _table("  subnet", "input", *(labels.get(name) or _heading(name) for name in quantities))
    for subnet in kept:
        mark = "◆" if subnet["id"] == front["knee"] else " "
        values = (_quantity(name, subnet[name]) for name in quantities)
        table.add_row(f"{mark} {subnet['id']}", resolution(subnet["resolution"]), *values)
    hidden = len(subnets) - len(kept)
    more = f", {hidden} between them not shown" if hidden else ""
    device = front.get("device")
    where = f"; latency on {device}" if device and "latency_ms" in quantities else ""
    legend = Text("◆ knee   * measured, others predicted", style="dim")
    about = f"{len(subnets)} subnet{'s' * (len(subnets) != 1)}{more}{where}"
    return Group(_title("Pareto front", about), table, legend)


def front_facts(front: Mapping[str, Any]) -> Text:
    """Knee and hypervolume of a front, a line each."""
    objectives = [text.partition(":")[2] for text in front["objectives"]]
    knee = next((subnet for subnet in front["subnets"] if subnet["id"] == front["knee"]), None)
    lines = []
    if knee is not None:
        values = ", ".join(
            f"{_front_label(name, front)} {_quantity(name, knee[name])}" for name in objectives
        )
        lines.append(f"knee {knee['id']}: {values}")
    if front.get("hypervolume") is not None:
        lines.append(f"hypervolume of the whole front in the box of its search: {front['hypervolume']:.4f}")
    return Text("\n".join(lines))


def again_view(found: Mapping[str, Any]) -> Text:
    """Whether a search that was run again found the same, and what might be the reason where it did not."""
    number = len(found["subnets"])
    if found["identical"]:
        return Text(f"identical to {found['record']}: {number} subnets, every value the same", style="green")
    lines = [f"not the front of {found['record']}"]
    lines += [f"  {name}: {then} then, {now} now" for name, (then, now) in found["differences"].items()]
    return Text("\n".join(lines), style="red")


def comparison_view(found: Mapping[str, Any]) -> RenderableType:
    """Fronts beside each other, and what they attain together."""
    table = _table("front", "subnets", "hypervolume", "on the joint front", "knee")
    for front in found["fronts"]:
        share = f"{front['share']:.0%}"
        table.add_row(
            front["front"], str(front["subnets"]), f"{front['hypervolume']:.4f}", share, front["knee"] or "–"
        )
    parts: list[RenderableType] = [_title("Fronts", f"over {', '.join(found['objectives'])}"), table]
    if len(found["fronts"]) > 1 and found["attainment"]:
        attained = _table("attained by", "hypervolume")
        for line in found["attainment"]:
            least = "at least one" if line["percentile"] == 0 else f"{line['percentile']:.0f} %"
            attained.add_row(least, f"{line['hypervolume']:.4f}")
        parts.append(attained)
    parts.append(Text("hypervolume: share of that of all of them together, in one box", style="dim"))
    return Group(*parts)


def _front_label(name: str, front: Mapping[str, Any]) -> str:
    return {**_HEADINGS, "accuracy": _label(front["accuracy_metric"])}.get(name) or name


def _quantities(front: Mapping[str, Any]) -> list[str]:
    """The columns of a front: its objectives, then others while there is room."""
    objectives = [text.partition(":")[2] for text in front["objectives"]]
    known = front["subnets"][0] if front["subnets"] else ()
    others = [name for name in known if name not in (*_NO_QUANTITY, *objectives)]
    return [*objectives, *others][: max(_MOST_QUANTITIES, len(objectives))]


def search_summary(front: Mapping[str, Any]) -> Text:
    """How a search went, in one line."""
    reason = _REASONS.get(front["reason"], front["reason"])
    if "measurements" in front:
        failed = f", {front['failures']} of them in vain" if front["failures"] else ""
        return Text(
            f"{front['measurements']} subnets measured{failed} in {duration(front['seconds'])}, "
            f"{front['evaluations']:,} tried by predictions; {reason}"
        )
    rate = count(front["evaluations_per_second"])
    return Text(
        f"{front['evaluations']:,} subnets tried in {duration(front['seconds'])} ({rate}/s); {reason}"
    )


_REASONS = {
    "evaluations": "the limit is reached",
    "generations": "the limit is reached",
    "seconds": "the time is over",
    "stalled_hypervolume": "the front stopped growing",
    "enumerated": "that is all of them",
    "exhausted": "nothing new is left to try",
    "budget": "the limit is reached",
    "stable": "the front is stable",
}


def scores_view(evaluation: Mapping[str, Any]) -> RenderableType:
    """Scores of a subnet on a data set."""
    table = _table("metric", "score", "better")
    for metric, value in evaluation["scores"].items():
        shown = "–" if value is None else f"{value:.4f}"
        table.add_row(_label(metric), shown, _BETTER.get(metric, "higher"))
    about = f"{evaluation['photos']} photos of {evaluation['data']} ({evaluation['split']})"
    return Group(_title(evaluation["subnet"], about), table)


def devices_view(found: Mapping[str, Any]) -> RenderableType:
    """Devices with the quality of their latency predictors."""
    devices = found["devices"]
    names = ["device", "runtime", "threads", "timed", "Kendall\nτ", "within\n10 %"]
    knows_energy = any(device.get("energy_quality") for device in devices)
    table = _table(*names, *(["energy"] if knows_energy else []))
    for device in devices:
        quality = device["quality"]
        energy = ["known" if device.get("energy_quality") else "–"] if knows_energy else []
        table.add_row(
            device["name"],
            device["runtime"],
            str(device["threads"] or "–"),
            str(quality["n"]),
            f"{quality['kendall']:.3f}",
            f"{100 * quality['within_10']:.0f} %",
            *energy,
        )
    about = f"{len(devices)} with predicted latency" if devices else "none yet: `make predictors`"
    return Group(_title("Devices", about), table) if devices else _title("Devices", about)


def loss(found: Mapping[str, Any]) -> str:
    """What int8 costs in accuracy, metric by metric, or why that is not known."""
    if found["reason"] is not None:
        return f"loss not measured: {found['reason']}"
    parts = [
        f"{_label(metric)} {found['fp32'][metric]:.4f} → {found['int8'][metric]:.4f}"
        for metric, lost in found["loss"].items()
        if lost is not None
    ]
    return f"{', '.join(parts)} on {found['photos']} photos of {found['data']}"


def keys_view(keys: Sequence[Mapping[str, Any]]) -> RenderableType:
    """API keys without their secrets."""
    table = _table("id", "name", "scope", "made", "revoked", justify="left")
    for key in keys:
        times = (_day(key[name]) for name in ("created", "revoked"))
        table.add_row(key["id"], key["name"], key["scope"], *times)
    about = f"{len(keys)}" if keys else "none yet: `salnas keys add NAME`"
    return Group(_title("API keys", about), table) if keys else _title("API keys", about)


def predictions_view(found: Mapping[str, Any]) -> RenderableType:
    """Photos with the files that their maps became."""
    table = Table(box=box.SIMPLE, header_style="bold", padding=(0, 1), pad_edge=False)
    for name in ("photo", "overlay", "raw map"):
        table.add_column(name, overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    for prediction in found["predictions"]:
        names = (prediction[key] for key in ("image", "overlay", "map"))
        table.add_row(*names, duration(prediction["seconds"]))
    return Group(_title(found["subnet"], "where people look: bright in the overlay, 1 in the raw map"), table)


def facts_view(title: str, about: str, facts: Iterable[tuple[str, str]]) -> RenderableType:
    """A title and lines of name and value."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    return Group(_title(title, about), table)


def _day(seconds: float | None) -> str:
    return "–" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f}"


def _superscript(number: int) -> str:
    return str(number).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _label(metric: str) -> str:
    return _LABELS.get(metric, metric.upper())


def _title(name: str, about: str) -> Text:
    return Text.assemble((name, "bold cyan"), "  ", (about, "dim"))


def _table(*names: str, justify: Literal["left", "right"] = "right") -> Table:
    """A table whose columns of words are left-aligned, those of numbers as said."""
    table = Table(box=box.SIMPLE, header_style="bold", padding=(0, 1), pad_edge=False)
    words = {
        "",
        "front",
        "knee",
        "attained by",
        "stage",
        "  subnet",
        "id",
        "layer",
        "kind",
        "metric",
        "better",
        "device",
        "runtime",
    }
    for name in names:
        table.add_column(name, justify="left" if name in words else justify, no_wrap=True)
    return table


def _costs(subnet: Mapping[str, Any]) -> tuple[str, str, str]:
    return count(subnet["parameters"]), count(subnet["macs"]), size(subnet["memory_bytes"])


def _heading(name: str) -> str:
    """Of a column: a metric in capitals, the latency or energy of another device by its name."""
    head, _, device = name.partition("@")
    if device:
        return f"energy, {device}" if head == "energy_mj" else device
    return _label(head) if head != "macs" else head


def _quantity(name: str, value: Any) -> str:
    """A cell of a front: the measured value with a star, else the predicted or exact one."""
    if not isinstance(value, Mapping):
        return size(value) if name == "memory_bytes" else count(value)
    show = _SHOWN_AS.get(name.partition("@")[0], _score)
    return show(value["predicted"]) if value["measured"] is None else show(value["measured"]) + "*"


def _estimate(value: Mapping[str, float | None], show: Callable[[float | None], str]) -> str:
    """A prediction with its interval, and the measured value where there is one."""
    measured, predicted, low, high = (value[name] for name in ("measured", "predicted", "low", "high"))
    bounds = "" if low is None or high is None else f" ({show(low)} to {show(high)})"
    text = f"{show(predicted)} predicted{bounds}"
    return text if measured is None else f"{show(measured)} measured, {text}"


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{_digits(value)} ms"


def _millijoules(value: float | None) -> str:
    return "–" if value is None else f"{_digits(value)} mJ"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


_SHOWN_AS = {"latency_ms": _milliseconds, "energy_mj": _millijoules}
"""How the quantities that are no scores are written."""


def _stages(arch: Mapping[str, Any]) -> Table:
    table = _table("stage", "width", "depth", "kernel", "expansion")
    table.add_row("stem", str(arch["stem_width"]), "1", "3", "–")
    for number, stage in enumerate(arch["stages"], start=1):
        names = ("width", "depth", "kernel", "expansion")
        table.add_row(f"mb{number}", *(str(stage[name]) for name in names))
    return table


def _layers(layers: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("layer", "kind", "channels", "kernel", "stride", "output", "macs", "parameters")
    for layer in layers:
        learned = layer["parameters"] > 0
        table.add_row(
            layer["name"],
            layer["kind"],
            f"{layer['c_in']} → {layer['c_out']}",
            str(layer["kernel"]) if learned else "–",
            str(layer["stride"]) if learned else "–",
            f"{layer['width']}×{layer['height']}",
            count(layer["macs"]) if learned else "–",
            count(layer["parameters"]) if learned else "–",
        )
    return table


def _spread(subnets: Sequence[Any], knee: str | None, most: int) -> list[Any]:
    """At most `most` of the subnets in order: the ends, the knee, the others evenly spaced."""
    if len(subnets) <= most:
        return list(subnets)
    last = len(subnets) - 1
    indices = {round(i * last / (most - 2)) for i in range(most - 1)}
    indices |= {i for i, subnet in enumerate(subnets) if subnet["id"] == knee}
    return [subnets[i] for i in sorted(indices)]
