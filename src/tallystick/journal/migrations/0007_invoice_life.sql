-- The life of invoices: their numbers, what is paid and taken back; who is billed; the clocks of orgs that try things out.
-- What becomes of an invoice is an entry of its org's ledger. The tables of accounts and events follow from those entries,
-- are changed in their transaction under the head's lock, and can be made again from them (`tally verify` compares).

create table number_series (
    series text collate "C" primary key,
    last   bigint not null default 0 check (last >= 0)
) with (fillfactor = 50);
comment on table number_series is
    'The last place that was given in each series of numbers, such as INV-2026. The row is locked to give the next one, in the transaction that stores the entry that bears it: no place is lost or given twice.';

create table invoice_accounts (
    org_id         text collate "C" not null,
    invoice_id     text collate "C" not null,
    seq            bigint not null check (seq > 0),
    number         text collate "C" not null unique,
    period         text not null,
    digest         text not null,
    issued_at      timestamptz not null,
    due_at         timestamptz not null,
    total_cents    bigint not null,
    paid_cents     bigint not null check (paid_cents >= 0),
    credited_cents bigint not null,
    voided         boolean not null,
    is_test        boolean not null,
    line_credits   text not null,
    applied        text not null,
    applied_cents  bigint not null check (applied_cents >= 0),
    carried        text not null,
    carried_cents  bigint not null,
    bill_to        integer,
    primary key (org_id, invoice_id)
) with (fillfactor = 50);
create index invoice_accounts_due on invoice_accounts (due_at) where not voided and total_cents > paid_cents + credited_cents + applied_cents + carried_cents;
create index invoice_accounts_beyond on invoice_accounts (org_id) where total_cents < paid_cents + credited_cents + applied_cents + carried_cents;
comment on table invoice_accounts is
    'Issued invoices, and what was paid for and taken back of each. applied: what it used of credits as it was issued; applied_cents: what they pay of it now; carried: by the entry of another invoice, what is paid by what was too much there. seq is the entry by which it was issued; whether it is overdue follows from due_at. bill_to: the version of the billing profile that it names.';

create table invoice_events (
    org_id       text collate "C" not null,
    seq          bigint not null check (seq > 0),
    invoice_id   text collate "C" not null,
    kind         text not null check (kind in ('invoice', 'payment', 'credit_note', 'void')),
    at           timestamptz not null,
    amount_cents bigint not null,
    number       text collate "C",
    payment_id   text collate "C",
    primary key (org_id, seq),
    check ((kind in ('invoice', 'credit_note')) = (number is not null)),
    check ((kind = 'payment') = (payment_id is not null))
);
-- The same money comes in once, whichever org's invoice it is said to be for.
create unique index invoice_events_payment on invoice_events (payment_id) where payment_id is not null;
create unique index invoice_events_number on invoice_events (number) where number is not null;
create index invoice_events_of on invoice_events (org_id, invoice_id, seq);
comment on table invoice_events is 'What has happened to issued invoices, an entry each; it stays when the entry leaves for a block. payment_id: the provider and its id of the payment, which counts once over all orgs.';

-- ── who is billed ───────────────────────────────────────────────────────────────────────────────────────────────────

create table billing_profiles (
    org_id      text collate "C" not null,
    version     integer not null check (version > 0),
    sha256      bytea not null check (length(sha256) = 32),
    author      text not null,
    request_id  text collate "C",
    recorded_at timestamptz not null,
    primary key (org_id, version),
    unique (org_id, request_id)
);
comment on table billing_profiles is 'Versions of each org''s billing profile: who said it and when, and a salted hash of what was said.';

create table billing_profile_texts (
    org_id  text collate "C" not null,
    version integer not null,
    salt    bytea not null check (length(salt) = 16),
    profile text not null,
    primary key (org_id, version),
    foreign key (org_id, version) references billing_profiles
);
comment on table billing_profile_texts is 'What was said: canonical JSON. Personal, and erased on request, unless an issued invoice names the version.';

create table billing_profile_erasures (
    org_id    text collate "C" not null,
    version   integer not null,
    erased_at timestamptz not null,
    primary key (org_id, version),
    foreign key (org_id, version) references billing_profiles
);
comment on table billing_profile_erasures is 'Versions whose text was erased.';

create function only_erase_profile() returns trigger language plpgsql as $$
begin
    if not exists (select from public.billing_profile_erasures where org_id = old.org_id and version = old.version) then
        raise exception 'billing profile % of % is erased without a record of it', old.version, old.org_id
            using errcode = 'restrict_violation', hint = 'erase through erase_billing_profiles()';
    end if;
    return old;
end
$$;

