-- The ledger of usage: raw facts, priced entries, rate and contract versions, subscriptions, invoices.
--
-- Org comes first in every key. Text that is compared or sorted is collate "C": by code point, on every server alike.
-- Every table but the org heads is append-only, for its owner too.

create table org_heads (
    org_id     text collate "C" primary key,
    last_seq   bigint not null default 0 check (last_seq >= 0)
) with (fillfactor = 50);
comment on table org_heads is
    'The last sequence number of each org. Its row is locked to write for the org, so numbers are dense; room is left in each page for updates.';

create table rate_versions (
    ordinal    integer primary key check (ordinal > 0),
    version    text collate "C" not null unique,
    known_at   timestamptz not null,
    loaded_at  timestamptz not null,
    sha256     text not null,
    source     text not null,
    card       bytea not null
);
comment on table rate_versions is
    'Rate cards in the order in which this deployment came to know them: each card file whole, byte for byte, rates and model names, so that a replay needs nothing else.';

create view rate_rows as
select v.ordinal, v.version, v.known_at, r.row ->> 'provider' as provider, r.row ->> 'model' as model,
       r.row ->> 'meter' as meter, coalesce(r.row -> 'context', '{}') as context, (r.row ->> 'per')::bigint as per,
       (r.row ->> 'price_pico')::bigint as price_pico, r.row -> 'tiers' as tiers, r.row ->> 'window' as "window",
       (r.row ->> 'valid_from')::timestamptz as valid_from, (r.row ->> 'valid_to')::timestamptz as valid_to
from rate_versions as v
cross join lateral string_to_table(convert_from(v.card, 'UTF8'), E'\n') as line (text)
cross join lateral (select line.text::jsonb as row) as r
where line.text <> '' and r.row ->> 'row' = 'rate';
comment on view rate_rows is 'The dated rates of every version, one row each, read out of the card files.';

create table contract_versions (
    contract       text collate "C" not null,
    version        text collate "C" not null,
    sha256         text not null,
    effective_from timestamptz not null,
    applied_at     timestamptz not null,
    source_name    text not null,
    source_text    text not null,
    meters         text[] not null,
    primary key (contract, version),
    unique (contract, effective_from)
);
comment on table contract_versions is
    'Contracts as applied: the file''s text, the hash of its content, the meters it declares, and from when it holds. applied_at may be later than effective_from.';

create table subscriptions (
    org_id         text collate "C" not null,
    ordinal        integer not null check (ordinal > 0),
    contract       text collate "C" not null,
    plan           text collate "C" not null,
    time_zone      text not null,
    effective_from timestamptz not null,
    recorded_at    timestamptz not null,
    primary key (org_id, ordinal)
);
comment on table subscriptions is
    'Which contract and plan an org is on, from when. Of the rows in force at an instant, the one with the latest effective_from, then the highest ordinal, holds.';

create table usage_events (
    org_id             text collate "C" not null,
    seq                bigint not null check (seq > 0),
    request_id         text collate "C" not null,
    time               timestamptz not null,
    recorded_at        timestamptz not null,
    user_id            text collate "C" not null,
    session_id         text collate "C" not null,
    feature            text collate "C" not null,
    environment        text collate "C" not null,
    provider           text collate "C",
    model              text collate "C" not null,
    api_key_id         text collate "C",
    action             text collate "C",
    latency_ms         bigint,
    outcome            text not null,
    usage_status       text not null,
    meter_names        text[] not null,
    meter_quantities   bigint[] not null,
    price_context      jsonb not null,
    provider_cost_pico bigint,
    attributes         jsonb not null,
    fingerprint        bytea not null check (length(fingerprint) = 32),
    primary key (org_id, seq),
    unique (org_id, request_id)
);
create index usage_events_by_time on usage_events (org_id, time, seq);
comment on table usage_events is 'Raw facts as they arrived. fingerprint is the SHA-256 of the canonical form of what the caller sent.';

create table ledger_entries (
    org_id           text collate "C" not null,
    seq              bigint not null check (seq > 0),
    kind             text not null check (kind in ('usage', 'correction')),
    request_id       text collate "C" not null,
    time             timestamptz not null,
    recorded_at      timestamptz not null,
    rate_version     text collate "C" not null,
    status           text not null check (status in ('final', 'partial', 'estimated', 'unpriced')),
    cost_pico        bigint,
    line_meters      text[] not null,
    line_quantities  bigint[] not null,
    line_price_pico  bigint[] not null,
    line_per         bigint[] not null,
    line_amount_pico bigint[] not null,
    line_models      text[],
    refers_to_seq    bigint,
    reason           text,
    primary key (org_id, seq),
    check ((kind = 'correction') = (refers_to_seq is not null)),
    check ((status = 'unpriced') = (cost_pico is null))
);
create unique index ledger_entries_corrected_once on ledger_entries (org_id, refers_to_seq) where kind = 'correction';
create index ledger_entries_unpriced on ledger_entries (org_id, seq) where status = 'unpriced';
comment on table ledger_entries is
    'Priced usage, one entry for each event under the same seq, and corrections, which carry the request and time of the entry they refer to. Lines are parallel arrays; elements of price, per and amount are null where there is no rate.';

create table invoices (
    invoice_id       text collate "C" primary key,
    org_id           text collate "C" not null,
    period           text not null,
    period_start     timestamptz not null,
    period_end       timestamptz not null check (period_start < period_end),
    contract         text collate "C" not null,
    contract_version text collate "C" not null,
    contract_sha256  text not null,
    plan             text collate "C" not null,
    through_seq      bigint not null check (through_seq >= 0),
    digest           text not null,
    total_cents      bigint not null,
    document         text not null,
    closed_at        timestamptz not null,
    unique (org_id, contract, period)
);
comment on table invoices is 'Closed months. document is the canonical JSON that the digest covers.';

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: % is refused', tg_table_name, lower(tg_op)
        using errcode = 'restrict_violation', hint = 'append an offsetting entry instead';
end
$$;

-- One trigger for a statement, not for a row: it costs nothing to insert, and refuses also what would touch no row.
-- "always": a session that replays replication is no exception.
do $$
declare
    name text;
begin
    foreach name in array array['rate_versions', 'contract_versions', 'subscriptions', 'usage_events', 'ledger_entries', 'invoices'] loop
        execute format('create trigger append_only before update or delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger append_only', name);
    end loop;
end
$$;
create trigger heads_stay before delete or truncate on org_heads for each statement execute function refuse_change();
alter table org_heads enable always trigger heads_stay;
