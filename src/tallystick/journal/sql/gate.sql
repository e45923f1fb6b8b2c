-- What requests of a time have cost, of one org: those of an environment, of some sessions, with some attributes. A
-- correction takes the place of the entry that it refers to. `minus` leaves out what is the candidate's.

-- name: calls
-- Requests by feature, model and cost: how many have cost just that. Failed ones that used nothing apart.
with request as materialized (
    select usage.feature, usage.provider, usage.model,
           usage.outcome = 'failure' and not 0 < any(usage.meter_quantities) as silent,
           case when correction.seq is null then usage.cost_pico else correction.cost_pico end as cost_pico
    from entries_of_period(%(org)s, %(start)s, %(end)s, %(first_seq)s, %(bound_seq)s, %(through_seq)s) as usage
    left join ledger_entries as correction
        on correction.org_id = %(org)s and correction.kind = 'correction' and correction.refers_to_seq = usage.seq
        and correction.refers_to_seq >= %(first_seq)s and correction.seq <= %(through_seq)s
    where usage.kind <> 'correction' and usage.body is null and usage.environment = %(environment)s
        and (%(sessions)s::text[] is null or usage.session_id = any(%(sessions)s::text[]))
        and (%(attributes)s::jsonb is null or usage.attributes @> %(attributes)s::jsonb)
        and not (
            %(minus)s and usage.time >= %(minus_start)s and usage.time < %(minus_end)s
            and (%(minus_sessions)s::text[] is null or coalesce(usage.session_id = any(%(minus_sessions)s::text[]), false))
            and (%(minus_attributes)s::jsonb is null or coalesce(usage.attributes @> %(minus_attributes)s::jsonb, false))
        )
)
select feature, provider, model, silent, cost_pico, count(*) from request group by 1, 2, 3, 4, 5

-- name: requests
-- The same, each by itself, with the action and the request id.
select usage.request_id, usage.action, usage.provider, usage.model,
       usage.outcome = 'failure' and not 0 < any(usage.meter_quantities) as silent,
       case when correction.seq is null then usage.cost_pico else correction.cost_pico end as cost_pico
from entries_of_period(%(org)s, %(start)s, %(end)s, %(first_seq)s, %(bound_seq)s, %(through_seq)s) as usage
left join ledger_entries as correction
    on correction.org_id = %(org)s and correction.kind = 'correction' and correction.refers_to_seq = usage.seq
    and correction.refers_to_seq >= %(first_seq)s and correction.seq <= %(through_seq)s
where usage.kind <> 'correction' and usage.body is null and usage.environment = %(environment)s
    and (%(sessions)s::text[] is null or usage.session_id = any(%(sessions)s::text[]))
    and (%(attributes)s::jsonb is null or usage.attributes @> %(attributes)s::jsonb)
    and not (
        %(minus)s and usage.time >= %(minus_start)s and usage.time < %(minus_end)s
        and (%(minus_sessions)s::text[] is null or coalesce(usage.session_id = any(%(minus_sessions)s::text[]), false))
        and (%(minus_attributes)s::jsonb is null or coalesce(usage.attributes @> %(minus_attributes)s::jsonb, false))
    )

-- name: settlements
-- What was settled from the time on, until two days after it: which requests were one piece of work.
select body from ledger_entries
where org_id = %(org)s and seq >= %(first_seq)s and seq <= %(through_seq)s and kind = 'settlement' and body is not null
    and time < %(end)s::timestamptz + interval '2 days'
