"""One row of each table for an org, put in by the owner's hand: for tests of what the database itself allows."""

from __future__ import annotations

from typing import Any

import psycopg

ENTRY = """
    insert into ledger_entries (org_id, seq, kind, request_id, time, time_max, recorded_at, environment, usage_status,
        outcome, meter_names, meter_quantities, user_id, session_id, salt, fingerprint, rate_version, status, cost_pico,
        line_meters, line_quantities, line_price_pico, line_per, line_amount_pico, leaf)
    values (%(org)s, 1, 'usage', 'r1', '2026-10-01', '2026-10-01', '2026-10-01', 'production', 'complete', 'success',
        '{tokens_in}', '{10}', 'u1', 's1', decode(repeat('00', 16), 'hex'), decode(repeat('01', 32), 'hex'), 'v1',
        'final', 30, '{tokens_in}', '{10}', '{3}', '{1}', '{30}', decode(repeat('02', 32), 'hex'))
"""
BY_ORG: dict[str, str] = {
    "test_clocks": "insert into test_clocks values (%(org)s, 1, '2026-10-01', 'ann', now())",
    "org_heads": "insert into org_heads (org_id, last_seq, time_max) values (%(org)s, 1, '2026-10-01')",
    "ledger_entries": ENTRY,
    "transfers": "insert into transfers values"
    " (%(org)s, 1, 1, 'provider_usage_cost', 'provider_payable', 'USD', 30, now())",
    "account_balances": "insert into account_balances values (%(org)s, 'provider_usage_cost', 'USD', 30, 0)",
    "subscriptions": "insert into subscriptions values (%(org)s, 1, 'c', 'pro', 'UTC', now(), now())",
    "invoices": "insert into invoices values ('inv_' || %(org)s, %(org)s, '2026-09', now(), now() + interval '1 day',"
    " 'c', '1', 'sha', 'pro', 1, 'digest', 5, '{}', now())",
    "block_orgs": "insert into block_orgs values (%(org)s, 1, 1, 1, decode(repeat('03', 32), 'hex'), ''::bytea)",
    "erasures": "insert into erasures values (%(org)s, 1, now())",
    "settled_usage": "insert into settled_usage values (%(org)s, 1, 2)",
    "claimed_ids": "insert into claimed_ids values (%(org)s, 'grant', 'g1', 1)",
    "api_keys": "insert into api_keys values (%(org)s || 'k1', %(org)s, sha256(convert_to(%(org)s, 'UTF8')), '{read}',"
    " '{}', null, null, null, 'ann', now())",
    "api_key_endings": "insert into api_key_endings values (%(org)s || 'k1', %(org)s, now(), 'leaked', 'ann', now())",
    "api_key_persons": "insert into api_key_persons values (%(org)s || 'k1', %(org)s, 'u1', null,"
    " decode(repeat('00', 16), 'hex'))",
    "org_states": "insert into org_states values (%(org)s, 1, '{}')",
    "grants": "insert into grants values (%(org)s, 1, 'promo', 0, now(), null, 10, 5)",
    "open_holds": "insert into open_holds values (%(org)s, 1, now())",
    "finished_work": "insert into finished_work values (%(org)s, 'a', 'doc-1', now(), 1)",
    "counters": "insert into counters values (%(org)s, 'meter:tokens_in', now(), 5)",
    "rollup_states": "insert into rollup_states values (%(org)s, 1, now())",
    "rollup_requests": "insert into rollup_requests values (%(org)s, '2026-10-01', decode(repeat('08', 16), 'hex'),"
    " 'production', 'chat', '', 'openai', 'gpt-4o', 'seller', 1, 0, 0, 0, 0, 30, 0, 0)",
    "rollup_meters": "insert into rollup_meters values (%(org)s, '2026-10-01', decode(repeat('08', 16), 'hex'),"
    " 'tokens_in', 'production', 'chat', '', 'openai', 'gpt-4o', 'seller', 1, 10, 30)",
    "rollup_operations": "insert into rollup_operations values (%(org)s, '2026-10-01', decode(repeat('08', 16), 'hex'),"
    " 'grant', '', '', '', 'promo', 1, 10)",
    "reopened_days": "insert into reopened_days values (%(org)s, '2026-10-01', '2026-10-03', 1, 1, 1, 1, 0, 30)",
    "invoice_accounts": "insert into invoice_accounts values (%(org)s, 'inv_1', 1, 'INV-2026-00000' || %(org)s,"
    " '2026-09', 'digest', now(), now(), 5, 0, 0, false, false, '{}', '[]', 0, '{}', 0, 1)",
    "invoice_credit_lots": "insert into invoice_credit_lots values"
    " (%(org)s, 1, 'goodwill', now(), null, 5, 5, null, null, null, 0, null, null, false)",
    "invoice_events": "insert into invoice_events values"
    " (%(org)s, 1, 'inv_1', 'payment', now(), 5, null, 'manual:' || %(org)s)",
    "payment_outcomes": "insert into payment_outcomes values ('stripe', 'evt_1',"
    " (select count(*) + 1 from payment_outcomes), 'recorded', null, '', %(org)s, 'inv_1', '{1}', 'stripe', now())",
    "billing_profiles": "insert into billing_profiles values"
    " (%(org)s, 1, decode(repeat('09', 32), 'hex'), 'ann', 'p1', now())",
    "billing_profile_texts": "insert into billing_profile_texts values"
    " (%(org)s, 1, decode(repeat('00', 16), 'hex'), '{}')",
    "billing_profile_erasures": "insert into billing_profile_erasures values (%(org)s, 1, now())",
    "administrative_acts": "insert into administrative_acts (at, org_id, act, subject, actor_kind, actor, via)"
    " values (now(), %(org)s, 'key.create', 'k1', 'os_user', 'ann', 'tally keys create')",
    "webhook_endpoints": "insert into webhook_endpoints values ('we_' || %(org)s, %(org)s, 'https://a.example', '{*}',"
    " '', 'enabled', '', null, 0, 'ann', now(), now())",
    "webhook_secrets": "insert into webhook_secrets values ('we_' || %(org)s, %(org)s, 1, '', 'k', null, 'ann', now())",
    "webhook_events": "insert into webhook_events values"
    " ('msg_' || %(org)s, %(org)s, 'invoice.paid', '1', now(), '{}', now())",
    "webhook_deliveries": "insert into webhook_deliveries (delivery_id, event_id, endpoint_id, org_id, ordinal,"
    " attempts_max) values ('dlv_' || %(org)s, 'msg_' || %(org)s, 'we_' || %(org)s, %(org)s, 1, 10)",
    "webhook_attempts": "insert into webhook_attempts values"
    " ('dlv_' || %(org)s, %(org)s, 1, now(), 5, 500, null, 'no')",
    "disputes": "insert into disputes values (%(org)s, 1, 'd1', 'invoice', 'open', 'inv_1', null, '{}', '{}', '{}', 5,"
    " 'bob', 'too much', now(), now(), null, null, 0, 0, null, null, 0, '{}', '{}')",
    "dispute_events": "insert into dispute_events values (%(org)s, 1, 1, 'opened', now(), 'bob', 'too much')",
    "dispute_evidence": "insert into dispute_evidence values (%(org)s, 1, 'sha', '{}')",
    "sla_looks": "insert into sla_looks values (%(org)s, 'inv_1', 1, 5)",
    "alert_events": "insert into alert_events (org_id, alert_id, ordinal, change, rule, subject, level, severity,"
    " summary, figures, next_step, held_back, is_test, at, recorded_at) values (%(org)s, 'al_' || %(org)s, 1, 'firing',"
    " 'limit', 's', 1, 'info', 'used', '{}', 'wait', null, false, now(), now())",
    "open_alerts": "insert into open_alerts values ('al_' || %(org)s, %(org)s, 'limit', 's', 1, 1, 1, now(), 'info',"
    " 'used', '{}', 'wait', false)",
    "alert_silences": "insert into alert_silences values"
    " (%(org)s, 'sl_' || %(org)s, 1, null, null, now(), now() + interval '1 day', 'known', 'ann', now())",
    "alert_preferences": "insert into alert_preferences values (%(org)s, 1, '{}', 'ann', now())",
}
"""Every table whose rows belong to an org, and an insert of one for `org`; in the order in which that works."""

