-- Issued invoices, billing profiles and test clocks.

-- name: accounts
-- These invoices of these orgs, as far as they are issued; their heads are locked.
select account.org_id, account.invoice_id, seq, number, period, digest, issued_at, due_at, total_cents, paid_cents,
       credited_cents, voided, is_test, line_credits, applied, applied_cents, carried, carried_cents
from unnest(%(orgs)s::text[], %(invoices)s::text[]) as given (org_id, invoice_id)
join invoice_accounts as account using (org_id, invoice_id)

-- name: accounts_beyond
-- Issued invoices of these orgs on which the customer has too much.
select account.org_id, account.invoice_id, seq, number, period, digest, issued_at, due_at, total_cents, paid_cents,
       credited_cents, voided, is_test, line_credits, applied, applied_cents, carried, carried_cents
from unnest(%(orgs)s::text[]) as given (org_id)
join invoice_accounts as account using (org_id)
where total_cents < paid_cents + credited_cents + applied_cents + carried_cents

-- name: accounts_of_orgs
-- All issued invoices of these orgs.
select account.org_id, account.invoice_id, seq, number, period, digest, issued_at, due_at, total_cents, paid_cents,
       credited_cents, voided, is_test, line_credits, applied, applied_cents, carried, carried_cents
from unnest(%(orgs)s::text[]) as given (org_id)
join invoice_accounts as account using (org_id)

-- name: add_series
-- Series that there may not be yet, always in the same order.
insert into number_series (series)
select series from unnest(%(series)s::text[]) as given (series) order by series collate "C"
on conflict do nothing

-- name: lock_series
-- Nobody else numbers in these series until the transaction ends.
select series, last from number_series where series = any(%(series)s::text[]) order by series for update

-- name: save_series
update number_series as kept set last = given.last
from unnest(%(series)s::text[], %(lasts)s::bigint[]) as given (series, last)
where kept.series = given.series

-- name: save_account
insert into invoice_accounts (
    org_id, invoice_id, seq, number, period, digest, issued_at, due_at, total_cents, paid_cents, credited_cents, voided,
    is_test, line_credits, applied, applied_cents, carried, carried_cents, bill_to
) values (
    %(org_id)s, %(invoice_id)s, %(seq)s, %(number)s, %(period)s, %(digest)s, %(issued_at)s, %(due_at)s, %(total_cents)s,
    %(paid_cents)s, %(credited_cents)s, %(voided)s, %(is_test)s, %(line_credits)s, %(applied)s, %(applied_cents)s,
    %(carried)s, %(carried_cents)s, %(bill_to)s
)
on conflict (org_id, invoice_id) do update set
    paid_cents = excluded.paid_cents, credited_cents = excluded.credited_cents, voided = excluded.voided,
    line_credits = excluded.line_credits, applied_cents = excluded.applied_cents, carried = excluded.carried,
    carried_cents = excluded.carried_cents

-- name: add_event
insert into invoice_events (org_id, seq, invoice_id, kind, at, amount_cents, number, payment_id)
values (%(org_id)s, %(seq)s, %(invoice_id)s, %(kind)s, %(at)s, %(amount_cents)s, %(number)s, %(payment_id)s)

-- name: lock_payments
-- Nobody else counts these payments until the transaction ends; always in the same order.
select pg_advisory_xact_lock(hashtextextended('tallystick payment ' || payment_id, 0))
from (select unnest(%(payments)s::text[]) as payment_id order by 1) as given

-- name: payments_counted
-- Which of these payments are counted already, and as which entry.
select payment_id, org_id, seq, invoice_id, amount_cents from invoice_events where payment_id = any(%(payments)s::text[])

-- name: add_transfer
insert into transfers (org_id, seq, first_seq, debit_account, credit_account, asset, amount_pico, recorded_at)
values (%(org_id)s, %(seq)s, %(seq)s, %(debit)s, %(credit)s, %(asset)s, %(amount_pico)s, %(at)s)

-- name: move_balances
-- What was debited and credited; each account is there from the first time on.
insert into account_balances as balance (org_id, account, asset, debit_pico, credit_pico)
select org_id, account, %(asset)s, debit_pico, credit_pico
from unnest(%(orgs)s::text[], %(accounts)s::text[], %(debits)s::numeric[], %(credits)s::numeric[])
    as given (org_id, account, debit_pico, credit_pico)
