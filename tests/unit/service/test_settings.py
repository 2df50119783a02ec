from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import Settings, describe_settings, variable
from supernet.errors import SettingsError


def test_defaults_stand_where_the_environment_says_nothing() -> None:
    assert Settings.from_environment({"SALNAS_PORT": " ", "OTHER": "x"}) == Settings()


def test_the_environment_replaces_defaults() -> None:
    found = Settings.from_environment(
        {"SALNAS_PORT": "9000", "SALNAS_RESULTS": "~/r", "SALNAS_SUPERNET": "own.1"}
    )
    assert (found.port, found.supernet) == (9000, "own.1")
    assert found.results == Path.home() / "r"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "65536"),
        ("port", "-1"),
        ("port", "8e3"),
        ("cached_nets", "0"),
        ("supernet", "../other"),
        ("supernet", "a/b"),
        ("device", ".hidden"),
        ("host", "a b"),
        ("host", "http://here"),
        ("keys", "never"),
        ("logs", "xml"),
        ("rate", "0"),
    ],
)
def test_nonsense_is_refused_with_its_name(name: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment({variable(name): text})
    assert caught.value.field == name
    assert text in str(caught.value.value)
    assert caught.value.remedy


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_this_machine_no_keys_are_needed(host: str) -> None:
    assert not Settings(host=host).needs_keys
    assert Settings(host=host, keys="always").needs_keys


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "127.0.0.1.example.org", "localhost.lan"])
def test_other_machines_need_keys(host: str) -> None:
    assert Settings(host=host).needs_keys


def test_every_setting_is_described() -> None:
    described = {name: default for name, default, about in describe_settings() if about}
    assert described["SALNAS_RESULTS"] == "results"
    assert {variable(name) for name in Settings.__dataclass_fields__} == set(described)
