"""Settings: frozen values read from the environment, refused where they make no sense.

Each setting is a field of `Settings`; its variable is the field's name in capitals after `SALNAS_`. Standard
library only, so that a command that needs no network answers at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from supernet.errors import SettingsError

PREFIX = "SALNAS_"
ROOT = Path(__file__).resolve().parents[1]

_ABOUT = "about"
_LOOPBACK = re.compile(r"127(\.\d{1,3}){3}|::1|localhost")
_ADDRESS = re.compile(r"[A-Za-z0-9.:-]{1,253}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_COUNTS = (
    "rate",
    "workers",
    "lease_seconds",
    "max_photo_bytes",
    "max_body_bytes",
    "max_queue",
    "max_streams",
    "max_evaluations",
    "cached_nets",
    "keep_days",
    "max_export_bytes",
)


@dataclass(frozen=True)
class Settings:
    """What the command line and the service need to know of the place where they run."""

    results: Path = field(default=ROOT / "results", metadata={_ABOUT: "folder of supernets/ and predictors/"})
    supernet: str = field(
        default="salnas-osie",
        metadata={_ABOUT: "id of the supernet that is searched unless another is named"},
    )
    device: str = field(
        default="cpu-1-thread", metadata={_ABOUT: "device whose latency is meant unless another is named"}
    )
    host: str = field(
        default="127.0.0.1",
        metadata={_ABOUT: "address the service listens on; any but loopback demands API keys"},
    )
    port: int = field(default=8000, metadata={_ABOUT: "port the service listens on"})
    state: Path = field(
        default=ROOT / "var", metadata={_ABOUT: "folder of the service's searches and exports"}
    )
    hosts: str = field(
        default="",
        metadata={
            _ABOUT: "names, separated by commas, that requests may call the service by; on loopback "
            "its own names are always among them"
        },
    )
    keys: str = field(
        default="auto", metadata={_ABOUT: "auto: demand API keys unless on loopback; always: there too"}
    )
    rate: int = field(default=50, metadata={_ABOUT: "requests a second that one API key may make"})
    logs: str = field(default="text", metadata={_ABOUT: "text for people, or json: one object a line"})
    database: str = field(
        default="", metadata={_ABOUT: "URL of the database of jobs; without one SQLite in the state folder"}
    )
    workers: int = field(default=1, metadata={_ABOUT: "searches that run at the same time"})
    ray: str = field(
        default="start",
        metadata={
            _ABOUT: "start: start Ray, or join RAY_ADDRESS, when the service is up; demand: at the first search on "
            "islands; off: compute islands without it"
        },
    )
    lease_seconds: int = field(
        default=30, metadata={_ABOUT: "time after which the job of a worker that fell silent goes to another"}
    )
    save_seconds: int = field(default=5, metadata={_ABOUT: "time between saved states of a search"})
    photos: str = field(
        default="", metadata={_ABOUT: "folder of photos that int8 exports are calibrated on; none without"}
    )
    max_photo_bytes: int = field(
        default=20_000_000, metadata={_ABOUT: "largest photo that the service accepts"}
    )
    max_body_bytes: int = field(
        default=1_000_000, metadata={_ABOUT: "largest JSON body that the service accepts"}
    )
    max_queue: int = field(
        default=100,
        metadata={
            _ABOUT: "most jobs that may wait, of each kind: searches, exports, measurements, devices, packs"
        },
    )
    max_streams: int = field(default=100, metadata={_ABOUT: "most streams of events at the same time"})
    max_evaluations: int = field(
        default=5_000_000, metadata={_ABOUT: "most evaluations of one search over HTTP"}
    )
    keep_days: int = field(
        default=30, metadata={_ABOUT: "age at which ended jobs and exported files are removed"}
    )
    max_export_bytes: int = field(
        default=5_000_000_000,
        metadata={_ABOUT: "most that exported files take together; the oldest go first"},
    )
    server: str = field(
        default="",
        metadata={_ABOUT: "URL of a service that commands ask; without one they work by themselves"},
    )
    api_key: str = field(default="", metadata={_ABOUT: "API key for that service"})
    cached_nets: int = field(default=8, metadata={_ABOUT: "extracted subnets that are kept in memory"})

    def __post_init__(self) -> None:
        for name in ("supernet", "device"):
            check_name(name, getattr(self, name))
        _require("port", self.port, 0 <= self.port <= 65535, "It is a number from 0 to 65535.")
        for name in _COUNTS:
            _require(name, getattr(self, name), getattr(self, name) >= 1, "It is at least 1.")
        _require("save_seconds", self.save_seconds, self.save_seconds >= 0, "It is 0 or above.")
        remedy = "Name an address, such as 127.0.0.1, ::1 or 0.0.0.0."
        _require("host", self.host, _ADDRESS.fullmatch(self.host) is not None, remedy)
        _require("keys", self.keys, self.keys in ("auto", "always"), "It is auto or always.")
        _require("ray", self.ray, self.ray in ("start", "demand", "off"), "It is start, demand or off.")
        _require("logs", self.logs, self.logs in ("text", "json"), "It is text or json.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        return _LOOPBACK.fullmatch(self.host) is not None

    @property
    def needs_keys(self) -> bool:
        """Whether clients must show an API key."""
        return self.keys == "always" or not self.is_local

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """The defaults, with what the environment says instead; SettingsError names a bad variable."""
        found = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for item in fields(cls):
            text = found.get(variable(item.name), "").strip()
            if text:
                values[item.name] = _parse(item.name, text, type(item.default))
        return cls(**values)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def describe_settings() -> list[tuple[str, str, str]]:
    """Variable, default and meaning of every setting, for documentation; paths relative to the repository."""
    lines = []
    for item in fields(Settings):
        default = item.default
        shown = default.relative_to(ROOT).as_posix() if isinstance(default, Path) else str(default)
        lines.append((variable(item.name), shown, str(item.metadata[_ABOUT])))
    return lines


def check_name(field_name: str, name: str) -> str:
    """`name` if it can be part of a file name and names no other folder; SettingsError otherwise."""
    remedy = "A name is made of letters, digits, dots, hyphens and underscores."
    _require(field_name, name, _NAME.fullmatch(name) is not None, remedy)
    return name


def _parse(name: str, text: str, kind: type) -> Any:
    if kind is int:
        remedy = "It is a whole number."
        _require(name, text, re.fullmatch(r"\d{1,15}", text) is not None, remedy)
        return int(text)
    return Path(text).expanduser() if issubclass(kind, Path) else text


def _require(name: str, value: Any, holds: bool, remedy: str) -> None:
    if not holds:
        raise SettingsError(
            f"{name} is {str(value)[:80]!r}.", field=name, value=str(value)[:80], remedy=remedy
        )
