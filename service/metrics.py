"""Counters and histograms in the text format of Prometheus."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Gauge:
    """A value read when somebody asks."""

    name: str
    about: str
    values: Iterable[tuple[Mapping[str, str], float]]


class Metrics:
    """Requests counted and timed by route; any thread may write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[Labels, int] = {}
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        labels = (("method", method), ("route", route), ("status", str(status)))
        with self._lock:
            self._requests[labels] = self._requests.get(labels, 0) + 1
            counts = self._buckets.setdefault(route, [0] * (len(BUCKETS) + 1))
            counts[sum(bound < seconds for bound in BUCKETS)] += 1
            self._seconds[route] = self._seconds.get(route, 0.0) + seconds

    def text(self, gauges: Iterable[Gauge] = ()) -> str:
        """All metrics, with the gauges given."""
        with self._lock:
            requests = dict(self._requests)
            buckets = {route: list(counts) for route, counts in self._buckets.items()}
            seconds = dict(self._seconds)
        lines = _header("salnas_http_requests_total", "counter", "Requests answered.")
        lines += [
            f"salnas_http_requests_total{_labels(labels)} {n}" for labels, n in sorted(requests.items())
        ]
        lines += _header("salnas_http_request_seconds", "histogram", "Time to answer a request.")
        for route, counts in sorted(buckets.items()):
            lines += _histogram(route, counts, seconds[route])
        for gauge in gauges:
            lines += _header(gauge.name, "gauge", gauge.about)
            lines += [f"{gauge.name}{_labels(labels.items())} {value:g}" for labels, value in gauge.values]
        return "\n".join(lines) + "\n"


def _histogram(route: str, counts: list[int], seconds: float) -> list[str]:
    name = "salnas_http_request_seconds"
    lines, total = [], 0
    for bound, count in zip([*map(str, BUCKETS), "+Inf"], counts, strict=True):
        total += count
        lines.append(f"{name}_bucket{_labels([('route', route), ('le', bound)])} {total}")
    labels = _labels([("route", route)])
    return [*lines, f"{name}_sum{labels} {seconds:.6f}", f"{name}_count{labels} {total}"]


def _header(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]


def _labels(labels: Iterable[tuple[str, str]]) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{inside}}}" if inside else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
