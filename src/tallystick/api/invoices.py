"""Invoices: look ahead, close a month, list, show, explain, export and replay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Response
from starlette.concurrency import iterate_in_threadpool
from starlette.responses import JSONResponse, StreamingResponse

from tallystick.api.access import OwnOrg
from tallystick.api.context import InvoiceId, OpenRuntime, OrgId
from tallystick.api.invoice_shapes import (
    CloseAnswer,
    CloseRequest,
    CloseResult,
    Explanation,
    InvoicePage,
    InvoiceSummary,
    ReplayReport,
    RequestBehind,
    RequestsBehind,
)
from tallystick.api.openapi import problems
from tallystick.api.paging import page_after
from tallystick.api.strict import StrictRoute
from tallystick.app.close_month import MonthResult, close_month, preview_invoice
from tallystick.app.export import MEDIA_TYPES, ExportFormat, export_invoice
from tallystick.app.invoice_documents import DOCUMENT_MEDIA_TYPES, DocumentFormat, render_document
from tallystick.app.invoices import InvoiceRow, explain_invoice, list_invoices, requests_behind, show_invoice
from tallystick.app.operate import existing_org
from tallystick.app.proofs import proof_pieces
from tallystick.app.replay import replay_invoice
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.invoice.model import Invoice

router = APIRouter(tags=["invoices"], route_class=StrictRoute)

Piece = TypeVar("Piece", str, bytes)
Month = Annotated[str, Query(description="A calendar month, such as 2026-10.", examples=["2026-10"])]
MonthFilter = Annotated[str | None, Query(description="Only of this month, such as 2026-10.")]
Cursor = Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=128)]
Limit = Annotated[int, Query(description="Most invoices on the page.", ge=1, le=1000)]
DOCUMENT_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The invoice; docs/invoice.md describes every member and the digest.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Invoice"}}},
    }
}


@router.get("/v1/invoices", operation_id="list_invoices", summary="Closed months")
def get_invoices(
    runtime: OpenRuntime,
    own_org: OwnOrg,
    org_id: Annotated[str | None, Query(description="Only this org's.", max_length=512)] = None,
    month: MonthFilter = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> InvoicePage:
    """Closed months, newest first, of one org or of all. With a key of an org, its own."""
    rows = list_invoices(runtime, org_id=org_id if own_org is None else own_org, month=month)
    return _page(rows, cursor, limit)


@router.get(
    "/v1/orgs/{org_id:path}/invoices",
    operation_id="list_org_invoices",
    summary="Its closed months",
    responses=problems(404),
)
def get_org_invoices(
    runtime: OpenRuntime, org_id: OrgId, month: MonthFilter = None, cursor: Cursor = None, limit: Limit = 100
) -> InvoicePage:
    """Closed months of the org, newest first."""
    existing_org(runtime, org_id)
    return _page(list_invoices(runtime, org_id=org_id, month=month), cursor, limit)


def _page(rows: Sequence[InvoiceRow], cursor: str | None, limit: int) -> InvoicePage:
    page, next_cursor = page_after(rows, cursor, limit, name=lambda row: row.invoice_id)
    summaries = [
        InvoiceSummary(
            invoice_id=row.invoice_id,
            org_id=row.org_id,
            month=row.period,
            period_start=format_instant(row.period_start),
            period_end=format_instant(row.period_end),
            contract=row.contract,
            contract_version=row.contract_version,
            contract_sha256=row.contract_sha256,
            plan=row.plan,
            through_seq=row.through_seq,
            digest=row.digest,
            total_usd=cents_to_usd(row.total_cents),
            closed_at=format_instant(row.closed_at),
        )
        for row in page
    ]
    return InvoicePage(invoices=summaries, next_cursor=next_cursor)


@router.post(
    "/v1/invoices/close",
    operation_id="close_month",
    summary="Close a month",
    response_model_exclude_unset=True,
    responses={207: {"model": CloseAnswer, "description": "Some orgs' months could not be closed; each says why."}},
)
def post_close(runtime: OpenRuntime, asked: CloseRequest, response: Response) -> CloseAnswer:
    """One invoice for each org, stored once and never changed. Closing again gives the invoices that are there."""
    results = close_month(runtime, asked.month, asked.orgs, before_late_window=asked.before_late_window)
    counts = {status: sum(one.status == status for one in results) for status in ("closed", "already_closed", "failed")}
    if counts["failed"]:
        response.status_code = 207
    return CloseAnswer(month=asked.month, **counts, results=[_close_result(one) for one in results])


def _close_result(result: MonthResult) -> CloseResult:
    members: dict[str, Any] = {"org_id": result.org_id, "status": result.status}
    if result.invoice is not None:
        invoice = result.invoice
        members |= {
            "invoice_id": invoice.invoice_id,
            "plan": invoice.contract.plan,
            "events": invoice.ledger.events,
            "total_usd": invoice.totals.total_usd,
            "digest": invoice.digest,
        }
    if result.error is not None:
        members["error"] = result.error.as_dict()
    return CloseResult(**members)


@router.get(
    "/v1/invoices/{invoice_id}",
    operation_id="show_invoice",
    summary="A closed invoice",
    response_class=JSONResponse,
    responses={
        200: {
            "description": "The invoice as it was closed, and what arrived for its month since.",
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ShownInvoice"}}},
        },
        **problems(404),
    },
)
def get_invoice(runtime: OpenRuntime, own_org: OwnOrg, invoice_id: InvoiceId) -> JSONResponse:
    """The document, when it was closed, and the requests of its month that came too late for it. With a key of an org,
    without the section `internal`, which says what the requests cost us.
    """
    shown = show_invoice(runtime, invoice_id)
    late = [
        {
            "seq": one.seq,
            "request_id": one.request_id,
            "time": format_instant(one.time),
            "recorded_at": format_instant(one.recorded_at),
            "billed_on": one.billed_on,
        }
        for one in shown.late
    ]
    return JSONResponse(
        {
            "invoice": _document(shown.invoice, own_org),
            "closed_at": format_instant(shown.row.closed_at),
            "late_events": shown.late_events,
            "unbilled_events": shown.unbilled_events,
            "late": late,
        }
    )


@router.get(
    "/v1/invoices/{invoice_id}/explain",
    operation_id="explain_invoice",
    summary="How it came about",
    responses=problems(404),
)
def get_explanation(runtime: OpenRuntime, invoice_id: InvoiceId) -> Explanation:
    """Everything said is read from the closed invoice alone, and never changes."""
    invoice, explanation = explain_invoice(runtime, invoice_id)
    parts = asdict(explanation)
    for line in parts["lines"]:
        line["amount_usd"] = invoice.line(line["number"]).amount_usd
        line["month"] = invoice.month_of(invoice.line(line["number"]))
    return Explanation.model_validate({"invoice_id": invoice.invoice_id, "digest": invoice.digest, **parts})


@router.get(
    "/v1/invoices/{invoice_id}/lines/{line}/requests",
    operation_id="list_requests_behind_line",
    summary="The requests behind a line",
    responses=problems(404),
)
def get_requests_behind(
    runtime: OpenRuntime,
    invoice_id: InvoiceId,
    line: Annotated[int, Path(description="The line's number, from 1.", ge=1, le=10_000)],
    limit: Annotated[int, Query(description="Most requests.", ge=1, le=1000)] = 100,
) -> RequestsBehind:
    """A base fee and a true-up have none."""
    facts = requests_behind(runtime, invoice_id, line, limit=limit)
    requests = []
    for fact in facts:
        entry = fact.entry
        members = {name: getattr(entry, name) for name in RequestBehind.model_fields if hasattr(entry, name)}
        requests.append({**members, "meters": fact.meters})
    return RequestsBehind.model_validate({"invoice_id": invoice_id, "line": line, "requests": requests})


_EXPORT_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The invoice in the format asked for.",
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/Invoice"}},
            "text/plain": {"schema": {"type": "string"}},
        },
    },
    **problems(404),
}


@router.get(
    "/v1/invoices/{invoice_id}/export",
    operation_id="export_invoice",
    summary="As a file",
    response_class=StreamingResponse,
    responses=_EXPORT_RESPONSE,
)
def get_export(
    runtime: OpenRuntime,
    own_org: OwnOrg,
    invoice_id: InvoiceId,
    export_format: Annotated[
        ExportFormat,
        Query(
            alias="format",
            description="csv: one row per request, from the ledger; lines-csv: one per line; json; text: a page.",
        ),
    ] = "csv",
    for_customer: Annotated[bool, Query(description="Leave out what the requests cost us.")] = False,
) -> StreamingResponse:
    """The document, a page for a person, its lines, or every request behind it, however many those are. With a key of
    an org, always as for a customer.
    """
    pieces = export_invoice(runtime, invoice_id, export_format, for_customer=for_customer or own_org is not None)
    return StreamingResponse(_streamed(pieces), media_type=MEDIA_TYPES[export_format])


@router.get(
    "/v1/invoices/{invoice_id}/document",
    operation_id="render_document",
    summary="As a document",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The document in the format asked for; docs/documents.md describes each.",
            "content": {
                "application/pdf": {"schema": {"type": "string", "format": "binary"}},
                "text/html": {"schema": {"type": "string"}},
                **_EXPORT_RESPONSE[200]["content"],
            },
        },
        **problems(404),
    },
)
def get_document(
    runtime: OpenRuntime,
    own_org: OwnOrg,
    invoice_id: InvoiceId,
    document_format: Annotated[
        DocumentFormat,
        Query(alias="format", description="pdf, html, focus (cost and usage by FOCUS), or a format of the export."),
    ] = "pdf",
    for_customer: Annotated[bool, Query(description="Leave out what the requests cost us.")] = False,
) -> StreamingResponse:
    """The invoice for a person or a tool of finance. Of an issued invoice PDF, HTML and FOCUS are always the same
    bytes; one without a number is marked as a draft. With a key of an org, always as for a customer.
    """
    pieces = render_document(runtime, invoice_id, document_format, for_customer=for_customer or own_org is not None)
    return StreamingResponse(
        _streamed(pieces),
        media_type=DOCUMENT_MEDIA_TYPES[document_format],
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )


async def _streamed(pieces: Iterator[Piece]) -> AsyncIterator[Piece]:
    """The pieces, each made in a thread; a caller who leaves early leaves no connection behind."""
    try:
        async for piece in iterate_in_threadpool(pieces):
            yield piece
    finally:
        if isinstance(pieces, Generator):
            pieces.close()


@router.get(
    "/v1/invoices/{invoice_id}/proof",
    operation_id="invoice_proof",
    summary="Its proof",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "All that is needed to check the invoice offline; docs/proofs.md describes it.",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        **problems(404, 409),
    },
)
def get_proof(runtime: OpenRuntime, invoice_id: InvoiceId) -> StreamingResponse:
    """Entries, contract, and the signed log over them: `tally verify --proof FILE` checks it with no database."""
    return StreamingResponse(_streamed(proof_pieces(runtime, invoice_id)), media_type="application/json")


@router.post(
    "/v1/invoices/{invoice_id}/replay",
    operation_id="replay_invoice",
    summary="Compute it again",
    responses=problems(404),
)
def post_replay(runtime: OpenRuntime, invoice_id: InvoiceId) -> ReplayReport:
    """From raw facts and the versions it names, compared to the last bit. It takes seconds where facts are many."""
    return ReplayReport.model_validate(replay_invoice(runtime, invoice_id).as_dict())


@router.get(
    "/v1/orgs/{org_id:path}/invoices/preview",
    operation_id="preview_invoice",
    summary="What a month comes to so far",
    response_class=JSONResponse,
    responses={**DOCUMENT_RESPONSE, **problems(404)},
)
def get_preview(runtime: OpenRuntime, own_org: OwnOrg, org_id: OrgId, month: Month) -> JSONResponse:
    """The invoice as closing now would make it. Nothing is stored, and a month may still be running. With a key of an
    org, without the section `internal`.
    """
    return JSONResponse(_document(preview_invoice(runtime, org_id, month), own_org))


def _document(invoice: Invoice, own_org: str | None) -> dict[str, Any]:
    """The document; for who may know of one org alone, as for a customer."""
    document = invoice.document()
    if own_org is not None:
        del document["internal"]
    return document
