-- Rollups: what each org's entries come to by UTC day. All of it follows from the entries and can be thrown away: it is
-- added to as entries come, and made again from them, or from their blocks, to the same rows.

create table rollup_states (
    org_id             text collate "C" primary key,
    rolled_through_seq bigint not null default 0 check (rolled_through_seq >= 0),
    rolled_at          timestamptz not null
) with (fillfactor = 50);
comment on table rollup_states is
    'Up to which of its entries an org''s days are added up, and since when. The row is locked to add to them: two who do it at once take other orgs.';

create table rollup_requests (
    org_id           text collate "C" not null,
    day              date not null,
    slice            bytea not null check (length(slice) = 16),
    environment      text collate "C" not null,
    feature          text collate "C" not null,
    action           text collate "C" not null,
    provider         text collate "C" not null,
    model            text collate "C" not null,
    payer            text collate "C" not null,
    requests         bigint not null,
    failures         bigint not null,
    empty            bigint not null,
    unfinished       bigint not null,
    unpriced         bigint not null,
    cost_pico        numeric(38, 0) not null,
    latency_ms       numeric(38, 0) not null,
    latency_requests bigint not null,
    primary key (org_id, day, slice)
) with (fillfactor = 70);
comment on table rollup_requests is
    'Requests of an org and UTC day, by everything that they are asked for by; '''' where they name none. slice is a hash of those names, which are too long for a key. cost_pico is what is known: unpriced ones count when they are corrected.';
comment on column rollup_requests.payer is 'customer: a key of the customer''s own has paid the provider, and cost_pico is none of ours.';
comment on column rollup_requests.unfinished is 'Requests whose usage is partial or estimated.';

create table rollup_meters (
    org_id      text collate "C" not null,
    day         date not null,
    slice       bytea not null check (length(slice) = 16),
    meter       text collate "C" not null,
    environment text collate "C" not null,
    feature     text collate "C" not null,
    action      text collate "C" not null,
    provider    text collate "C" not null,
    model       text collate "C" not null,
    payer       text collate "C" not null,
    requests    bigint not null,
    quantity    numeric(38, 0) not null,
    cost_pico   numeric(38, 0) not null,
    primary key (org_id, day, slice, meter)
) with (fillfactor = 70);
comment on table rollup_meters is
    'The same by meter: the requests in which there was any of it, its quantity, and its part of the cost. The parts of a slice come to its cost.';

create table rollup_operations (
    org_id       text collate "C" not null,
    day          date not null,
    slice        bytea not null check (length(slice) = 16),
    kind         text not null,
    environment  text collate "C" not null,
    feature      text collate "C" not null,
    action       text collate "C" not null,
    reason       text collate "C" not null,
    operations   bigint not null,
    credits_pico numeric(38, 0) not null,
    primary key (org_id, day, slice)
) with (fillfactor = 70);
comment on table rollup_operations is
    'What happened to an org''s account on a UTC day. reason: of denials the decision''s code, of grants their source, of settlements the outcome. credits_pico: charged by settlements, granted, refunded, or gone with an expired grant.';

create table reopened_days (
    org_id      text collate "C" not null,
    day         date not null,
    recorded_on date not null check (recorded_on > day),
    entries     bigint not null,
    first_seq   bigint not null,
    last_seq    bigint not null,
    requests    bigint not null,
    unpriced    bigint not null,
    cost_pico   numeric(38, 0) not null,
    primary key (org_id, day, recorded_on)
) with (fillfactor = 70);
comment on table reopened_days is
    'By how much a day changed that was over for 6 hours: the entries of that day which were recorded after that, by the UTC day of their recording. They are in the day''s sums, too.';

create function rollup_slice(variadic names text[]) returns bytea language sql immutable parallel safe as $$
    select substr(sha256(convert_to(to_jsonb(names)::text, 'UTF8')), 1, 16)
$$;
comment on function rollup_slice is 'What a slice of a day is known by: a hash of the names, in their order.';

do $$
declare
    name text;
begin
    foreach name in array array['rollup_states', 'rollup_requests', 'rollup_meters', 'rollup_operations', 'reopened_days'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy own_org on %I using (org_id = nullif(current_setting(''tallystick.org'', true), ''''))', name);
        execute format('grant select on %I to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper', name);
        execute format('grant insert, update, delete on %I to tallystick_writer', name);
    end loop;
end
$$;

-- ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
-- What runs by itself, in a schema of its own: nothing in it is of the ledger, and none of it need be kept. The queue is
-- procrastinate's (its schema is run after this); the role that works with it can do nothing else.

create schema tallystick_jobs;

create table tallystick_jobs.job_runs (
    run        bigint generated always as identity primary key,
    job        text collate "C" not null,
    started_at timestamptz not null,
    seen_at    timestamptz not null,
    ended_at   timestamptz,
    outcome    text not null check (outcome in ('running', 'done', 'failed', 'killed')),
    looks      bigint not null default 1,
    done       bigint not null default 0,
    detail     text not null default '',
    error      text,
    started_by text not null,
    check ((outcome = 'running') = (ended_at is null))
);
create index job_runs_of_job on tallystick_jobs.job_runs (job, run);
comment on table tallystick_jobs.job_runs is
    'The last runs of each job. done: how many things it did. What looks often and finds nothing to do keeps one row for it: looks is how often, started_at the first, seen_at the last time.';

grant usage on schema tallystick_jobs to tallystick_jobs, tallystick_operator;
grant select, insert, update, delete on tallystick_jobs.job_runs to tallystick_operator;