order by org_id collate "C", account collate "C"
on conflict (org_id, account, asset) do update set
    debit_pico = balance.debit_pico + excluded.debit_pico, credit_pico = balance.credit_pico + excluded.credit_pico

-- name: list_accounts
-- Issued invoices, of one org or of all, of one month or of all, those first that were issued last.
select org_id, invoice_id, seq, number, period, digest, issued_at, due_at, total_cents, paid_cents, credited_cents, voided,
       is_test, line_credits, applied, applied_cents, carried, carried_cents
from invoice_accounts
where (%(org)s::text is null or org_id = %(org)s) and (%(period)s::text is null or period = %(period)s)
    and (%(invoice)s::text is null or invoice_id = %(invoice)s) and (%(number)s::text is null or number = %(number)s)
order by issued_at desc, number desc

-- name: list_due
-- What is still to be paid, what is due first coming first.
select org_id, invoice_id, seq, number, period, digest, issued_at, due_at, total_cents, paid_cents, credited_cents, voided,
       is_test, line_credits, applied, applied_cents, carried, carried_cents
from invoice_accounts
where not voided and total_cents > paid_cents + credited_cents + applied_cents + carried_cents
    and (%(org)s::text is null or org_id = %(org)s)
    and (%(tests)s or not is_test)
order by due_at, number

-- name: events_of
-- What has happened to an invoice, in order.
select invoice_id, seq, kind, at, amount_cents, number, payment_id from invoice_events
where org_id = %(org)s and invoice_id = %(invoice)s order by seq

-- name: events_of_org
-- What has happened to all invoices of an org, in order.
select invoice_id, seq, kind, at, amount_cents, number, payment_id from invoice_events where org_id = %(org)s order by seq

-- name: orgs_with_invoices
-- Orgs of which issued invoices are kept.
select org_id from invoice_accounts where %(org)s::text is null or org_id = %(org)s
union select org_id from invoice_events where %(org)s::text is null or org_id = %(org)s
order by 1

-- name: billed_to
-- The version of the profile that each issued invoice of an org names.
select invoice_id, bill_to from invoice_accounts where org_id = %(org)s

-- name: bill_to_names
-- Who is billed by issued invoices, by name.
select account.org_id, account.invoice_id, what.profile::jsonb ->> 'name'
from invoice_accounts as account
join billing_profile_texts as what on what.org_id = account.org_id and what.version = account.bill_to
where %(org)s::text is null or account.org_id = %(org)s

-- name: bill_to_of
-- The version of the profile that an issued invoice names.
select bill_to from invoice_accounts where org_id = %(org)s and invoice_id = %(invoice)s

-- name: newest_profiles
-- The newest version of these orgs' profiles that is not erased, and its hash.
select given.org_id, said.version, said.sha256
from unnest(%(orgs)s::text[]) as given (org_id)
cross join lateral (
    select version from billing_profile_texts as what where what.org_id = given.org_id order by version desc limit 1
) as newest
join billing_profiles as said on said.org_id = given.org_id and said.version = newest.version

-- name: profiles_there
-- Which of these versions of these orgs' profiles are not erased.
select what.org_id, what.version
from unnest(%(orgs)s::text[], %(versions)s::integer[]) as given (org_id, version)
join billing_profile_texts as what on what.org_id = given.org_id and what.version = given.version

-- name: unissued
-- Closed months whose invoices have no number, the oldest first.
select invoice_id, org_id, period, period_start, period_end, contract, contract_version, contract_sha256, plan, through_seq,
       digest, total_cents, closed_at
from invoices as stored
where (%(org)s::text is null or org_id = %(org)s) and not exists (
    select from invoice_accounts as issued where issued.org_id = stored.org_id and issued.invoice_id = stored.invoice_id
)
order by period, org_id

-- name: rows_of
-- These closed months of these orgs, without their documents.
select stored.invoice_id, stored.org_id, period, period_start, period_end, contract, contract_version, contract_sha256, plan,
       through_seq, digest, total_cents, closed_at
from unnest(%(orgs)s::text[], %(invoices)s::text[]) as given (org_id, invoice_id)
join invoices as stored on stored.invoice_id = given.invoice_id and stored.org_id = given.org_id

-- name: lock_profiles
-- One process at a time numbers the org's profiles.
select pg_advisory_xact_lock(hashtextextended('tallystick billing profiles ' || %(org)s, 0))

