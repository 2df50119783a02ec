"""What a training tells besides its result: scalars for TensorBoard, and the energy it takes.

Both need a package that training does not: tensorboard (`pip install 'salnas[tensorboard]'`) and codecarbon
(`pip install 'salnas[energy]'`), imported only where they are asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supernet.errors import SettingsError


class Board:
    """Writes scalars for TensorBoard; without a folder it writes none. Raises SettingsError without the package."""

    def __init__(self, folder: Path | None) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard", "tensorboard", folder) from error
        self._writer = SummaryWriter(str(folder))

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Scalars by name at a step, or an epoch."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()


class EnergyMeter:
    """Kilowatt-hours of the processors and the memory, span by span, by CodeCarbon without a network.

    Where the hardware has no counters CodeCarbon estimates from the model of the processor and its load.
    `country` is an ISO code of three letters, which CodeCarbon asks for; without one nothing is measured. Raises
    SettingsError without the package.
    """

    def __init__(self, country: str | None) -> None:
        self._tracker: Any = None
        self._spans = 0
        if country is None:
            return
        try:
            from codecarbon import OfflineEmissionsTracker
        except ImportError as error:
            raise _missing("energy", "codecarbon", country) from error
        # It speaks before its own setting of the level counts.
        logging.getLogger("codecarbon").disabled = True
        tracker = OfflineEmissionsTracker(
            country_iso_code=country, output_methods=[], log_level="critical", allow_multiple_runs=True
        )
        self._tracker = tracker

    def start(self) -> None:
        """Begin a span."""
        if self._tracker is not None:
            self._spans += 1
            self._tracker.start_task(f"span {self._spans}")

    def stop(self) -> float | None:
        """Kilowatt-hours of the span, or None where nothing is measured."""
        found = None if self._tracker is None else self._tracker.stop_task()
        return None if found is None else float(found.energy_consumed)

    def close(self) -> None:
        """Stop measuring."""
        if self._tracker is not None:
            self._tracker.stop()


def _missing(extra: str, package: str, value: object) -> SettingsError:
    return SettingsError(
        f"The package {package} is not installed.",
        field=extra,
        value=str(value),
        remedy=f"Install it (pip install 'salnas[{extra}]'), or leave the option out.",
    )
