"""Invoices as documents: a page as PDF or HTML, rows of FOCUS, and every other export; always the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from threading import Lock
from typing import Any, Final, Literal, get_args

import msgspec
import typst

from tallystick.app.export import FORMATS, MEDIA_TYPES, export_invoice
from tallystick.app.invoice_life import ShownLife, show_life
from tallystick.app.invoices import find_invoice
from tallystick.app.parties import find_profile
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.instants import parse_instant
from tallystick.invoice.documents.focus import focus_csv
from tallystick.invoice.documents.html import document_html
from tallystick.invoice.documents.issue import Issue, bill_to_party, seller_party
from tallystick.invoice.documents.view import View, document_view
from tallystick.invoice.model import Invoice, parse_invoice

DocumentFormat = Literal["csv", "lines-csv", "json", "text", "pdf", "html", "focus"]
DOCUMENT_FORMATS: Final[tuple[DocumentFormat, ...]] = get_args(DocumentFormat)
DOCUMENT_MEDIA_TYPES: Final[Mapping[str, str]] = {
    **{str(name): media_type for name, media_type in MEDIA_TYPES.items()},
    "pdf": "application/pdf",
    "html": "text/html; charset=utf-8",
    "focus": "text/csv; charset=utf-8; header=present",
}
_PRINTING = Lock()


def render_document(
    runtime: Runtime,
    reference: str,
    document_format: str = "pdf",
    *,
    for_customer: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Iterator[bytes]:
    """A stored invoice as a document, in one of `DOCUMENT_FORMATS`: pieces of a file. Errors are raised here.

    Of an issued invoice `pdf`, `html` and `focus` are always the same, byte for byte. One without a number is marked as
    a draft, and names the org's newest billing profile. The others are those of `export_invoice`.

    Args:
        reference: the invoice's id, number or ORG/MONTH.
        for_customer: leave out what the requests cost us; pages and FOCUS rows never say it.
        progress: called with the number of requests written since the last call.

    Raises:
        NotFound: `unknown_invoice`.
        BadInput: `unknown_format`.
        Unavailable: `database_unreachable`.
    """
    if document_format not in DOCUMENT_FORMATS:
        raise BadInput(
            "unknown_format",
            f"{document_format!r:.40} is not a format of an invoice",
            next_step=f"choose one of {', '.join(DOCUMENT_FORMATS)}",
            where="format",
        )
    invoice = parse_invoice(find_invoice(runtime, reference).document)
    if document_format in FORMATS:
        pieces = export_invoice(
            runtime, invoice.invoice_id, document_format, for_customer=for_customer, progress=progress
        )
        return _encoded(pieces)
    issue = _issue(runtime, show_life(runtime, invoice.invoice_id))
    if document_format == "focus":
        return _encoded(focus_csv(invoice, issue))
    view = document_view(invoice, issue)
    if document_format == "html":
        return iter([document_html(view).encode()])
    return iter([document_pdf(view, stamp_of(invoice, issue))])


def _encoded(pieces: Iterator[str]) -> Iterator[bytes]:
    """The pieces in UTF-8; closing it closes them."""
    try:
        for piece in pieces:
            yield piece.encode()
    finally:
        if isinstance(pieces, Generator):
            pieces.close()


def stamp_of(invoice: Invoice, issue: Issue) -> datetime:
    """The time that a PDF says it was made: when the invoice was issued, of a draft its period's end."""
    return issue.issued_at if issue.issued_at is not None else parse_instant(invoice.period.end)


def document_pdf(view: View, made_at: datetime) -> bytes:
    """The view as PDF: the same bytes for the same view and time, on whatever machine.

    Only fonts that come with the typesetter are used, never those of the machine.
    """
    made: bytes = _typeset(view, format="pdf", timestamp=made_at.astimezone(UTC).replace(microsecond=0))
    return made


def document_pages(view: View, *, ppi: float = 110) -> list[bytes]:
    """The pages of the PDF as PNG images."""
    pages = _typeset(view, format="png", ppi=ppi)
    return pages if isinstance(pages, list) else [pages]


def _typeset(view: View, **more: Any) -> Any:
    data = json.dumps(view, ensure_ascii=True, separators=(",", ":"))
    with _PRINTING:  # the typesetter's one world is for one document at a time
        return _typesetter(view["template"]).compile(sys_inputs={"view": data}, **more)


@cache
def _typesetter(template: str) -> typst.Compiler:
    """The typesetter for that template, which can read nothing beside it. No name comes from outside.

    It is given the file and not its text: of texts it numbers each one that it is given, and its numbers end.
    """
    folder = files("tallystick.invoice.documents") / "templates"
    return typst.Compiler(str(folder / f"{template.replace('/', '-')}.typ"), root=str(folder), ignore_system_fonts=True)


def _issue(runtime: Runtime, shown: ShownLife) -> Issue:
    """What the document says of how the invoice was issued."""
    life, account = shown.life, shown.life.account
    bill_to = shown.bill_to
    if account is None:
        try:
            bill_to = find_profile(runtime, life.org_id)
        except NotFound:
            bill_to = None
    profile = None if bill_to is None else bill_to.profile
    seller = shown.seller
    return Issue(
        bill_to=bill_to_party(life.org_id, None if profile is None else msgspec.to_builtins(profile)),
        number=None if account is None else account.number,
        issued_at=None if account is None else account.issued_at,
        due_at=None if account is None else account.due_at,
        entry_seq=None if account is None else account.seq,
        seller=seller_party(seller),
        how_to_pay=tuple(seller.get("how_to_pay", ())) if seller is not None else (),
        purchase_order=None if profile is None else profile.purchase_order,
        language=None if profile is None else profile.language,
        is_test=account is not None and account.is_test,
        applied=() if account is None else account.applied,
    )
