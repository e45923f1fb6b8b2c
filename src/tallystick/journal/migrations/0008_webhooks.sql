-- Webhooks: endpoints that events are sent to, what has happened, and what became of sending it.
-- An event is added in the transaction of what it reports, together with a delivery for each endpoint that wants it. What
-- sends them claims deliveries for a while; a claim that nobody ended is free again when its time is over.

create table webhook_endpoints (
    endpoint_id   text collate "C" primary key,
    org_id        text collate "C",
    url           text not null,
    types         text[] not null check (cardinality(types) > 0),
    description   text not null,
    state         text not null check (state in ('enabled', 'disabled', 'removed')),
    reason        text not null default '',
    failing_since timestamptz,
    failures      integer not null default 0 check (failures >= 0),
    author        text not null,
    created_at    timestamptz not null,
    changed_at    timestamptz not null
) with (fillfactor = 70);
create index webhook_endpoints_of on webhook_endpoints (org_id) where state <> 'removed';
comment on table webhook_endpoints is
    'Where events are sent. org_id null: an operator''s, which gets those of every org. types: names, or patterns such as invoice.* and *. failing_since: since when nothing but failure came of it, after so many failures.';

create table webhook_secrets (
    endpoint_id     text collate "C" not null references webhook_endpoints,
    org_id          text collate "C",
    ordinal         integer not null check (ordinal > 0),
    sealed          bytea not null,
    key_id          text not null,
    before_until    timestamptz,
    author          text not null,
    created_at      timestamptz not null,
    primary key (endpoint_id, ordinal),
    check ((ordinal = 1) = (before_until is null))
);
comment on table webhook_secrets is
    'Secrets that deliveries are signed with, encrypted with a key that is in a file beside the database (key_id: which). before_until: until when the one before signs as well.';

create table webhook_events (
    event_id    text collate "C" primary key,
    org_id      text collate "C",
    type        text collate "C" not null,
    key         text collate "C" not null,
    at          timestamptz not null,
    data        text not null,
    recorded_at timestamptz not null default now(),
    unique nulls not distinct (org_id, type, key)
);
create index webhook_events_at on webhook_events (at);
create index webhook_events_recorded on webhook_events (recorded_at);
comment on table webhook_events is
    'What has happened, each known by org, type and key, whatever has it added again. org_id null: the operator''s business alone. data: canonical JSON. recorded_at is for housekeeping.';

create table webhook_deliveries (
    delivery_id   text collate "C" primary key,
    place         bigint generated always as identity,
    event_id      text collate "C" not null references webhook_events,
    endpoint_id   text collate "C" not null references webhook_endpoints,
    org_id        text collate "C",
    ordinal       integer not null check (ordinal > 0),
    state         text not null default 'waiting' check (state in ('waiting', 'delivered', 'failed', 'canceled')),
    attempts      integer not null default 0 check (attempts >= 0),
    attempts_max  integer not null check (attempts_max > 0),
    next_at       timestamptz not null default '1970-01-01Z',
    claim         text,
    claimed_until timestamptz,
    ended_at      timestamptz,
    unique (event_id, endpoint_id, ordinal),
    check ((claim is null) = (claimed_until is null)),
    check ((state = 'waiting') = (ended_at is null))
) with (fillfactor = 70);
create index webhook_deliveries_due on webhook_deliveries (endpoint_id, next_at, place) where state = 'waiting';
create index webhook_deliveries_next on webhook_deliveries (next_at) where state = 'waiting';
create index webhook_deliveries_busy on webhook_deliveries (endpoint_id, claimed_until) where claim is not null;
create index webhook_deliveries_of on webhook_deliveries (endpoint_id, place);
comment on table webhook_deliveries is
    'An event on its way to an endpoint. org_id: the endpoint''s. ordinal: above 1 where it was sent again by hand. claim: who is at it, until claimed_until at most.';

