"""The OpenAPI document says what everything is, and its examples are understood."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from service import schemas
from service.main import create_app
from service.settings import Settings

JSON = "application/json"
UNITS = {"seconds": "in s", "_ms": "in ms", "_mj": "in mJ", "_bytes": "in bytes", "resolution": "in pixels"}
"""What the description of a property says, by the end of its name."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = create_app(Settings(), search_processes=0).openapi()
    return found


def own_models(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The schemas of the document that are models of `service.schemas`."""
    known = {
        name
        for name, value in vars(schemas).items()
        if isinstance(value, type) and issubclass(value, BaseModel)
    }
    return {name: schema for name, schema in document["components"]["schemas"].items() if name in known}


def json_bodies(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each operation with a JSON body, and the model of that."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            if JSON in content:
                yield f"{method} {path}", content[JSON]["schema"]


def test_every_property_has_a_description_with_its_unit(document: dict[str, Any]) -> None:
    models = own_models(document)
    assert len(models) > 30
    for name, schema in models.items():
        assert schema.get("description"), name
        for field, about in schema.get("properties", {}).items():
            said = about.get("description", "")
            assert said, f"{name}.{field}"
            for ending, unit in UNITS.items():
                assert not field.endswith(ending) or unit in said, f"{name}.{field}: {said}"


def test_every_body_has_examples_that_are_understood(document: dict[str, Any]) -> None:
    bodies = dict(json_bodies(document))
    assert len(bodies) >= 6
    for operation, schema in bodies.items():
        name = schema["$ref"].rpartition("/")[2]
        examples = document["components"]["schemas"][name].get("examples", [])
        assert examples, operation
        for example in examples:
            getattr(schemas, name).model_validate(example)
            with pytest.raises(ValidationError):
                getattr(schemas, name).model_validate({**example, "unknown": 1})


@pytest.mark.parametrize(
    ("path", "method", "model"),
    [
        ("/v1/subnets:describe", "post", "SubnetDescription"),
        ("/v1/exports/{export_id}", "get", "ExportOut"),
        ("/v1/supernets/{supernet_id}", "get", "SupernetOut"),
        ("/v1/searches/{search_id}", "get", "SearchOut"),
    ],
)
def test_answers_are_typed(document: dict[str, Any], path: str, method: str, model: str) -> None:
    answer = document["paths"][path][method]["responses"]["200"]["content"][JSON]["schema"]
    assert answer["$ref"].endswith(f"/{model}")


@pytest.mark.parametrize(
    ("model", "field", "typed"),
    [
        ("ExportOut", "manifest", "ManifestOut"),
        ("SupernetOut", "card", "CardOut"),
        ("SearchOut", "request", "SearchRequestOut"),
    ],
)
def test_parts_of_answers_are_typed(document: dict[str, Any], model: str, field: str, typed: str) -> None:
    about = document["components"]["schemas"][model]["properties"][field]
    choices = [about, *about.get("anyOf", [])]
    assert f"#/components/schemas/{typed}" in [choice.get("$ref") for choice in choices]
