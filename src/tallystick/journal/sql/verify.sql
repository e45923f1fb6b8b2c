-- What a check of the whole ledger reads. An org of null means every org.

-- name: heads
-- Where each org stands, and the first and last of its entries that are here.
select head.org_id, head.last_seq, head.time_max, head.forgotten_until, bounds.first_seq, bounds.last_seq
from org_heads as head
cross join lateral (
    select (select seq from ledger_entries where org_id = head.org_id order by seq limit 1) as first_seq,
           (select seq from ledger_entries where org_id = head.org_id order by seq desc limit 1) as last_seq
) as bounds
where %(org)s::text is null or head.org_id = %(org)s
order by head.org_id

-- name: strangers
-- Orgs that rows speak of and that have no head: one lookup for each org, not one for each row.
with recursive entry_org as (
    (select org_id from ledger_entries order by org_id limit 1)
    union all
    select (select org_id from ledger_entries where org_id > entry_org.org_id order by org_id limit 1)
    from entry_org where entry_org.org_id is not null
)
select found.org_id, min(found.what) from (
    select org_id, 'entries' as what from entry_org where org_id is not null
    union all select org_id, 'transfers' from transfers
    union all select org_id, 'balances' from account_balances
    union all select org_id, 'sealed entries' from block_orgs
    union all select org_id, 'erasures' from erasures
    union all select org_id, 'rows of its account' from (
        select org_id from org_states union select org_id from grants union select org_id from open_holds
        union select org_id from finished_work union select org_id from counters union select org_id from settled_usage
    ) as of_account
) as found
where not exists (select from org_heads where org_heads.org_id = found.org_id)
    and (%(org)s::text is null or found.org_id = %(org)s)
group by found.org_id order by found.org_id

-- name: kept_from
-- The first entry of each of these orgs that is still here.
select given.org_id, kept.seq
from unnest(%(orgs)s::text[]) as given (org_id)
cross join lateral (select seq from ledger_entries where org_id = given.org_id order by seq limit 1) as kept

-- name: blocks
select block, path, entries, bytes, time_min, time_max, file_sha256, merkle_root, orgs_root, statement, sealed_at
from blocks order by block

-- name: block_ranges
select org_id, first_seq, last_seq, root, frontier from block_orgs where block = %(block)s order by org_id

-- name: stray_ranges
select org_id, block from block_orgs where block > %(blocks)s order by org_id limit 100

-- name: transfers
-- The transfers of what the entries of these ranges cost, and the one that reaches beyond the end of each. Those of
-- operations, in credits, and of invoices, in money, are looked at where accounts are.
select given.org_id, found.seq, found.first_seq, found.debit_account, found.credit_account, found.asset,
       found.amount_pico::text, found.recorded_at
from unnest(%(orgs)s::text[], %(firsts)s::bigint[], %(lasts)s::bigint[]) as given (org_id, first_seq, last_seq)
cross join lateral (
    (
        select * from transfers as t
        where t.org_id = given.org_id and t.seq between given.first_seq and given.last_seq and t.asset <> 'CREDIT'
            and t.debit_account <> all(%(money)s::text[]) and t.credit_account <> all(%(money)s::text[])
    )
    union all
    (
        select * from transfers as t
        where t.org_id = given.org_id and t.seq > given.last_seq and t.asset <> 'CREDIT'
            and t.debit_account <> all(%(money)s::text[]) and t.credit_account <> all(%(money)s::text[])
        order by t.seq limit 1
    )
) as found
where found.first_seq <= given.last_seq
order by given.org_id, found.seq

-- name: stray_transfers
-- Transfers beyond the org's last entry.
select t.org_id, t.seq from org_heads as head join transfers as t on t.org_id = head.org_id and t.seq > head.last_seq
where %(org)s::text is null or head.org_id = %(org)s
order by 1, 2 limit 100

