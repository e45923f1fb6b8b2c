-- Alerts: what fires, what happened to it, silences and preferences.

-- name: lock
-- One look at a time changes what fires.
select pg_advisory_xact_lock(hashtextextended('tallystick alerts', 0))

-- name: marks
select scope, evaluated_at from alert_marks where scope = any(%(scopes)s::text[])

-- name: put_marks
insert into alert_marks as mark (scope, evaluated_at)
select scope, evaluated_at from unnest(%(scopes)s::text[], %(ats)s::timestamptz[]) as given (scope, evaluated_at)
order by scope
on conflict (scope) do update set evaluated_at = excluded.evaluated_at where mark.evaluated_at < excluded.evaluated_at

-- name: open
-- What fires: of one org, or of all and the operator.
select alert_id, org_id, rule, subject, level, told_level, changes, fired_at, severity, summary, figures, next_step, is_test
from open_alerts where %(org)s::text is null or org_id = %(org)s

-- name: since
select fired_at from open_alerts
where coalesce(org_id, '') = coalesce(%(org)s::text, '') and rule = %(rule)s and md5(subject) = md5(%(subject)s)

-- name: times
-- How often each of these has fired before.
select given.place, (
    select count(*) from alert_events as event
    where coalesce(event.org_id, '') = coalesce(given.org_id, '') and event.rule = given.rule and md5(event.subject) = md5(given.subject)
        and event.change = 'firing'
)
from unnest(%(orgs)s::text[], %(rules)s::text[], %(subjects)s::text[]) with ordinality as given (org_id, rule, subject, place)
order by given.place

-- name: add_open
insert into open_alerts (alert_id, org_id, rule, subject, level, told_level, changes, fired_at, severity, summary, figures, next_step, is_test)
values (%(alert_id)s, %(org_id)s, %(rule)s, %(subject)s, %(level)s, %(told_level)s, 1, %(at)s, %(severity)s, %(summary)s, %(figures)s, %(next_step)s, %(is_test)s)

-- name: change_open
update open_alerts
set level = %(level)s, told_level = %(told_level)s, changes = %(ordinal)s, severity = %(severity)s, summary = %(summary)s,
    figures = %(figures)s, next_step = %(next_step)s
where alert_id = %(alert_id)s

-- name: remove_open
delete from open_alerts where alert_id = %(alert_id)s

-- name: add_event
insert into alert_events (
    org_id, alert_id, ordinal, change, rule, subject, level, severity, summary, figures, next_step, held_back, is_test, at, recorded_at
) values (
    %(org_id)s, %(alert_id)s, %(ordinal)s, %(change)s, %(rule)s, %(subject)s, %(level)s, %(severity)s, %(summary)s, %(figures)s,
    %(next_step)s, %(held_back)s, %(is_test)s, %(at)s, %(recorded_at)s
)

-- name: list
-- Alerts by their last event, those first that changed last: of an org; with org null all but those of test orgs.
select event.n, event.org_id, event.alert_id, event.ordinal, event.change, event.rule, event.subject, event.level,
       event.severity, event.summary, event.figures, event.next_step, event.held_back, event.is_test, event.at,
       (select at from alert_events as first where first.alert_id = event.alert_id and first.ordinal = 1),
       open.told_level
from alert_events as event left join open_alerts as open on open.alert_id = event.alert_id and open.changes = event.ordinal
where (%(before)s::bigint is null or event.n < %(before)s)
    and case when %(org)s::text is null then not event.is_test else event.org_id = %(org)s end
    and (%(own)s::boolean is not true or event.org_id is null)
    and (%(rule)s::text is null or event.rule = %(rule)s)
    and not exists (select from alert_events as later where later.alert_id = event.alert_id and later.ordinal > event.ordinal)
order by event.n desc
limit %(limit)s

-- name: firing
-- The same of what fires alone: by the table of that, however long the history.
select event.n, event.org_id, event.alert_id, event.ordinal, event.change, event.rule, event.subject, event.level,
       event.severity, event.summary, event.figures, event.next_step, event.held_back, event.is_test, event.at, open.fired_at, open.told_level
from open_alerts as open join alert_events as event on event.alert_id = open.alert_id and event.ordinal = open.changes
where (%(before)s::bigint is null or event.n < %(before)s)
    and case when %(org)s::text is null then not event.is_test else event.org_id = %(org)s end
    and (%(own)s::boolean is not true or event.org_id is null)
    and (%(rule)s::text is null or event.rule = %(rule)s)
order by event.n desc
limit %(limit)s

-- name: events_of
-- What happened to an alert, in order.
select n, org_id, alert_id, ordinal, change, rule, subject, level, severity, summary, figures, next_step, held_back, is_test, at,
       (select at from alert_events as first where first.alert_id = event.alert_id and first.ordinal = 1),
       (select told_level from open_alerts as open where open.alert_id = event.alert_id)
from alert_events as event where alert_id = %(alert)s order by ordinal

-- name: silences
-- Silences as they stand, whose end is after an instant: of an org, of the operator, or of all.
select silence_id, org_id, rule, subject, starts_at, ends_at, reason, author, recorded_at from (
    select distinct on (silence_id) silence_id, org_id, rule, subject, starts_at, ends_at, reason, author, recorded_at
    from alert_silences
    where case when %(all)s::boolean then true else org_id is not distinct from %(org)s::text end
        and (%(silence)s::text is null or silence_id = %(silence)s)
    order by silence_id, ordinal desc
) as silence
where %(after)s::timestamptz is null or ends_at > %(after)s
order by starts_at, silence_id

-- name: add_silence
insert into alert_silences (org_id, silence_id, ordinal, rule, subject, starts_at, ends_at, reason, author, recorded_at)
select %(org_id)s, %(silence_id)s, coalesce(max(ordinal), 0) + 1, %(rule)s, %(subject)s, %(starts_at)s, %(ends_at)s, %(reason)s,
       %(author)s, %(recorded_at)s
from alert_silences where silence_id = %(silence_id)s

-- name: preferences
-- The last version of an org's, of the operator's, or of all.
select distinct on (org_id) org_id, version, preferences, author, recorded_at from alert_preferences
where case when %(all)s::boolean then true else org_id is not distinct from %(org)s::text end
order by org_id, version desc

-- name: lock_preferences
select pg_advisory_xact_lock(hashtextextended('tallystick alert preferences ' || coalesce(%(org)s::text, ''), 0))

-- name: add_preferences
insert into alert_preferences (org_id, version, preferences, author, recorded_at)
select %(org)s, coalesce(max(version), 0) + 1, %(preferences)s, %(author)s, %(recorded_at)s
from alert_preferences where org_id is not distinct from %(org)s::text

-- name: unlike
-- Alerts whose row of what fires is not what their last event says.
select coalesce(open.alert_id, last.alert_id), open.alert_id is null
from open_alerts as open
full join (
    select distinct on (alert_id) alert_id, ordinal, change, level, severity, rule, subject, org_id from alert_events
    order by alert_id, ordinal desc
) as last on last.alert_id = open.alert_id
where (%(org)s::text is null or coalesce(open.org_id, last.org_id) = %(org)s)
    and (last.alert_id is null or (open.alert_id is null) <> (last.change = 'resolved') or (open.alert_id is not null and (
        last.ordinal <> open.changes or last.level <> open.level or last.severity <> open.severity or last.rule <> open.rule
        or last.subject <> open.subject or last.org_id is distinct from open.org_id
    )))
order by 1
limit 100
