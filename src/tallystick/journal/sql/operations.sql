-- Operations on orgs' accounts. Parameters are arrays, so that one round trip serves a group of any size; each key is
-- looked up by a lateral join with a limit, whatever the statistics say: the planner turns it into nothing else, and reads
-- no index from end to end. Those that begin with "prepare" are prepared once in a
-- session (round_trips.py); they give instants as microseconds since 2000 and bytes in hex.

-- name: known
-- Which of these orgs there are: they have an entry, or somebody put them on a plan.
prepare tally_known (text[]) as
select org_id from unnest($1) as given (org_id)
where exists (select from subscriptions where subscriptions.org_id = given.org_id)
    or exists (select from org_heads where org_heads.org_id = given.org_id)

-- name: learned
-- Where the register stands but for acts: as long as it stands there, no subscription, contract or erasure has come in.
prepare tally_learned as
select n from register where relation <> 'administrative_acts' order by n desc limit 1

-- name: accounts
-- Of each org: its state, the terms in force at an instant, and until when they are.
prepare tally_accounts (text[], timestamptz) as
select given.org_id, state.counted_through_seq, state.state, state.progress, subscription.contract, subscription.plan,
       subscription.time_zone, version.version, version.sha256, coalesce(held.credit_pico - held.debit_pico, 0),
       (extract(epoch from least(next_subscription.at, next_version.at)) * 1000000)::bigint - 946684800000000
from unnest($1) as given (org_id)
left join org_states as state on state.org_id = given.org_id
left join lateral (
    select credit_pico, debit_pico from account_balances
    where account_balances.org_id = given.org_id and account = 'wallet_held' and asset = 'CREDIT' limit 1
) as held on true
left join lateral (
    select contract, plan, time_zone from subscriptions
    where subscriptions.org_id = given.org_id and effective_from <= $2
    order by effective_from desc, ordinal desc limit 1
) as subscription on true
left join lateral (
    select version, sha256 from contract_versions
    where contract_versions.contract = subscription.contract and effective_from <= $2
    order by effective_from desc limit 1
) as version on true
left join lateral (
    select effective_from as at from subscriptions
    where subscriptions.org_id = given.org_id and effective_from > $2
    order by effective_from limit 1
) as next_subscription on true
left join lateral (
    select effective_from as at from contract_versions
    where contract_versions.contract = subscription.contract and effective_from > $2
    order by effective_from limit 1
) as next_version on true

-- name: contract_text
-- A contract as it was applied.
prepare tally_contract_text (text, text) as
select source_text, source_name from contract_versions where contract = $1 and version = $2

-- name: contract_text_by_sha256
-- The same by the hash of its content.
prepare tally_contract_text_by_sha256 (text) as
select source_text, source_name from contract_versions where sha256 = $1 limit 1

-- name: lots
-- The lots of these orgs of which something is available.
prepare tally_lots (text[]) as
select org_id, seq, source, priority, (extract(epoch from granted_at) * 1000000)::bigint - 946684800000000,
       (extract(epoch from expires_at) * 1000000)::bigint - 946684800000000, amount_pico, available_pico
from grants where org_id = any($1) and is_left

-- name: lots_by_seq
-- These lots, whatever is left of them.
prepare tally_lots_by_seq (text[], bigint[]) as
select lot.org_id, lot.seq, lot.source, lot.priority, (extract(epoch from lot.granted_at) * 1000000)::bigint - 946684800000000,
       (extract(epoch from lot.expires_at) * 1000000)::bigint - 946684800000000, lot.amount_pico, lot.available_pico
from unnest($1, $2) as given (org_id, seq)
join lateral (select * from grants where org_id = given.org_id and seq = given.seq limit 1) as lot on true

-- name: holds
-- These entries, when they are holds: whose they are, and whether nothing has resolved them yet.
prepare tally_holds (text[], bigint[]) as
select given.org_id, given.seq, entry.user_id, entry.session_id, encode(entry.leaf, 'hex'), entry.body, held.seq is not null
from unnest($1, $2) as given (org_id, seq)
join lateral (
    select kind, user_id, session_id, leaf, body from ledger_entries
    where org_id = given.org_id and seq = given.seq limit 1
) as entry on true
left join lateral (
    select seq from open_holds where org_id = given.org_id and open_holds.seq = given.seq limit 1
) as held on true
where entry.kind = 'hold'