-- name: balances
-- Accounts whose balance is not the sum of their transfers.
with moved as (
    select org_id, account, asset, sum(debit) as debit, sum(credit) as credit
    from transfers cross join lateral (
        values (debit_account, amount_pico, 0), (credit_account, 0, amount_pico)
    ) as side (account, debit, credit)
    where %(org)s::text is null or org_id = %(org)s
    group by org_id, account, asset
), balance as (
    select * from account_balances where %(org)s::text is null or org_id = %(org)s
)
select org_id, account, asset, balance.debit_pico::text, balance.credit_pico::text,
       coalesce(moved.debit, 0)::text, coalesce(moved.credit, 0)::text
from balance full join moved using (org_id, account, asset)
where balance.debit_pico is distinct from coalesce(moved.debit, 0)
    or balance.credit_pico is distinct from coalesce(moved.credit, 0)
order by 1, 2, 3 limit 100

-- name: accounts
-- Orgs that do not have exactly the accounts that every org has. Those of credits are there once something moved them.
select head.org_id, own.accounts
from org_heads as head
cross join lateral (
    select array(
        select account || ' ' || asset from account_balances as b
        where b.org_id = head.org_id and asset <> 'CREDIT' and not (asset = 'USD' and account = any(%(money)s::text[])) order by 1
    ) as accounts
) as own
where (%(org)s::text is null or head.org_id = %(org)s) and own.accounts <> %(accounts)s::text[]
order by 1 limit 100

-- name: credit_accounts
-- Orgs that do not have exactly the accounts that every org has of which operations were recorded, and the others none.
select head.org_id, own.accounts
from org_heads as head
cross join lateral (
    select array(select account from account_balances as b where b.org_id = head.org_id and asset = %(asset)s order by 1) as accounts
) as own
where (%(org)s::text is null or head.org_id = %(org)s)
    and own.accounts <> case when exists (select from org_states where org_states.org_id = head.org_id)
        then %(accounts)s::text[] else '{}' end
order by 1 limit 100

-- name: uncounted
-- Counters of windows of orgs of which nothing is counted.
select org_id, counter, window_start, used::text from public.counters as counters
where window_start > '-infinity' and used <> 0 and (%(org)s::text is null or org_id = %(org)s)
    and not exists (select from org_states where org_states.org_id = counters.org_id and progress like '%%"starts":{"%%')
order by 1, 2 limit 100

-- name: account_orgs
-- Orgs with rows that follow from operations.
select org_id from org_states where %(org)s::text is null or org_id = %(org)s
union select org_id from grants where %(org)s::text is null or org_id = %(org)s
union select org_id from open_holds where %(org)s::text is null or org_id = %(org)s
union select org_id from finished_work where %(org)s::text is null or org_id = %(org)s
union select org_id from counters where %(org)s::text is null or org_id = %(org)s
union select org_id from settled_usage where %(org)s::text is null or org_id = %(org)s
union select org_id from invoice_accounts where %(org)s::text is null or org_id = %(org)s
union select org_id from invoice_credit_lots where %(org)s::text is null or org_id = %(org)s
union select org_id from invoice_events where %(org)s::text is null or org_id = %(org)s
union select org_id from account_balances where asset = %(asset)s and (%(org)s::text is null or org_id = %(org)s)
union select org_id from transfers where asset = %(asset)s and (%(org)s::text is null or org_id = %(org)s)

-- name: operations
-- An org's operations, in their order.
select seq, kind, recorded_at, refers_to_seq, user_id, body, request_id, feature, environment, provider, model, api_key_id, action
from ledger_entries where org_id = %(org)s and body is not null order by seq

-- name: credit_transfers
-- An org's transfers of credits, in their order.
select seq, first_seq, debit_account, credit_account, amount_pico::text, recorded_at
from transfers where org_id = %(org)s and asset = %(asset)s order by seq

-- name: grants
select seq, source, priority, granted_at, expires_at, amount_pico, available_pico from grants where org_id = %(org)s

