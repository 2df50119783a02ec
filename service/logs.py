"""Logs for people (one line of text) or for machines (one JSON object a line), with request and job ids."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

_FIELDS = ("request", "job", "attempt", "milliseconds")


class _Json(logging.Formatter):
    """One JSON object a line; nothing in a message can begin a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_details(record),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _Text(logging.Formatter):
    """Time, level, message, and the ids behind it; lines that go on are marked, so that none can be forged."""

    def format(self, record: logging.LogRecord) -> str:
        details = " ".join(f"{name}={value}" for name, value in _details(record).items())
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        lines = [_shown(f"{time} {record.levelname.lower():7} {record.getMessage()} {details}".rstrip())]
        if record.exc_info:
            lines += [f"  | {_shown(line)}" for line in self.formatException(record.exc_info).split("\n")]
        return "\n".join(lines)


def set_up_logs(form: str) -> None:
    """Log to standard error as `text` or `json`."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _shown(text: str) -> str:
    """What a terminal would act on, or an editor take for the end of a line, written out."""
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text
    )


def _details(record: logging.LogRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
