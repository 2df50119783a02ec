"""A client of the service: the API as functions, with the same errors as the libraries raise.

with Client("http://127.0.0.1:8000") as client:
    search = client.search(constraints=["latency_ms<=40"])
    best = client.wait(search["id"])
    client.export(best["result"]["knee"], "net.onnx")
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias, TypedDict
from urllib.parse import quote

import httpx

from supernet.errors import SalnasError
from supernet.files import atomic_path

Json: TypeAlias = dict[str, Any]
Arch: TypeAlias = str | Mapping[str, Any] | Sequence[int]

_ENDED = ("succeeded", "failed", "cancelled")
_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_RETRIES = 3
_TRANSIENT = (429, 503)
_PATIENCE = 60.0
"""Time without a service after which nobody waits for its events any more, in s."""


class Event(TypedDict):
    """Something that happened to a search; `id` counts from 1."""

    id: int
    kind: str
    data: Json


class ServiceProblem(SalnasError):
    """What the service says is wrong; `kind` is the last part of the problem's type, `status` that of HTTP."""

    def __init__(self, kind: str, status: int, message: str, **about: Any) -> None:
        super().__init__(message, **about)
        self.kind = kind
        self.status = status


class JobFailed(ServiceProblem):
    """A job that was waited for has failed or was cancelled."""