-- name: open_holds
select seq, expires_at from open_holds where org_id = %(org)s

-- name: finished_work
select action, work_key, charged_at, seq from finished_work where org_id = %(org)s

-- name: reserved
-- What open holds reserve of limits and budgets.
select counter, used::text from counters where org_id = %(org)s and window_start = '-infinity' and used <> 0

-- name: org_state
select counted_through_seq, state, progress from org_states where org_id = %(org)s

-- name: credit_balances
select account, debit_pico::text, credit_pico::text from account_balances where org_id = %(org)s and asset = %(asset)s

-- name: erasures
select given.org_id, found.seq
from unnest(%(orgs)s::text[], %(firsts)s::bigint[], %(lasts)s::bigint[]) as given (org_id, first_seq, last_seq)
join erasures as found on found.org_id = given.org_id and found.seq between given.first_seq and given.last_seq

-- name: stray_erasures
-- Erasures of entries that were never written.
select e.org_id, e.seq from org_heads as head
join erasures as e on e.org_id = head.org_id and (e.seq > head.last_seq or e.seq < 1)
where %(org)s::text is null or head.org_id = %(org)s
order by 1, 2 limit 100

-- name: entries_at
-- What a correction says of the entry that it refers to is compared with these.
select given.org_id, given.seq, entry.kind, entry.status, entry.request_id, entry.time, entry.payer
from unnest(%(orgs)s::text[], %(seqs)s::bigint[]) as given (org_id, seq)
join ledger_entries as entry on entry.org_id = given.org_id and entry.seq = given.seq

-- name: corrected_twice
select org_id, refers_to_seq, max(seq) from ledger_entries
where kind = 'correction' and (%(org)s::text is null or org_id = %(org)s)
group by org_id, refers_to_seq having count(*) > 1
order by 1, 2 limit 100

-- name: invoices
select invoice_id, org_id, period, period_start, period_end, contract, contract_version, contract_sha256, plan,
       through_seq, digest, total_cents, document
from invoices where %(org)s::text is null or org_id = %(org)s
order by org_id, period, contract

-- name: contracts
select contract, version, sha256, effective_from, source_name, source_text, meters from contract_versions
order by contract, effective_from

-- name: rate_versions
select ordinal, version, known_at, sha256, source, card from rate_versions order by ordinal

-- name: register
select n, relation, row_sha256, chain from register order by n

