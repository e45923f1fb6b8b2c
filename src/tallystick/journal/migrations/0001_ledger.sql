-- The ledger: raw usage facts with their price, corrections, double-entry transfers, and what prices and bills them.
--
-- Org comes first in every key. Text that is compared or sorted is collate "C": by code point, on every server alike.
-- Every table but the heads and the balances is append-only, for its owner too. Who may do what is at the end.

create table org_heads (
    org_id     text collate "C" primary key,
    last_seq   bigint not null default 0 check (last_seq >= 0),
    time_max   timestamptz not null default '2000-01-01T00:00:00Z'
) with (fillfactor = 50);
comment on table org_heads is
    'Where each org''s sequence stands, and the latest time of its events. The row is locked to write for the org, so numbers are dense; room is left in each page for updates.';

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

create view rate_rows with (security_invoker = true) as
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
    plan           text collate "C",
    time_zone      text not null,
    effective_from timestamptz not null,
    recorded_at    timestamptz not null,
    primary key (org_id, ordinal)
);
comment on table subscriptions is
    'Which contract and plan an org is on, from when. Of the rows in force at an instant, the one with the latest effective_from, then the highest ordinal, holds. plan null: it has left.';

-- Lists of kinds are written as arrays: every statement that adds rows reads the text of the checks anew, and one constant
-- is read quicker than twenty.
create table ledger_entries (
    org_id             text collate "C" not null,
    seq                bigint not null check (seq > 0),
    kind               text not null check (kind = any ('{
        usage, correction, grant, hold, denial, settlement, release, expiry, refund, override, budget, standing,
        adjustment, invoice, payment, credit_note, void, promo, invoice_credit, dispute
    }')),
    request_id         text collate "C" not null,
    time               timestamptz not null,
    time_max           timestamptz not null check (time <= time_max),
    recorded_at        timestamptz not null,
    feature            text collate "C",
    environment        text collate "C",
    provider           text collate "C",
    model              text collate "C",
    api_key_id         text collate "C",
    action             text collate "C",
    latency_ms         bigint,
    outcome            text,
    usage_status       text,
    meter_names        text[],
    meter_quantities   bigint[],
    price_context      jsonb,
    provider_cost_pico bigint,
    payer              text check (payer = 'customer'),
    user_id            text collate "C",
    session_id         text collate "C",
    attributes         jsonb,
    salt               bytea,
    fingerprint        bytea check (length(fingerprint) = 32),
    rate_version       text collate "C" not null,
    status             text not null check (status = any ('{final, partial, estimated, unpriced}')),
    cost_pico          bigint,
    line_meters        text[] not null,
    line_quantities    bigint[] not null,
    line_price_pico    bigint[] not null,
    line_per           bigint[] not null,
    line_amount_pico   bigint[] not null,
    line_models        text[],
    refers_to_seq      bigint check (refers_to_seq < seq),
    reason             text,
    body               text,
    leaf               bytea not null check (length(leaf) = 32),
    primary key (org_id, seq),
    check ((kind = any ('{correction, settlement, release, expiry, refund, payment, credit_note, void}')) = (refers_to_seq is not null) or kind = any ('{adjustment, dispute}')),
    check ((kind = any ('{usage, correction}')) = (body is null)),
    check ((kind = 'correction') = (fingerprint is null)),
    check ((status = 'unpriced') = (cost_pico is null))
);
-- Rows come in the order of writing; an index by time would scatter every insert (it took a third of the write rate,
-- measured). time_max rises with seq, so that a period's first entry is found by bisection of the primary key, and only
-- what came more than six hours late, relative to its org, needs an index.
create unique index ledger_entries_request on ledger_entries (org_id, request_id) where kind = 'usage';
create index ledger_entries_late on ledger_entries (org_id, time, seq) where time_max - time > interval '6 hours';
create unique index ledger_entries_corrected_once on ledger_entries (org_id, refers_to_seq) where kind = 'correction';
-- An operation's request id is claimed once; a hold is resolved once, by whatever comes first.
create unique index ledger_entries_operation on ledger_entries (org_id, kind, request_id) where body is not null and kind <> 'denial';
create unique index ledger_entries_resolved_once on ledger_entries (org_id, refers_to_seq) where kind in ('settlement', 'release', 'expiry');
create index ledger_entries_unpriced on ledger_entries (org_id, seq) where status = 'unpriced';
comment on table ledger_entries is
    'Usage: a raw fact as it arrived, and its cost. Operations (all with a body) move the org''s wallet or change its terms. Corrections carry the request and time of the entry they refer to. Meters and lines are parallel arrays; elements of price, per and amount are null where there is no rate.';
comment on column ledger_entries.time_max is 'The latest time of the org''s usage and operations up to and with this entry; it never falls.';
comment on column ledger_entries.payer is 'customer: a key of the customer''s own has paid the provider, and the cost is none of ours; null: we pay.';
comment on column ledger_entries.body is 'What was asked for and what became of it: canonical JSON, see ledger/operations.py. An operation costs nothing: its lines are empty, its cost 0.';
comment on column ledger_entries.salt is
    'Random; with user_id, session_id and attributes it is what may be erased. fingerprint is a salted hash over the whole fact and stays.';
comment on column ledger_entries.leaf is 'The hash of the entry, a leaf of its org''s Merkle tree at place seq; docs/ledger.md says over which bytes.';

create function seq_reaching(org text, instant timestamptz, through_seq bigint) returns bigint
language plpgsql stable parallel safe set plan_cache_mode = force_generic_plan as $$
declare
    low bigint := 1;
    high bigint := through_seq + 1;
    probe record;
begin
    while low < high loop
        select entry.seq, entry.time_max into probe from ledger_entries as entry
        where entry.org_id = org and entry.seq >= (low + high) / 2 and entry.seq < high
        order by entry.seq limit 1;
        if not found or probe.time_max >= instant then
            high := (low + high) / 2;
        else
            low := probe.seq + 1;
        end if;
    end loop;
    return low;
end
$$;
comment on function seq_reaching is
    'The first of the org''s entries, up to through_seq, whose time_max has reached the instant: all before it are older. through_seq + 1 when there is none. By bisection: some twenty looks at the primary key among a million.';

-- The second part is worded as the index ledger_entries_late is. The planner takes the body for the call.
create function entries_of_period(org text, since timestamptz, until timestamptz, first_seq bigint, bound_seq bigint, through_seq bigint)
returns setof ledger_entries language sql stable parallel safe as $$
    select * from ledger_entries
    where org_id = org and seq >= first_seq and seq < bound_seq and seq <= through_seq and time >= since and time < until
    union all
    select * from ledger_entries
    where org_id = org and seq >= first_seq and seq >= bound_seq and seq <= through_seq and time >= since and time < until
        and time_max - time > interval '6 hours'
$$;
comment on function entries_of_period is
    'The org''s entries from first_seq to through_seq with time in [since, until), in no order; bound_seq is where time_max has reached until + 6 hours (seq_reaching says where): what is of the period and comes after it, came more than 6 hours late.';

create table transfers (
    org_id         text collate "C" not null,
    seq            bigint not null,
    first_seq      bigint not null check (first_seq > 0 and first_seq <= seq),
    debit_account  text collate "C" not null,
    credit_account text collate "C" not null check (credit_account <> debit_account),
    asset          text collate "C" not null,
    amount_pico    numeric(38, 0) not null check (amount_pico >= 0),
    recorded_at    timestamptz not null,
    primary key (org_id, seq, debit_account, credit_account, asset)
);
comment on table transfers is
    'Double entry: an amount from the credit account to the debit account, for the entries first_seq to seq, written in their transaction. What entries cost (USD): one for each org in each, so that they tile its sequence and none can change its place. What operations move (CREDIT): of their entries alone, beside them.';

create table account_balances (
    org_id      text collate "C" not null,
    account     text collate "C" not null,
    asset       text collate "C" not null,
    debit_pico  numeric(38, 0) not null default 0 check (debit_pico >= 0),
    credit_pico numeric(38, 0) not null default 0 check (credit_pico >= 0),
    primary key (org_id, account, asset)
) with (fillfactor = 50);
comment on table account_balances is 'What was debited and credited to each account: always the sums of its transfers.';

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
    foreach name in array array['rate_versions', 'contract_versions', 'subscriptions', 'ledger_entries', 'transfers', 'invoices'] loop
        execute format('create trigger append_only before update or delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger append_only', name);
    end loop;
    foreach name in array array['org_heads', 'account_balances'] loop
        execute format('create trigger stays before delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger stays', name);
    end loop;
end
$$;

-- ── who may do what ─────────────────────────────────────────────────────────────────────────────────────────────────
-- tallystick_app       acts for one org at a time, named by the setting tallystick.org: row-level security shows it nothing else
-- tallystick_writer    writes the ledger for many orgs in one transaction; PostgreSQL refuses COPY FROM under row-level security,
--                      so it bypasses the policies, and may only add rows and move heads and balances
-- tallystick_operator  sees all orgs, for lists, sealing and checks; adds what belongs to no org
-- tallystick_keeper    nobody's login: owns the functions that erase persons and forget sealed entries, nothing else may
-- The roles are there already: they belong to the server, not to this database (journal/roles.py). Whether all of this
-- still holds is checked at every start (journal/self_test.py).

do $$
declare
    name text;
begin
    foreach name in array array['org_heads', 'subscriptions', 'ledger_entries', 'transfers', 'account_balances', 'invoices'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy own_org on %I using (org_id = nullif(current_setting(''tallystick.org'', true), ''''))', name);
    end loop;
end
$$;

grant select on all tables in schema public to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert on subscriptions, invoices to tallystick_app;
grant insert on ledger_entries, transfers, org_heads, account_balances to tallystick_writer;
grant update on org_heads, account_balances to tallystick_writer;
grant insert on rate_versions, contract_versions to tallystick_operator;