create table webhook_attempts (
    delivery_id text collate "C" not null references webhook_deliveries,
    org_id      text collate "C",
    attempt     integer not null check (attempt > 0),
    started_at  timestamptz not null,
    latency_ms  integer not null check (latency_ms >= 0),
    status      integer,
    error       text,
    response    text not null,
    primary key (delivery_id, attempt)
);
comment on table webhook_attempts is
    'The log of deliveries: what was answered to each attempt, the beginning of the body, or why there was no answer.';

-- ── what guards them ────────────────────────────────────────────────────────────────────────────────────────────────

create function refuse_all_but_forgetting_webhooks() returns trigger language plpgsql as $$
begin
    if tg_op <> 'DELETE' or current_user <> 'tallystick_keeper' then
        raise exception '% is append-only: % is refused', tg_table_name, lower(tg_op)
            using errcode = 'restrict_violation', hint = 'forget_webhooks() forgets what is old';
    end if;
    return null;
end
$$;

create trigger append_only before update or delete or truncate on webhook_secrets for each statement execute function refuse_change();
alter table webhook_secrets enable always trigger append_only;
create trigger registered after insert on webhook_secrets referencing new table as added for each statement execute function register_rows();
alter table webhook_secrets enable always trigger registered;
create trigger stays before delete or truncate on webhook_endpoints for each statement execute function refuse_change();
alter table webhook_endpoints enable always trigger stays;
create trigger stays before delete or truncate on webhook_deliveries for each statement execute function refuse_all_but_forgetting_webhooks();
alter table webhook_deliveries enable always trigger stays;

do $$
declare
    name text;
begin
    foreach name in array array['webhook_events', 'webhook_attempts'] loop
        execute format('create trigger append_only before update or delete or truncate on %I for each statement execute function refuse_all_but_forgetting_webhooks()', name);
        execute format('alter table %I enable always trigger append_only', name);
    end loop;
    foreach name in array array['webhook_endpoints', 'webhook_secrets', 'webhook_events', 'webhook_deliveries', 'webhook_attempts'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy own_org on %I using (org_id = nullif(current_setting(''tallystick.org'', true), ''''))', name);
    end loop;
end
$$;

create function forget_webhooks(before timestamptz, most integer) returns bigint
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    old text[];
    forgotten bigint;
begin
    old := array(
        select event_id from webhook_events as event
        where recorded_at < before
            and not exists (
                select from webhook_deliveries as sent join webhook_endpoints as endpoint using (endpoint_id)
                where sent.event_id = event.event_id and sent.state = 'waiting' and endpoint.state = 'enabled'
            )
        order by recorded_at limit most
    );
    delete from webhook_attempts
    where delivery_id in (select delivery_id from webhook_deliveries where event_id = any (old));
    delete from webhook_deliveries where event_id = any (old);
    delete from webhook_events where event_id = any (old);
    get diagnostics forgotten = row_count;
    return forgotten;
end
$$;
comment on function forget_webhooks is
    'Forget events recorded before an instant, and the log of sending them, unless one is still on its way to an endpoint that is not switched off: how many.';

grant select on webhook_endpoints, webhook_secrets, webhook_events, webhook_deliveries, webhook_attempts
    to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert, update on webhook_endpoints, webhook_deliveries to tallystick_writer;
grant insert on webhook_secrets, webhook_events, webhook_attempts to tallystick_writer;
grant insert on webhook_events, webhook_deliveries to tallystick_operator;
grant delete on webhook_events, webhook_deliveries, webhook_attempts to tallystick_keeper;

do $$
begin
    grant create on schema public to tallystick_keeper;  -- only an owner that may create here can be given a function
    alter function forget_webhooks(timestamptz, integer) owner to tallystick_keeper;
    revoke all on function forget_webhooks(timestamptz, integer) from public;
    grant execute on function forget_webhooks(timestamptz, integer) to tallystick_operator;
    revoke create on schema public from tallystick_keeper;
end
$$;
