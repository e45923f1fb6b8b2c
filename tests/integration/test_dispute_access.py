"""Disputes over HTTP: what a customer may do, what an operator decides, and the walls between orgs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from billing import findings, money
from conftest import NOW
from disputing import DECIDED, dispute, said, tiered_org, uphold
from journal_helpers import query, tamper
from sealed_ledger import copied, copyable
from tallystick.api.app import create_app
from tallystick.app.invoice_life import show_life
from tallystick.app.keys import create_key
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.seal import seal_once
from tallystick.app.settings import Settings
from tallystick.dispute.check import check_bundle


@pytest.fixture
def guarded(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """A server that keys are needed for; two orgs have a closed month."""
    settings = Settings(database_url=database_url, data_dir=tmp_path, require_keys=True)
    with open_runtime(settings, lambda: NOW) as opened:
        tiered_org(opened, "globex", "initech")
        yield opened


def client_of(runtime: Runtime, *scopes: str, org_id: str | None = "globex") -> TestClient:
    key = create_key(runtime, org_id=org_id, scopes=scopes, author="ann")
    return TestClient(create_app(runtime), headers={"Authorization": f"Bearer {key.token}"})


def codes(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_a_customer_disputes_and_the_operator_decides(guarded: Runtime) -> None:
    customer, operator = client_of(guarded, "disputes", "read"), client_of(guarded, "admin", org_id=None)
    invoice = show_life(guarded, "globex/2026-10").life.invoice_id
    body = said(invoice_id=invoice)
    answer = customer.post("/v1/disputes", json=body)
    assert (answer.status_code, answer.json()["disputed_usd"], answer.json()["differences"]) == (201, "20.00", 0)
    dispute_id = answer.json()["dispute_id"]
    again = customer.post("/v1/disputes", json=body)
    assert (again.status_code, again.json()["is_new"]) == (200, False)
    for step in ("review", "uphold", "reject"):
        assert codes(customer.post(f"/v1/disputes/{dispute_id}/{step}", json=DECIDED)) == (403, "scope_missing")
    assert operator.post(f"/v1/disputes/{dispute_id}/review", json={"author": "ann"}).json()["state"] == "under_review"
    upheld = operator.post(f"/v1/disputes/{dispute_id}/uphold", json={**DECIDED, "amount_usd": "4"})
    assert upheld.json()["credit_note_number"] == "ACME-CN-2026-000001"
    assert codes(customer.post(f"/v1/disputes/{dispute_id}/withdraw", json=DECIDED)) == (409, "dispute_decided")
    assert money(guarded)["dispute_expense"] == 400
    seal_once(guarded, everything=True)
    bundle = customer.get(f"/v1/disputes/{dispute_id}/bundle")
    assert bundle.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        assert check_bundle({name: archive.read(name) for name in archive.namelist()}).valid
    listed = customer.get("/v1/disputes").json()["disputes"]
    assert [one["dispute_id"] for one in listed] == [dispute_id]
    trail = query(
        guarded, "select act, actor_kind, author from administrative_acts where act = 'dispute' order by 1, 2"
    )
    assert len(trail) == 4  # opened, evidence, review, decision
    assert {kind for _, kind, _ in trail} == {"key"}
    assert findings(guarded) == []


def test_to_a_customer_another_orgs_disputes_invoices_and_requests_are_none(guarded: Runtime) -> None:
    customer, other = client_of(guarded, "disputes", "read"), client_of(guarded, "disputes", "read", org_id="initech")
    theirs = show_life(guarded, "initech/2026-10").life.invoice_id
    opened = other.post("/v1/disputes", json=said(invoice_id=theirs)).json()
    before = query(guarded, "select sum(last_seq) from org_heads")
    absent = "inv_" + "0" * 32
    bodies = [customer.post("/v1/disputes", json=said("x", invoice_id=name)) for name in (theirs, absent)]
    assert [codes(one) for one in bodies] == [(404, "unknown_invoice")] * 2
    texts = [one.json()["detail"].replace(theirs, "X").replace(absent, "X") for one in bodies]
    assert texts[0] == texts[1]
    assert codes(customer.post("/v1/disputes", json=said("x", invoice_id="initech/2026-10")))[0] == 404
    asked = said("x", org_id="initech", request_ids=["a"])
    assert codes(customer.post("/v1/disputes", json=asked)) == (404, "unknown_request")
    for path in ("", "/bundle"):
        assert codes(customer.get(f"/v1/disputes/{opened['dispute_id']}{path}")) == (404, "unknown_dispute")
        answer = customer.get(f"/v1/disputes/{opened['dispute_id']}{path}?org_id=initech")
        assert answer.status_code in (403, 404)
    path = f"/v1/disputes/{opened['dispute_id']}/withdraw"
    assert codes(customer.post(path, json=DECIDED)) == (404, "unknown_dispute")
    assert customer.get("/v1/disputes").json() == {"disputes": [], "next_cursor": None}
    assert query(guarded, "select sum(last_seq) from org_heads") == before
    reader = client_of(guarded, "read")
    assert codes(reader.post("/v1/disputes", json=said("x", invoice_id=theirs))) == (403, "scope_missing")
    assert codes(reader.get(f"/v1/disputes/{opened['dispute_id']}/bundle")) == (403, "scope_missing")


def test_pages_of_disputes_come_to_all_of_them_and_ids_are_an_orgs_own(guarded: Runtime) -> None:
    operator = client_of(guarded, "admin", org_id=None)
    for org_id in ("globex", "initech"):
        for number in range(3):
            body = said(f"d{number}", org_id=org_id, invoice_id=f"{org_id}/2026-10", amount_usd="1")
            assert operator.post("/v1/disputes", json=body).status_code == 201
    seen, cursor = [], None
    while True:
        query_of = {"limit": 2, **({} if cursor is None else {"cursor": cursor})}
        page = operator.get("/v1/disputes", params=query_of).json()
        seen += [(one["org_id"], one["request_id"]) for one in page["disputes"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted((org, f"d{number}") for org in ("globex", "initech") for number in range(3))
    dispute_id = operator.get("/v1/disputes?org_id=globex").json()["disputes"][0]["dispute_id"]
    assert codes(operator.get(f"/v1/disputes/{dispute_id}")) == (422, "org_needed")
    assert operator.get(f"/v1/disputes/{dispute_id}?org_id=initech").json()["org_id"] == "initech"
    assert codes(operator.get("/v1/disputes?cursor=x")) == (422, "invalid_cursor")
    assert codes(operator.get("/v1/disputes/h1")) == (422, "invalid_id")
    assert codes(operator.get("/v1/disputes/q99")) == (404, "unknown_dispute")


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("update disputes set upheld_cents = 1", "disputes: the dispute"),
        ("update disputes set state = 'rejected'", "disputes: the dispute"),
        ("delete from disputes", "disputes: the dispute"),
        ("update dispute_events set author = 'eve' where step = 'upheld'", "dispute_events"),
        ("delete from dispute_events where step = 'evidence'", "dispute_events"),
        ("update dispute_evidence set document = replace(document, '20.00', '30.00')", "dispute_evidence"),
        ("delete from dispute_evidence", "is missing"),
        ("delete from ledger_entries where kind = 'credit_note'", "what it gives back is missing"),
        ("insert into dispute_events values ('ghost', 1, 1, 'opened', now(), 'x', 'x')", "ghost"),
    ],
)
def test_what_is_kept_of_disputes_cannot_be_changed_unseen(
    server_url: str, decided: tuple[str, Path], tmp_path: Path, statement: str, finding: str
) -> None:
    with copied(server_url, *decided, tmp_path / "data") as ledger:
        tamper(ledger.database.url, statement)
        told = findings(ledger)
        assert any(finding in one for one in told), told


@pytest.fixture(scope="module")
def decided(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A dispute that was upheld in part."""

    def fill(runtime: Runtime) -> None:
        (life,) = tiered_org(runtime)
        uphold(runtime, dispute(runtime, invoice_id=life.invoice_id), amount_usd="5")
        assert findings(runtime) == []

    folder = tmp_path_factory.mktemp("decided")
    with copyable(server_url, folder, NOW, fill) as name:
        yield name, folder


def test_tenants_see_their_own_disputes_alone_and_write_none_of_them(guarded: Runtime) -> None:
    client_of(guarded, "disputes").post("/v1/disputes", json=said(invoice_id="globex/2026-10"))
    for table in ("disputes", "dispute_events", "dispute_evidence"):
        with guarded.database.org("globex") as connection:
            assert connection.execute(f"select distinct org_id from {table}".encode()).fetchall() == [("globex",)]
        with guarded.database.org("initech") as connection:
            assert connection.execute(f"select org_id from {table}".encode()).fetchall() == []
    for statement in ("update disputes set state = 'upheld'", "delete from dispute_evidence"):
        with pytest.raises(psycopg.Error), guarded.database.org("globex") as connection:
            connection.execute(statement.encode())
