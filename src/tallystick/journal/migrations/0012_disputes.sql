-- What customers dispute, and what became of it. Each step is an entry of the org's ledger. The tables of disputes and of
-- their events follow from those entries, are changed in their transaction under the head's lock, and can be made again
-- from them (`tally verify` compares). Evidence is kept by its hash, which an entry bears.

create index ledger_entries_disputes on ledger_entries (org_id, refers_to_seq) where kind = 'dispute';

create table disputes (
    org_id          text collate "C" not null,
    seq             bigint not null check (seq > 0),
    request_id      text collate "C" not null,
    what            text not null check (what in ('invoice', 'line', 'requests')),
    state           text not null check (state in ('open', 'under_review', 'upheld', 'rejected', 'withdrawn')),
    invoice_id      text collate "C",
    line            integer,
    entries         bigint[] not null,
    charged_seqs    bigint[] not null,
    charged_pico    numeric(38, 0)[] not null,
    disputed_cents  bigint not null check (disputed_cents >= 0),
    author          text not null,
    reason          text not null,
    opened_at       timestamptz not null,
    answer_due_at   timestamptz not null,
    evidence_seq    bigint,
    evidence_sha256 text,
    differences     integer not null,
    proposed_cents  bigint not null,
    decided_at      timestamptz,
    explanation     text,
    upheld_cents    bigint not null check (upheld_cents between 0 and disputed_cents),
    upheld_seqs     bigint[] not null,
    upheld_pico     numeric(38, 0)[] not null,
    primary key (org_id, seq),
    unique (org_id, request_id),
    check ((what = 'requests') = (cardinality(entries) > 0)),
    check ((what = 'line') = (line is not null)),
    check (what = 'requests' or invoice_id is not null),
    check ((state in ('upheld', 'rejected', 'withdrawn')) = (decided_at is not null))
) with (fillfactor = 50);
create index disputes_undecided on disputes (answer_due_at) where state in ('open', 'under_review');
create index disputes_counting on disputes (org_id) where state in ('open', 'under_review', 'upheld');
create index disputes_unproved on disputes (org_id, seq) where evidence_seq is null;
comment on table disputes is
    'Disputes: what each is about, and how it stands. seq is the entry that opened it; charged_* and upheld_* are credits by the settlement that charged them. Whether an answer is overdue follows from answer_due_at.';

create table dispute_events (
    org_id      text collate "C" not null,
    seq         bigint not null check (seq > 0),
    dispute_seq bigint not null check (dispute_seq <= seq),
    step        text not null check (step in ('opened', 'evidence', 'review_begun', 'upheld', 'rejected', 'withdrawn')),
    at          timestamptz not null,
    author      text not null,
    reason      text not null,
    primary key (org_id, seq)
);
create index dispute_events_of on dispute_events (org_id, dispute_seq, seq);
comment on table dispute_events is 'The steps of disputes, an entry each; they stay when the entry leaves for a block.';

create table dispute_evidence (
    org_id      text collate "C" not null,
    dispute_seq bigint not null check (dispute_seq > 0),
    sha256      text not null,
    document    text not null,
    primary key (org_id, dispute_seq, sha256)
);
comment on table dispute_evidence is 'What replays have found, canonical JSON, each by its hash. The entry that attaches one names it; others were made by who came too late.';

do $$
declare
    name text;
begin
    foreach name in array array['dispute_events', 'dispute_evidence'] loop
        execute format('create trigger append_only before update or delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger append_only', name);
    end loop;
    create trigger stays before delete or truncate on disputes for each statement execute function refuse_change();
    alter table disputes enable always trigger stays;
    foreach name in array array['disputes', 'dispute_events', 'dispute_evidence'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy own_org on %I using (org_id = nullif(current_setting(''tallystick.org'', true), ''''))', name);
    end loop;
end
$$;

grant select on disputes, dispute_events, dispute_evidence to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert, update on disputes to tallystick_writer;
grant insert on dispute_events to tallystick_writer;
grant insert on dispute_evidence to tallystick_app;
