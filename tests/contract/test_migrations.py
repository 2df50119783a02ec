"""The steps of the schema, run one after the other, give the tables that the code knows."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

from service.errors import Unavailable
from service.store import schema
from service.store.schema import HEAD, current
from service.store.sql import open_store
from service.store.tables import METADATA
from supernet.errors import SettingsError
from tests.fixtures.postgresql import postgresql

MIGRATIONS = Path(schema.__file__).parent / "migrations"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'jobs.db'}"
        return
    server: str = request.getfixturevalue("server")
    yield server
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()


def config(connection: Connection) -> Config:
    found = Config()
    found.set_main_option("script_location", str(MIGRATIONS))
    found.set_main_option("path_separator", "os")
    found.attributes["connection"] = connection
    return found


def test_a_database_of_a_newer_version_is_left_alone(url: str) -> None:
    open_store(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SettingsError, match="9999") as caught:
        open_store(url)
    assert caught.value.remedy
    with engine.connect() as connection:
        assert current(connection) == "9999"
    engine.dispose()


def test_the_newest_step_is_the_one_that_the_code_expects() -> None:
    found = Config()
    found.set_main_option("script_location", str(MIGRATIONS))
    found.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(found).get_heads() == [HEAD]


def test_the_steps_lead_to_the_tables_of_the_code(url: str) -> None:
    open_store(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert current(connection) == HEAD
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    engine.dispose()


def test_every_step_can_be_taken_back(url: str) -> None:
    open_store(url).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        command.downgrade(config(connection), "base")
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) <= {"alembic_version"}
        assert current(connection) is None
    engine.dispose()
    open_store(url).close()


def test_many_processes_may_start_at_once(url: str) -> None:
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def run() -> None:
        start.wait()
        try:
            open_store(url).close()
        except BaseException as error:  # handed to the test
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_start_waits_for_the_one_that_makes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")  # a change to write-ahead logging is refused while this lasts
    timer = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    timer.start()
    open_store(f"sqlite:///{path}").close()
    timer.join()
    other.close()


def test_what_is_no_database_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    path.write_bytes(b"no database" * 200)
    with pytest.raises(Unavailable, match="not a database"):
        open_store(f"sqlite:///{path}")
