-- What payment providers have told: each event once, as the provider itself has confirmed it, and what became of it.
-- Nobody's card and nobody's name: ids, amounts and the invoice that the money is said to be for.

create table payment_events (
    provider    text collate "C" not null,
    event_id    text collate "C" not null,
    type        text not null,
    payment_id  text collate "C",
    livemode    boolean not null,
    body_sha256 bytea not null check (length(body_sha256) = 32),
    fact        text not null,
    received_at timestamptz not null,
    primary key (provider, event_id)
);
create index payment_events_payment on payment_events (provider, payment_id) where payment_id is not null;
create index payment_events_received on payment_events (received_at, event_id);
comment on table payment_events is
    'Events of payment providers, each once. fact is what the provider has answered when it was asked about the event, as canonical JSON; payment_id is the payment that it is about. body_sha256 is of the callback as it came.';

create table payment_outcomes (
    provider   text collate "C" not null,
    event_id   text collate "C" not null,
    n          integer not null check (n > 0),
    state      text not null check (state in ('recorded', 'ignored', 'unmatched', 'refused')),
    code       text,
    detail     text not null,
    org_id     text collate "C",
    invoice_id text collate "C",
    seqs       bigint[] not null,
    author     text not null,
    at         timestamptz not null,
    primary key (provider, event_id, n),
    foreign key (provider, event_id) references payment_events,
    check ((state = 'recorded') = (org_id is not null and invoice_id is not null)),
    check ((state = 'recorded') = (code is null))
);
create index payment_outcomes_unmatched on payment_outcomes (provider, event_id, n) where state = 'unmatched';
comment on table payment_outcomes is
    'What became of each event, the last row holds: recorded as the entries seqs of an org, ignored, refused, or waiting for somebody to say whose it is. No row: it came, and nothing was done about it yet.';

do $$
declare
    name text;
begin
    foreach name in array array['payment_events', 'payment_outcomes'] loop
        execute format('create trigger append_only before update or delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger append_only', name);
        execute format('create trigger registered after insert on %I referencing new table as added for each statement execute function register_rows()', name);
        execute format('alter table %I enable always trigger registered', name);
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
    end loop;
end
$$;
-- What a provider tells is of no org until it is matched: of payment_events, no policy shows a tenant anything.
create policy own_org on payment_outcomes using (org_id = nullif(current_setting('tallystick.org', true), ''));

grant select on payment_events, payment_outcomes to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert on payment_events, payment_outcomes to tallystick_operator;
