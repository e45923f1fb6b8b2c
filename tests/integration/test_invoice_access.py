"""What a customer's key may do with invoices: look at its own, by id and by number, and change none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from billing import VOID, billed_org, findings, money, note, payment
from conftest import NOW
from tallystick.api.app import create_app
from tallystick.app.invoice_actions import due_invoices
from tallystick.app.invoice_life import InvoiceLife
from tallystick.app.keys import create_key
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import TallyError
from tallystick.ledger.api_key import SCOPES

PROFILE = {"author": "ann", "name": "Else"}
CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/billing/finalize", {"month": "2026-10"}),
    ("POST", "/v1/invoices/{mine}/payments", payment("p", "1")),
    ("POST", "/v1/invoices/{mine}/credit-notes", note("n", "1")),
    ("POST", "/v1/invoices/{mine}/void", VOID),
    ("PUT", "/v1/orgs/globex/billing-profile", PROFILE),
    ("PUT", "/v1/orgs/new/test-clock", {"at": "2026-10-01T00:00:00Z", "author": "x"}),
    ("PUT", "/v1/orgs/globex/test-clock", {"at": "2026-10-01T00:00:00Z", "author": "x"}),
    ("POST", "/v1/orgs/globex/test-clock/advance", {"by": "1mo", "author": "x"}),
]


@pytest.fixture
def guarded(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """A server that keys are needed for."""
    settings = Settings(database_url=database_url, data_dir=tmp_path, require_keys=True)
    with open_runtime(settings, lambda: NOW) as opened:
        yield opened


@pytest.fixture
def lives(guarded: Runtime) -> list[InvoiceLife]:
    return billed_org(guarded, "globex", "initech")


@pytest.fixture
def client(guarded: Runtime, lives: list[InvoiceLife]) -> Iterator[TestClient]:
    key = create_key(guarded, org_id="globex", scopes=tuple(one for one in SCOPES if one != "admin"), author="ann")
    with TestClient(create_app(guarded), headers={"Authorization": f"Bearer {key.token}"}) as opened:
        yield opened


def test_a_customer_changes_nothing(client: TestClient, guarded: Runtime, lives: list[InvoiceLife]) -> None:
    for method, path, body in CHANGES:
        answer = client.request(method, path.format(mine=lives[0].invoice_id), json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing"), path
    assert money(guarded) == {"receivable": 1000, "revenue": -1000}
    assert findings(guarded) == []


def test_no_key_of_one_org_is_an_admins(guarded: Runtime, lives: list[InvoiceLife]) -> None:
    with pytest.raises(TallyError) as refused:
        create_key(guarded, org_id="globex", scopes=("admin",), author="ann")
    assert refused.value.code == "scope_needs_operator"


@pytest.mark.parametrize("way", ["", "/life", "/explain", "/export"])
def test_an_invoice_of_another_is_none(client: TestClient, lives: list[InvoiceLife], way: str) -> None:
    mine, other = lives
    for name in (other.invoice_id, "ACME-2026-000002", "initech/2026-10", "ACME-2026-000009", "inv_no"):
        answer = client.get(f"/v1/invoices/{name}{way}")
        assert answer.status_code == 404, (name, answer.text)
        if "/" not in name:
            assert answer.json()["code"] == "unknown_invoice"
            assert "initech" not in answer.text
    assert client.get(f"/v1/invoices/{mine.invoice_id}{way}").status_code == 200


@pytest.mark.parametrize("way", ["", "/life", "/export"])
def test_its_own_is_found_by_number(client: TestClient, lives: list[InvoiceLife], way: str) -> None:
    answer = client.get(f"/v1/invoices/ACME-2026-000001{way}")
    assert answer.status_code == 200
    assert answer.text == client.get(f"/v1/invoices/{lives[0].invoice_id}{way}").text


def test_lists_are_its_own(client: TestClient) -> None:
    for path in ("/v1/billing/invoices", "/v1/billing/due", "/v1/billing/due?format=csv", "/v1/billing/due?test=true"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "initech" not in answer.text
        assert "globex" in answer.text
        assert client.get(f"{path}{'&' if '?' in path else '?'}org_id=initech").status_code == 403
    assert client.get("/v1/orgs/initech/billing-profile").status_code == 403
    assert client.get("/v1/orgs/initech/test-clock").status_code == 403


def test_a_test_orgs_money_is_nobodys_and_no_other_is_made_one(client: TestClient, guarded: Runtime) -> None:
    operator = create_key(guarded, org_id=None, scopes=("admin",), author="ann").token
    bearer = {"Authorization": f"Bearer {operator}"}
    body = {"at": "2026-10-01T00:00:00Z", "author": "ann"}
    made = client.put("/v1/orgs/globex/test-clock", json=body, headers=bearer)
    assert (made.status_code, made.json()["code"]) == (409, "not_a_test_org")
    assert client.put("/v1/orgs/sandbox/test-clock", json=body, headers=bearer).status_code == 200
    to = {"contract": "acme", "plan": "pro"}
    assert client.put("/v1/orgs/sandbox/subscription", json=to, headers=bearer).status_code == 200
    done = client.post("/v1/orgs/sandbox/test-clock/advance", json={"by": "2mo", "author": "a"}, headers=bearer)
    assert [one["number"] for one in done.json()["invoiced"]] == ["TEST-ACME-2026-000001"]
    due = client.get("/v1/billing/due", headers=bearer).json()["due"]
    assert {one["org_id"] for one in due} == {"globex", "initech"}
    assert [one["org_id"] for one in due_invoices(guarded, "sandbox", tests=True)] == ["sandbox"]
    assert findings(guarded) == []
