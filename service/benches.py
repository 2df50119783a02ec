"""The workbenches of a service, opened when first asked for and kept while their files stay the same."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

from service.devices import RegisteredDevices
from service.estimates import Estimates
from service.ports import Bench
from service.supernets import SupernetFile, find_supernet, list_supernets
from service.workbench import Workbench


class _ServedWorkbench(Workbench):
    """A workbench that knows the devices registered since it was opened."""

    def __init__(
        self, results: Path, file: SupernetFile, *, cached_nets: int, registered: RegisteredDevices | None
    ) -> None:
        super().__init__(results, file, cached_nets=cached_nets)
        self._registered = registered

    @property
    def estimates(self) -> Estimates:
        """Costs and predictors as they are now."""
        found = super().estimates
        return found if self._registered is None else self._registered.added_to(found)


class WorkbenchShelf:
    """A `service.ports.Benches` over the supernets under a folder of results."""

    def __init__(
        self,
        results: Path,
        default: str,
        *,
        cached_nets: int = 8,
        registered: RegisteredDevices | None = None,
    ) -> None:
        self._results = results
        self._default = default
        self._cached_nets = cached_nets
        self._registered = registered
        self._lock = threading.Lock()
        self._open: dict[str, Workbench] = {}

    def files(self) -> Sequence[SupernetFile]:
        """See `Benches.files`."""
        return list_supernets(self._results)

    def get(self, supernet: str | None = None) -> Bench:
        """See `Benches.get`."""
        name = supernet or self._default
        with self._lock:
            if name not in self._open:
                file = find_supernet(self._results, name)
                self._open[name] = _ServedWorkbench(
                    self._results, file, cached_nets=self._cached_nets, registered=self._registered
                )
            return self._open[name]

    def fingerprint(self, supernet: str | None = None) -> str:
        """16 hexadecimal digits that change with the weights or the predictors of a supernet."""
        bench = self.get(supernet)
        digest = hashlib.sha256(bench.file.fingerprint.encode())
        folder = self._results / "predictors" / bench.id
        for path in sorted(folder.glob("*")) if folder.is_dir() else []:
            if path.is_file():
                digest.update(path.name.encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:16]