-- name: unregistered
-- Rows that are not as they were registered, and registered rows that are gone: with their table, name, org and place.
with kept (relation, named, org_id, seq, digest) as (
    select 'rate_versions', 'rate card ' || version, null, null::bigint, to_jsonb(t) from rate_versions as t
    union all
    select 'contract_versions', 'contract ' || contract || ' version ' || version, null, null, to_jsonb(t) from contract_versions as t
    union all
    select 'subscriptions', 'subscription ' || ordinal, org_id, null, to_jsonb(t) from subscriptions as t
    union all
    select 'invoices', 'invoice ' || invoice_id, org_id, null, to_jsonb(t) from invoices as t
    union all
    select 'signing_keys', 'signing key ' || key_id, null, null, to_jsonb(t) from signing_keys as t
    union all
    select 'checkpoints', 'checkpoint ' || size, null, null, to_jsonb(t) from checkpoints as t
    union all
    select 'erasures', 'the record of its erasure', org_id, seq, to_jsonb(t) from erasures as t
    union all
    select 'claimed_ids', 'the claim of its id', org_id, seq, to_jsonb(t) from claimed_ids as t
    union all
    select 'billing_profiles', 'billing profile ' || version, org_id, null, to_jsonb(t) from billing_profiles as t
    union all
    select 'billing_profile_erasures', 'the erasure of billing profile ' || version, org_id, null, to_jsonb(t) from billing_profile_erasures as t
    union all
    select 'promo_codes', 'version ' || version || ' of the promo code ' || code, null, null, to_jsonb(t) from promo_codes as t
    union all
    select 'administrative_acts', 'act ' || n, org_id, seq, to_jsonb(t) from administrative_acts as t
    union all
    select 'payment_events', 'event ' || event_id || ' of ' || provider, null, null, to_jsonb(t) from payment_events as t
    union all
    select 'payment_outcomes', 'outcome ' || n || ' of event ' || event_id || ' of ' || provider, org_id, null, to_jsonb(t)
    from payment_outcomes as t
    union all
    select 'test_clocks', 'place ' || ordinal || ' of its clock', org_id, null, to_jsonb(t) from test_clocks as t
    union all
    select 'incidents', 'incident ' || incident, null, null, to_jsonb(t) from incidents as t
    union all
    select 'api_keys', 'key ' || key_id, org_id, null, to_jsonb(t) from api_keys as t
    union all
    select 'api_key_endings', 'the end of ' || key_id, org_id, null, to_jsonb(t) from api_key_endings as t
    union all
    select 'webhook_secrets', 'secret ' || ordinal || ' of ' || endpoint_id, org_id, null, to_jsonb(t) from webhook_secrets as t
), hashed as (
    select relation, named, org_id, seq, sha256(convert_to(relation || E'\n' || digest::text, 'UTF8')) as digest from kept
)
select coalesce(hashed.relation, register.relation), hashed.named, hashed.org_id, hashed.seq, register.n
from hashed full join register on register.relation = hashed.relation and register.row_sha256 = hashed.digest
where hashed.digest is null or register.n is null
order by hashed.relation nulls last, hashed.org_id nulls first, hashed.seq nulls first, hashed.named, register.n
limit 200

-- name: persons_of_keys
-- Keys, and whom they stand for, that do not belong together: the person was changed, put there, or taken away unrecorded.
select key.key_id, key.org_id, person.key_id is not null, person.salt, person.user_id, person.session_id, key.person_sha256
from api_keys as key left join api_key_persons as person on person.key_id = key.key_id and person.org_id is not distinct from key.org_id
where (%(org)s::text is null or key.org_id = %(org)s) and (
    person.key_id is not null
    or key.person_sha256 is not null
        and not exists (select from api_key_endings as ending where ending.key_id = key.key_id and ending.reason = 'person_erased')
)
union all
select key_id, org_id, true, salt, user_id, session_id, null from api_key_persons as person
where (%(org)s::text is null or org_id = %(org)s)
    and not exists (select from api_keys as key where key.key_id = person.key_id and key.org_id is not distinct from person.org_id)
order by 1

-- name: keys
select key_id, name, public_key from signing_keys order by added_at, key_id

-- name: checkpoints
select size, note from checkpoints order by size

-- name: counted
-- Orgs of which usage is counted in windows; entries of before forgotten_until may have left the database.
select counted.org_id, counted_through_seq, state, progress, forgotten_until
from org_states as counted join org_heads as head on head.org_id = counted.org_id
where progress like '%%"counted":%%' and (%(org)s::text is null or counted.org_id = %(org)s)
order by 1

-- name: subscribed
-- Every plan that the org was put on, the last first.
select contract, plan, time_zone from subscriptions where org_id = %(org)s order by ordinal desc

-- name: contract_texts
select source_text, source_name from contract_versions where contract = %(contract)s order by effective_from desc

-- name: recounted
-- The org's counters of windows that are not what was counted anew; the session has a table of its own for that.
select counter, window_start, coalesce(kept.used, 0)::text, coalesce(due.used, 0)::text
from (select * from public.counters where org_id = %(org)s and window_start > '-infinity') as kept
full join (select * from pg_temp.counters where org_id = %(org)s) as due using (counter, window_start)
where coalesce(kept.used, 0) <> coalesce(due.used, 0)
order by 1, 2
