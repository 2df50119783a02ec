"""What must hold without starting Ray: it is not imported, and mistakes are told."""

from __future__ import annotations

import subprocess
import sys

import pytest

from search.distributed import RayExecutor
from supernet.errors import SettingsError


def test_ray_is_imported_by_an_executor_only_when_entered() -> None:
    code = (
        "import sys, search.distributed as d, search.islands, search.verify; d.RayExecutor();"
        "assert not [m for m in sys.modules if m.partition('.')[0] == 'ray']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_machine_without_ray_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.setenv(name, "kept")
    with pytest.raises(SettingsError, match="pip install") as caught, RayExecutor():
        pass
    assert caught.value.field == "ray"


def test_no_workers_are_refused() -> None:
    with pytest.raises(SettingsError, match="0 workers"):
        RayExecutor(workers=0)
