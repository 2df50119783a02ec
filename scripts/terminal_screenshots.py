"""Pictures of the command line at work, as SVG files (`--out` names their folder)."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from supernet.files import write_atomic

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 84

SCENES = {
    "terminal-search": ["search -c 'latency_ms<=60' --seed 1", "search -c 'latency_ms<=1'"],
    "terminal-subnet": ["describe max", "space", "device list"],
    "terminal-network": ["export min --out xs.onnx", "predict {photo} --arch min --out map.png"],
}


def photograph(commands: list[str], folder: Path, photo: Path) -> str:
    """An SVG of the commands and what they print, as a terminal of WIDTH columns shows it."""
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    variables = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
    for command in commands:
        console.print(Text.assemble(("$ ", "green"), f"salnas {command.format(photo=photo.name)}"))
        words = shlex.split(command.format(photo=photo))
        done = subprocess.run(
            [sys.executable, "-c", "from service.cli import main; main()", *words],
            cwd=folder,
            env={**variables, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        console.print(Text.from_ansi(done.stdout))
    return console.export_svg(title="salnas", theme=MONOKAI)


def main() -> None:
    """Write all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--photo", type=Path, default=ROOT / "service/web/samples/market.jpg")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, commands in SCENES.items():
            picture = photograph(commands, Path(folder), options.photo.resolve())
            write_atomic(options.out / f"{name}.svg", picture)
            print(options.out / f"{name}.svg")


if __name__ == "__main__":
    main()
