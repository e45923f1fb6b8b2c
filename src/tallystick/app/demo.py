"""The demonstration: a simulated month through the same use cases that a real one goes through.

It has a data directory of its own and starts from nothing each time. Time is simulated too: the clock stands
where the traffic does, so that the month can be closed whatever the day.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from tallystick.app.close_month import close_month
from tallystick.app.contract_files import reference_text
from tallystick.app.contracts import apply_contract
from tallystick.app.export import ExportFormat, export_invoice
from tallystick.app.ingest import ingest_events
from tallystick.app.invoices import show_invoice
from tallystick.app.orgs import set_subscription
from tallystick.app.replay import ReplayReport, replay_invoice
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import BadInput
from tallystick.core.money import cents_to_usd
from tallystick.core.periods import Period, month_period
from tallystick.invoice.model import Invoice
from tallystick.journal.reset import drop_database
from tallystick.journal.server import EmbeddedServer
from tallystick.simulate.traffic import CUSTOMERS, Arrival, Customer, simulate_month

EVENTS_MAX = 5_000_000
_BATCH = 2_500
_CLOSE_AFTER = timedelta(days=3)  # long enough for most late events, and some come later still
_SUFFIXES: dict[ExportFormat, str] = {"json": ".json", "csv": ".requests.csv", "lines-csv": ".csv", "text": ".txt"}

Step = Callable[[str, int | None], Callable[[int], object]]
"""Begins a step with its name and how much there is to do, and gives what to call as it advances."""


@dataclass(slots=True)
class _TakenIn:
    """What became of the messages sent."""

    results: Counter[str] = field(default_factory=Counter)
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demonstration did.

    Attributes:
        results: what became of the messages sent: accepted, duplicate, conflict, rejected.
        unpriced: accepted events that no rate card could price.
        invoices: one for each customer, with the number of events that came too late for it.
        replayed: the replay of the last of them.
        files: what was written.
    """

    month: str
    seed: int
    data_dir: Path
    output_dir: Path
    results: dict[str, int]
    unpriced: int
    invoices: tuple[tuple[Customer, Invoice, int], ...]
    replayed: ReplayReport
    files: tuple[Path, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {
            "month": self.month,
            "seed": self.seed,
            "data_dir": str(self.data_dir),
            "results": self.results,
            "unpriced": self.unpriced,
            "invoices": [
                {"org_id": customer.org_id, "plan": customer.plan, "invoice_id": invoice.invoice_id,
                 "total_usd": cents_to_usd(invoice.total_cents), "late_events": late, "digest": invoice.digest}
                for customer, invoice, late in self.invoices
            ],
            "replay": self.replayed.as_dict(),
            "files": [str(path) for path in self.files],
        }  # fmt: skip


class _SimulatedClock:
    """A clock that stands where it was last put."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def run_demo(settings: Settings, output_dir: Path, *, month: str, seed: int, events: int, step: Step) -> DemoReport:
    """Simulate, bill and replay one month; `step` is told of the progress.

    Raises:
        BadInput: `invalid_month`, `invalid_number` (of events), or `output_unusable`.
        Unavailable: the embedded database cannot be started.
    """
    period = month_period(month)
    if not 1 <= events <= EVENTS_MAX:
        raise BadInput(
            "invalid_number",
            f"{events:,} events is not from 1 to {EVENTS_MAX:,}",
            next_step="choose another number",
            where="--events",
        )
    _make_folder(output_dir)
    # What the operator has set for real data is no business of the demonstration's, nor are their folders.
    demo = Settings.model_construct(data_dir=settings.data_dir / "demo")
    # A day before the month begins in UTC it has begun nowhere on earth.
    begins = period.start - timedelta(days=1)
    clock = _SimulatedClock(begins)
    advance = step("starting PostgreSQL", None)
    with EmbeddedServer(demo.data_dir) as url:
        drop_database(url)
        _forget_files(demo.data_dir)
        with open_runtime(demo, clock) as runtime:
            runtime.random_bytes = random.Random(seed).randbytes  # noqa: S311 - the same month has the same digests
            advance(1)
            contract = apply_contract(runtime, reference_text(), "the reference contract", begins).contract.name
            for customer in CUSTOMERS:
                _subscribe(runtime, customer, contract, month)
            taken_in = _TakenIn()
            invoices = _live_through(
                runtime, clock, taken_in, simulate_month(period, seed=seed, events=events), period, step
            )
            return DemoReport(
                month=month,
                seed=seed,
                data_dir=demo.data_dir,
                output_dir=output_dir,
                results=dict(taken_in.results),
                unpriced=taken_in.unpriced,
                invoices=invoices,
                files=_write(runtime, invoices, output_dir, step),
                replayed=_replay(runtime, invoices[-1][1], step),
            )


def _forget_files(data_dir: Path) -> None:
    """What belonged to the database that is gone: sealed blocks, the key that signed them, events that waited."""
    for name in ("blocks", "keys", "spool"):
        shutil.rmtree(data_dir / name, ignore_errors=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            "output_unusable",
            f"{folder} cannot be written to: {error.strerror}",
            next_step="choose another folder with --output",
            where="--output",
        ) from None


def _subscribe(runtime: Runtime, customer: Customer, contract: str, month: str) -> None:
    """From when the month begins where the customer is: nothing is to be billed of the month before."""
    set_subscription(
        runtime,
        customer.org_id,
        contract=contract,
        plan=customer.plan,
        time_zone=customer.time_zone,
        effective_from=month_period(month, customer.time_zone).start,
    )


def _live_through(
    runtime: Runtime,
    clock: _SimulatedClock,
    taken_in: _TakenIn,
    arrivals: Iterator[Arrival],
    period: Period,
    step: Step,
) -> tuple[tuple[Customer, Invoice, int], ...]:
    """The month's traffic up to the close, the close, and what arrives after it."""
    close_at = period.end + _CLOSE_AFTER
    advance = step("taking in events", None)
    after: list[Arrival] = []
    for batch in _batches(arrivals):
        after += [arrival for arrival in batch if arrival.arrived_at >= close_at]
        _take_in(runtime, clock, taken_in, [arrival for arrival in batch if arrival.arrived_at < close_at])
        advance(len(batch))
    clock.now = close_at
    invoices = {}
    for result in close_month(
        runtime, period.label, before_late_window=True, progress=step("closing the month", len(CUSTOMERS))
    ):
        if result.invoice is None:
            raise result.error or AssertionError(result)
        invoices[result.org_id] = result.invoice
    _take_in(runtime, clock, taken_in, after)
    return tuple(
        (customer, invoice, show_invoice(runtime, invoice.invoice_id).late_events)
        for customer in CUSTOMERS
        for invoice in [invoices[customer.org_id]]
    )


def _batches(arrivals: Iterator[Arrival]) -> Iterable[list[Arrival]]:
    while batch := list(islice(arrivals, _BATCH)):
        yield batch


def _take_in(runtime: Runtime, clock: _SimulatedClock, taken_in: _TakenIn, batch: list[Arrival]) -> None:
    if not batch:
        return
    clock.now = batch[-1].arrived_at
    for result in ingest_events(runtime, [arrival.event for arrival in batch]):
        taken_in.results[result.status] += 1
        if result.status == "accepted" and result.receipt is not None and result.receipt.cost_status == "unpriced":
            taken_in.unpriced += 1


def _write(
    runtime: Runtime, invoices: tuple[tuple[Customer, Invoice, int], ...], folder: Path, step: Step
) -> tuple[Path, ...]:
    advance = step("writing invoices", len(invoices))
    paths = []
    for customer, invoice, _ in invoices:
        for form, suffix in _SUFFIXES.items():
            path = folder / f"{customer.org_id}-{invoice.period.label}{suffix}"
            with path.open("w", encoding="utf-8", newline="") as file:
                file.writelines(export_invoice(runtime, invoice.invoice_id, form))
            paths.append(path)
        advance(1)
    return tuple(paths)


def _replay(runtime: Runtime, invoice: Invoice, step: Step) -> ReplayReport:
    advance = step("replaying an invoice", invoice.ledger.events)
    return replay_invoice(runtime, invoice.invoice_id, progress=advance)
