"""Documents of stored invoices: drafts until they are issued, and then the same bytes for ever."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from starlette.testclient import TestClient

from billing import OCTOBER, SELLER, billed_org, note, payment
from invoicing import apply, event, record, subscribe
from tallystick.api.app import create_app
from tallystick.app.close_month import close_month
from tallystick.app.invoice_actions import credit_invoice, record_payment
from tallystick.app.invoice_documents import DOCUMENT_FORMATS, DOCUMENT_MEDIA_TYPES, render_document
from tallystick.app.invoice_life import finalize_month
from tallystick.app.parties import set_profile
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, NotFound

HERE = "globex/2026-10"
PAGES = ("pdf", "html", "focus")
CONTRACT = SELLER.replace("  number_prefix", "  how_to_pay: [IBAN DE02 1203 0000 0000 2020 51]\n  number_prefix")


def profile(runtime: Runtime, name: str, language: str | None = None) -> None:
    set_profile(runtime, "globex", {"author": "ann", "name": name, **({"language": language} if language else {})})


def rendered(runtime: Runtime, document_format: str, reference: str = HERE) -> bytes:
    return b"".join(render_document(runtime, reference, document_format))


def test_an_issued_invoice_is_the_same_bytes_whatever_becomes_of_it(runtime: Runtime) -> None:
    (life,) = billed_org(runtime, contract=CONTRACT)
    assert life.account is not None
    before = {name: rendered(runtime, name) for name in PAGES}
    assert before["pdf"].startswith(b"%PDF-")
    page = before["html"].decode()
    assert all(said in page for said in ("ACME-2026-000001", "Acme Analytics Inc.", "IBAN DE02", "$10.00", life.digest))
    assert "DRAFT" not in page

    record_payment(runtime, life.invoice_id, payment("p1", "4"))
    credit_invoice(runtime, life.invoice_id, note("n1", "1"))
    profile(runtime, "Somebody else")
    record(runtime, [event("late")])
    assert {name: rendered(runtime, name, "ACME-2026-000001") for name in PAGES} == before


def test_a_document_names_who_was_billed_when_it_was_issued(runtime: Runtime) -> None:
    apply(runtime, CONTRACT)
    subscribe(runtime, "globex")
    record(runtime, [event("r1")])
    profile(runtime, "=Globex <b>GmbH</b>", "de-DE")
    close_month(runtime, OCTOBER, ["globex"], before_late_window=True)
    draft = rendered(runtime, "html").decode()
    assert "DRAFT" in draft
    assert "IBAN" not in draft
    finalize_month(runtime, OCTOBER, ["globex"], before_late_window=True)
    profile(runtime, "Renamed")
    page = rendered(runtime, "html").decode()
    assert "=Globex &lt;b&gt;GmbH&lt;/b&gt;" in page
    assert "10,00\xa0$" in page
    assert "Renamed" not in page
    row = next(csv.DictReader(io.StringIO(rendered(runtime, "focus").decode(), newline="")))
    assert (row["BillingAccountName"], row["InvoiceId"]) == ("'=Globex <b>GmbH</b>", "ACME-2026-000001")


def test_what_came_late_is_a_correction_in_its_own_month(runtime: Runtime) -> None:
    billed_org(runtime, contract=CONTRACT)
    record(runtime, [event("late", meters={"tokens_in": 50_000_000, "tool_calls": 25})])
    record(runtime, [event("next", time=datetime(2026, 11, 10, tzinfo=UTC), meters={"tool_calls": 6})])
    runtime.clock = lambda: datetime(2026, 12, 3, tzinfo=UTC)
    (second,) = close_month(runtime, "2026-11", ["globex"])
    assert second.invoice is not None, second.error
    rows = list(csv.DictReader(io.StringIO(rendered(runtime, "focus", "globex/2026-11").decode(), newline="")))
    assert sum(Fraction(row["BilledCost"]) for row in rows) == Fraction(second.invoice.totals.total_usd)
    late = [row for row in rows if row["ChargeClass"] == "Correction"]
    assert {row["ChargePeriodStart"] for row in late} == {"2026-10-01T00:00:00Z"}
    assert sum(Fraction(row["BilledCost"]) for row in late) > 0
    assert "Adjustment of October 2026" in rendered(runtime, "html", "globex/2026-11").decode()
    assert rendered(runtime, "pdf", "globex/2026-11").startswith(b"%PDF-")


def test_what_cannot_be_rendered_is_refused(runtime: Runtime) -> None:
    billed_org(runtime)
    with pytest.raises(BadInput) as refused:
        render_document(runtime, HERE, "docx")
    assert (refused.value.code, "pdf" in refused.value.next_step) == ("unknown_format", True)
    with pytest.raises(NotFound) as unknown:
        render_document(runtime, "ACME-2026-000999", "pdf")
    assert unknown.value.code == "unknown_invoice"


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:
    billed_org(runtime, contract=CONTRACT)
    with TestClient(create_app(runtime)) as opened:
        yield opened


def test_documents_over_http_are_those_of_the_command_line(client: TestClient, runtime: Runtime) -> None:
    (one,) = client.get("/v1/invoices").json()["invoices"]
    there = f"/v1/invoices/{one['invoice_id']}/document"
    for name in DOCUMENT_FORMATS:
        answer = client.get(there, params={"format": name})
        assert (answer.status_code, answer.headers["content-type"]) == (200, DOCUMENT_MEDIA_TYPES[name])
        assert answer.content == rendered(runtime, name)
    assert client.get(there).content == rendered(runtime, "pdf")
    assert "script" not in client.get(there, params={"format": "html"}).headers["content-security-policy"]
    refused = client.get(there, params={"format": "docx"})
    assert refused.status_code == 422
    missing = client.get("/v1/invoices/inv_none/document")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_invoice")