-- name: ended_holds
-- Open holds of these orgs whose life is over at an instant, of each those first that have waited longest.
prepare tally_ended_holds (text[], timestamptz, bigint) as
select entry.org_id, entry.seq, entry.user_id, entry.session_id, encode(entry.leaf, 'hex'), entry.body, true
from unnest($1) as given (org_id)
cross join lateral (
    select org_id, seq from open_holds where org_id = given.org_id and expires_at <= $2 order by expires_at, seq limit $3
) as held
join lateral (
    select org_id, seq, user_id, session_id, leaf, body from ledger_entries
    where org_id = held.org_id and seq = held.seq limit 1
) as entry on true

-- name: open_holds
-- Every open hold of these orgs.
prepare tally_open_holds (text[]) as
select entry.org_id, entry.seq, entry.user_id, entry.session_id, encode(entry.leaf, 'hex'), entry.body, true
from open_holds as held
join lateral (
    select org_id, seq, user_id, session_id, leaf, body from ledger_entries
    where org_id = held.org_id and seq = held.seq limit 1
) as entry on true
where held.org_id = any($1)

-- name: stored
-- Which of these operations are stored already, by the ids under which they were sent.
prepare tally_stored (text[], text[], text[]) as
select given.index::int8, entry.*
from unnest($1, $2, $3) with ordinality as given (org_id, kind, request_id, index)
join lateral (
    select seq, kind, request_id, (extract(epoch from recorded_at) * 1000000)::bigint - 946684800000000, user_id, session_id, attributes,
           encode(salt, 'hex'), encode(fingerprint, 'hex'), encode(leaf, 'hex'), rate_version, refers_to_seq, body
    from ledger_entries
    where org_id = given.org_id and kind = given.kind and request_id = given.request_id
        and body is not null and kind <> 'denial'
    limit 1
) as entry on true

-- name: resolutions
-- What has resolved these holds.
prepare tally_resolutions (text[], bigint[]) as
select given.index::int8, entry.*
from unnest($1, $2) with ordinality as given (org_id, seq, index)
join lateral (
    select seq, kind, request_id, (extract(epoch from recorded_at) * 1000000)::bigint - 946684800000000, user_id, session_id, attributes,
           encode(salt, 'hex'), encode(fingerprint, 'hex'), encode(leaf, 'hex'), rate_version, refers_to_seq, body
    from ledger_entries
    where org_id = given.org_id and refers_to_seq = given.seq and kind in ('settlement', 'release', 'expiry')
    limit 1
) as entry on true

-- name: usage_of
-- The usage entries of these request ids, with what the receipt of each said; the settlement that each was claimed for,
-- or else the one that is the next operation after it; and what a correction says that it cost.
prepare tally_usage_of (text[], text[]) as
select given.index::int8, entry.*, claim.settlement_seq, following.seq, following.refers_to_seq, correction.cost_pico
from unnest($1, $2) with ordinality as given (org_id, request_id, index)
join lateral (
    select seq, (extract(epoch from recorded_at) * 1000000)::bigint - 946684800000000, encode(fingerprint, 'hex'), encode(salt, 'hex'),
           encode(leaf, 'hex'), cost_pico, status, rate_version, reason
    from ledger_entries
    where org_id = given.org_id and request_id = given.request_id and kind = 'usage'
    limit 1
) as entry on true
left join lateral (
    select settlement_seq from settled_usage where org_id = given.org_id and settled_usage.seq = entry.seq limit 1
) as claim on true
left join lateral (
    select next.seq, next.refers_to_seq from (
        select seq, kind, refers_to_seq from ledger_entries
        where org_id = given.org_id and ledger_entries.seq > entry.seq and body is not null order by ledger_entries.seq limit 1
    ) as next where next.kind = 'settlement'
) as following on true
left join lateral (
    select cost_pico from ledger_entries
    where org_id = given.org_id and refers_to_seq = entry.seq and kind = 'correction' and entry.status = 'unpriced' limit 1
) as correction on true

-- name: settlements
-- These entries, when they are settlements.
prepare tally_settlements (text[], bigint[]) as
select given.org_id, given.seq, entry.body
from unnest($1, $2) as given (org_id, seq)
join lateral (
    select kind, body from ledger_entries where org_id = given.org_id and seq = given.seq limit 1
) as entry on true
where entry.kind = 'settlement'

