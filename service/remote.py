"""The commands of `salnas` against a service: the same questions, the same plain data as a workbench gives."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from service.client import Arch, Client, Json, ServiceProblem
from supernet.errors import CheckpointError, InvalidArch, SettingsError
from supernet.files import write_atomic
from supernet.space import list_spaces

if TYPE_CHECKING:
    from PIL import Image

    from search.front import Front
    from supernet.baselines.measured import ReferencePoint

RECORD = "search.json"
"""File, in the folder of `--out`, that names the search and holds its front."""

_MEASURED = ("measurements", "failures", "rounds")


@dataclass(frozen=True)
class Remote:
    """A service as the command line sees it. Raises what the service says, as `ServiceProblem`."""

    client: Client

    def describe(self, arch: str, space: str | None, supernet: str | None) -> Json:
        """See `service.workbench.describe_subnet`."""
        wanted = space or next((name for name in list_spaces() if arch.startswith(f"{name}-")), None)
        chosen = self._supernet(supernet, wanted)
        return self.client.describe(read_arch(arch), supernet=chosen["id"])

    def search(
        self,
        wanted: Mapping[str, Any],
        on_progress: Callable[[int, int | None], None],
        *,
        out: Path | None = None,
        resume: bool = False,
    ) -> Json:
        """Search, or continue the search that `out` names; what is found goes into `out`.

        `on_progress` is called with the subnets tried, then, where the search verifies, with the values measured and
        the most there can be.
        """
        job = self._continued(out) if resume and out is not None else self.client.search(**wanted)
        if out is not None:
            write_atomic(out / RECORD, json.dumps({"search": job["id"]}))
        for event in self.client.events(job["id"], after=0):
            if event["kind"] == "progress":
                on_progress(int(event["data"]["evaluations"]), None)
            elif event["kind"] == "measured":
                on_progress(event["data"]["measured"], event["data"]["most"])
        self.client.wait(job["id"])
        found = self.front(job["id"])
        if out is not None:
            from service.workbench import FRONT_TABLE

            self.client.front_file(job["id"], out / FRONT_TABLE)
            write_atomic(out / RECORD, json.dumps(found, ensure_ascii=False))
        return found

    def front(self, search_id: str, within: Sequence[str] = (), best: int | None = None) -> Json:
        """See `Workbench.front_json`; with the search's id."""
        job = self._finished(search_id)
        front = self.client.front(search_id, within, k=best)
        request, result = job["request"], job["result"]
        seconds = result["seconds"]
        return {
            "search": job["id"],
            "supernet": request["supernet"],
            "space": self._supernet(request["supernet"], None)["space"],
            "objectives": front["objectives"],
            "constraints": [*request["constraints"], *within],
            "device": front["device"],
            "accuracy_metric": front["accuracy_metric"],
            "seed": request["seed"],
            "subnets": front["subnets"],
            "knee": front["knee"],
            "hypervolume": front["hypervolume"],
            "evaluations": result["evaluations"],
            "evaluations_per_second": result["evaluations"] / max(seconds, 1e-9),
            "generations": result["generations"],
            "seconds": seconds,
            "reason": result["reason"],
            **{name: result[name] for name in _MEASURED if result.get(name) is not None},
        }

    def fronts(self, ids: Sequence[str], objectives: Sequence[str] = ()) -> tuple[dict[str, Front], Json]:
        """The fronts of several searches by id, as `search.stored.open_fronts` reads files; the first's request.

        `objectives` are looked at instead of those that each was searched for.
        """
        from search.stored import open_fronts

        jobs = {search_id: self._finished(search_id) for search_id in ids}
        if len(jobs) < len(ids):
            raise SettingsError(
                "The same front is named twice.",
                field="front",
                value=list(ids),
                remedy="Name each of them once.",
            )
        found: dict[str, Front] = {}
        with tempfile.TemporaryDirectory(prefix="salnas-fronts-") as folder:
            for number, (search_id, job) in enumerate(jobs.items()):
                path = self.client.front_file(search_id, Path(folder) / f"{number}.parquet")
                (one,) = open_fronts([path], objectives or job["request"]["objectives"]).values()
                found[search_id] = one.front
        request = next(iter(jobs.values()))["request"]
        return found, {"metric": request["accuracy_metric"], **request}

    def models(self) -> list[Json]:
        """See `service.models.list_models`."""
        return self.client.models()

    def reference_points(self) -> list[ReferencePoint]:
        """See `supernet.baselines.measured.reference_points`."""
        from supernet.baselines.measured import ReferencePoint

        return [
            ReferencePoint(
                model["id"],
                model["title"],
                model["weights"],
                model["parameters"],
                model["macs"],
                tuple(model["resolution"]),
                model["accuracy"],
                model["held_out_accuracy"],
                model["latency_ms"],
            )
            for model in self.client.models()
            if model["accuracy"] or model["latency_ms"]
        ]

    def export(self, arch: str, path: Path, precision: str, supernet: str | None, form: str) -> Json:
        """The manifest of the file that was written to `path`."""
        chosen = self._supernet(supernet, None)["id"]
        manifest = self.client.export(
            read_arch(arch), path, format=form, precision=precision, supernet=chosen
        )
        return {"subnet": manifest["subnet"], "supernet": chosen, "path": str(path), **manifest}

    def predict(
        self, photo: Image.Image, path: Path, subnet: str, supernet: str | None
    ) -> NDArray[np.float32]:
        """The map of a photo, given by its path too, at its own size: (H, W) in [0, 1]."""
        from PIL import Image

        choice = {} if supernet is None else {"supernet": supernet}
        content = self.client.predict_array(path, subnet, **choice)
        saliency: NDArray[np.float32] = np.load(io.BytesIO(content), allow_pickle=False)
        if saliency.shape == (photo.height, photo.width):
            return saliency
        resized = Image.fromarray(saliency).resize(photo.size, Image.Resampling.BILINEAR)
        return np.asarray(resized, dtype=np.float32)

    def devices(self, supernet: str | None) -> Json:
        """See `Workbench.devices`."""
        chosen = self._supernet(supernet, None)["id"]
        known = [d for d in self.client.devices() if chosen in d["supernets"] and d["state"] == "ready"]
        names = ("runtime", "threads", "description", "quality", "energy_quality", "held_out")
        devices = [{"name": d["id"], **{name: d[name] for name in names}} for d in known]
        return {"supernet": chosen, "devices": devices}

    def add_device(self, name: str, csv: Path, *, replace_it: bool, **about: Any) -> Json:
        """Register a device, instead of another of its name if `replace_it`; how well it is predicted."""
        chosen = self._supernet(about.pop("supernet"), None)["id"]
        given = {key: value for key, value in about.items() if value} | {"supernet": chosen}
        try:
            device = self.client.register_device(name, csv, **given)
        except ServiceProblem as error:
            if not replace_it or error.kind != "already-exists":
                raise
            self.client.remove_device(name)
            device = self.client.register_device(name, csv, **given)
        return {"name": device["id"], **{key: device[key] for key in ("notes", "quality", "energy_quality")}}

    def pack(self, path: Path, models: int, supernet: str | None) -> None:
        """Write the pack that measures a device."""
        self.client.pack(path, models=models, supernet=self._supernet(supernet, None)["id"])

    def subnet_id(self, arch: str, supernet: str | None) -> str:
        """Id of the subnet that is meant."""
        return str(self.client.describe(read_arch(arch), supernet=self.supernet_id(supernet))["id"])

    def supernet_id(self, supernet: str | None) -> str:
        """Id of the supernet that is meant."""
        return str(self._supernet(supernet, None)["id"])

    def _supernet(self, name: str | None, space: str | None) -> Json:
        """The named supernet, else one of the named space, else the service's own."""
        known = self.client.supernets()
        fitting = [s for s in known if name in (None, s["id"]) and space in (None, s["space"])]
        chosen = [s for s in fitting if s["default"]] or (fitting if name or space else [])
        if not chosen:
            raise SettingsError(
                f"The service has no supernet {name or ''}{f' of space {space}' if space else ''}.",
                field="supernet" if name else "space",
                value=name or space,
                remedy=f"It has: {', '.join(s['id'] for s in known) or 'none'}.",
            )
        return chosen[0]

    def _finished(self, search_id: str) -> Json:
        job = self.client.get(search_id)
        if job["result"] is None:
            raise CheckpointError(
                f"The search {job['id']} has not finished.",
                field="search",
                value=job["id"],
                remedy="Ask again when it has, or resume it.",
            )
        return job

    def _continued(self, out: Path) -> Json:
        try:
            identity = str(json.loads((out / RECORD).read_text())["search"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{out} names no search of a service.",
                field="out",
                value=str(out),
                remedy="Start one with --server and --out.",
            ) from error
        job = self.client.get(identity)
        return self.client.resume(identity) if job["state"] in ("failed", "cancelled") else job


def read_arch(text: str) -> Arch:
    """A subnet as the service takes it: a text as it is, or the content of a JSON file."""
    if not text.strip().endswith(".json"):
        return text
    try:
        content = json.loads(Path(text.strip()).read_text())
    except (OSError, ValueError) as error:
        raise InvalidArch(
            f"{text} cannot be read as a subnet: {error}.",
            field="arch",
            value=text,
            remedy="Write one with `salnas describe max --json`.",
        ) from error
    arch: Arch = content["arch"] if isinstance(content, Mapping) and "arch" in content else content
    return arch
