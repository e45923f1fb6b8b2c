-- Recorded breaches of promised service, and which of them each closed month was looked at with.

create table incidents (
    incident    bigint primary key check (incident > 0),
    kind        text not null check (kind in ('downtime', 'latency', 'maintenance', 'withdrawal')),
    starts_at   timestamptz not null,
    ends_at     timestamptz not null check (starts_at < ends_at),
    orgs        text[] check (cardinality(orgs) > 0),
    feature     text,
    reason      text not null,
    author      text not null,
    request_id  text collate "C" not null unique,
    recorded_at timestamptz not null,
    replaces    bigint unique references incidents check (replaces < incident),
    check (kind <> 'withdrawal' or replaces is not null)
);
create index incidents_by_time on incidents using gist (tstzrange(starts_at, ends_at));
comment on table incidents is
    'Downtime, slow service and announced maintenance, as operators recorded them. Numbers are dense, in the order of the commits. orgs null: it concerned everyone; feature null: everything. replaces: the record that this one takes back or stands in the place of; each is once at most. A withdrawal has the time, the orgs and the feature of what it takes back.';

create table sla_looks (
    org_id            text collate "C" not null,
    invoice_id        text collate "C" not null,
    incidents_through bigint not null check (incidents_through >= 0),
    credit_cents      bigint not null check (credit_cents >= 0),
    primary key (org_id, invoice_id, incidents_through)
);
comment on table sla_looks is
    'With which incidents a closed month was looked at, and what it comes to with them. It follows from the invoice, its contracts, the incidents and the ledger, and only keeps a month from being looked at again for nothing; `tally verify` computes it again.';

do $$
declare
    name text;
begin
    foreach name in array array['incidents', 'sla_looks'] loop
        execute format('create trigger append_only before update or delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger append_only', name);
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
    end loop;
end
$$;
create trigger registered after insert on incidents referencing new table as added for each statement execute function register_rows();
alter table incidents enable always trigger registered;
-- Whom an incident concerned is no tenant's business: no policy shows it any; what concerns an org is picked for it.
create policy own_org on sla_looks using (org_id = nullif(current_setting('tallystick.org', true), ''));

grant select on incidents, sla_looks to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert on incidents, sla_looks to tallystick_operator;