-- name: refunds
-- What was given back of these settlements.
prepare tally_refunds (text[], bigint[]) as
select entry.org_id, entry.refers_to_seq, entry.body
from unnest($1, $2) as given (org_id, seq)
join lateral (
    select org_id, refers_to_seq, body from ledger_entries
    where org_id = given.org_id and refers_to_seq = given.seq and kind = 'refund'
) as entry on true

-- name: refunds_left
-- The same of refunds whose entries have left the database.
prepare tally_refunds_left (text[], bigint[]) as
select given.org_id, given.seq, left_sum.refunded_pico
from unnest($1, $2) as given (org_id, seq)
cross join lateral (
    select sum(refunded_pico) as refunded_pico from claimed_ids
    where org_id = given.org_id and settlement_seq = given.seq and settlement_seq is not null
) as left_sum
where left_sum.refunded_pico is not null

-- name: claimed
-- Which of these operations were stored, and have left the database since.
prepare tally_claimed (text[], text[], text[]) as
select given.index::int8
from unnest($1, $2, $3) with ordinality as given (org_id, kind, request_id, index)
where exists (
    select from claimed_ids where org_id = given.org_id and kind = given.kind and request_id = given.request_id
)

-- name: finished
-- When these actions were last charged for the same work.
prepare tally_finished (text[], text[], text[]) as
select work.org_id, work.action, work.work_key, (extract(epoch from work.charged_at) * 1000000)::bigint - 946684800000000, work.seq
from unnest($1, $2, $3) as given (org_id, action, work_key)
join lateral (
    select * from finished_work where org_id = given.org_id and action = given.action and work_key = given.work_key limit 1
) as work on true

-- name: add_states
-- A state and the accounts of credits for orgs that have none.
prepare tally_add_states (text[], text[]) as
with added as (
    insert into org_states (org_id) select org_id from unnest($1) as given (org_id)
    order by org_id collate "C" on conflict do nothing
)
insert into account_balances (org_id, account, asset)
select org_id, account, 'CREDIT'
from unnest($1) as given (org_id) cross join unnest($2) as named (account)
on conflict do nothing

-- name: save_counted
-- How far the org's usage is counted.
prepare tally_save_counted (text, bigint, text) as
update org_states set counted_through_seq = $2, progress = $3 where org_id = $1

