"""Changes of plan over HTTP: when they hold, what they cost, and leaving."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from invoicing import apply
from tallystick.api.app import create_app
from tallystick.app.runtime import Runtime

CONTRACT = """
contract: acme
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
plans:
  small: {title: Small, base: "10"}
  large: {title: Large, base: "40"}
"""
PLACE = "/v1/orgs/globex/subscription"


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:
    apply(runtime, CONTRACT)
    with TestClient(create_app(runtime)) as opened:
        yield opened


def body(plan: str, **more: Any) -> dict[str, Any]:
    return {"contract": "acme", "plan": plan, **more}


def test_a_change_is_previewed_made_and_ended(client: TestClient) -> None:
    began = client.put(PLACE, json=body("small", effective_from="2026-11-01T00:00:00Z"))
    assert began.status_code == 200, began.text
    ahead = client.post(f"{PLACE}/preview", json=body("large")).json()
    assert (ahead["change"], ahead["month"], ahead["effective_from"]) == ("upgrade", "2026-11", "2026-11-02T12:00:00Z")
    # The 1st is small's: 10 × 1/30; from the 2nd on, large's: 40 × 29/30.
    assert [(line["plan"], line["days"], line["amount_usd"]) for line in ahead["after"]["lines"]] == [
        ("small", 1, "0.33"),
        ("large", 29, "38.67"),
    ]
    assert (ahead["before"]["total_usd"], ahead["difference_usd"], ahead["next_base_usd"]) == ("10.00", "29.00", "40")
    assert client.get("/v1/orgs/globex").json()["subscription"]["plan"] == "small"  # nothing was recorded

    assert client.put(PLACE, json=body("large")).json()["effective_from"] == "2026-11-02T12:00:00Z"
    down = client.put(PLACE, json=body("small")).json()
    assert (down["plan"], down["effective_from"]) == ("small", "2026-12-01T00:00:00Z")
    gone = client.delete(PLACE).json()
    assert (gone["subscription"]["plan"], gone["subscription"]["effective_from"]) == (None, "2026-12-01T00:00:00Z")
    assert client.delete(PLACE, params={"when": "period_end"}).json() == gone
    shown = client.get("/v1/orgs/globex/invoices/preview", params={"month": "2026-11"}).json()
    assert shown["totals"]["total_usd"] == "39.00"
    assert [(one["plan"], one["days"]) for one in shown["sections"]] == [("small", 1), ("large", 29)]


def test_what_cannot_be_is_refused_with_its_code(client: TestClient) -> None:
    both = client.put(PLACE, json=body("small", effective_from="2026-11-01T00:00:00Z", when="now"))
    assert (both.status_code, both.json()["code"]) == (422, "ambiguous_start")
    assert client.put(PLACE, json=body("small", when="tomorrow")).status_code == 422
    nobody = client.delete(PLACE)
    assert (nobody.status_code, nobody.json()["code"]) == (404, "unknown_org")
    unknown = client.post(f"{PLACE}/preview", json=body("gold"))
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_plan")
    assert client.get("/v1/orgs").json()["orgs"] == []
