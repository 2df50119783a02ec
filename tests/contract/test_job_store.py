"""One contract for every store of jobs: in memory, on SQLite, on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from service.errors import AlreadyExists, IdempotencyMismatch, LeaseLost, NotFound, QueueFull
from service.jobs import Failure, IdempotencyKey, Job, JobKind, JobState, Lease, Note, Progress
from service.keys import Scope, new_key
from service.ports import Place, Store
from service.store.memory import MemoryStore
from service.store.sql import open_store
from tests.fixtures.postgresql import postgresql

SEARCHES = (JobKind.SEARCH,)
PROGRESS = Progress(3, 600, 40, 0.5, 1.25, 0.1, 11.0)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    if request.param == "sqlite":
        opened = open_store(f"sqlite:///{tmp_path / 'jobs.db'}")
        yield opened
        opened.close()
        return
    url: str = request.getfixturevalue("postgresql_url")
    opened = open_store(url)
    yield opened
    opened.close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    with postgresql() as url:
        yield url


def job(name: str = "one", created: float = 100.0, kind: JobKind = JobKind.SEARCH) -> Job:
    return Job(name, kind, {"seed": 1, "constraints": ["macs<=1e9"]}, created)


def held(store: Store, name: str = "one") -> Job:
    """A job that worker w holds with token t until 130."""
    store.add(job(name))
    claimed = store.claim(SEARCHES, 100.0, lambda j: j.claimed("w", "t", 100.0, 30.0))
    assert claimed is not None
    return claimed


def test_a_job_is_read_back_as_it_was_written(store: Store) -> None:
    full = replace(
        job(),
        state=JobState.RUNNING,
        started=101.5,
        attempts=2,
        idle_claims=1,
        cancel_requested=True,
        lease=Lease("w", "t", 140.25),
        progress=PROGRESS,
        failure=Failure("kind", "message é", "field", [1, "x"], None),
        result={"knee": "salnas-1", "nested": {"a": [1.5, None]}},
        parent="other",
    )
    stored, new = store.add(full)
    assert new
    assert store.get("one") == stored == replace(full, events=1)


def test_an_unknown_job(store: Store) -> None:
    with pytest.raises(NotFound):
        store.get("none")
    with pytest.raises(NotFound):
        store.update("none", lambda j: j)
    assert store.events("none") == []
    assert store.blob("none", "front") is None
    store.remove("none")


def test_an_id_is_taken_once(store: Store) -> None:
    store.add(job())
    with pytest.raises(AlreadyExists):
        store.add(job(created=200.0))
    assert store.get("one").created == 100.0


def test_the_same_key_finds_the_same_job(store: Store) -> None:
    key = IdempotencyKey("k", "d1")
    first, new = store.add(job("one"), key=key)
    again, new_again = store.add(job("two"), key=key)
    assert (new, new_again) == (True, False)
    assert again == first
    with pytest.raises(NotFound):
        store.get("two")


def test_a_key_belongs_to_one_request(store: Store) -> None:
    store.add(job("one"), key=IdempotencyKey("k", "d1"))
    with pytest.raises(IdempotencyMismatch):
        store.add(job("two"), key=IdempotencyKey("k", "d2"))
    _, new = store.add(job("three", kind=JobKind.EXPORT), key=IdempotencyKey("k", "d2"))
    assert new, "keys of exports and of searches are apart"


def test_one_key_from_many_threads_makes_one_job(store: Store) -> None:
    found: list[tuple[Job, bool]] = []

    def add(number: int) -> None:
        found.append(store.add(job(f"job{number}"), key=IdempotencyKey("k", "d")))

    run_together(add, 8)
    assert len({stored.id for stored, _ in found}) == 1
    assert sum(new for _, new in found) == 1


def test_pages_are_newest_first_and_go_on_behind_a_place(store: Store) -> None:
    for name, created in (("a", 1.0), ("b", 2.0), ("c", 2.0), ("d", 3.0)):
        store.add(job(name, created))
    store.add(job("export", 9.0, JobKind.EXPORT))
    page = store.page(kind=JobKind.SEARCH, limit=2)
    assert [j.id for j in page] == ["d", "c"]
    rest = store.page(kind=JobKind.SEARCH, after=Place(page[-1].created, page[-1].id))
    assert [j.id for j in rest] == ["b", "a"]


def test_pages_of_one_state(store: Store) -> None:
    held(store, "one")
    store.add(job("two"))
    assert [j.id for j in store.page(kind=JobKind.SEARCH, state=JobState.RUNNING)] == ["one"]
    assert [j.id for j in store.page(kind=JobKind.SEARCH, state=JobState.QUEUED)] == ["two"]


def test_a_change_with_its_events_and_blobs(store: Store) -> None:
    held(store)
    changed = store.update(
        "one",
        lambda j: j.advanced("t", PROGRESS, saved=True),
        notes=[Note("progress", {"generation": 3}), Note("progress", {"generation": 4})],
        blobs={"state": b"\x00\xff", "front": b"f"},
    )
    assert store.get("one") == changed
    assert changed.progress == PROGRESS
    events = store.events("one")
    assert [e.kind for e in events] == ["queued", "running", "progress", "progress"]
    assert [e.number for e in events] == [1, 2, 3, 4]
    assert events[3].data == {"generation": 4}
    assert [e.number for e in store.events("one", after=2, limit=1)] == [3]
    assert store.blob("one", "state") == b"\x00\xff"
    store.update("one", lambda j: j, blobs={"state": None, "front": b"g"})
    assert store.blob("one", "state") is None
    assert store.blob("one", "front") == b"g"


def test_a_refused_change_leaves_nothing(store: Store) -> None:
    before = held(store)
    with pytest.raises(LeaseLost):
        store.update(
            "one", lambda j: j.renewed("other", 1.0, 1.0), notes=[Note("x", {})], blobs={"front": b"x"}
        )
    assert store.get("one") == before
    assert len(store.events("one")) == before.events
    assert store.blob("one", "front") is None


def test_claims_take_the_oldest_first_and_each_once(store: Store) -> None:
    for name, created in (("young", 3.0), ("old", 1.0), ("middle", 2.0)):
        store.add(job(name, created))
    taken = [store.claim(SEARCHES, 100.0, lambda j: j.claimed("w", "t", 100.0, 30.0)) for _ in range(4)]
    assert [j and j.id for j in taken] == ["old", "middle", "young", None]
    assert all(j.state is JobState.RUNNING and j.attempts == 1 for j in taken if j)


def test_a_claim_is_of_the_kinds_asked_for(store: Store) -> None:
    store.add(job(kind=JobKind.EXPORT))
    assert store.claim(SEARCHES, 100.0, lambda j: j) is None
    assert store.claim((JobKind.SEARCH, JobKind.EXPORT), 100.0, lambda j: j) is not None


def test_an_expired_lease_is_claimed_again(store: Store) -> None:
    held(store)
    assert store.claim(SEARCHES, 129.9, lambda j: j.claimed("v", "u", 129.9, 30.0)) is None
    again = store.claim(SEARCHES, 130.0, lambda j: j.claimed("v", "u", 130.0, 30.0))
    assert again is not None
    assert again.lease == Lease("v", "u", 160.0)
    with pytest.raises(LeaseLost):
        store.update("one", lambda j: j.renewed("t", 131.0, 30.0))


def test_many_threads_never_claim_one_job_twice(store: Store) -> None:
    for number in range(12):
        store.add(job(f"job{number}", float(number)))
    taken: list[str] = []

    def work(number: int) -> None:
        while True:
            got = store.claim(SEARCHES, 100.0, lambda j: j.claimed(f"w{number}", f"t{number}", 100.0, 30.0))
            if got is None:
                if not store.page(kind=JobKind.SEARCH, state=JobState.QUEUED):
                    return
                continue
            taken.append(got.id)

    run_together(work, 4)
    assert sorted(taken) == sorted(f"job{number}" for number in range(12))


def test_events_of_many_threads_are_numbered_without_a_gap(store: Store) -> None:
    store.add(job())
    run_together(lambda n: store.update("one", lambda j: j, notes=[Note("x", {"n": n})]), 8)
    events = store.events("one")
    assert [e.number for e in events] == list(range(1, 10))
    assert sorted(e.data["n"] for e in events[1:]) == list(range(8))


def test_a_removed_job_is_gone_with_all_it_had(store: Store) -> None:
    store.add(job(), key=IdempotencyKey("k", "d"), blobs={"front": b"x"})
    store.remove("one")
    assert store.page(kind=JobKind.SEARCH) == []
    assert store.events("one") == []
    assert store.blob("one", "front") is None
    _, new = store.add(job(), key=IdempotencyKey("k", "other"))
    assert new


def test_jobs_that_ended_long_ago(store: Store) -> None:
    for name, finished in (("old", 10.0), ("new", 30.0), ("again", 10.0)):
        store.add(replace(job(name), state=JobState.CANCELLED, finished=finished))
    store.update("again", lambda j: j.resumed())
    store.add(replace(job("export", kind=JobKind.EXPORT), state=JobState.CANCELLED, finished=10.0))
    store.add(job("waiting"))
    assert store.ended(SEARCHES, 20.0) == ["old"]
    assert sorted(store.ended((JobKind.SEARCH, JobKind.EXPORT), 20.0)) == ["export", "old"]


def test_counts(store: Store) -> None:
    held(store, "one")
    store.add(job("two", 7.0))
    store.add(job("three", 5.0))
    store.add(job("four", 9.0, JobKind.EXPORT))
    assert [(c.kind, c.state, c.jobs, c.oldest) for c in store.counts()] == [
        ("export", "queued", 1, 9.0),
        ("search", "queued", 2, 5.0),
        ("search", "running", 1, 100.0),
    ]
    store.check()


def test_keys(store: Store) -> None:
    first, _ = new_key("first", Scope.READ, 1.0)
    second, _ = new_key("second", Scope.ADMIN, 2.0)
    store.add_key(second)
    store.add_key(first)
    assert store.api_keys() == [first, second]
    assert store.key(first.id) == first
    assert store.key("none") is None
    store.replace_key(first.revoke(3.0))
    assert store.key(first.id) == first.revoke(3.0)
    with pytest.raises(NotFound):
        store.replace_key(new_key("third", Scope.READ, 1.0)[0])


def run_together(work: object, count: int) -> None:
    """Call `work(number)` in `count` threads at once; raise what any of them raised."""
    assert callable(work)
    failures: list[BaseException] = []
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as error:  # handed to the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_a_key_finds_its_job(store: Store) -> None:
    key = IdempotencyKey("k", "d")
    assert store.find(JobKind.SEARCH, key) is None
    stored, _ = store.add(job(), key=key)
    assert store.find(JobKind.SEARCH, key) == stored
    assert store.find(JobKind.EXPORT, key) is None
    with pytest.raises(IdempotencyMismatch):
        store.find(JobKind.SEARCH, IdempotencyKey("k", "other"))
    store.remove("one")
    assert store.find(JobKind.SEARCH, key) is None


@pytest.mark.parametrize("name", ["a\0b", "\0", "\ud800", "a\nb", "", "x" * 5000])
def test_what_can_be_no_id_is_not_found(store: Store, name: str) -> None:
    with pytest.raises(NotFound):
        store.get(name)


def test_a_full_queue_takes_no_more_but_knows_its_keys(store: Store) -> None:
    named = IdempotencyKey("k", "d")
    for name in ("one", "two"):
        store.add(job(name), key=named if name == "one" else None, room=2)
    with pytest.raises(QueueFull):
        store.add(job("three"), room=2)
    assert [found.id for found in store.page(kind=JobKind.SEARCH)] == ["two", "one"]
    again, is_new = store.add(job("three"), key=named, room=2)
    assert (again.id, is_new) == ("one", False)
    store.add(job("three", kind=JobKind.EXPORT), room=2)
    store.claim(SEARCHES, 100.0, lambda j: j.claimed("w", "t", 100.0, 30.0))
    assert store.add(job("four"), room=2)[1], "one of them runs"
