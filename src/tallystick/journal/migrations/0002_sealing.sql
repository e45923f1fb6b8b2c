-- Sealing: blocks of entries on disk, the signed log of them, and the only two ways in which a row may change or leave.

create table blocks (
    block         bigint primary key check (block > 0),
    path          text not null unique,
    entries       bigint not null check (entries > 0),
    bytes         bigint not null,
    time_min      timestamptz not null,
    time_max      timestamptz not null,
    file_sha256   bytea not null check (length(file_sha256) = 32),
    merkle_root   bytea not null check (length(merkle_root) = 32),
    orgs_root     bytea not null check (length(orgs_root) = 32),
    statement     text not null,
    sealed_at     timestamptz not null
);
comment on table blocks is
    'Sealed runs of entries, each a Parquet file. statement is the canonical JSON that the signed log has as its leaf at place block.';

create table block_orgs (
    org_id    text collate "C" not null,
    block     bigint not null references blocks,
    first_seq bigint not null check (first_seq > 0),
    last_seq  bigint not null check (last_seq >= first_seq),
    root      bytea not null check (length(root) = 32),
    frontier  bytea not null check (length(frontier) % 32 = 0),
    primary key (org_id, last_seq),
    unique (org_id, first_seq),
    unique (block, org_id)
);
comment on table block_orgs is
    'Which entries of each org a block holds, the root of the org''s tree at size last_seq, and its full subtrees, from which it grows.';

create table signing_keys (
    key_id     text primary key,
    name       text not null,
    public_key bytea not null check (length(public_key) = 32),
    added_at   timestamptz not null
);
comment on table signing_keys is 'The public halves of the keys that checkpoints are signed with.';

create table checkpoints (
    size      bigint primary key check (size > 0),
    note      text not null,
    signed_at timestamptz not null
);
comment on table checkpoints is 'Signed notes over the log of the first size blocks, each naming the one before it.';

create table erasures (
    org_id    text collate "C" not null,
    seq       bigint not null,
    erased_at timestamptz not null,
    primary key (org_id, seq)
);
comment on table erasures is 'Entries whose personal data was erased on request: who it was is not kept.';

do $$
declare
    name text;
begin
    foreach name in array array['blocks', 'block_orgs', 'signing_keys', 'checkpoints', 'erasures'] loop
        execute format('create trigger append_only before update or delete or truncate on %I for each statement execute function refuse_change()', name);
        execute format('alter table %I enable always trigger append_only', name);
    end loop;
    foreach name in array array['block_orgs', 'erasures'] loop
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy own_org on %I using (org_id = current_setting(''tallystick.org'', true)) with check (org_id = current_setting(''tallystick.org'', true))', name);
    end loop;
end
$$;

grant select on blocks, block_orgs, signing_keys, checkpoints, erasures
    to tallystick_app, tallystick_writer, tallystick_operator, tallystick_keeper;
grant insert on blocks, block_orgs, signing_keys, checkpoints to tallystick_operator;