class Client:
    """A connection to a service; may be used from several threads.

    `key` is an API key, where the service demands one. Requests that change nothing, or carry an idempotency key,
    are repeated when the service is not to be reached for a moment. Raises ServiceProblem.
    """

    def __init__(
        self,
        address: str = "http://127.0.0.1:8000",
        key: str | None = None,
        *,
        timeout: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout, transport=transport)
        except httpx.InvalidURL as error:
            raise _unreachable(address, error) from error

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # --- what there is ----------------------------------------------------------------------------------

    def supernets(self) -> list[Json]:
        """The supernets at hand."""
        return list(self._get("/v1/supernets")["supernets"])

    def space(self, name: str) -> Json:
        """A search space."""
        return self._get(f"/v1/spaces/{_part(name)}")

    def devices(self) -> list[Json]:
        """The devices whose latency can be predicted."""
        return list(self._get("/v1/devices")["devices"])

    def models(self) -> list[Json]:
        """The networks of other papers, with what was measured of them."""
        return list(self._get("/v1/models")["models"])

    # --- subnets ----------------------------------------------------------------------------------------

    def describe(self, arch: Arch, **choice: str) -> Json:
        """Layers, costs and predictions of a subnet; `choice`: supernet, device, accuracy_metric."""
        return self._post("/v1/subnets:describe", {"arch": _plain(arch), **choice})

    def query(
        self,
        constraints: Sequence[str] = (),
        *,
        k: int = 1,
        by: str = "accuracy",
        fresh: bool = False,
        **choice: str,
    ) -> list[Json]:
        """The k best subnets within a budget, best first."""
        body = {"constraints": list(constraints), "k": k, "by": by, "fresh": fresh, **choice}
        return list(self._post("/v1/subnets:query", body)["subnets"])

    def predict(
        self,
        photo: Path | str | bytes,
        arch: str = "max",
        *,
        style: str = "overlay",
        media: str = "image/png",
    ) -> bytes:
        """The map of a photo as a picture: `overlay`, `heat` or `grey`; `media` is image/png or image/jpeg."""
        return self._predict(photo, {"arch": arch, "style": style}, media).content

    def predict_numbers(
        self, photo: Path | str | bytes, arch: str = "max", *, longest_side: int | None = None
    ) -> Json:
        """The map of a photo as numbers (see `values`, rows from top to bottom)."""
        fields = {"arch": arch} | ({"longest_side": str(longest_side)} if longest_side else {})
        found: Json = self._predict(photo, fields, "application/json").json()
        return found

    def predict_array(self, photo: Path | str | bytes, arch: str = "max", **choice: str) -> bytes:
        """The map of a photo as a .npy file: (H, W) float32; `choice`: supernet."""
        return self._predict(photo, {"arch": arch, **choice}, "application/x-npy").content

    # --- searches ---------------------------------------------------------------------------------------

    def search(self, *, key: str | None = None, **wanted: Any) -> Json:
        """Queue a search; `wanted`: objectives, constraints, device, seed, effort, evaluations, verify, …"""
        return self._create("/v1/searches", wanted, key)

    def fork(self, search_id: str, *, key: str | None = None, **wanted: Any) -> Json:
        """Queue a search that begins with the front of another; `wanted`: constraints, effort, seed."""
        return self._create(f"/v1/searches/{_part(search_id)}:fork", wanted, key)

    def searches(self, state: str | None = None) -> Iterator[Json]:
        """All searches, newest first."""
        yield from self._pages("/v1/searches", "searches", {"state": state} if state else {})

    def get(self, search_id: str) -> Json:
        """A search; `default` is the one that every service has."""
        return self._get(f"/v1/searches/{_part(search_id)}")

    def cancel(self, search_id: str) -> Json:
        """Stop a search; the front found so far stays."""
        return self._post(f"/v1/searches/{_part(search_id)}:cancel")

    def resume(self, search_id: str) -> Json:
        """Continue a cancelled or failed search."""
        return self._post(f"/v1/searches/{_part(search_id)}:resume")

    def wait(self, search_id: str, *, seconds: float | None = None) -> Json:
        """A search when it has succeeded. Raises JobFailed, TimeoutError."""
        return self._wait(f"/v1/searches/{_part(search_id)}", seconds)

    def events(self, search_id: str, *, after: int = 0) -> Iterator[Event]:
        """What happens to a search, as it happens, until it ends; a lost connection is taken up again.

        Raises ServiceProblem, also where the service is not to be reached for a minute.
        """
        path = f"/v1/searches/{_part(search_id)}/events"
        heard, pause = time.monotonic(), _PAUSE
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            try:
                with self._http.stream("GET", path, headers=headers, timeout=30.0) as answer:
                    if answer.status_code == 204:
                        return
                    if answer.is_success:
                        heard, pause = time.monotonic(), _PAUSE
                        for event in _events(answer.iter_lines()):
                            after, heard = event["id"], time.monotonic()
                            yield event
                    else:
                        answer.read()
                        if answer.status_code not in _TRANSIENT or time.monotonic() - heard > _PATIENCE:
                            raise _problem(answer)
            except httpx.TransportError as error:
                if time.monotonic() - heard > _PATIENCE:
                    raise _unreachable(self._http.base_url, error) from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def front(self, search_id: str, constraints: Sequence[str] = (), *, k: int | None = None) -> Json:
        """The front of a search within bounds."""
        return dict(self._front(search_id, constraints, k, "application/json").json())

    def front_file(
        self, search_id: str, path: Path | str, constraints: Sequence[str] = (), *, k: int | None = None
    ) -> Path:
        """Write the front to a file that ends in .csv or .parquet."""
        types = {".csv": "text/csv", ".parquet": "application/vnd.apache.parquet"}
        target = Path(path)
        content = self._front(search_id, constraints, k, types.get(target.suffix.lower(), "text/csv")).content
        with atomic_path(target) as temporary:
            temporary.write_bytes(content)
        return target

    # --- files ------------------------------------------------------------------------------------------

    def export(
        self,
        arch: Arch,
        path: Path | str,
        *,
        seconds: float | None = None,
        key: str | None = None,
        **wanted: str,
    ) -> Json:
        """Write a subnet to a file, checked by its SHA-256; `wanted`: format, precision, supernet.

        A file that was there stays until the new one has arrived unharmed. Returns the manifest. Raises JobFailed,
        TimeoutError.
        """
        job = self._create("/v1/exports", {"arch": _plain(arch), **wanted}, key)
        done = self._wait(f"/v1/exports/{_part(job['id'])}", seconds)
        self._download(done["links"]["file"], Path(path), sha256=done["manifest"]["sha256"])
        return dict(done["manifest"])

    def measure(
        self, subnets: Sequence[Arch], *, seconds: float | None = None, key: str | None = None, **wanted: Any
    ) -> list[Json]:
        """Measure subnets on the service's machine; `wanted`: accuracy, latency, device, photos, supernet, …

        Returns measured and predicted values of each. Raises JobFailed, TimeoutError.
        """
        body = {"subnets": [_plain(arch) for arch in subnets], **wanted}
        job = self._create("/v1/measurements", body, key)
        return list(self._wait(f"/v1/measurements/{_part(job['id'])}", seconds)["subnets"])

    def register_device(
        self, name: str, measurements: Path | str | bytes, *, seconds: float | None = None, **about: str | int
    ) -> Json:
        """Register a device from a CSV and wait for its predictor.

        `about`: runtime, threads, description, unit, supernet. Raises JobFailed, TimeoutError.
        """
        content = measurements if isinstance(measurements, bytes) else Path(measurements).read_bytes()
        fields = {"name": name, **{k: str(v) for k, v in about.items()}}
        files = {"measurements": ("measurements.csv", content)}
        self._send("POST", "/v1/devices", repeat=True, data=fields, files=files)

        def state(device: Json) -> str:
            return {"ready": "succeeded"}.get(device["state"], str(device["state"]))

        return self._wait(f"/v1/devices/{_part(name)}", seconds, state)

    def remove_device(self, name: str) -> None:
        """Forget a device that was registered."""
        self._send("DELETE", f"/v1/devices/{_part(name)}", repeat=False)

    def pack(self, path: Path | str, *, models: int = 30, **choice: str) -> Path:
        """Write the pack that measures a device; `choice`: supernet."""
        query = httpx.QueryParams({"models": models, **choice})
        self._download(f"/v1/devices/new/pack?{query}", Path(path))
        return Path(path)

    # --- how --------------------------------------------------------------------------------------------

    def _get(self, path: str, **parameters: Any) -> Json:
        found: Json = self._send("GET", path, repeat=True, params=parameters).json()
        return found

    def _post(self, path: str, body: Json | None = None) -> Json:
        found: Json = self._send("POST", path, repeat=body is not None, json=body).json()
        return found

    def _create(self, path: str, body: Json, key: str | None) -> Json:
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        found: Json = self._send("POST", path, repeat=True, json=body, headers=headers).json()
        return found

    def _pages(self, path: str, name: str, parameters: Json) -> Iterator[Json]:
        token: str | None = None
        while True:
            page = self._get(path, **parameters, **({"page_token": token} if token else {}))
            yield from page[name]
            token = page["next_page_token"]
            if token is None:
                return

    def _front(self, search_id: str, constraints: Sequence[str], k: int | None, media: str) -> httpx.Response:
        parameters: dict[str, Any] = {"constraint": list(constraints)} | ({"k": k} if k else {})
        path = f"/v1/searches/{_part(search_id)}/front"
        return self._send("GET", path, repeat=True, params=parameters, headers={"Accept": media})

    def _predict(self, photo: Path | str | bytes, fields: Mapping[str, str], media: str) -> httpx.Response:
        content = photo if isinstance(photo, bytes) else Path(photo).read_bytes()
        return self._send(
            "POST",
            "/v1/predictions",
            repeat=True,
            data=dict(fields),
            files={"image": ("photo", content)},
            headers={"Accept": media},
        )

    def _wait(
        self, path: str, seconds: float | None, state: Callable[[Json], str] = lambda job: str(job["state"])
    ) -> Json:
        deadline = None if seconds is None else time.monotonic() + seconds
        pause = _PAUSE
        while True:
            job = self._get(path)
            if state(job) in _ENDED:
                break
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"{path} has not ended after {seconds} s")
            time.sleep(pause)
            pause = min(1.2 * pause, _LONGEST_PAUSE)
        if state(job) != "succeeded":
            error = job["error"] or {"type": "/problems/cancelled", "detail": "The job was cancelled."}
            raise JobFailed(_kind(error), 200, error["detail"], **_about(error))
        return job

    def _download(self, path: str, target: Path, *, sha256: str | None = None) -> None:
        """Write what is at `path` to a file, unless it is not what `sha256` says."""
        digest = hashlib.sha256()
        try:
            with self._http.stream("GET", path, timeout=180.0) as answer, atomic_path(target) as temporary:
                if not answer.is_success:
                    answer.read()
                    raise _problem(answer)
                with temporary.open("wb") as stream:
                    for chunk in answer.iter_bytes():
                        digest.update(chunk)
                        stream.write(chunk)
                if sha256 not in (None, digest.hexdigest()):
                    raise _damaged(digest.hexdigest())
        except httpx.TransportError as error:
            raise _unreachable(self._http.base_url, error) from error

    def _send(self, method: str, path: str, *, repeat: bool, **options: Any) -> httpx.Response:
        for attempt in range(_RETRIES + 1):
            last = attempt == _RETRIES or not repeat
            try:
                answer = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if last:
                    raise _unreachable(self._http.base_url, error) from error
            else:
                if answer.is_success:
                    return answer
                if last or answer.status_code not in _TRANSIENT:
                    raise _problem(answer)
            time.sleep(_PAUSE * 2**attempt)
        raise AssertionError("the last attempt returns or raises")


