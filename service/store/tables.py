"""The tables of the job store, for SQLite and PostgreSQL alike. Times are seconds since 1970 (UTC)."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Time = Float(53).with_variant(DOUBLE_PRECISION(), "postgresql")
_Id = String(80)


def _job_id() -> Column[str]:
    return Column("job_id", _Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, primary_key=True)


JOBS = Table(
    "jobs",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("created", _Time, nullable=False),
    Column("started", _Time),
    Column("finished", _Time),
    Column("request", JSON, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("idle_claims", Integer, nullable=False),
    Column("cancel_requested", Integer, nullable=False),
    Column("lease_worker", String(200)),
    Column("lease_token", String(80)),
    Column("lease_expires", _Time),
    Column("progress", JSON(none_as_null=True)),
    Column("failure", JSON(none_as_null=True)),
    Column("result", JSON, nullable=False),
    Column("parent", _Id),
    Column("events", Integer, nullable=False),
    Index(None, "kind", "created", "id"),
    Index(None, "state", "created"),
)

EVENTS = Table(
    "events",
    METADATA,
    _job_id(),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("time", _Time, nullable=False),
    Column("kind", String(40), nullable=False),
    Column("data", JSON, nullable=False),
)

BLOBS = Table(
    "blobs",
    METADATA,
    _job_id(),
    Column("name", String(40), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

KEYS = Table(
    "idempotency_keys",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("kind", String(20), nullable=False),
    Column("key", String(200), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("job_id", _Id, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    UniqueConstraint("kind", "key"),
)

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("id", String(20), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("scope", String(20), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("created", _Time, nullable=False),
    Column("revoked", _Time),
)
