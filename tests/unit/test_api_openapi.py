"""The OpenAPI document is committed, current, and says what the program does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tallystick.api.app import openapi_document
from tallystick.api.event_bodies import EVENT_TYPES
from tallystick.api.event_schema import USAGE_EVENT
from tallystick.usage.event import UsageEvent
from tallystick.usage.event_problems import MANDATORY

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = openapi_document()
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]


def test_the_committed_document_is_current():
    committed = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    assert committed == DOCUMENT, "run: python -m tallystick.api > docs/openapi.json"


def test_the_documented_event_is_the_event():
    assert set(USAGE_EVENT["properties"]) == set(UsageEvent.__struct_fields__)
    assert set(USAGE_EVENT["required"]) == set(MANDATORY)


def test_every_form_of_events_is_documented():
    content = DOCUMENT["paths"]["/v1/events"]["post"]["requestBody"]["content"]
    assert tuple(content) == EVENT_TYPES


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_operation_has_a_name_a_summary_its_problems_and_a_request_id(name: str, operation: dict):
    assert operation["operationId"].isidentifier()
    assert operation["summary"]
    assert operation["description"]
    for status, response in operation["responses"].items():
        assert "Request-Id" in response["headers"], (name, status)
        if status == "default" or status >= "400":
            kinds = set(response["content"])
            assert kinds == {"application/problem+json"} or (name, status) == ("GET /readyz", "503")


def test_names_of_operations_are_unique():
    names = [operation["operationId"] for _, operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere_and_every_schema_is_used():
    text = json.dumps(DOCUMENT)
    schemas = DOCUMENT["components"]["schemas"]
    used = {name for name in schemas if f'"#/components/schemas/{name}"' in text}
    assert used == set(schemas)
    assert text.count('"$ref"') == sum(text.count(f'"#/components/schemas/{name}"') for name in schemas)


def test_every_address_is_in_the_guide():
    guide = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    missing = [path for path in DOCUMENT["paths"] if f"`{path}`" not in guide and f" {path}`" not in guide]
    assert missing == []
