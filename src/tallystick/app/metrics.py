"""The figures that Prometheus reads.

Most come from the database and are the same whichever process answers; they carry no `process` label. Those of a
process's own memory do, so that several workers behind one address are told apart. No figure names an org: what
belongs to one is asked for at `/v1/orgs/…`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from tallystick.app.billing_metrics import backup_metrics, billing_metrics
from tallystick.app.job_list import list_jobs
from tallystick.app.job_runs import queue_of
from tallystick.app.rollup_health import rollup_health
from tallystick.app.runtime import Runtime
from tallystick.app.settlement_queue import queue_state
from tallystick.core.errors import TallyError
from tallystick.journal.database import Connection
from tallystick.journal.metrics import RolledFigures, ledger_figures, rolled_figures, rolled_mark

CONTENT_TYPE = CONTENT_TYPE_LATEST
_PICO = 10**12


class _Figures(Collector):
    """Everything that is told, gathered when it is asked for."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterable[Metric]:
        begun = time.perf_counter()
        yield from self._process()
        try:
            yield from self._database()
            up = 1
        except TallyError:
            up = 0
        yield _gauge("tallystick_database_up", "Whether the database answers; without it most figures are missing.", up)
        took = time.perf_counter() - begun
        yield _gauge("tallystick_metrics_seconds", "How long these figures took to gather.", took)

    def _process(self) -> Iterator[Metric]:
        process = str(os.getpid())
        writers = {"events": self._runtime.writer.state(), "operations": self._runtime.operations.state()}
        written = CounterMetricFamily(
            "tallystick_written", "Events and operations that this process has written.", labels=["what", "process"]
        )
        queue = GaugeMetricFamily(
            "tallystick_write_queue", "Events and operations that wait to be written.", labels=["what", "process"]
        )
        age = GaugeMetricFamily(
            "tallystick_last_commit_age_seconds", "Since this process last wrote something.", labels=["what", "process"]
        )
        down = GaugeMetricFamily(
            "tallystick_writer_down", "Whether this process cannot write.", labels=["what", "process"]
        )
        for what, state in writers.items():
            written.add_metric([what, process], state.events_written)
            queue.add_metric([what, process], state.queue_events)
            down.add_metric([what, process], int(state.down is not None))
            if state.last_commit_age_seconds is not None:
                age.add_metric([what, process], state.last_commit_age_seconds)
        yield from (written, queue, age, down)
        events = CounterMetricFamily(
            "tallystick_events", "Events that this process was sent, by what became of them and why.",
            labels=["outcome", "reason", "process"],
        )  # fmt: skip
        for (outcome, reason), count in sorted(self._runtime.event_counts.copy().items()):
            events.add_metric([outcome, reason, process], count)
        yield events
        spool = GaugeMetricFamily("tallystick_spool_waiting", "Events in this machine's spool.", labels=["state"])
        settlements = GaugeMetricFamily(
            "tallystick_settlements_waiting",
            "Settlements of gateway calls on this machine.",
            labels=["state"],
        )
        for family, ask in ((spool, self._runtime.spool_state), (settlements, lambda: queue_state(self._runtime))):
            try:
                queued = ask()
            except TallyError:
                continue
            family.add_metric(["waiting"], queued.waiting)
            family.add_metric(["refused"], queued.refused)
            yield family
        yield from backup_metrics(self._runtime)

    def _database(self) -> Iterator[Metric]:
        now = self._runtime.clock()
        with self._runtime.database.operator() as connection:
            ledger, rolled = ledger_figures(connection, now), _rolled(self._runtime, connection)
        yield _gauge("tallystick_orgs", "Orgs that have entries.", ledger.orgs)
        yield _counter("tallystick_entries", "Entries of the ledger, of all orgs.", ledger.entries)
        yield _counter("tallystick_requests", "Usage events, as far as they are added up.", rolled.requests)
        yield _gauge("tallystick_requests_unpriced", "Usage events whose cost is not known.", ledger.unpriced)
        yield _gauge("tallystick_requests_failed", "Usage events of failed requests, as added up.", rolled.failures)
        yield _counter("tallystick_provider_cost_usd", "What providers charge us, in USD.", ledger.cost_pico / _PICO)
        yield _counter(
            "tallystick_customer_cost_usd", "What customers' own keys have paid, as added up, in USD.",
            rolled.customer_cost_pico / _PICO,
        )  # fmt: skip
        yield _counter("tallystick_credits_charged", "Credits charged, as added up.", rolled.charged_pico / _PICO)
        for account, name in (("wallet_available", "available"), ("wallet_held", "held")):
            value = ledger.credits_pico.get(account, 0) / _PICO
            yield _gauge(f"tallystick_credits_{name}", f"Credits {name} in all wallets.", value)
        yield _gauge("tallystick_open_holds", "Holds that nothing has resolved yet.", ledger.open_holds)
        yield _gauge("tallystick_overdue_holds", "Holds whose life is over and that stand.", ledger.overdue_holds)
        operations = CounterMetricFamily(
            "tallystick_operations", "What happened to accounts, as added up; of denials by reason.",
            labels=["kind", "reason"],
        )  # fmt: skip
        for kind, reason, count in rolled.operations:
            operations.add_metric([kind, reason], count)
        yield operations
        if ledger.last_recorded_at is not None:
            age = (now - ledger.last_recorded_at).total_seconds()
            yield _gauge("tallystick_ingest_age_seconds", "Since the newest entry was recorded.", max(0.0, age))
        if ledger.last_lag_seconds is not None:
            yield _gauge(
                "tallystick_ingest_lag_seconds", "How long the newest entry came after its event.",
                max(0.0, ledger.last_lag_seconds),
            )  # fmt: skip
        yield _gauge("tallystick_unsealed_entries", "Entries that no block holds.", ledger.unsealed)
        if ledger.oldest_unsealed_at is not None:
            lag = max(0.0, (now - ledger.oldest_unsealed_at).total_seconds())
        else:
            lag = 0.0
        yield _gauge("tallystick_sealed_lag_seconds", "For how long the oldest unsealed entry has waited.", lag)
        yield _gauge("tallystick_blocks", "Sealed blocks.", ledger.blocks)
        yield _counter("tallystick_invoices", "Invoices stored.", ledger.invoices)
        yield _gauge(
            "tallystick_invoiced_usd", "What all stored invoices come to, in USD.", ledger.invoiced_cents / 100
        )
        with self._runtime.database.operator() as connection:
            yield from billing_metrics(self._runtime, connection)
        yield from self._rollups()
        yield from self._jobs()

    def _rollups(self) -> Iterator[Metric]:
        health = rollup_health(self._runtime)
        yield _gauge("tallystick_rollup_entries_behind", "Entries that are not added up yet.", health.entries_behind)
        yield _gauge("tallystick_rollup_lag_seconds", "How long the oldest of them has waited.", health.lag_seconds)
        yield _gauge("tallystick_rollup_missing_days", "Days that are over and lack entries.", len(health.missing))

    def _jobs(self) -> Iterator[Metric]:
        queue = queue_of(self._runtime)
        yield _gauge("tallystick_jobs_waiting", "Jobs that are due and that nobody has taken.", queue.waiting)
        yield _gauge("tallystick_jobs_running", "Jobs of the queue that are at work.", queue.running)
        yield _gauge("tallystick_job_workers", "Workers that live.", queue.workers)
        lag = GaugeMetricFamily("tallystick_job_lag_seconds", "For how long a job has been due.", labels=["job"])
        failures = GaugeMetricFamily("tallystick_job_failures", "Runs that failed since one went well.", labels=["job"])
        seconds = GaugeMetricFamily("tallystick_job_seconds", "How long its last run took.", labels=["job"])
        success = GaugeMetricFamily(
            "tallystick_job_last_success_timestamp_seconds", "When it last went well.", labels=["job"]
        )
        for row in list_jobs(self._runtime):
            lag.add_metric([row.name], row.lag_seconds)
            failures.add_metric([row.name], 0 if row.latest is None else row.latest.failures)
            if row.latest is None:
                continue
            if row.latest.well_at is not None:
                success.add_metric([row.name], row.latest.well_at.timestamp())
            run = row.latest.run
            if run.ended_at is not None and run.looks == 1:
                seconds.add_metric([row.name], (run.ended_at - run.started_at).total_seconds())
        yield from (lag, failures, seconds, success)


def _rolled(runtime: Runtime, connection: Connection) -> RolledFigures:
    """What rollups come to: asked again only when something was added up, since all of their rows are read for it."""
    mark, known = rolled_mark(connection), _known.get(runtime.database.url)
    if known is None or mark is None or known[0] != mark:
        known = (mark or "", rolled_figures(connection))
        _known[runtime.database.url] = known
    return known[1]


_known: dict[str, tuple[str, RolledFigures]] = {}


def metrics_text(runtime: Runtime) -> bytes:
    """The figures in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(runtime))
    return generate_latest(registry)


def _gauge(name: str, said: str, value: Any) -> Metric:
    return GaugeMetricFamily(name, said, value=value)


def _counter(name: str, said: str, value: Any) -> Metric:
    return CounterMetricFamily(name, said, value=value)
