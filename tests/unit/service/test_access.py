from __future__ import annotations

import base64
import json
import logging
import sys
from typing import Any

import pytest

from service.access import Access
from service.errors import Forbidden, TooManyRequests, Unauthorised
from service.keys import Scope, new_key, split_key
from service.logs import _Json, _Text
from service.store.memory import MemoryStore
from service.trust import Guard, allowed_hosts
from supernet.errors import SettingsError


def made(scope: Scope = Scope.READ) -> tuple[MemoryStore, str]:
    """A store with one key, and the text of the key."""
    store = MemoryStore()
    key, text = new_key("test", scope, 1.0)
    store.add_key(key)
    return store, text


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


# --- keys -----------------------------------------------------------------------------------------------


def test_what_is_stored_does_not_hold_the_secret() -> None:
    key, text = new_key("test", Scope.READ, 1.0)
    parts = split_key(text)
    assert parts is not None
    assert parts[0] == key.id
    assert parts[1] not in repr(key)
    assert key.opened_by(parts[1])
    assert not key.opened_by(parts[1][:-1] + ("B" if parts[1].endswith("A") else "A"))
    assert not key.revoke(2.0).opened_by(parts[1])
    assert key.revoke(2.0).revoke(3.0).revoked == 2.0


def test_scopes_contain_each_other() -> None:
    assert [[have.allows(want) for want in Scope] for have in Scope] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 65, "-a", "é"])
def test_a_key_has_a_printable_name(name: str) -> None:
    with pytest.raises(SettingsError):
        new_key(name, Scope.READ, 1.0)


# --- access ---------------------------------------------------------------------------------------------


def test_a_key_opens_the_service() -> None:
    store, text = made()
    access = Access(store, required=True)
    for header in (f"Bearer {text}", f"bearer {text}", basic(text)):
        key = access.check(header, Scope.READ)
        assert key is not None
        assert key.name == "test"
    assert access.any_key()


def test_nothing_else_does() -> None:
    store, text = made()
    access = Access(store, required=True)
    other = new_key("other", Scope.ADMIN, 1.0)[1]
    headers = [
        None,
        "",
        "Bearer",
        text,
        f"Bearer {text}x",
        f"Bearer {text[:-1]}",
        f"Bearer {other}",
        f"Token {text}",
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff\xfe").decode(),
        "Basic é",
        basic(""),
        "Bearer salnas_' OR 1=1 --",
    ]
    for header in headers:
        with pytest.raises(Unauthorised) as caught:
            access.check(header, Scope.READ)
        assert text not in str(caught.value)


def test_a_revoked_key_opens_nothing() -> None:
    store, text = made()
    store.replace_key(store.api_keys()[0].revoke(2.0))
    access = Access(store, required=True)
    with pytest.raises(Unauthorised):
        access.check(f"Bearer {text}", Scope.READ)
    assert not access.any_key()


def test_a_key_with_a_small_scope_is_told_so() -> None:
    store, text = made(Scope.READ)
    with pytest.raises(Forbidden, match="may read, not submit"):
        Access(store, required=True).check(f"Bearer {text}", Scope.SUBMIT)


def test_where_no_key_is_demanded_none_is_looked_at() -> None:
    assert Access(MemoryStore(), required=False).check("Bearer nonsense", Scope.ADMIN) is None


def test_a_client_that_asks_too_fast_waits() -> None:
    store, text = made()
    now = [0.0]
    access = Access(store, required=True, rate=2.0, burst=3.0, clock=lambda: now[0])

    def allowed() -> int:
        count = 0
        while True:
            try:
                access.check(f"Bearer {text}", Scope.READ)
            except TooManyRequests:
                return count
            count += 1

    assert allowed() == 3
    now[0] = 1.0
    assert allowed() == 2
    now[0] = 100.0
    assert allowed() == 3


# --- hosts and origins ----------------------------------------------------------------------------------


async def _nothing(*_: Any) -> None:
    return None


def refused(method: str, hosts: frozenset[str] | None, **headers: str) -> str | None:
    """The field that a guard names, None where the request passes."""
    found = Guard(_nothing, hosts)._refusal(method, {k.encode(): v for k, v in headers.items()})
    return found and found[1]


LOCAL = allowed_hosts("", loopback=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]:8000"])
def test_the_service_is_called_by_its_names(host: str) -> None:
    assert refused("GET", LOCAL, host=host) is None


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "[::1", "a@b"]
)
def test_a_name_bound_anew_is_refused(host: str) -> None:
    assert refused("GET", LOCAL, host=host) == "Host"


def test_names_can_be_added() -> None:
    named = allowed_hosts(" nas.lan , Other ", loopback=True)
    assert refused("GET", named, host="nas.lan:80") is None
    assert refused("GET", named, host="other") is None
    assert refused("GET", named, host="third") == "Host"
    assert allowed_hosts("", loopback=False) is None
    assert refused("GET", None, host="anything") is None


def test_pages_of_others_may_not_change_anything() -> None:
    host = "127.0.0.1:8000"
    assert refused("POST", LOCAL, host=host) is None
    assert refused("POST", LOCAL, host=host, origin="http://127.0.0.1:8000") is None
    assert refused("POST", LOCAL, host=host, origin="http://evil.example") == "Origin"
    assert refused("POST", LOCAL, host=host, origin="http://127.0.0.1:9999") == "Origin"
    for strange in ("null", "", "http://[", "http://[x]:1", "//"):
        assert refused("POST", LOCAL, host=host, origin=strange) == "Origin"
    assert refused("POST", None, host="", origin="null") == "Origin"
    assert refused("GET", LOCAL, host=host, origin="http://evil.example") is None


# --- logs -----------------------------------------------------------------------------------------------


def record(message: str, **details: Any) -> logging.LogRecord:
    found = logging.LogRecord("service.x", logging.WARNING, __file__, 1, message, (), None)
    for name, value in details.items():
        setattr(found, name, value)
    return found


def test_a_line_of_json_for_machines() -> None:
    line = _Json().format(record("a\nb", job="j1", request="r1"))
    content = json.loads(line)
    assert "\n" not in line
    assert (content["level"], content["message"], content["job"], content["request"]) == (
        "warning",
        "a\nb",
        "j1",
        "r1",
    )
    assert "attempt" not in content


def test_a_line_of_text_for_people() -> None:
    line = _Text().format(record("a\r\nforged", job="j1"))
    assert line.endswith("warning a\\r\\nforged job=j1")


FORGED = "a\x1b[2J\x07\u2028b\x85c\x0bd\x0ce\u2029f\u202eg\udc80h\r12:00:00 info    GET / 200"


def test_nothing_in_a_message_ends_its_line_or_moves_the_cursor() -> None:
    line = _Text().format(record(FORGED, job="j\u2028k"))
    assert line.isprintable()
    assert "\\x1b[2J" in line
    assert line.endswith("job=j\\u2028k")
    assert "Grüße 漢字 →" in _Text().format(record("Grüße 漢字 →"))


def test_nothing_in_an_exception_looks_like_a_line_of_the_log() -> None:
    def fail() -> None:
        raise ValueError(f"{FORGED}\n12:00:00 info    GET / 200")

    try:
        fail()
    except ValueError:
        found = record("failed")
        found.exc_info = sys.exc_info()
    first, *others = _Text().format(found).split("\n")
    assert first.endswith("warning failed")
    assert others[-1] == "  | 12:00:00 info    GET / 200"
    assert all(line.startswith("  | ") and line.isprintable() for line in others)
