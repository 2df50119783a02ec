"""The API document against the API: thousands of requests made from it, good and bad, find no undocumented answer.

`make fuzz` looks for two minutes and makes up at least 2,000.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.keys import Scope, new_key
from tests.fixtures.served import served_made_up

SECONDS = int(os.environ.get("SALNAS_FUZZ_SECONDS", "0"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "use_after_free",
    "ignored_auth",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """The address of a service on a free port, in a thread, and a key to it; it has no photos to measure on."""
    monkeypatch.setenv("SALNAS_DATA", str(tmp_path))
    limits = {"max_evaluations": 500, "max_queue": 100_000, "rate": 100_000}
    with served_made_up(tmp_path, keys="always", **limits) as (address, app):
        key, text = new_key("fuzz", Scope.ADMIN, 0.0)
        app.state.context.store.add_key(key)
        yield address, text


def test_no_request_finds_an_undocumented_answer(service: tuple[str, str], tmp_path: Path) -> None:
    address, key = service
    program = shutil.which("schemathesis", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("no schemathesis here; `make setup-dev` installs it")
    command = [
        program,
        "run",
        f"{address}/openapi.json",
        f"--checks={','.join(CHECKS)}",
        f"--max-time={SECONDS}" if SECONDS else "--max-examples=3",
        f"--header=Authorization: Bearer {key}",
        "--exclude-path-regex=/pack$",  # up to a hundred exports each, in this process
        "--continue-on-failure",
        "--seed=1",
        "--no-color",
    ]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    cases = re.search(r"(\d+) generated", done.stdout)
    assert cases is not None
    print(f"{cases[1]} requests made up, every answer documented")
    assert int(cases[1]) >= (2000 if SECONDS >= 120 else 500)
