"""Brings a database to the schema of this version, once, however many processes start at the same time."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from supernet.errors import SettingsError

HEAD = "0002"
"""The newest step in `service.store.migrations.versions`."""

_VERSIONS = "alembic_version"
_LOCK = 7_254_113_021
"""Names the advisory lock of PostgreSQL that only this program takes."""


def current(connection: Connection) -> str | None:
    """The schema that a database has, None for an empty one."""
    if not inspect(connection).has_table(_VERSIONS):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {_VERSIONS}")).scalar()
    return None if found is None else str(found)


def upgrade(connection: Connection) -> None:
    """Apply the steps that are missing, inside the transaction of `connection`.

    Alembic is loaded only where a step is missing, so that a start costs one query. Raises SettingsError where
    a newer version has been here.
    """
    found = current(connection)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise SettingsError(
            f"The database was brought to schema {found} by a newer version; this one knows {HEAD}.",
            field="database",
            value=found,
            remedy="Run that version, or name another database with SALNAS_DATABASE.",
        )
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