-- name: save
-- What nearly every group changes, in one statement: beginning one costs the server as much as a few rows. No two of
-- its parts touch the same rows. Those that are changed or deleted are looked up by their keys, and cannot move
-- meanwhile: whoever holds its org's head is alone with them. Joined in any other way, all rows of all orgs might be
-- looked at; a conflict with the key looks them up just so, and quicker.
--   $1 recorded_at      $2-$6 heads, and what usage cost us      $7-$11 transfers of credits      $12-$15 their balances
--   $16-$19 states; one that is empty stays as it is      $20-$22 lots      $23-$25 holds opened      $26-$27 resolved
--   $28-$31 counters; a window_start of null is what open holds reserve
prepare tally_save (
    timestamptz, text[], bigint[], bigint[], timestamptz[], numeric[],
    text[], bigint[], text[], text[], numeric[], text[], text[], numeric[], numeric[],
    text[], bigint[], text[], text[], text[], bigint[], numeric[], text[], bigint[], timestamptz[], text[], bigint[],
    text[], text[], timestamptz[], numeric[]
) as
with transferred as (
    insert into transfers (org_id, seq, first_seq, debit_account, credit_account, asset, amount_pico, recorded_at)
    select org_id, last_seq, first_seq, 'provider_usage_cost', 'provider_payable', 'USD', cost_pico, $1
    from unnest($2, $3, $4, $6) as head (org_id, first_seq, last_seq, cost_pico)
    union all
    select org_id, seq, seq, debit_account, credit_account, 'CREDIT', amount_pico, $1
    from unnest($7, $8, $9, $10, $11) as given (org_id, seq, debit_account, credit_account, amount_pico)
), balanced as (
    update account_balances as balance
    set debit_pico = balance.debit_pico + moved.debit_pico, credit_pico = balance.credit_pico + moved.credit_pico
    from (
        select org_id, account, 'USD' as asset, debit_pico, credit_pico from unnest($2, $6) as head (org_id, cost_pico)
        cross join lateral (
            values ('provider_usage_cost', cost_pico, 0), ('provider_payable', 0, cost_pico)
        ) as side (account, debit_pico, credit_pico)
        where cost_pico <> 0
        union all
        select org_id, account, 'CREDIT', debit_pico, credit_pico
        from unnest($12, $13, $14, $15) as given (org_id, account, debit_pico, credit_pico)
    ) as moved
    cross join lateral (
        select ctid as place from account_balances
        where org_id = moved.org_id and account = moved.account and asset = moved.asset offset 0
    ) as found
    where balance.ctid = found.place
), stated as (
    insert into org_states as state (org_id, counted_through_seq, state, progress)
    select * from unnest($16, $17, $18, $19)
    on conflict (org_id) do update set counted_through_seq = excluded.counted_through_seq,
        progress = excluded.progress, state = coalesce(nullif(excluded.state, ''), state.state)
), burned as (
    update grants as lot set available_pico = given.available_pico
    from unnest($20, $21, $22) as given (org_id, seq, available_pico)
    cross join lateral (
        select ctid as place from grants where org_id = given.org_id and grants.seq = given.seq offset 0
    ) as found
    where lot.ctid = found.place
), opened as (
    insert into open_holds (org_id, seq, expires_at) select * from unnest($23, $24, $25)
), closed as (
    delete from open_holds as hold using unnest($26, $27) as given (org_id, seq)
    cross join lateral (
        select ctid as place from open_holds where org_id = given.org_id and open_holds.seq = given.seq offset 0
    ) as found
    where hold.ctid = found.place
), counted as (
    insert into counters as counter (org_id, counter, window_start, used)
    select org_id, counter, coalesce(window_start, '-infinity'), used from unnest($28, $29, $30, $31)
        as given (org_id, counter, window_start, used)
    on conflict (org_id, counter, window_start) do update set used = counter.used + excluded.used
)
insert into org_heads (org_id, last_seq, time_max) select * from unnest($2, $4, $5)
on conflict (org_id) do update set last_seq = excluded.last_seq, time_max = excluded.time_max

-- name: add_lots
prepare tally_add_lots (text[], bigint[], text[], integer[], timestamptz[], timestamptz[], numeric[], numeric[]) as
insert into grants (org_id, seq, source, priority, granted_at, expires_at, amount_pico, available_pico)
select * from unnest(
    $1, $2, $3, $4, $5,
    $6, $7, $8
)

-- name: finish
prepare tally_finish (text[], text[], text[], timestamptz[], bigint[]) as
insert into finished_work as work (org_id, action, work_key, charged_at, seq)
select * from unnest($1, $2, $3, $4, $5)
on conflict (org_id, action, work_key) do update set charged_at = excluded.charged_at, seq = excluded.seq

-- name: settle
-- Usage that was stored before is the work of these settlements.
prepare tally_settle (text[], bigint[], bigint[]) as
insert into settled_usage (org_id, seq, settlement_seq)
select * from unnest($1, $2, $3)

-- name: due
-- Orgs that have holds or lots whose life is over, the longest waiting first; without a lock, so a look only. Those with
-- clocks of their own are seen to when these are put forward.
select org_id from (
    select org_id, min(expires_at) as since from open_holds where expires_at <= %(now)s group by org_id
    union all
    select org_id, min(expires_at) from grants where is_left and expires_at <= %(now)s group by org_id
) as due
where not exists (select from test_clocks as own where own.org_id = due.org_id)
group by org_id order by min(since), org_id limit %(limit)s

-- name: subscribed
-- Orgs on a plan at an instant, with their time zone and what they were given last; after org_id, so many at a time, and
-- without those that have clocks of their own.
select subscription.org_id, subscription.contract, subscription.plan, subscription.time_zone, coalesce(state.progress, '{}')
from (
    select distinct on (org_id) org_id, contract, plan, time_zone from subscriptions
    where effective_from <= %(now)s and org_id > %(after)s
        and not exists (select from test_clocks as own where own.org_id = subscriptions.org_id)
    order by org_id, effective_from desc, ordinal desc
    limit %(limit)s
) as subscription
left join org_states as state on state.org_id = subscription.org_id
order by subscription.org_id
