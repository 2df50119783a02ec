"""The API document against the API: thousands of requests made from it, good and bad, find no undocumented answer.

`SALNAS_FUZZ_SECONDS=300 pytest tests/integration/test_api_fuzz.py` looks longer: some thirty requests a second.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from service.keys import Scope, new_key
from service.main import create_app
from service.settings import Settings
from tests.fixtures.made_up import use_made_up_accuracy, write_made_up_results
from tests.fixtures.tiny import TINY

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
    """The address of a service on a free port, in a thread, and a key to it."""
    write_made_up_results(tmp_path / "results")
    use_made_up_accuracy(monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = Settings(
        results=tmp_path / "results",
        supernet=TINY,
        state=tmp_path / "state",
        port=port,
        max_evaluations=500,
        max_queue=100_000,
        keys="always",
        rate=100_000,
    )
    app = create_app(settings, search_processes=0)
    key, text = new_key("fuzz", Scope.ADMIN, 0.0)
    app.state.context.store.add_key(key)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}", text
    finally:
        app.state.context.leaving.set()
        server.should_exit = True
        thread.join()


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
    assert int(cases[1]) > 500 + 10 * SECONDS
