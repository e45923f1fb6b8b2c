-- Where each org's account stands: what decisions are made from. All of it follows from the ledger's entries, which are
-- the truth: these rows are changed as entries are written, in their transaction, under the head's lock, and can be made
-- again from them (`tally verify` compares).

create table org_states (
    org_id              text collate "C" primary key,
    counted_through_seq bigint not null default 0 check (counted_through_seq >= 0),
    state               text not null default '{}',
    progress            text not null default '{}'
) with (fillfactor = 50);
comment on table org_states is
    'One row for each org that was ever asked about: up to which entry its usage is counted, and what little else there is (standing, budgets, overrides).';
comment on column org_states.progress is
    'Not of the account, but of those who keep it: which windows the counters are of, and up to which month included credits are given.';

create table grants (
    org_id         text collate "C" not null,
    seq            bigint not null,
    source         text not null,
    priority       integer not null,
    granted_at     timestamptz not null,
    expires_at     timestamptz,
    amount_pico    numeric(38, 0) not null check (amount_pico > 0),
    available_pico numeric(38, 0) not null check (available_pico between 0 and amount_pico),
    is_left        boolean generated always as (available_pico > 0) stored,
    primary key (org_id, seq)
) with (fillfactor = 50);
-- By is_left, not by available_pico: that changes with every hold, and no index need be touched where it only changes.
create index grants_left on grants (org_id, seq) where is_left;
create index grants_expiring on grants (expires_at) where is_left and expires_at is not null;
comment on table grants is 'Lots of credits, and what of each is neither charged nor held. seq is the grant''s entry.';

create table open_holds (
    org_id      text collate "C" not null,
    seq         bigint not null,
    expires_at  timestamptz not null,
    primary key (org_id, seq)
);
create index open_holds_expiring on open_holds (org_id, expires_at);
comment on table open_holds is 'Holds that nothing has resolved yet; what each has reserved stands in its entry.';

create table finished_work (
    org_id     text collate "C" not null,
    action     text collate "C" not null,
    work_key   text collate "C" not null,
    charged_at timestamptz not null,
    seq        bigint not null,
    primary key (org_id, action, work_key)
) with (fillfactor = 70);
comment on table finished_work is 'When an action was last charged for the same work, by which settlement: doing it again may be free.';

create index ledger_entries_operations on ledger_entries (org_id, seq) where body is not null;
-- A denial claims no id, and is found by it all the same.
create index ledger_entries_denials on ledger_entries (org_id, request_id, seq) where kind = 'denial';
-- Calls are found by the id that their provider gave them. By hash: these ids are long, and nobody sorts them.
create index ledger_entries_provider on ledger_entries using hash ((attributes ->> 'provider_request_id')) where attributes ? 'provider_request_id';
create index ledger_entries_refunds on ledger_entries (org_id, refers_to_seq) where kind = 'refund';
create index ledger_entries_adjustments on ledger_entries (org_id, refers_to_seq) where kind = 'adjustment';

create table counters (
    org_id       text collate "C" not null,
    counter      text collate "C" not null,
    window_start timestamptz not null,
    used         numeric(38, 0) not null default 0,
    primary key (org_id, counter, window_start)
) with (fillfactor = 50);
comment on table counters is
    'Quantities by meter and window of time, and spending by budget and window: what limits and budgets are compared with. window_start -infinity: what open holds reserve.';

create table settled_usage (
    org_id         text collate "C" not null,
    seq            bigint not null check (seq > 0),
    settlement_seq bigint not null check (settlement_seq > seq),
    primary key (org_id, seq)
);
comment on table settled_usage is
    'Usage that was stored before the settlement that names it, and which one that is: no other can name it. What a settlement brings itself stands right before it, and needs no row.';
-- A row leaves with its entry, by forget_entries().
create trigger append_only before update or delete or truncate on settled_usage for each statement execute function refuse_ledger_change();
alter table settled_usage enable always trigger append_only;

create table claimed_ids (
    org_id         text collate "C" not null,
    kind           text not null,
    request_id     text collate "C" not null,
    seq            bigint not null check (seq > 0),
    settlement_seq bigint check (settlement_seq < seq),
    refunded_pico  numeric(38, 0) check (refunded_pico > 0),
    primary key (org_id, kind, request_id),
    check ((kind = 'refund') = (settlement_seq is not null) and (kind = 'refund') = (refunded_pico is not null))
);
create index claimed_ids_refunds on claimed_ids (org_id, settlement_seq) where settlement_seq is not null;
comment on table claimed_ids is
    'The request ids of operations whose entries have left the database for blocks (those on holds are known by their hold, and not here): sent again, they are still the same. Of refunds also how much of which settlement went back.';
create trigger append_only before update or delete or truncate on claimed_ids for each statement execute function refuse_change();
create trigger registered after insert on claimed_ids referencing new table as added for each statement execute function register_rows();
alter table claimed_ids enable always trigger append_only;
alter table claimed_ids enable always trigger registered;

-- What is held was available before: neither may go below nothing, whoever writes.
alter table account_balances add check (account <> all ('{wallet_available, wallet_held}') or credit_pico >= debit_pico);

do $$
declare
    name text;
begin
    foreach name in array array['org_states', 'grants', 'open_holds', 'finished_work', 'counters', 'settled_usage', 'claimed_ids'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy own_org on %I using (org_id = nullif(current_setting(''tallystick.org'', true), ''''))', name);
    end loop;
    foreach name in array array['org_states', 'grants'] loop
        execute format('create trigger stays before delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger stays', name);
    end loop;
end
$$;

grant select on org_states, grants, open_holds, finished_work, counters, settled_usage, claimed_ids
    to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert, update on org_states, grants, finished_work, counters to tallystick_writer;
grant insert, delete on open_holds to tallystick_writer;
grant insert on settled_usage to tallystick_writer;
grant delete on settled_usage to tallystick_keeper;
grant delete on counters to tallystick_writer, tallystick_keeper;
grant insert on claimed_ids to tallystick_keeper;