def _events(lines: Iterator[str]) -> Iterator[Event]:
    """The events in the lines of a stream."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            fields[name] = value
        else:
            if "id" in fields and "data" in fields:
                data = json.loads(fields["data"])
                yield Event(id=int(fields["id"]), kind=fields.get("event", "message"), data=data)
            fields = {}


def _problem(answer: httpx.Response) -> ServiceProblem:
    try:
        content = answer.json()
        return ServiceProblem(_kind(content), answer.status_code, content["detail"], **_about(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ServiceProblem(
            "no-service",
            answer.status_code,
            f"{answer.url} answered {answer.status_code}, not as this service does.",
            field="server",
            value=str(answer.url),
            remedy="Check the address of the service.",
        )


def _damaged(digest: str) -> ServiceProblem:
    return ServiceProblem(
        "damaged-file",
        502,
        "The file was damaged on its way.",
        field="sha256",
        value=digest,
        remedy="Export the subnet again.",
    )


def _unreachable(address: object, error: Exception) -> ServiceProblem:
    return ServiceProblem(
        "unreachable",
        0,
        f"There is no service at {address}: {error}.",
        field="server",
        value=str(address),
        remedy="Start one with `salnas serve`, or check the address.",
    )


def _kind(content: Mapping[str, Any]) -> str:
    return str(content["type"]).rpartition("/")[2]


def _about(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: content.get(name) for name in ("field", "value", "remedy")}


def _part(text: str) -> str:
    """A part of a path, whatever is in it."""
    return quote(text, safe="")


def _plain(arch: Arch) -> Any:
    return arch if isinstance(arch, str) else dict(arch) if isinstance(arch, Mapping) else list(arch)
