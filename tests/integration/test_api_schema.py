"""The OpenAPI document is true: requests made from it, right and wrong, are answered as it says, and never by a 500."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from tallystick.api.app import create_app, openapi_document

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
DOCUMENT = openapi_document()
OPERATIONS = [(method.upper(), path) for path, operations in DOCUMENT["paths"].items() for method in operations]


@pytest.fixture(scope="module")
def asked(module_runtime):
    """What answers: one for all of these, so that each finds what those before it have left."""
    schema = schemathesis.openapi.from_dict(DOCUMENT)  # which a server would make again for each of these
    schema.app = create_app(module_runtime)
    return schema


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_operation_answers_as_documented(asked, method: str, path: str, mode: GenerationMode):
    @given(case=asked[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=8,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case) -> None:
        case.call_and_validate(checks=CHECKS)

    ask()


CONTRACT = """\
contract: acme-ai
version: "2026-10"
effective_from: 2026-09-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  review:
    title: Review a document
    price: {credits: 5}
plans:
  pro:
    title: Pro
    base: "10"
    commit: "100"
    prices:
      tokens_in: {graduated: [{up_to: 1000, unit: "0.10", per: 1_000_000}, {unit: "0.07", per: 1_000_000}]}
"""
EVENT = {
    "org_id": "globex", "request_id": "r-1", "time": "2026-10-05T12:00:00Z", "user_id": "u", "session_id": "s",
    "feature": "chat", "environment": "production", "provider": "openai", "model": "gpt-4o-mini",
    "meters": {"tokens_in": 5000, "tokens_out": 7},
}  # fmt: skip
READS = [
    ("/v1/orgs", {}, {}),
    ("/v1/orgs/{org_id}", {"org_id": "globex"}, {}),
    ("/v1/orgs/{org_id}/events", {"org_id": "globex"}, {"limit": 1}),
    ("/v1/orgs/{org_id}/invoices/preview", {"org_id": "globex"}, {"month": "2026-10"}),
    ("/v1/invoices", {}, {"month": "2026-10"}),
    ("/v1/invoices/{invoice_id}", {"invoice_id": "ID"}, {}),
    ("/v1/invoices/{invoice_id}/explain", {"invoice_id": "ID"}, {}),
    ("/v1/invoices/{invoice_id}/lines/{line}/requests", {"invoice_id": "ID", "line": 2}, {}),
    ("/v1/invoices/{invoice_id}/export", {"invoice_id": "ID"}, {"format": "json"}),
    ("/v1/invoices/{invoice_id}/export", {"invoice_id": "ID"}, {"format": "csv"}),
    ("/v1/contracts", {}, {}),
    ("/v1/contracts/{contract}", {"contract": "acme-ai"}, {}),
    ("/v1/rates/{provider}/{model}", {"provider": "openai", "model": "gpt-4o-mini"}, {}),
    ("/v1/versions", {}, {}),
]


def test_answers_with_something_in_them_fit_the_document(runtime):
    app = create_app(runtime)
    client = TestClient(app)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    assert client.get("/openapi.json").json() == DOCUMENT

    def check(method: str, path: str, status: int, **parts: object):
        answer = schema[path][method].Case(**parts).call_and_validate(checks=CHECKS)
        assert answer.status_code == status, answer.text
        return answer

    yaml = {"body": CONTRACT.encode(), "media_type": "application/yaml"}
    assert client.post("/v1/contracts", content=CONTRACT, headers={"Content-Type": "application/yaml"}).is_success
    check("POST", "/v1/contracts", 200, **yaml)
    check("POST", "/v1/contracts/check", 200, **yaml)
    plan = {"contract": "acme-ai", "plan": "pro", "effective_from": "2026-09-01T00:00:00Z"}
    org = {"org_id": "globex"}
    check("PUT", "/v1/orgs/{org_id}/subscription", 200, path_parameters=org, body=plan, media_type="application/json")
    quantities = {"contract": "acme-ai", "plan": "pro", "quantities": {"tokens_in": "5000.5", "tokens_out": 7}}
    check("POST", "/v1/quote", 200, body=quantities, media_type="application/json")
    check("POST", "/v1/events", 201, body=EVENT, media_type="application/json")
    check("POST", "/v1/events", 207, body=[EVENT, {}], media_type="application/json")
    check("POST", "/v1/events", 409, body={**EVENT, "latency_ms": 1}, media_type="application/json")
    client.post("/v1/events", json={**EVENT, "request_id": "r-2"})
    close = {"month": "2026-10", "orgs": ["globex", "nobody"]}
    closed = check("POST", "/v1/invoices/close", 207, body=close, media_type="application/json").json()
    client.post("/v1/events", json={**EVENT, "request_id": "late", "model": "imaginary"})
    invoice_id = closed["results"][0]["invoice_id"]
    for path, names, query in READS:
        named = {name: invoice_id if value == "ID" else value for name, value in names.items()}
        check("GET", path, 200, path_parameters=named, query=query)
    check("POST", "/v1/invoices/{invoice_id}/replay", 200, path_parameters={"invoice_id": invoice_id})
    usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
    answer = {"object": "chat.completion", "model": "gpt-4o-mini", "choices": [], "usage": usage}
    check("POST", "/v1/cost", 200, body=answer, media_type="application/json")
