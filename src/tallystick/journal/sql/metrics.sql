-- Figures over all orgs, cheap enough to be asked for every few seconds: none of these reads the ledger from end to end.
-- The money of test orgs is in none of them, nor is what their own clocks say of when something was.

-- name: ledger
select
    (select count(*) from org_heads where last_seq > 0),
    (select coalesce(sum(last_seq), 0) from org_heads),
    (select count(*) from ledger_entries as entry where status = 'unpriced' and kind = 'usage' and not exists (
        select from ledger_entries as correction
        where correction.org_id = entry.org_id and correction.kind = 'correction' and correction.refers_to_seq = entry.seq
    )),
    (select coalesce(sum(debit_pico - credit_pico), 0) from account_balances
     where account = 'provider_usage_cost' and asset = 'USD' and org_id not in (select org_id from test_clocks)),
    (select count(*) from open_holds),
    (select count(*) from open_holds where expires_at <= %(now)s and org_id not in (select org_id from test_clocks)),
    (select coalesce(max(block), 0) from blocks),
    (select count(*) from invoices where org_id not in (select org_id from test_clocks)),
    (select coalesce(sum(total_cents), 0) from invoices where org_id not in (select org_id from test_clocks))

-- name: credits
select account, sum(credit_pico - debit_pico) from account_balances
where asset = 'CREDIT' and account in ('wallet_available', 'wallet_held') and org_id not in (select org_id from test_clocks)
group by account

-- name: newest
-- The newest entry of the orgs that were written last, and how long it came after its event.
select entry.recorded_at, extract(epoch from entry.recorded_at - entry.time)
from org_heads as head join lateral (
    select recorded_at, time from ledger_entries where org_id = head.org_id and seq = head.last_seq
) as entry on true
where head.org_id not in (select org_id from test_clocks)
order by 1 desc limit 1

-- name: unsealed
-- Entries that no block holds, and when the oldest of them was recorded.
select coalesce(sum(head.last_seq - coalesce(sealed.last_seq, 0)), 0),
       min(entry.recorded_at) filter (where head.org_id not in (select org_id from test_clocks))
from org_heads as head
left join lateral (select last_seq from block_orgs where org_id = head.org_id order by last_seq desc limit 1) as sealed on true
left join lateral (
    select recorded_at from ledger_entries where org_id = head.org_id and seq = coalesce(sealed.last_seq, 0) + 1
) as entry on true
where head.last_seq > coalesce(sealed.last_seq, 0)

-- name: mark
-- Changes whenever anything is added up.
select max(rolled_at)::text || ' ' || sum(rolled_through_seq) from rollup_states

-- name: rolled
select coalesce(sum(requests), 0), coalesce(sum(failures), 0), coalesce(sum(cost_pico) filter (
           where payer = 'customer' and org_id not in (select org_id from test_clocks)), 0)
from rollup_requests

-- name: operations
select kind, case when kind in ('denial', 'grant', 'settlement', 'expiry') then reason else '' end, sum(operations),
       coalesce(sum(credits_pico) filter (where org_id not in (select org_id from test_clocks)), 0)
from rollup_operations group by 1, 2 order by 1, 2

-- name: billing_health
-- Holds that should have ended by an instant, and usage whose cost is not known: how many, up to a thousand of each.
select (select count(*) from (
            select from open_holds
            where expires_at <= %(late)s and org_id not in (select org_id from test_clocks) limit 1000
        ) as overdue),
       (select count(*) from (
            select from ledger_entries as entry where status = 'unpriced' and kind = 'usage' and not exists (
                select from ledger_entries as correction
                where correction.org_id = entry.org_id and correction.kind = 'correction'
                    and correction.refers_to_seq = entry.seq
            ) limit 1000
        ) as unpriced)
