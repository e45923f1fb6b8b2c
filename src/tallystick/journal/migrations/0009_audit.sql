-- Who did what, and why: administrative acts. A row is written in the transaction of the act itself, whether that is a row
-- of another table or an entry of a ledger, and the register has its hash: one that is changed or taken away is found.

create table administrative_acts (
    n          bigint generated always as identity primary key,
    at         timestamptz not null,
    org_id     text collate "C",
    act        text collate "C" not null,
    subject    text collate "C" not null,
    seq        bigint check (seq > 0),
    actor_kind text not null check (actor_kind in ('key', 'anyone', 'os_user', 'job')),
    actor      text collate "C" not null,
    via        text not null,
    request_id text collate "C",
    author     text,
    reason     text,
    before     text,
    after      text,
    check (seq is null or org_id is not null)
);
create index administrative_acts_at on administrative_acts (at, n);
create index administrative_acts_of on administrative_acts (org_id, at, n);
create unique index administrative_acts_entry on administrative_acts (org_id, seq) where seq is not null;
comment on table administrative_acts is
    'Who did what: one row for each act, in its transaction. actor: who it was as we know it (a key''s id, a login name); author: who the act names. seq: the ledger entry that the act is. before, after: JSON, without secrets and personal data. n rises, with gaps.';

create trigger append_only before update or delete or truncate on administrative_acts
    for each statement execute function refuse_change();
alter table administrative_acts enable always trigger append_only;
create trigger registered after insert on administrative_acts referencing new table as added
    for each statement execute function register_rows();
alter table administrative_acts enable always trigger registered;
-- Decisions look at where the register stands, to learn whether terms have changed: acts change none.
create index register_learned on register (n) where relation <> 'administrative_acts';
alter table administrative_acts enable row level security;
alter table administrative_acts force row level security;
create policy own_org on administrative_acts using (org_id = nullif(current_setting('tallystick.org', true), ''));

grant select on administrative_acts to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert on administrative_acts to tallystick_app, tallystick_writer, tallystick_operator;