create function erase_billing_profiles(org text, person text, at timestamptz, wanted integer[] default null) returns integer[]
language plpgsql security definer set search_path = pg_catalog, public, pg_temp as $$
declare
    versions integer[];
begin
    perform from org_heads where org_id = org for update;  -- nothing is issued meanwhile
    versions := array(
        select version from billing_profile_texts as said
        where org_id = org and (person is null or profile::jsonb ->> 'user_id' = person)
            and (wanted is null or version = any (wanted))
            and not exists (select from invoice_accounts as issued where issued.org_id = org and issued.bill_to = said.version)
        order by version
    );
    insert into billing_profile_erasures (org_id, version, erased_at) select org, version, at from unnest(versions) as given (version);
    delete from billing_profile_texts where org_id = org and version = any (versions);
    return versions;
end
$$;
comment on function erase_billing_profiles is
    'Erase what an org''s billing profiles say, all of them, those of one person or some versions, but for versions that an issued invoice names: the law has invoices kept. Which versions those were.';

-- ── clocks of orgs that try things out ──────────────────────────────────────────────────────────────────────────────

create table test_clocks (
    org_id      text collate "C" not null,
    ordinal     integer not null check (ordinal > 0),
    at          timestamptz not null,
    author      text not null,
    recorded_at timestamptz not null,
    primary key (org_id, ordinal)
);
comment on table test_clocks is 'Where the clock of a test org was put, and when: the last row holds. An org is a test org from its beginning, or never.';

create function only_forward() returns trigger language plpgsql as $$
declare
    last record;
begin
    select ordinal, at into last from public.test_clocks where org_id = new.org_id order by ordinal desc limit 1;
    if not found then
        if new.ordinal <> 1 or exists (select from public.org_heads where org_id = new.org_id and last_seq > 0)
            or exists (select from public.subscriptions where org_id = new.org_id) then
            raise exception 'org % is no test org: it was there before it had a clock', new.org_id using errcode = 'restrict_violation';
        end if;
    elsif new.ordinal <> last.ordinal + 1 or new.at < last.at then
        raise exception 'the clock of % goes forward only, from %', new.org_id, last.at using errcode = 'restrict_violation';
    end if;
    return new;
end
$$;
create trigger only_forward before insert on test_clocks for each row execute function only_forward();
alter table test_clocks enable always trigger only_forward;

-- ── what guards them ────────────────────────────────────────────────────────────────────────────────────────────────

do $$
declare
    name text;
begin
    foreach name in array array['invoice_events', 'billing_profiles', 'billing_profile_erasures', 'test_clocks'] loop
        execute format('create trigger append_only before update or delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger append_only', name);
    end loop;
    foreach name in array array['invoice_accounts', 'number_series'] loop
        execute format('create trigger stays before delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger stays', name);
    end loop;
    foreach name in array array['billing_profiles', 'billing_profile_erasures', 'test_clocks'] loop
        execute format('create trigger registered after insert on %I referencing new table as added for each statement execute function register_rows()', name);
        execute format('alter table %I enable always trigger registered', name);
    end loop;
    foreach name in array array['invoice_accounts', 'invoice_events', 'billing_profiles', 'billing_profile_texts', 'billing_profile_erasures', 'test_clocks'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy own_org on %I using (org_id = nullif(current_setting(''tallystick.org'', true), ''''))', name);
    end loop;
end
$$;
-- How many invoices a seller issues is no tenant's business: no policy shows it anything of it.
alter table number_series enable row level security;
alter table number_series force row level security;

create trigger append_only before update or delete or truncate on billing_profile_texts
    for each statement execute function refuse_all_but_erasing();
create trigger only_erase before delete on billing_profile_texts for each row execute function only_erase_profile();
alter table billing_profile_texts enable always trigger append_only;
alter table billing_profile_texts enable always trigger only_erase;

grant select on number_series, invoice_accounts, invoice_events, billing_profiles, billing_profile_texts, billing_profile_erasures, test_clocks
    to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert, update on number_series, invoice_accounts to tallystick_writer;
grant insert on invoice_events, test_clocks to tallystick_writer;
grant insert on billing_profiles, billing_profile_texts to tallystick_app;
grant insert on billing_profile_erasures to tallystick_keeper;
grant delete on billing_profile_texts to tallystick_keeper;

do $$
begin
    grant create on schema public to tallystick_keeper;  -- only an owner that may create here can be given a function
    alter function erase_billing_profiles(text, text, timestamptz, integer[]) owner to tallystick_keeper;
    revoke all on function erase_billing_profiles(text, text, timestamptz, integer[]) from public;
    grant execute on function erase_billing_profiles(text, text, timestamptz, integer[]) to tallystick_operator;
    revoke create on schema public from tallystick_keeper;
end
$$;
