-- Credits in money, and promo codes.

-- name: lots
-- What these orgs were given; of the live ones, what is not used up. Their heads are locked.
select org_id, seq, source, given_at, expires_at, amount_cents, left_cents, percent_bp, cap_cents, invoices_left, minimum_cents,
       from_month, code, is_test
from invoice_credit_lots
where org_id = any(%(all)s::text[]) or (org_id = any(%(live)s::text[]) and (left_cents > 0 or percent_bp is not null))

-- name: save_lot
insert into invoice_credit_lots (
    org_id, seq, source, given_at, expires_at, amount_cents, left_cents, percent_bp, cap_cents, invoices_left, minimum_cents,
    from_month, code, is_test
) values (
    %(org_id)s, %(seq)s, %(source)s, %(given_at)s, %(expires_at)s, %(amount_cents)s, %(left_cents)s, %(percent_bp)s,
    %(cap_cents)s, %(invoices_left)s, %(minimum_cents)s, %(from_month)s, %(code)s, %(is_test)s
)
on conflict (org_id, seq) do update set
    expires_at = excluded.expires_at, left_cents = excluded.left_cents, invoices_left = excluded.invoices_left

-- name: invoiced
-- Those of these orgs that an invoice was issued to.
select org_id from unnest(%(orgs)s::text[]) as given (org_id)
where exists (select from invoice_accounts as issued where issued.org_id = given.org_id)

-- name: lock_codes
-- Until this transaction ends nobody else redeems these codes, or defines them; always in the same order.
select pg_advisory_xact_lock(hashtextextended('tallystick promo ' || code, 0))
from (select code from unnest(%(codes)s::text[]) as given (code) order by code collate "C") as sorted

-- name: offers
-- The newest versions of these codes, and how many have redeemed them: in truth, and of test orgs.
select code, version, terms, ended,
    coalesce((select taken from promo_counts as one where one.code = newest.code and not is_test), 0),
    coalesce((select taken from promo_counts as one where one.code = newest.code and is_test), 0)
from (
    select distinct on (code) code, version, terms, ended from promo_codes
    where code = any(%(codes)s::text[]) order by code, version desc
) as newest

-- name: count_redeemed
-- So many have redeemed them now.
insert into promo_counts (code, is_test, taken)
select code, is_test, taken from unnest(%(codes)s::text[], %(tests)s::boolean[], %(taken)s::bigint[]) as given (code, is_test, taken)
on conflict (code, is_test) do update set taken = excluded.taken

-- name: add_promo
insert into promo_codes (code, version, terms, ended, author, reason, recorded_at)
values (%(code)s, %(version)s, %(terms)s, %(ended)s, %(author)s, %(reason)s, %(recorded_at)s)

-- name: promos
-- Every version of one code, or of all, the first one first.
select code, version, terms, ended, author, reason, recorded_at from promo_codes
where %(code)s::text is null or code = %(code)s order by code, version

-- name: counts
-- How often codes were redeemed, one or all.
select code, is_test, taken from promo_counts where %(code)s::text is null or code = %(code)s order by code, is_test

-- name: lots_of
-- All that an org was given, the first one first.
select org_id, seq, source, given_at, expires_at, amount_cents, left_cents, percent_bp, cap_cents, invoices_left, minimum_cents,
       from_month, code, is_test
from invoice_credit_lots where org_id = %(org)s order by seq

-- name: orgs_with_lots
-- Orgs of which credits in money are kept.
select distinct org_id from invoice_credit_lots where %(org)s::text is null or org_id = %(org)s order by 1

-- name: redeemed
-- How many credits are kept of each code, those of test orgs apart.
select code, is_test, count(*) from invoice_credit_lots where code is not null group by 1, 2 order by 1, 2
