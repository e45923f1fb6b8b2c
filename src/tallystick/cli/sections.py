"""The sections in which `tally --help` lists the commands: by what somebody comes to do."""

from __future__ import annotations

SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Usage and what it cost", ("ingest", "events-from-csv", "usage", "find", "entry", "cost", "reconcile", "reprice")),
    ("Prices and terms", ("rates", "contract", "quote", "orgs", "clock", "versions")),
    ("Decisions and credits", ("authorize", "settle", "credits", "holds", "budgets", "overrides")),
    (
        "Invoices and money",
        ("invoice", "invoice-credits", "promo", "incidents", "sla", "dispute", "payments", "export"),
    ),
    ("Proof", ("verify", "replay", "seal", "blocks", "checkpoint", "proof")),
    (
        "Running it",
        ("serve", "worker", "jobs", "rollup", "doctor", "alerts", "webhooks", "gate", "spool", "settlements"),
    ),
    ("Access and safekeeping", ("keys", "audit", "backup", "restore", "retention", "erase-person", "erasures")),
    ("Trying it out", ("demo", "version")),
)
