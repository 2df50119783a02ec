"""Kills whatever a search depends on, at random moments, and looks whether a search was lost, done twice or changed.

Three services as users run them, each with searches one after the other: on SQLite on a disk that is full now and
then; on PostgreSQL, whose connections are cut; on islands on Ray, whose workers and head are killed. Processes get
SIGKILL. Searches are submitted with idempotency keys, again and again until the service has said yes. In the end
every search must have succeeded once, with the front that the same search gives when nothing happens to it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import OUT, publish
from search.islands import Ring
from service.workbench import SearchRequest, Workbench
from tests.fixtures.hollow import HOLLOW, write_hollow_supernet
from tests.fixtures.postgresql import postgresql
from tests.fixtures.serving import RAY_WORKERS, Served, children, descendants, exists, free_port, serving

OBJECTIVES = ("max:macs", "parameters", "memory_bytes")
SEEDS = (1, 2, 3)
ISLANDS = 2
DISK = "48m"
LONGEST_PAUSE = 1.5
LONGEST_RECOVERY = 120.0
PLAN: Mapping[str, Mapping[str, int]] = {
    "SQLite, small disk": {"service": 12, "worker": 16, "full disk": 14},
    "PostgreSQL": {"service": 8, "worker": 10, "connections": 26},
    "islands on Ray": {"Ray worker": 16, "Ray head": 6, "worker": 2},
}
"""Kills by what is killed, in each scenario: more than a hundred."""

NOTE = (
    "Lost: searches that did not succeed. Twice: those with more than one ending. Changed: those whose front is not "
    "that of the undisturbed search. Recovery: seconds from the kill to the next progress of a search, at most; of "
    "a full disk from when it fills."
)

Kill = Callable[[], None]


@dataclass
class Campaign:
    """One service, killed and started again, and the searches that it was given."""

    results: Path
    state: Path
    log: Path
    evaluations: int
    islands: int | None
    settings: Mapping[str, str]
    port: int = field(default_factory=free_port)
    jobs: list[tuple[int, str]] = field(default_factory=list)
    served: Served | None = None
    _running: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start the service."""
        found = serving(self.results, self.state, log=self.log, port=str(self.port), **self.settings)
        self.served = self._running.enter_context(found)

    def stop(self) -> None:
        """End it in good order."""
        self._running.close()

    def kill_service(self) -> None:
        """SIGKILL, wait for its workers to leave, and start it again."""
        assert self.served is not None
        workers = children(self.served.process.pid)
        self.served.process.kill()
        self._running.close()
        wait(lambda: not any(map(exists, workers)), "the workers leave with their service")
        self.start()

    def worker(self) -> int | None:
        """Process id of the worker for searches, None while there is none."""
        assert self.served is not None
        return next(iter(children(self.served.process.pid, b"searches")), None)

    def get(self, path: str, **parameters: Any) -> Any:
        """JSON from the service, None where it does not answer."""
        assert self.served is not None
        try:
            answer = self.served.client.get(path, params=parameters)
        except httpx.TransportError:
            return None
        return answer.json() if answer.is_success else None

    def feed(self) -> None:
        """Have two searches under way."""
        if sum(state in ("queued", "running") for state in self.states().values()) < 2:
            self.submit()

    def submit(self) -> None:
        """Submit a search, once; the next call tries again where it is not known to be there."""
        assert self.served is not None
        number = len(self.jobs)
        seed = SEEDS[number % len(SEEDS)]
        body = {
            "objectives": OBJECTIVES,
            "evaluations": self.evaluations,
            "seed": seed,
            "islands": self.islands,
        }
        try:
            answer = self.served.client.post(
                "/v1/searches", json=body, headers={"Idempotency-Key": f"search-{number}"}
            )
        except httpx.TransportError:
            return
        if answer.is_success:
            self.jobs.append((seed, answer.json()["id"]))

    def states(self) -> dict[str, str]:
        """State of every search by id, as far as the service answers."""
        found = self.get("/v1/searches", page_size=200) or {"searches": []}
        return {job["id"]: job["state"] for job in found["searches"]}

    def done(self) -> int:
        """A number that grows with the work done; 0 where the service does not answer."""
        found = self.get("/v1/searches", page_size=200) or {"searches": []}
        total = 0
        for job in found["searches"]:
            ended = job["state"] not in ("queued", "running")
            total += self.evaluations if ended else (job["progress"] or {}).get("evaluations", 0)
        return total

    def recovered(self, before: int) -> None:
        """Wait until work goes on behind `before`."""

        def goes_on() -> bool:
            self.feed()
            return self.done() > before

        wait(goes_on, "work goes on")

    def finish(self) -> None:
        """Wait until every search has ended."""

        def ended() -> bool:
            states = self.states()
            return bool(states) and not {"queued", "running"} & set(states.values())

        wait(ended, "the last searches end", 300.0)

    def verdict(self, expected: Mapping[int, list[str]]) -> dict[str, int]:
        """How many searches there are, and how many were lost, ended twice, or have another front."""
        lost = twice = changed = 0
        states = self.states()
        for seed, identity in self.jobs:
            if states.get(identity) != "succeeded":
                lost += 1
                continue
            kinds = [event["kind"] for event in self._events(identity)]
            twice += kinds.count("succeeded") != 1 or kinds[-1] != "succeeded"
            front = self.get(f"/v1/searches/{identity}/front")
            changed += [subnet["id"] for subnet in front["subnets"]] != expected[seed]
        known = {identity for _, identity in self.jobs}
        return {
            "searches": len(self.jobs),
            "lost": lost,
            "twice": twice + len(set(states) - known),
            "changed": changed,
        }

    def _events(self, identity: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            page = self.get(f"/v1/searches/{identity}/events", page_size=200, **token)
            found += page["events"]
            if page["next_page_token"] is None:
                return found
            token = {"page_token": page["next_page_token"]}


def wait(what: Callable[[], bool], name: str, seconds: float = LONGEST_RECOVERY) -> None:
    """Wait until something holds; TimeoutError says what never did."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError(name)
        time.sleep(0.1)


def kill(pid: int | None) -> None:
    """SIGKILL for a process, if it is there."""
    if pid is not None and exists(pid):
        os.kill(pid, signal.SIGKILL)


def kill_worker(campaign: Campaign) -> None:
    """The worker for searches."""
    wait(lambda: campaign.worker() is not None, "there is a worker")
    kill(campaign.worker())


def fill_disk(folder: Path, rng: random.Random) -> None:
    """Leave no byte on the disk of a folder, for a moment."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as stream:
            while stream.write(bytes(4096)) == 4096:
                pass
    except OSError:
        pass
    time.sleep(rng.uniform(0.5, 3.0))
    ballast.unlink()


def cut_connections(url: str) -> None:
    """End every other connection to a PostgreSQL database."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )


def ray_processes(campaign: Campaign, names: tuple[bytes, ...]) -> list[int]:
    """Processes of the Ray that the worker for searches started, by the beginning of their names."""
    worker = campaign.worker()
    return [] if worker is None else descendants(worker, names)


def kill_ray_workers(campaign: Campaign) -> None:
    """Every process of Ray that computes islands or waits for them."""
    wait(lambda: bool(ray_processes(campaign, RAY_WORKERS)), "Ray has workers")
    for pid in ray_processes(campaign, RAY_WORKERS):
        kill(pid)


def kill_ray_head(campaign: Campaign) -> None:
    """The process that knows what is where."""
    wait(lambda: bool(ray_processes(campaign, (b"/gcs_server",))), "Ray has a head")
    for pid in ray_processes(campaign, (b"/gcs_server",)):
        kill(pid)


def last_words(log: Path, lines: int = 80) -> str:
    """The end of the service's log without the requests."""
    told = [line for line in log.read_text().splitlines() if " GET /v1/" not in line]
    return "\n".join(told[-lines:])


def undisturbed(
    results: Path, seeds: Iterable[int], evaluations: int, islands: int | None
) -> dict[int, list[str]]:
    """The fronts of the same searches in peace, by seed."""
    bench = Workbench.open(results, HOLLOW)
    fronts = {}
    for seed in set(seeds):
        request = SearchRequest(objectives=OBJECTIVES, evaluations=evaluations, seed=seed)
        found = bench.search(request, ring=None if islands is None else Ring(islands))
        fronts[seed] = [str(identity) for identity in found.front["id"]]
    return fronts


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of some megabytes in memory; None where this user may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def attack(
    scenario: str, kills: Mapping[str, int], evaluations: int, rng: random.Random, seconds: float = math.inf
) -> list[dict[str, Any]]:
    """Run one scenario, fewer kills where the time is over; a row for each thing that is killed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="salnas-kills-")))
        results = folder / "results"
        write_hollow_supernet(results)
        islands = ISLANDS if "Ray" in scenario else None
        settings = {"lease_seconds": "1", "ray": "start" if islands else "off"}
        state, url = folder / "state", ""
        kills = dict(kills)
        if "disk" in scenario:
            disk = stack.enter_context(small_disk(folder / "disk"))
            if disk is None:
                print("no small disk here: only root may mount one")
                kills.pop("full disk", None)
            else:
                state = disk / "state"
                stack.enter_context(environment(TMPDIR=str(disk)))
        if "PostgreSQL" in scenario:
            url = stack.enter_context(postgresql())
            settings["database"] = url
        campaign = Campaign(results, state, folder / "log", evaluations, islands, settings)
        how: dict[str, Kill] = {
            "service": campaign.kill_service,
            "worker": partial(kill_worker, campaign),
            "full disk": partial(fill_disk, state.parent, rng),
            "connections": partial(cut_connections, url),
            "Ray worker": partial(kill_ray_workers, campaign),
            "Ray head": partial(kill_ray_head, campaign),
        }
        campaign.start()
        stack.callback(campaign.stop)
        try:
            recoveries = carry_out(campaign, kills, how, rng, seconds)
            campaign.finish()
        except TimeoutError:
            print(last_words(campaign.log))
            raise
        seeds = (seed for seed, _ in campaign.jobs)
        verdict = campaign.verdict(undisturbed(results, seeds, evaluations, islands))
        if verdict["lost"] or verdict["twice"] or verdict["changed"]:
            print(last_words(campaign.log))
    rows = [
        {"scenario": scenario, "killed": name, "kills": len(found), "recovery s": max(found)}
        for name, found in recoveries.items()
        if found
    ]
    return [{**row, **verdict} for row in rows]


def carry_out(
    campaign: Campaign,
    kills: Mapping[str, int],
    how: Mapping[str, Kill],
    rng: random.Random,
    seconds: float,
) -> dict[str, list[float]]:
    """Kill in random order at random moments; seconds of recovery by what was killed."""
    order = [name for name, count in kills.items() for _ in range(count)]
    rng.shuffle(order)
    recoveries: dict[str, list[float]] = {name: [] for name, count in kills.items() if count}
    campaign.recovered(0)
    deadline = time.monotonic() + seconds
    for name in order:
        if time.monotonic() > deadline:
            break
        time.sleep(rng.uniform(0.0, LONGEST_PAUSE))
        campaign.feed()
        before = campaign.done()
        began = time.monotonic()
        how[name]()
        campaign.recovered(before)
        recoveries[name].append(time.monotonic() - began)
    return recoveries


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Variables for the processes that are started in the block."""
    old = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in old.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def main() -> None:
    """Attack and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the kills that are planned")
    parser.add_argument("--evaluations", type=int, default=300_000, help="of each search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=math.inf, help="of each scenario")
    parser.add_argument("--add", action="store_true", help="to the figures of the last campaign")
    parser.add_argument("--only", choices=list(PLAN), action="append", help="a scenario; repeat")
    asked = parser.parse_args()
    kept = OUT / "kills.json"
    rows = json.loads(kept.read_text())["rows"] if asked.add and kept.exists() else []
    for scenario in asked.only or list(PLAN):
        rng = random.Random(f"{asked.seed} {scenario}")
        kills = {name: max(1, round(asked.share * count)) for name, count in PLAN[scenario].items()}
        found = attack(scenario, kills, asked.evaluations, rng, 60 * asked.minutes)
        publish_all(rows := added(rows, found), " ".join(sys.argv[1:]))
    sys.exit(1 if any(row[name] for row in rows for name in ("lost", "twice", "changed")) else 0)


def added(rows: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The figures of two campaigns together."""
    keys = ["scenario", "killed"]
    frame = pd.DataFrame([*rows, *found])
    totals = ["searches", "lost", "twice", "changed"]
    whole = pd.DataFrame([*_once(rows), *_once(found)]).groupby("scenario")[totals].sum()
    joined = frame.groupby(keys, sort=False).agg({"kills": "sum", "recovery s": "max"}).reset_index()
    joined[totals] = whole.loc[joined["scenario"]].to_numpy()
    return [{str(name): value for name, value in row.items()} for row in joined.to_dict("records")]


def _once(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One row of each scenario: its searches are counted in all of them."""
    return list({row["scenario"]: row for row in rows}.values())


def publish_all(rows: Sequence[Mapping[str, Any]], options: str) -> None:
    """Write what is known so far."""
    frame = pd.DataFrame(rows)
    first = frame.drop_duplicates("scenario")
    note = (
        f"{frame['kills'].sum()} kills, {first['searches'].sum()} searches (of a scenario, in each of its rows): "
        f"{first['lost'].sum()} lost, {first['twice'].sum()} twice, {first['changed'].sum()} changed.\n\n{NOTE}"
    )
    command = f"python benchmarks/bench_kills.py {options}".strip()
    publish("kills", "Searches under attack", frame, command=command, note=note)


if __name__ == "__main__":
    main()