-- name: add_profile
insert into billing_profiles (org_id, version, sha256, author, request_id, recorded_at)
values (%(org)s, %(version)s, %(sha256)s, %(author)s, %(request_id)s, %(recorded_at)s)

-- name: add_profile_text
insert into billing_profile_texts (org_id, version, salt, profile) values (%(org)s, %(version)s, %(salt)s, %(profile)s)

-- name: profiles
-- Every version of the org's profile, the first one first; without a text where that was erased.
select said.version, said.sha256, said.author, said.request_id, said.recorded_at, what.salt, what.profile
from billing_profiles as said
left join billing_profile_texts as what using (org_id, version)
where said.org_id = %(org)s order by said.version

-- name: erase_profiles
select erase_billing_profiles(%(org)s, %(person)s, %(at)s, %(versions)s::integer[])

-- name: clock_of
-- Where the clock of a test org stands; no row for an org that is none.
select at from test_clocks where org_id = %(org)s order by ordinal desc limit 1

-- name: clocks
-- Every test org, and where its clock stands.
select distinct on (org_id) org_id, at from test_clocks order by org_id, ordinal desc

-- name: clocks_of
-- Where the clocks of those of these orgs stand that are test orgs.
select given.org_id, clock.at
from unnest(%(orgs)s::text[]) as given (org_id)
cross join lateral (
    select at from test_clocks where test_clocks.org_id = given.org_id order by ordinal desc limit 1
) as clock

-- name: lock_org
-- Nobody writes for the org until the transaction ends; where its sequence stands, and whether it was ever on a plan.
select last_seq, exists (select from subscriptions where subscriptions.org_id = org_heads.org_id)
from org_heads where org_id = %(org)s for update

-- name: next_end
-- When the next hold or lot of credits of an org comes to its end, after an instant.
select min(expires_at) from (
    select expires_at from open_holds where org_id = %(org)s and expires_at > %(after)s
    union all
    select expires_at from grants where org_id = %(org)s and expires_at > %(after)s and available_pico > 0
) as ending

-- name: put_clock
insert into test_clocks (org_id, ordinal, at, author, recorded_at)
select %(org)s, coalesce(max(ordinal), 0) + 1, %(at)s, %(author)s, %(recorded_at)s from test_clocks where org_id = %(org)s

-- name: clock_history
select ordinal, at, author, recorded_at from test_clocks where org_id = %(org)s order by ordinal

-- name: numbers_given
-- Series, how many places were given, how many documents bear one, and the last place that one bears.
select series, coalesce(last, 0), coalesce(documents, 0), coalesce(last_borne, 0)
from number_series
full join (
    select regexp_replace(number, '-[^-]*$', '') collate "C" as series, count(*) as documents,
        max(substring(number from '-([0-9]{1,18})$')::bigint) as last_borne
    from invoice_events where number is not null group by 1
) as borne using (series)
order by series

-- name: money_transfers
-- An org's transfers of money for its invoices, in their order.
select seq, first_seq, debit_account, credit_account, amount_pico::text, recorded_at
from transfers where org_id = %(org)s and asset = 'USD'
    and (debit_account = any(%(accounts)s::text[]) or credit_account = any(%(accounts)s::text[]))
order by seq

-- name: money_balances
select account, debit_pico::text, credit_pico::text from account_balances
where org_id = %(org)s and asset = 'USD' and account = any(%(accounts)s::text[])

-- name: stored_invoices
-- The closed months behind issued invoices.
select invoice_id, digest, total_cents, period from invoices where org_id = %(org)s

-- name: orgs_with_profiles
-- Orgs with billing profiles; the versions whose text was erased, those of texts that no version is of, and those that
-- issued invoices name.
select org_id, array(
    select version from billing_profile_erasures as erased where erased.org_id = said.org_id order by version
), array(
    select version from billing_profile_texts as what where what.org_id = said.org_id and not exists (
        select from billing_profiles as own where own.org_id = what.org_id and own.version = what.version
    ) order by version
), array(
    select distinct bill_to from invoice_accounts as issued
    where issued.org_id = said.org_id and bill_to is not null order by bill_to
)
from (select org_id from billing_profiles union select org_id from billing_profile_texts) as said
where %(org)s::text is null or org_id = %(org)s
order by org_id
