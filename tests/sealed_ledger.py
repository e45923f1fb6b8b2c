"""A small ledger with something of everything: blocks, entries not sealed yet, corrections, an invoice, an erasure."""

from __future__ import annotations

from datetime import UTC, datetime

from invoicing import apply, event, record, subscribe
from tallystick.app.close_month import close_month
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once

NEW_MODEL = "newest"


def publish_price(runtime: Runtime) -> None:
    """A new card version that knows the model `NEW_MODEL`."""
    cards = runtime.settings.data_dir / "cards"
    cards.mkdir(exist_ok=True)
    rates = "".join(
        f'{{"row":"rate","provider":"openai","model":"{NEW_MODEL}","meter":"{meter}","per":1,"price_pico":7}}\n'
        for meter in ("tokens_in", "tokens_out")
    )
    (cards / "new.jsonl").write_text(
        '{"row":"card","format":1,"version":"new","known_at":"2026-11-30T00:00:00Z","source":"x","source_sha256":null,'
        f'"previous":"{runtime.cards.versions[-1].sha256}"}}\n'
        f'{{"row":"model","provider":"openai","model":"{NEW_MODEL}","match":{{"equals":"{NEW_MODEL}"}}}}\n{rates}'
    )
    runtime.reload_cards()


def furnish(runtime: Runtime) -> str:
    """Fill the ledger of globex, acme and zeta, seal three blocks, close globex's October: the invoice's id."""
    apply(runtime)
    for org in ("globex", "acme"):
        subscribe(runtime, org, "resale")
    record(runtime, [event("early", time=datetime(2026, 9, 3, tzinfo=UTC)), event("a1", "acme")])
    seal_once(runtime, everything=True)
    strange = [event("s1", model=NEW_MODEL), event("s2", environment="development", outcome="failure")]
    more = event("r1", attributes={"team": "x"}, price_context={"service_tier": "batch"}, latency_ms=7, action="a")
    record(runtime, [*strange, more, event("a2", "acme"), event("z1", "zeta", user_id="user-2")])
    publish_price(runtime)
    reprice(runtime)
    (closed,) = close_month(runtime, "2026-10", ["globex"])
    assert closed.invoice is not None, closed.error
    record(runtime, [event("late")])
    seal_once(runtime, everything=True)
    record(runtime, [event("a3", "acme")])
    seal_once(runtime, everything=True)
    return closed.invoice.invoice_id