SHARED: dict[str, str] = {
    "rate_versions": "insert into rate_versions values (1000, 'v1', now(), now(), 'sha', 'source', ''::bytea)",
    "contract_versions": "insert into contract_versions values ('c', '1', 'sha', now(), now(), 'file', 'text', '{}')",
    "blocks": "insert into blocks values (1, 'path', 2, 1, now(), now(), decode(repeat('04', 32), 'hex'),"
    " decode(repeat('05', 32), 'hex'), decode(repeat('06', 32), 'hex'), '{}', now())",
    "signing_keys": "insert into signing_keys values ('k', 'name', decode(repeat('07', 32), 'hex'), now())",
    "checkpoints": "insert into checkpoints values (1, 'note', now())",
    "number_series": "insert into number_series values ('INV-2026', 1)",
    "incidents": "insert into incidents values"
    " (1, 'downtime', now(), now() + interval '1 day', null, null, 'down', 'ann', 'i1', now(), null)",
    "payment_events": "insert into payment_events values"
    " ('stripe', 'evt_1', 'charge.succeeded', 'pi_1', false, sha256('x'), '{}', now())",
    "promo_codes": "insert into promo_codes values ('SPRING24', 1, '{}', false, 'ann', '', now())",
    "promo_counts": "insert into promo_counts values ('SPRING24', false, 1)",
    "alert_marks": "insert into alert_marks values ('', now())",
    "register": "insert into register values (1000000, 'x', sha256('x'), sha256('x'))",
}
"""Every table whose rows belong to no org, apart from Alembic's own."""

ROLLUPS = ("rollup_states", "rollup_requests", "rollup_meters", "rollup_operations", "reopened_days")
MOVING = (
    "alert_marks", "open_alerts", "org_heads", "account_balances", "org_states", "grants", "open_holds",
    "finished_work", "counters", "disputes", "invoice_accounts", "invoice_credit_lots", "number_series",
    "promo_counts", "webhook_endpoints", "webhook_deliveries", *ROLLUPS,
)  # fmt: skip
"""The tables that say where an org stands; all of it follows from its entries."""
APPEND_ONLY = [table for table in (*BY_ORG, *SHARED) if table not in MOVING]


def fill(connection: psycopg.Connection[Any], *orgs: str) -> None:
    """A row in every table: one for each org, or one for all."""
    for insert in SHARED.values():
        connection.execute(insert.encode())
    for org in orgs:
        for insert in BY_ORG.values():
            connection.execute(insert.encode(), {"org": org})
