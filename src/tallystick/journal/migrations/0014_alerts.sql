-- Alerts: what was found to be looked at, since when it fires, who was told, and what nobody is to be told of for a while.
-- None of it is of the ledger. The history is append-only; what fires now follows from it.

create table alert_events (
    n           bigint generated always as identity primary key,
    org_id      text collate "C",
    alert_id    text collate "C" not null,
    ordinal     integer not null check (ordinal > 0),
    change      text not null check (change in ('firing', 'escalated', 'told', 'resolved')),
    rule        text collate "C" not null,
    subject     text collate "C" not null,
    level       integer not null check (level > 0),
    severity    text not null check (severity in ('info', 'warning', 'critical')),
    summary     text not null,
    figures     text not null,
    next_step   text not null,
    held_back   text,
    is_test     boolean not null,
    at          timestamptz not null,
    recorded_at timestamptz not null,
    unique (alert_id, ordinal),
    check ((change = 'firing') = (ordinal = 1))
);
create index alert_events_of on alert_events (org_id, n);
create index alert_events_begun on alert_events (org_id, rule, md5(subject)) where change = 'firing';
comment on table alert_events is
    'What happened to alerts. org_id null: the operator''s. held_back: why nobody was told of it. at: by the org''s clock. n rises, with gaps.';

create table open_alerts (
    alert_id   text collate "C" primary key,
    org_id     text collate "C",
    rule       text collate "C" not null,
    subject    text collate "C" not null,
    level      integer not null check (level > 0),
    told_level integer not null check (told_level between 0 and level),
    changes    integer not null check (changes > 0),
    fired_at   timestamptz not null,
    severity   text not null,
    summary    text not null,
    figures    text not null,
    next_step  text not null,
    is_test    boolean not null
) with (fillfactor = 70);
create unique index open_alerts_once on open_alerts (coalesce(org_id, ''), rule, md5(subject));
comment on table open_alerts is
    'What fires now: the alerts without an event that resolves them, each as its last event says (`tally verify` compares). The same org, rule and subject fires once at a time.';

create table alert_marks (
    scope        text collate "C" primary key,
    evaluated_at timestamptz not null
) with (fillfactor = 50);
comment on table alert_marks is
    'By what instant was looked last: of orgs that live by the machine''s clock ('''') and of each test org. A look by an earlier one changes nothing.';

create table alert_silences (
    org_id      text collate "C",
    silence_id  text collate "C" not null,
    ordinal     integer not null check (ordinal > 0),
    rule        text collate "C",
    subject     text collate "C",
    starts_at   timestamptz not null,
    ends_at     timestamptz not null check (starts_at <= ends_at),
    reason      text not null,
    author      text not null,
    recorded_at timestamptz not null,
    primary key (silence_id, ordinal),
    check (subject is null or rule is not null)
);
create index alert_silences_of on alert_silences (org_id, ends_at);
comment on table alert_silences is
    'Times for which nobody is told of some alerts, by the org''s clock. rule, subject null: all. The row with the highest ordinal holds: a further one ends it at another time.';

create table alert_preferences (
    org_id      text collate "C",
    version     integer not null check (version > 0),
    preferences text not null,
    author      text not null,
    recorded_at timestamptz not null,
    unique nulls not distinct (org_id, version)
);
comment on table alert_preferences is
    'What an org wants to be told of, whole, as JSON; the last version holds. org_id null: the operator''s own alerts.';

do $$
declare
    name text;
begin
    foreach name in array array['alert_events', 'alert_silences', 'alert_preferences'] loop
        execute format('create trigger append_only before update or delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger append_only', name);
    end loop;
    foreach name in array array['alert_silences', 'alert_preferences'] loop
        execute format('create trigger registered after insert on %I referencing new table as added for each statement execute function register_rows()', name);
        execute format('alter table %I enable always trigger registered', name);
    end loop;
    foreach name in array array['alert_events', 'open_alerts', 'alert_silences', 'alert_preferences'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy own_org on %I using (org_id = nullif(current_setting(''tallystick.org'', true), ''''))', name);
    end loop;
end
$$;
-- It names test orgs, and no policy shows it.
alter table alert_marks enable row level security;
alter table alert_marks force row level security;
create trigger stays before delete or truncate on alert_marks for each statement execute function refuse_change();
alter table alert_marks enable always trigger stays;

grant select on alert_events, open_alerts, alert_marks, alert_silences, alert_preferences
    to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert on alert_events to tallystick_writer;
grant insert, update, delete on open_alerts to tallystick_writer;
grant insert, update on alert_marks to tallystick_writer;
grant insert on alert_silences, alert_preferences to tallystick_app, tallystick_operator;
