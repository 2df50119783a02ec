"""Times the subnets of this pack on the machine it runs on. Needs Python 3.8, numpy and onnxruntime only.

    python measure.py --threads 4 --out my-device.csv

Subnets are timed in turn, each beside the same reference subnet, so that a machine that slows down in between does
not matter. Where the system counts the energy of its processors (Linux's powercap, often for root only) or --meter
names such a count, each subnet then runs for a second more, and the energy of one photo, idle power included, stands
beside its latency. The CSV grows subnet by subnet; started again, the script goes on where it stopped. Load it into
SalNAS as the measurements of a device.
"""

from __future__ import annotations

import argparse
import csv
import glob
import json
import os
import sys
import time
import zipfile
from typing import Any, Callable  # noqa: UP035 - Python 3.8

import numpy as np
import onnxruntime

COLUMNS = ["id", "latency_ms", "noise", "rounds", "runtime", "provider", "threads", "energy_mj"]
WARM_UP = 3
PACKAGES = "/sys/class/powercap/*-rapl:[0-9]"
"""One folder for each processor; those with a second number are parts of one."""


def arguments() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of onnxruntime (0: as it likes)")
    parser.add_argument("--out", default="latency.csv", help="the table to write or go on with")
    parser.add_argument(
        "--models", type=int, default=0, help="time the first so many only; 10 are enough to rank"
    )
    parser.add_argument("--rounds", type=int, default=15, help="inferences of each subnet")
    parser.add_argument(
        "--provider", default="CPUExecutionProvider", help="execution provider of onnxruntime"
    )
    parser.add_argument(
        "--meter", default="", help="a file that counts microjoules, instead of the processors' own"
    )
    parser.add_argument("--pack", default="", help="the pack's folder or zip, if not where this script is")
    asked = parser.parse_args()
    if asked.meter and not readable(asked.meter):
        parser.error("--meter " + asked.meter + " does not hold a number of microjoules that can be read")
    if asked.threads < 0 or asked.rounds < 3 or asked.models < 0:
        parser.error("--threads and --models are at least 0, --rounds at least 3")
    if asked.provider not in onnxruntime.get_available_providers():
        parser.error(
            "this onnxruntime has only the providers " + ", ".join(onnxruntime.get_available_providers())
        )
    return asked


def read_from(pack: str, name: str) -> bytes:
    """The bytes of one file of the pack, be it a folder or a zip."""
    if os.path.isdir(pack):
        with open(os.path.join(pack, name), "rb") as stream:
            return stream.read()
    with zipfile.ZipFile(pack) as archive:
        return archive.read(name)


def open_model(content: bytes, asked: argparse.Namespace) -> Callable[[], float]:
    """A function that runs one photo and returns the milliseconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = asked.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(content, options, providers=[asked.provider])
    except Exception as error:  # its errors have no base of their own
        sys.exit(
            "onnxruntime "
            + onnxruntime.__version__
            + " cannot load the models: "
            + str(error)[:300]
            + "\nThey need 1.12 or newer: pip install --upgrade onnxruntime"
        )
    if asked.provider not in session.get_providers():  # onnxruntime takes the CPU instead, and hardly says so
        sys.exit("onnxruntime " + onnxruntime.__version__ + " cannot run on " + asked.provider + " here")
    expected = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in expected.shape]
    photo: Any = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    feed = {expected.name: photo if "uint8" in expected.type else photo.astype(np.float32)}

    def run() -> float:
        began = time.perf_counter()
        session.run(None, feed)
        return 1e3 * (time.perf_counter() - began)

    for _ in range(WARM_UP):
        run()
    return run


def timed(run: Callable[[], float], reference: Callable[[], float], rounds: int) -> Any:
    """Milliseconds of a subnet and of the reference just before each, (rounds,) twice."""
    pairs = [(reference(), run()) for _ in range(rounds)]
    beside, own = np.array(pairs).T
    return own, beside


def readable(meter: str) -> bool:
    """Whether a file holds a number."""
    try:
        with open(meter) as stream:
            return float(stream.read()) >= 0
    except (OSError, ValueError):
        return False


def find_meters(packages: str = PACKAGES) -> list[str]:
    """Files that count the microjoules of this machine's processors; none where they cannot be read."""
    found = sorted(os.path.join(folder, "energy_uj") for folder in glob.glob(packages))
    return found if all(readable(meter) for meter in found) else []


