-- Contract versions.

-- name: lock
-- One process at a time applies a contract; readers are not kept waiting.
select pg_advisory_xact_lock(hashtextextended('tallystick contract_versions', 0))

-- name: versions
-- Every version of one contract, by the time from which it holds.
select contract, version, sha256, effective_from, applied_at, source_name, source_text
from contract_versions where contract = %(contract)s order by effective_from

-- name: all
-- Every version of every contract.
select contract, version, sha256, effective_from, applied_at, source_name, source_text
from contract_versions order by contract, effective_from

-- name: add
-- Apply a version.
insert into contract_versions
    (contract, version, sha256, effective_from, applied_at, source_name, source_text, meters)
values (%(contract)s, %(version)s, %(sha256)s, %(effective_from)s, %(applied_at)s, %(source_name)s, %(source_text)s,
    %(meters)s)

-- name: declared_meters
-- The meters that any version of any contract declares.
select distinct unnest(meters) from contract_versions
