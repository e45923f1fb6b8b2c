"""Answers about accounts fit the OpenAPI document when there is something in them, denials and settlements included."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts import asked, call, open_shop
from tallystick.api.app import create_app
from tallystick.app.runtime import Runtime

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
SIGNED = {"author": "ann", "reason": "a trial"}
OVERRIDE = {
    "request_id": "o1",
    "approved_by": "bob",
    "expires_at": "2026-12-01T00:00:00Z",
    "allow_models": ["*"],
    "credits": "3",
    **SIGNED,
}
READS = ("wallet", "wallet/entries", "holds", "limits", "actions", "budgets", "overrides")


def test_answers_about_accounts_fit_the_document(runtime: Runtime) -> None:
    open_shop(runtime, acme="wallet", initech="metered")
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(runtime))

    def check(method: str, path: str, status: int, org_id: str | None = None, **parts: Any) -> dict[str, Any]:
        names = parts.pop("names", {}) | ({} if org_id is None else {"org_id": org_id})
        if "body" in parts:
            parts["media_type"] = "application/json"
        case = schema[path][method].Case(path_parameters=names, **parts)
        answer = case.call_and_validate(checks=CHECKS)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    grant = {"request_id": "g1", "source": "promo", "credits": "100", "expires_at": "2026-12-01T00:00:00Z", **SIGNED}
    check("POST", "/v1/authorize", 402, body=asked("a0"))
    check("POST", "/v1/orgs/{org_id}/grants", 200, "acme", body=grant)
    budget = {"scope": "user", "per": "day", "kind": "hard", "max_usd": "5", "author": "ann"}
    check("PUT", "/v1/orgs/{org_id}/budgets/{name}", 200, "acme", names={"name": "each"}, body=budget)
    check("POST", "/v1/orgs/{org_id}/overrides", 200, "acme", body=OVERRIDE)
    limits = {**OVERRIDE, "limits": {"1": None}, "credits": None}
    check("POST", "/v1/orgs/{org_id}/overrides", 200, "initech", body=limits)
    held = check("POST", "/v1/authorize", 200, body=asked("a1", model="gpt-4o", meters={"tokens_in": 1000}))
    settle = {"org_id": "acme", "hold_id": held["hold"]["hold_id"], "outcome": "success", "events": [call()]}
    settled = check("POST", "/v1/settle", 200, body=settle)
    refund = {"org_id": "acme", "request_id": "f1", "settlement_id": settled["settlement_id"], **SIGNED}
    check("POST", "/v1/refunds", 200, body=refund)
    check("POST", "/v1/authorize", 200, body=asked("a2", work_key="d2", meters={"tokens_in": 5}, model="gpt-4o"))
    for org_id in ("acme", "initech"):
        for read in READS:
            check("GET", f"/v1/orgs/{{org_id}}/{read}", 200, org_id)
    check("PUT", "/v1/orgs/{org_id}/standing", 200, "acme", body={"suspended": "unpaid", "author": "ann"})
    check("POST", "/v1/authorize", 403, body=asked("a3"))
    last = check("GET", "/v1/orgs/{org_id}/wallet/entries", 200, "acme", query={"order": "newest", "limit": 1})
    for seq in range(1, last["entries"][0]["seq"] + 1):
        entry = check("GET", "/v1/orgs/{org_id}/entries/{seq}", 200, "acme", names={"seq": seq})
        assert entry["seq"] == seq
    query = {"author": "ann"}
    check("DELETE", "/v1/orgs/{org_id}/budgets/{name}", 200, "acme", names={"name": "each"}, query=query)
    check("GET", "/v1/versions", 200)
