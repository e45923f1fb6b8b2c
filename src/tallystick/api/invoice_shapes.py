"""What is asked and answered about invoices; the document itself is described by `invoice.model`."""

from __future__ import annotations

from typing import Literal

from tallystick.api.shapes import Answer, Asked, Instant


class InvoiceSummary(Answer):
    """A closed month, without its lines. `total_usd` is what is due, to the cent."""

    invoice_id: str
    org_id: str
    month: str
    period_start: str
    period_end: str
    contract: str
    contract_version: str
    contract_sha256: str
    plan: str
    through_seq: int
    digest: str
    total_usd: str
    closed_at: str


class InvoicePage(Answer):
    """Closed months, newest first; `next_cursor` is null on the last page."""

    invoices: list[InvoiceSummary]
    next_cursor: str | None


class CloseRequest(Asked):
    """Which month to close, and of whom; without `orgs`, of everyone who is to be billed.

    `before_late_window`: do not wait for late usage, which is then for the next invoice.
    """

    month: str
    orgs: list[str] | None = None
    before_late_window: bool = False


class CloseResult(Answer):
    """What became of one org's month; `error` says why it `failed`."""

    org_id: str
    status: Literal["closed", "already_closed", "failed"]
    invoice_id: str | None = None
    plan: str | None = None
    events: int | None = None
    total_usd: str | None = None
    digest: str | None = None
    error: dict[str, str] | None = None


class CloseAnswer(Answer):
    """One result for each org. An org that cannot be closed harms no other."""

    month: str
    closed: int
    already_closed: int
    failed: int
    results: list[CloseResult]


class LineExplanation(Answer):
    """How one line came about; `amount_usd` is what it charges, to the cent, and `month` for which month."""

    number: int
    title: str
    month: str
    amount_usd: str
    sentences: list[str]


class Explanation(Answer):
    """How the invoice came about, in plain sentences with the arithmetic written out."""

    invoice_id: str
    digest: str
    terms: list[str]
    lines: list[LineExplanation]
    total: list[str]
    not_charged: list[str]
    wallet: list[str]
    evidence: list[str]


class RequestBehind(Answer):
    """One request behind a line, with all that it used."""

    seq: int
    request_id: str
    time: Instant
    user_id: str | None
    session_id: str | None
    feature: str
    environment: str
    provider: str | None
    model: str
    meters: dict[str, int]


class RequestsBehind(Answer):
    """The first requests behind a line, in the order of the ledger; an export in csv has them all."""

    invoice_id: str
    line: int
    requests: list[RequestBehind]


class Difference(Answer):
    """One thing that is not as it was when the invoice was closed."""

    where: str
    field: str
    stored: str | None
    recomputed: str | None


class ReplayReport(Answer):
    """What a replay found; `differences` spells out the first thousand, `difference_count` counts all.

    Of the `events`, `erased` have no personal data any more; everything but that was checked.
    """

    invoice_id: str
    org_id: str
    period: str
    identical: bool
    digest: str
    recomputed_digest: str | None
    events: int
    erased: int
    difference_count: int
    differences: list[Difference]
