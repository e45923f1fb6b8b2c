-- Bringing entries of many orgs into memory, in the order in which they lie on the disk.

-- name: ranges
-- Of each of these orgs, in their order: where its entries of a time begin, and where the ledger was 6 hours past it.
-- An org without entries has none.
select given.org_id,
       coalesce(seq_reaching(given.org_id, %(start)s, head.last_seq), 1),
       coalesce(seq_reaching(given.org_id, %(end)s::timestamptz + interval '6 hours', head.last_seq), 1)
from unnest(%(orgs)s::text[]) with ordinality as given (org_id, place)
left join org_heads as head on head.org_id = given.org_id
order by place

-- name: settings
-- By bitmaps: first where all of it lies, then the pages from the first to the last. Workers of a parallel plan would
-- take the cores from those whom it is read for.
set local enable_seqscan = off; set local enable_indexscan = off; set local enable_indexonlyscan = off;
set local max_parallel_workers_per_gather = 0; set local work_mem = '64MB'

-- name: read
-- A column is asked for, so that the rows themselves are read and not only where they are.
select count(leaf) from ledger_entries where
