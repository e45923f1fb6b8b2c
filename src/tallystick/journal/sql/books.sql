-- The books: transfers of money and credits, and what accounts have. An org of null means every org, but for test orgs
-- where they are not asked for.

-- name: books_transfers
-- Transfers of a half-open time in the order of orgs and entries, with the kind of the entry while it is in the database.
select moved.org_id, moved.seq, moved.first_seq, moved.recorded_at, entry.kind,
       moved.debit_account, moved.credit_account, moved.asset, moved.amount_pico::text
from transfers as moved
left join ledger_entries as entry on entry.org_id = moved.org_id and entry.seq = moved.seq
where (%(org)s::text is null or moved.org_id = %(org)s) and moved.asset in ('USD', 'CREDIT')
    and (%(since)s::timestamptz is null or moved.recorded_at >= %(since)s)
    and (%(until)s::timestamptz is null or moved.recorded_at < %(until)s)
    and (%(tests)s or not exists (select from test_clocks as clock where clock.org_id = moved.org_id))
order by moved.org_id, moved.seq, moved.debit_account, moved.credit_account, moved.asset

-- name: books_sums
-- What accounts had before an instant, as their transfers say.
select org_id, account, asset, sum(pico)::text
from (
    select org_id, debit_account as account, asset, amount_pico as pico, recorded_at from transfers
    union all
    select org_id, credit_account, asset, -amount_pico, recorded_at from transfers
) as moved
where (%(org)s::text is null or org_id = %(org)s) and asset in ('USD', 'CREDIT') and recorded_at < %(before)s
    and (%(tests)s or not exists (select from test_clocks as clock where clock.org_id = moved.org_id))
group by org_id, account, asset
order by org_id, asset, account

-- name: books_balances
-- What accounts have now, as it is kept; those that nothing was ever moved to or from are left out.
select org_id, account, asset, (debit_pico - credit_pico)::text
from account_balances as balance
where (%(org)s::text is null or org_id = %(org)s) and asset in ('USD', 'CREDIT') and (debit_pico > 0 or credit_pico > 0)
    and (%(tests)s or not exists (select from test_clocks as clock where clock.org_id = balance.org_id))
order by org_id, asset, account

-- name: books_tests
-- Which orgs are test orgs.
select distinct org_id from test_clocks where %(org)s::text is null or org_id = %(org)s
