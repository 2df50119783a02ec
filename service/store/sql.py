"""Jobs in a SQL database: SQLite (write-ahead log) for one machine, PostgreSQL for several.

A change reads the job, applies a pure function and writes the result in one transaction that holds the job: the
write lock of SQLite (`BEGIN IMMEDIATE`), a row lock of PostgreSQL (`FOR UPDATE`, `SKIP LOCKED` when claiming).
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    RowMapping,
    Select,
    and_,
    create_engine,
    delete,
    event,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from service.errors import Unavailable
from service.jobs import (
    Change,
    Event,
    Failure,
    IdempotencyKey,
    Job,
    JobKind,
    JobState,
    Lease,
    Note,
    Progress,
    check_room,
    recorded,
)
from service.keys import ApiKey, Scope
from service.ports import Blobs, Place, QueueCount
from service.store.memory import mismatch, taken, unknown, unknown_key
from service.store.schema import upgrade
from service.store.tables import API_KEYS, BLOBS, EVENTS, JOBS, KEYS
from supernet.errors import SalnasError, SettingsError

_BUSY_SECONDS = 15


class SqlStore:
    """A `service.ports.JobStore` and `KeyStore` on a SQLAlchemy engine."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def upgrade(self) -> None:
        """Bring the database to the schema of this version."""
        with self._transaction() as connection:
            upgrade(connection)

    def add(
        self,
        job: Job,
        *,
        key: IdempotencyKey | None = None,
        blobs: Blobs | None = None,
        room: int | None = None,
    ) -> tuple[Job, bool]:
        """See `JobStore.add`."""
        try:
            with self._transaction() as connection:
                if key is not None and (known := _find_key(connection, job.kind, key)) is not None:
                    return _get(connection, known), False
                if room is not None:
                    check_room(job.kind, _waiting(connection, job.kind), room)
                stored, events = recorded(None, job, (), self._clock())
                connection.execute(insert(JOBS).values(_values(stored)))
                _append(connection, stored, events, blobs)
                if key is not None:
                    line = {"kind": job.kind, "key": key.key, "digest": key.digest, "job_id": job.id}
                    connection.execute(insert(KEYS).values(line))
                return stored, True
        except IntegrityError as error:
            return self._added_meanwhile(job, key, error)

    def find(self, kind: JobKind, key: IdempotencyKey) -> Job | None:
        """See `JobStore.find`."""
        with self._transaction(reading=True) as connection:
            known = _find_key(connection, kind, key)
            return None if known is None else _get(connection, known)

    def get(self, job_id: str) -> Job:
        """See `JobStore.get`."""
        with self._transaction(reading=True) as connection:
            return _get(connection, job_id)

    def page(
        self,
        *,
        kind: JobKind,
        state: JobState | None = None,
        after: Place | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """See `JobStore.page`."""
        query = select(JOBS).where(JOBS.c.kind == kind)
        if state is not None:
            query = query.where(JOBS.c.state == state)
        if after is not None:
            query = query.where(tuple_(JOBS.c.created, JOBS.c.id) < tuple_(after.created, after.id))
        query = query.order_by(JOBS.c.created.desc(), JOBS.c.id.desc()).limit(limit)
        with self._transaction(reading=True) as connection:
            return [_job(row) for row in connection.execute(query).mappings()]

    def update(
        self, job_id: str, change: Change, *, notes: Sequence[Note] = (), blobs: Blobs | None = None
    ) -> Job:
        """See `JobStore.update`."""
        with self._transaction() as connection:
            before = _get(connection, job_id, locked=True)
            return self._write(connection, before, change(before), notes, blobs)

    def claim(self, kinds: Sequence[JobKind], now: float, change: Change) -> Job | None:
        """See `JobStore.claim`."""
        expired = or_(JOBS.c.lease_expires.is_(None), JOBS.c.lease_expires <= now)
        claimable = or_(JOBS.c.state == JobState.QUEUED, and_(JOBS.c.state == JobState.RUNNING, expired))
        query = select(JOBS).where(JOBS.c.kind.in_(kinds), claimable).order_by(JOBS.c.created, JOBS.c.id)
        with self._transaction(reading=True) as connection:
            if connection.execute(query.limit(1)).first() is None:
                return None  # the common case takes no write lock
        with self._transaction() as connection:
            row = connection.execute(query.limit(1).with_for_update(skip_locked=True)).mappings().first()
            if row is None:
                return None
            before = _job(row)
            return self._write(connection, before, change(before), (), None)

    def events(self, job_id: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """See `JobStore.events`."""
        query = select(EVENTS).where(EVENTS.c.job_id == job_id, EVENTS.c.number > after)
        with self._transaction(reading=True) as connection:
            rows = connection.execute(query.order_by(EVENTS.c.number).limit(limit)).mappings()
            return [Event(**row) for row in rows]

    def blob(self, job_id: str, name: str) -> bytes | None:
        """See `JobStore.blob`."""
        query = select(BLOBS.c.content).where(BLOBS.c.job_id == job_id, BLOBS.c.name == name)
        with self._transaction(reading=True) as connection:
            content = connection.execute(query).scalar()
            return None if content is None else bytes(content)

    def remove(self, job_id: str) -> None:
        """See `JobStore.remove`."""
        with self._transaction() as connection:
            connection.execute(delete(JOBS).where(JOBS.c.id == job_id))

    def ended(self, kinds: Sequence[JobKind], before: float) -> list[str]:
        """See `JobStore.ended`."""
        final = [state for state in JobState if state.is_final]
        query = select(JOBS.c.id).where(
            JOBS.c.kind.in_(kinds), JOBS.c.state.in_(final), JOBS.c.finished < before
        )
        with self._transaction(reading=True) as connection:
            return [str(name) for name in connection.execute(query.limit(1000)).scalars()]

    def counts(self) -> list[QueueCount]:
        """See `JobStore.counts`."""
        query = select(JOBS.c.kind, JOBS.c.state, func.count(), func.min(JOBS.c.created)).group_by(
            JOBS.c.kind, JOBS.c.state
        )
        with self._transaction(reading=True) as connection:
            rows = connection.execute(query).all()
        return sorted(
            (QueueCount(JobKind(kind), JobState(state), jobs, oldest) for kind, state, jobs, oldest in rows),
            key=lambda count: (count.kind, count.state),
        )

    def check(self) -> None:
        """See `JobStore.check`."""
        with self._transaction(reading=True) as connection:
            connection.execute(select(JOBS.c.id).limit(1))

    def close(self) -> None:
        """See `JobStore.close`."""
        self._engine.dispose()

    def add_key(self, key: ApiKey) -> None:
        """See `KeyStore.add_key`."""
        with self._transaction() as connection:
            connection.execute(insert(API_KEYS).values(asdict(key)))

    def key(self, key_id: str) -> ApiKey | None:
        """See `KeyStore.key`."""
        with self._transaction(reading=True) as connection:
            found = connection.execute(select(API_KEYS).where(API_KEYS.c.id == key_id)).mappings().first()
            return None if found is None else _api_key(found)

    def api_keys(self) -> list[ApiKey]:
        """See `KeyStore.api_keys`."""
        with self._transaction(reading=True) as connection:
            query = select(API_KEYS).order_by(API_KEYS.c.created, API_KEYS.c.id)
            return [_api_key(row) for row in connection.execute(query).mappings()]

    def replace_key(self, key: ApiKey) -> None:
        """See `KeyStore.replace_key`."""
        with self._transaction() as connection:
            changed = update(API_KEYS).where(API_KEYS.c.id == key.id).values(asdict(key))
            if not connection.execute(changed).rowcount:
                raise unknown_key(key.id)

    def _added_meanwhile(
        self, job: Job, key: IdempotencyKey | None, error: IntegrityError
    ) -> tuple[Job, bool]:
        """The job that another transaction stored under the same key since we looked."""
        with self._transaction(reading=True) as connection:
            known = _find_key(connection, job.kind, key) if key is not None else None
            if known is None:
                raise taken(job) from error
            return _get(connection, known), False

    def _write(
        self, connection: Connection, before: Job, after: Job, notes: Sequence[Note], blobs: Blobs | None
    ) -> Job:
        job, events = recorded(before, after, notes, self._clock())
        connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(_values(job)))
        _append(connection, job, events, blobs)
        return job

    @contextmanager
    def _transaction(self, *, reading: bool = False) -> Iterator[Connection]:
        with _translated(), self._engine.connect() as connection:
            if self._engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
            yield connection
            connection.commit()


def open_store(url: str, clock: Callable[[], float] = time.time) -> SqlStore:
    """The store at a database URL: `sqlite:///PATH` or `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.

    Raises SettingsError where the URL makes no sense, Unavailable where the database does not answer.
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            engine = _sqlite(parsed.database)
        elif parsed.get_backend_name() == "postgresql":
            engine = create_engine(
                parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=10, max_overflow=30
            )
        else:
            raise ArgumentError("the database is neither SQLite nor PostgreSQL")
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise SettingsError(
            f"The database URL cannot be used: {error}.",
            field="database",
            remedy="Write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME.",
        ) from error
    store = SqlStore(engine, clock)
    try:
        store.upgrade()
    except SalnasError:
        store.close()
        raise
    return store


def _sqlite(path: str | None) -> Engine:
    if not path or path == ":memory:":
        raise ArgumentError("SQLite needs a file, because the workers are processes of their own")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None, "check_same_thread": False},
        pool_size=10,
        max_overflow=30,
    )
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, record: object) -> None:
    _write_ahead(connection)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(connection: Any) -> None:
    # Of all statements this one alone does not wait for another process that does the same to a new file.
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, SQLAlchemyError) as error:
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise Unavailable(
            f"The database does not answer: {reason}.", remedy="Try again; see the log of the service."
        ) from error


def _get(connection: Connection, job_id: str, *, locked: bool = False) -> Job:
    if not job_id.isprintable():  # every id is, and PostgreSQL takes no NUL
        raise unknown(job_id)
    query: Select[Any] = select(JOBS).where(JOBS.c.id == job_id)
    row = connection.execute(query.with_for_update() if locked else query).mappings().first()
    if row is None:
        raise unknown(job_id)
    return _job(row)


def _waiting(connection: Connection, kind: JobKind) -> int:
    query = select(func.count()).where(JOBS.c.kind == kind, JOBS.c.state == JobState.QUEUED)
    return int(connection.execute(query).scalar_one())


def _find_key(connection: Connection, kind: JobKind, key: IdempotencyKey) -> str | None:
    query = select(KEYS.c.job_id, KEYS.c.digest).where(KEYS.c.kind == kind, KEYS.c.key == key.key)
    found = connection.execute(query).first()
    if found is None:
        return None
    if found.digest != key.digest:
        raise mismatch(key)
    return str(found.job_id)


def _append(connection: Connection, job: Job, events: Sequence[Event], blobs: Blobs | None) -> None:
    if events:
        connection.execute(insert(EVENTS), [asdict(item) for item in events])
    for name, content in (blobs or {}).items():
        connection.execute(delete(BLOBS).where(BLOBS.c.job_id == job.id, BLOBS.c.name == name))
        if content is not None:
            connection.execute(insert(BLOBS).values(job_id=job.id, name=name, content=content))


def _values(job: Job) -> dict[str, Any]:
    lease = job.lease
    return {
        "id": job.id,
        "kind": job.kind,
        "state": job.state,
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "request": dict(job.request),
        "attempts": job.attempts,
        "idle_claims": job.idle_claims,
        "cancel_requested": int(job.cancel_requested),
        "lease_worker": lease and lease.worker,
        "lease_token": lease and lease.token,
        "lease_expires": lease and lease.expires,
        "progress": job.progress and asdict(job.progress),
        "failure": job.failure and asdict(job.failure),
        "result": dict(job.result),
        "parent": job.parent,
        "events": job.events,
    }


def _api_key(row: RowMapping) -> ApiKey:
    values: dict[str, Any] = {**row}
    return ApiKey(**values | {"scope": Scope(values["scope"])})


def _job(row: RowMapping) -> Job:
    values: dict[str, Any] = {**row}
    worker, token, expires = (values.pop(f"lease_{name}") for name in ("worker", "token", "expires"))
    return Job(
        **values
        | {
            "kind": JobKind(values["kind"]),
            "state": JobState(values["state"]),
            "cancel_requested": bool(values["cancel_requested"]),
            "lease": None if token is None else Lease(worker, token, expires),
            "progress": values["progress"] and Progress(**values["progress"]),
            "failure": values["failure"] and Failure(**values["failure"]),
        }
    )
