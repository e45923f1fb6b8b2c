"""All jobs, in one list. A further one is a line here: its name, how often, and the use case that does it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

from tallystick.app.job_runs import JobRow, job_rows
from tallystick.app.jobs import Done, Job, JobRun
from tallystick.app.runtime import Runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import NotFound

_HOUR = timedelta(hours=1)


def jobs_of(settings: Settings) -> Mapping[str, Job]:
    """The jobs by name, as the operator has set them."""
    listed = (
        Job("rollups", "sums of days", _HOUR, _roll_up, offset=timedelta(minutes=2)),
        Job("seal", "entries into signed blocks", _seconds(settings.seal_seconds), _seal, in_loop=True),
        Job("accounts", "ends of holds and credits, included credits", _seconds(settings.account_seconds), _keep_up,
            in_loop=True),
        Job("webhooks", "events to endpoints", _seconds(settings.webhook_seconds), _send_webhooks, in_loop=True),
        Job("close", "invoices of months that are over", _HOUR, _close, offset=timedelta(minutes=12)),
        Job("disputes", "evidence of disputes", timedelta(minutes=5), _prove_disputes, offset=timedelta(minutes=3)),
        Job("payments", "payments that wait for their invoice", timedelta(minutes=5), _match_payments,
            offset=timedelta(minutes=1)),
        Job("rates", "newer rate cards, and prices for requests that had none", _HOUR, _check_rates,
            offset=timedelta(minutes=22)),
        Job("alerts", "what is to be looked at", timedelta(minutes=5), _alert, offset=timedelta(minutes=4)),
        Job("verify", "the whole ledger is as it was written", timedelta(days=settings.verify_daily), _verify,
            offset=timedelta(hours=3, minutes=42)),
    )  # fmt: skip
    return MappingProxyType({job.name: job for job in listed})


def find_job(settings: Settings, name: str) -> Job:
    """The job of that name.

    Raises:
        NotFound: `unknown_job`.
    """
    jobs = jobs_of(settings)
    if name not in jobs:
        raise NotFound(
            "unknown_job", f"there is no job {name!r}", next_step=f"name one of {', '.join(jobs)}", where="NAME"
        )
    return jobs[name]


def list_jobs(runtime: Runtime) -> list[JobRow]:
    """Every job: how its last run went, how late it is, and when it is due next."""
    return job_rows(runtime, jobs_of(runtime.settings))


def _seconds(seconds: int) -> timedelta:
    return timedelta(seconds=seconds)


def _roll_up(given: JobRun) -> Done:
    from tallystick.app.rollup import roll_up

    done = roll_up(given.runtime, stopping=given.is_stopping)
    return Done(done.entries, f"{done.entries:,} entries of {done.orgs:,} orgs were added up")


def _seal(given: JobRun) -> Done:
    from tallystick.app.seal import seal_once

    report = seal_once(given.runtime)
    return Done(report.entries, f"{report.entries:,} entries were sealed")


def _keep_up(given: JobRun) -> Done:
    from tallystick.app.hold_expiry import expire_due
    from tallystick.app.included_credits import give_included

    ended, included = expire_due(given.runtime), give_included(given.runtime)
    return Done(ended + included, f"{ended:,} entries for what was over, {included:,} for what plans include")


def _send_webhooks(given: JobRun) -> Done:
    from tallystick.app.webhook_courier import Courier
    from tallystick.app.webhook_log import forget_old

    delivered, failed = Courier(given.runtime).deliver_all(given.is_stopping)
    forget_old(given.runtime)
    return Done(delivered + failed, f"{delivered:,} deliveries arrived, {failed:,} attempts failed")


def _close(given: JobRun) -> Done:
    from tallystick.app.invoice_due import finalize_due
    from tallystick.app.sla_credits import credit_late_incidents

    looked = credit_late_incidents(given.runtime)  # those that fail are among what finalizing says once more
    results = finalize_due(given.runtime)
    issued = [one for one in results if one.status == "issued"]
    failed = [one for one in results if one.error is not None]
    if failed and failed[0].error is not None:
        # What could be issued is; that something could not must not look like a run that went well.
        raise failed[0].error
    credited = sum(1 for _, _, cents in looked if isinstance(cents, int) and cents)
    said = f", {credited:,} months were credited for incidents that were recorded later" if credited else ""
    return Done(len(issued), f"{len(issued):,} invoices were issued{said}")


def _prove_disputes(given: JobRun) -> Done:
    from tallystick.app.dispute_evidence import attach_pending

    done, errors = attach_pending(given.runtime, is_stopping=given.is_stopping)
    if errors:
        raise errors[0]  # the evidence of the others is attached
    return Done(done, f"{done:,} disputes got their evidence")


def _match_payments(given: JobRun) -> Done:
    from tallystick.app.payment_retries import retry_waiting

    done = retry_waiting(given.runtime, given.is_stopping)
    if done.errors:
        raise done.errors[0]  # the others were tried
    return Done(done.settled, f"{done.settled:,} events of payments came to an end, {done.waiting:,} wait still")


def _check_rates(given: JobRun) -> Done:
    from tallystick.app.rates_watch import RatesWatch
    from tallystick.app.reprice import reprice

    RatesWatch(given.runtime).reload_if_newer()
    done = reprice(given.runtime)
    waiting = sum(one.requests for one in done.still_unpriced)
    said = f"rate card {done.rate_version}; {done.corrected:,} requests got their price"
    return Done(done.corrected, f"{said}, {waiting:,} have none yet" if waiting else said)


def _alert(given: JobRun) -> Done:
    from tallystick.app.alerts import evaluate

    done = evaluate(given.runtime, by_job=True)
    if done.error is not None:
        raise done.error
    return Done(len(done.changes), f"{done.fired:,} alerts began to fire, {done.resolved:,} were resolved")


def _verify(given: JobRun) -> Done:
    from tallystick.app.verify_job import verify_apart

    verified = verify_apart(given.runtime.settings, given.is_stopping)
    return Done(verified.entries, verified.sentence())
