"""Work on Ray: a local one that this process starts and ends, or a cluster by its address.

The only file that imports ray, and only when an executor is entered: a search in this process never pays for it.
A local Ray listens on loopback addresses only, has no dashboard, reports no usage, and is guarded by a token of its
own that no file holds. A task is repeated where its worker died, so functions must depend on nothing but their task.

A device whose latency can be measured on a machine is a resource of that machine's Ray node, `device:NAME`, beside
`timing`, of which a node has one: whatever is timed holds it, so one measurement runs at a time on each machine.
`ray start --address=HEAD:6379 --resources='{"device:pi4": 1, "timing": 1}'` lends such a machine to a cluster.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

from search.executors import WorkerLost
from supernet.errors import DeviceError, SalnasError, SettingsError

T = TypeVar("T")
R = TypeVar("R")

TIMING = "timing"
"""Resource that whatever is timed holds alone."""

ADDRESS = "RAY_ADDRESS"
"""Environment variable with the address of a cluster, for an executor that is given none."""

_SHARE = 0.001
_OBJECT_STORE = 512 * 2**20
_LOOPBACK = "127.0.0.1"
_KEPT_FUNCTIONS = 8

# Ray rewrites a loopback address to one that the network reaches, unless told that there will be no cluster.
_LOCAL_ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
# Ray prints what happens to workers to standard output, which belongs to the results of a command.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_oom_retries": "3",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
}


def device_resource(device: str) -> str:
    """The name of a device among the resources of a Ray node."""
    return f"device:{device}"


class RayExecutor:
    """A `search.executors.Executor` on Ray, to be used as a context.

    Without an `address`, here or in RAY_ADDRESS, a local Ray with `workers` (default: as many as there are cores)
    starts, which takes seconds, and on which `devices` can be timed. With one, what the cluster has counts. Where
    this process is connected to Ray already, that is used and left running. A task is repeated `retries` times
    where its worker died. Raises SettingsError where Ray is missing or cannot be reached.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        workers: int | None = None,
        devices: Sequence[str] = (),
        retries: int = 3,
    ) -> None:
        if workers is not None and workers < 1:
            raise SettingsError(
                f"There cannot be {workers} workers.",
                field="workers",
                value=workers,
                remedy="Give at least 1.",
            )
        self._address = address or os.environ.get(ADDRESS) or None
        self._workers = workers or os.cpu_count() or 1
        self._devices = tuple(devices)
        self._retries = retries
        self._ray: Any = None
        self._task: Any = None
        self._owned = False
        self._functions: list[tuple[Any, Any]] = []

    def __enter__(self) -> RayExecutor:
        running = sys.modules.get("ray")
        self._owned = running is None or not running.is_initialized()
        self._ray = _import_ray(local=self._address is None) if self._owned else running
        if self._owned:
            self._connect()
        self._task = self._ray.remote(_call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._functions.clear()
        if self._owned:
            self._ray.shutdown()

    @property
    def workers(self) -> int:
        """Cores that Ray has, each of which runs a task."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    @property
    def address(self) -> str:
        """HOST:PORT of Ray's head."""
        return str(self._ray.get_runtime_context().gcs_address)

    def run(
        self, function: Callable[[T], R], tasks: Sequence[T], *, device: str | None = None
    ) -> Iterator[tuple[int, R]]:
        """See `search.executors.Executor.run`."""
        options: dict[str, Any] = {"num_cpus": 1, "max_retries": self._retries}
        if device is not None:
            options["resources"] = self._resources_of(device)
        task = self._task.options(**options)
        shared = self._shared(function)
        waiting = {task.remote([shared], argument): index for index, argument in enumerate(tasks)}
        try:
            while waiting:
                done, _ = self._ray.wait(list(waiting), num_returns=1)
                index = waiting.pop(done[0])
                yield index, self._result(done[0], index)
        finally:
            for reference in waiting:
                self._ray.cancel(reference, force=True)

    def _result(self, reference: Any, index: int) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, SalnasError):
                raise error.cause from error
            raise
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            raise WorkerLost(
                f"A worker died {self._retries + 1} times at the same task.",
                index=index,
                field="workers",
                value=self._retries + 1,
                remedy="Give the workers more memory, or use fewer of them.",
            ) from error

    def _shared(self, function: Any) -> Any:
        """The reference of a function that all workers can fetch; sent once."""
        for known, reference in self._functions:
            if known is function:
                return reference
        reference = self._ray.put(function)
        self._functions = [*self._functions[1 - _KEPT_FUNCTIONS :], (function, reference)]
        return reference

    def _resources_of(self, device: str) -> dict[str, float]:
        """What a task that is timed on a device asks for; DeviceError where no machine has it."""
        wanted = {device_resource(device): _SHARE, TIMING: 1.0}
        there = self._ray.cluster_resources()
        if not set(wanted) <= set(there):
            known = [name.partition(":")[2] for name in there if name.startswith(device_resource(""))]
            raise DeviceError(
                f"No machine at hand is the device {device!r}.",
                field="device",
                value=device,
                remedy=(
                    f"Known: {', '.join(known) or 'none'}. Lend one with `ray start --resources="
                    f'\'{{"{device_resource(device)}": 1, "{TIMING}": 1}}\'` on it.'
                ),
            )
        return wanted

    def _connect(self) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if self._address is None:
            options |= {
                "address": "local",
                "num_cpus": self._workers,
                "resources": {device_resource(name): 1 for name in self._devices} | {TIMING: 1},
                "object_store_memory": _OBJECT_STORE,
                "include_dashboard": False,
                "_node_ip_address": _LOOPBACK,
            }
        else:
            options["address"] = self._address
        try:
            self._ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError, self._ray.exceptions.RayError) as error:
            self._ray.shutdown()
            raise SettingsError(
                f"Ray cannot be {'reached' if self._address else 'started'}: {error}",
                field="ray",
                value=self._address or "local",
                remedy=f"Check the address in {ADDRESS}, and RAY_AUTH_TOKEN if the cluster wants a token."
                if self._address
                else "Check that the disk and /dev/shm have room.",
            ) from error


def _import_ray(*, local: bool) -> Any:
    """The module, told what it only reads when it is imported; SettingsError where it is not installed."""
    environment = dict(_ENVIRONMENT)
    if local:
        environment |= _LOCAL_ENVIRONMENT
        if "RAY_AUTH_TOKEN_PATH" not in os.environ:
            environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    if local and sys.modules.get("ray") is not None and not set(environment) <= set(os.environ):
        raise SettingsError(
            "Ray was imported before it could be told to stay on this machine.",
            field="ray",
            value="local",
            remedy="Enter the first executor before anything imports ray.",
        )
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise SettingsError(
            "Islands and measurements on several workers need Ray.",
            field="ray",
            value=sys.version.split()[0],
            remedy="Install it: pip install 'ray>=2.60'.",
        ) from error
    return ray


_fetched: dict[str, Callable[[Any], Any]] = {}
"""Functions that this worker has fetched, by reference."""


def _call(shared: list[Any], argument: Any) -> Any:
    """Apply a shared function, in a worker. Its reference comes in a list, which Ray does not look into."""
    import ray

    (reference,) = shared
    key = reference.hex()
    if key not in _fetched:
        while len(_fetched) >= _KEPT_FUNCTIONS:
            del _fetched[next(iter(_fetched))]
        _fetched[key] = ray.get(reference)
    return _fetched[key](argument)