def spent_uj(before: list[float], after: list[float], meters: list[str]) -> float:
    """Microjoules between two readings; a counter that began anew at its end is continued."""
    total = 0.0
    for first, last, meter in zip(before, after, meters):  # noqa: B905 - Python 3.8
        if last < first:
            with open(os.path.join(os.path.dirname(meter), "max_energy_range_uj")) as stream:
                last += float(stream.read())
        total += last - first
    return total


def read_meters(meters: list[str]) -> list[float]:
    """What the meters show now, in microjoules."""
    shown = []
    for meter in meters:
        with open(meter) as stream:
            shown.append(float(stream.read()))
    return shown


def energy_mj(run: Callable[[], float], meters: list[str], seconds: float = 1.0) -> float:
    """Millijoules that one photo takes, from running photo after photo for so long."""
    photos, before, began = 0, read_meters(meters), time.perf_counter()
    while photos == 0 or time.perf_counter() - began < seconds:
        run()
        photos += 1
    return spent_uj(before, read_meters(meters), meters) / photos / 1e3


def finished(path: str, how: dict[str, str]) -> dict[str, float]:
    """The latencies that the table holds already; a last line that was cut off is measured again.

    Ends the program where they were measured otherwise than `how` says: that is another device.
    """
    if not os.path.exists(path):
        return {}
    with open(path, newline="") as stream:
        whole = [line for line in stream.read().splitlines(keepends=True) if line.endswith("\n")]
    with open(path, "w", newline="") as stream:
        stream.writelines(whole)
    lines = list(csv.DictReader(whole))
    for name, value in how.items():
        others = {line.get(name) or value for line in lines} - {value}
        if others:
            sys.exit(
                f"{path} was measured with {name} {', '.join(sorted(others))}, not {value}: "
                "another device. Give it a table of its own with --out"
            )
    return {line["id"]: float(line["latency_ms"]) for line in lines}


def write_line(path: str, line: dict[str, Any]) -> None:
    """Add one line, and the heading to an empty table; one that was begun keeps its columns."""
    is_new = not os.path.exists(path) or os.path.getsize(path) == 0
    columns = COLUMNS
    if not is_new:
        with open(path, newline="") as stream:
            columns = next(csv.reader(stream))
    with open(path, "a", newline="") as stream:
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        if is_new:
            writer.writeheader()
        writer.writerow(line)
        stream.flush()
        os.fsync(stream.fileno())


def main() -> None:
    """Time every model of the pack that the table does not hold."""
    asked = arguments()
    pack = asked.pack or os.path.dirname(os.path.abspath(__file__))
    manifest = json.loads(read_from(pack, "manifest.json").decode())
    models = manifest["models"][: asked.models or None]
    how = {
        "runtime": "onnxruntime " + onnxruntime.__version__,
        "provider": asked.provider,
        "threads": str(asked.threads),
    }
    done = finished(asked.out, how)
    reference = open_model(read_from(pack, manifest["reference"]["file"]), asked)
    base = done.get(manifest["reference"]["id"])
    meters = [asked.meter] if asked.meter else find_meters()
    sys.stdout.write(
        "Energy: " + (", ".join(meters) or "no meter that can be read, so none is written") + "\n"
    )
    for number, model in enumerate(models, 1):
        was_there = model["id"] in done
        if not was_there:
            run = open_model(read_from(pack, model["file"]), asked)
            own, beside = timed(run, reference, asked.rounds)
            base = base or float(np.median(beside))
            ratios = own / beside
            spread = 1.4826 * float(np.median(np.abs(ratios - np.median(ratios))))
            line = {
                "id": model["id"],
                "latency_ms": round(base * float(np.median(ratios)), 5),
                "noise": round(1.2533 * spread / float(np.median(ratios)) / len(ratios) ** 0.5, 5),
                "rounds": asked.rounds,
                **how,
                "energy_mj": round(energy_mj(run, meters), 4) if meters else "",
            }
            write_line(asked.out, line)
            done[model["id"]] = line["latency_ms"]
        sys.stdout.write(
            f"{number}/{len(models)} {model['id']} {done[model['id']]:.2f} ms{', as before' * was_there}\n"
        )
        sys.stdout.flush()
    sys.stdout.write(f"Wrote {asked.out}\n")


if __name__ == "__main__":
    main()
