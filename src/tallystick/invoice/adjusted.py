"""What adjustments do to a month: they add to its sums, and stand among its requests as rows of their own."""

from __future__ import annotations

from typing import Final

from tallystick.invoice.facts import StoredFact
from tallystick.invoice.usage import PeriodSums
from tallystick.invoice.wallet import MOVING_KINDS, ReadBody, WalletMonth
from tallystick.ledger.adjustment import ADJUSTMENT
from tallystick.ledger.entry import Entry
from tallystick.ledger.operation_body import decode_body, read_body

COUNTED_KINDS: Final = (*MOVING_KINDS, ADJUSTMENT)
"""The operations that an invoice looks at: those that may move credits, and those that change what was used."""


def add_operation(
    sums: PeriodSums, wallet: WalletMonth, kind: str, body: str | None, section: int, *, read: ReadBody = decode_body
) -> None:
    """One operation of the period, to the sums of its section or to the wallet; see `WalletMonth.add`.

    Raises:
        ValueError: its body is not that of such an operation.
    """
    if kind == ADJUSTMENT:
        request, _ = read(kind, body or "")
        sums.add_adjustment(request)
    else:
        wallet.add(kind, body, section, read=read)


def adjusted_fact(entry: Entry) -> StoredFact:
    """An adjustment's entry as a row among requests: its quantities and its cost, which may be below nothing.

    Raises:
        ValueError: its body is not that of an adjustment.
    """
    request, _ = read_body(entry.kind, entry.body or "")
    lines = request.lines
    return StoredFact(
        entry._replace(
            outcome=request.outcome,
            usage_status="final",
            meter_names=[line.meter for line in lines if line.quantity],
            meter_quantities=[line.quantity for line in lines if line.quantity],
            price_context={},
            payer=None if request.payer == "seller" else request.payer,
            cost_pico=request.cost_pico,
            line_meters=[line.meter for line in lines],
            line_quantities=[line.quantity for line in lines],
            line_price_pico=[None] * len(lines),
            line_per=[None] * len(lines),
            line_amount_pico=[line.cost_pico for line in lines],
        ),
        None,
    )
