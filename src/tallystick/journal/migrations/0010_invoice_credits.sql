-- Credits in money, which invoices use up, and promo codes.
-- That a credit is given, and that a code is redeemed, is an entry of the org's ledger. The table of lots follows from those
-- entries and from those of invoices, is changed in their transaction under the head's lock, and can be made again from them
-- (`tally verify` compares).

create table invoice_credit_lots (
    org_id        text collate "C" not null,
    seq           bigint not null check (seq > 0),
    source        text not null check (source in ('promo', 'sla', 'dispute', 'goodwill')),
    given_at      timestamptz not null,
    expires_at    timestamptz,
    amount_cents  bigint not null check (amount_cents >= 0),
    left_cents    bigint not null check (left_cents between 0 and amount_cents),
    percent_bp    integer check (percent_bp between 1 and 10000),
    cap_cents     bigint check (cap_cents > 0),
    invoices_left integer check (invoices_left >= 0),
    minimum_cents bigint not null check (minimum_cents >= 0),
    from_month    text,
    code          text collate "C",
    is_test       boolean not null,
    primary key (org_id, seq),
    check ((percent_bp is null) = (amount_cents > 0)),
    check (code is null or source = 'promo')
) with (fillfactor = 50);
create unique index invoice_credit_lots_code on invoice_credit_lots (org_id, code) where code is not null;
create index invoice_credit_lots_of_code on invoice_credit_lots (code) where code is not null;
comment on table invoice_credit_lots is
    'What orgs were given in money, and what is left of it: amounts, or (percent_bp) shares of invoices. seq is the entry that gave it. A code is redeemed once by an org. Whether one is over follows from expires_at.';

create table promo_codes (
    code        text collate "C" not null check (code ~ '^[A-Z0-9][A-Z0-9_-]{2,39}$'),
    version     integer not null check (version > 0),
    terms       text not null,
    ended       boolean not null,
    author      text not null,
    reason      text not null,
    recorded_at timestamptz not null,
    primary key (code, version)
);
comment on table promo_codes is
    'Versions of promo codes: what each gives (JSON), by whom and why. The last holds; one that is ended cannot be redeemed any more.';

create table promo_counts (
    code    text collate "C" not null,
    is_test boolean not null,
    taken   bigint not null check (taken >= 0),
    primary key (code, is_test)
) with (fillfactor = 50);
comment on table promo_counts is
    'How many orgs have redeemed each code, those with a test clock apart. It is counted in the transaction that stores the entry, under the lock of the code: no place is given twice, and none that is refused is taken.';

do $$
declare
    name text;
begin
    create trigger append_only before update or delete or truncate on promo_codes for each statement execute function refuse_change();
    alter table promo_codes enable always trigger append_only;
    create trigger registered after insert on promo_codes referencing new table as added for each statement execute function register_rows();
    alter table promo_codes enable always trigger registered;
    foreach name in array array['invoice_credit_lots', 'promo_counts'] loop
        execute format('create trigger stays before delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger stays', name);
    end loop;
    alter table invoice_credit_lots enable row level security;
    alter table invoice_credit_lots force row level security;
    create policy own_org on invoice_credit_lots using (org_id = nullif(current_setting('tallystick.org', true), ''));
    -- Which codes there are, and how often they were redeemed, is no tenant's business: no policy shows it anything of it.
    foreach name in array array['promo_codes', 'promo_counts'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
    end loop;
end
$$;

grant select on invoice_credit_lots, promo_codes, promo_counts to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert, update on invoice_credit_lots, promo_counts to tallystick_writer;
grant insert on promo_codes to tallystick_operator;
