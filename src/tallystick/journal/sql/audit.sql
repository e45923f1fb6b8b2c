-- Administrative acts; see migrations/0009_audit.sql.

-- name: add
-- Acts, in their order.
insert into administrative_acts
    (at, org_id, act, subject, seq, actor_kind, actor, via, request_id, author, reason, before, after)
select * from unnest(%(at)s::timestamptz[], %(org_id)s::text[], %(act)s::text[], %(subject)s::text[], %(seq)s::bigint[],
    %(actor_kind)s::text[], %(actor)s::text[], %(via)s::text[], %(request_id)s::text[], %(author)s::text[],
    %(reason)s::text[], %(before)s::text[], %(after)s::text[])

-- name: page
-- Acts of a time, of one org or of all, the oldest first, after a place in the list.
select n, at, org_id, act, subject, seq, actor_kind, actor, via, request_id, author, reason, before, after
from administrative_acts
where (at, n) > (%(after_at)s, %(after_n)s) and at >= %(begin)s and at < %(until)s
    and (%(org)s::text is null or org_id = %(org)s)
    and (%(act)s::text is null or act = %(act)s or starts_with(act, %(act)s || '.'))
    and (%(actor)s::text is null or actor = %(actor)s or author = %(actor)s)
    and (%(subject)s::text is null or subject = %(subject)s)
order by at, n
limit %(limit)s

-- name: newest
-- The last acts of a time, of one org or of all, the newest first.
select n, at, org_id, act, subject, seq, actor_kind, actor, via, request_id, author, reason, before, after
from administrative_acts
where at >= %(begin)s and at < %(until)s
    and (%(org)s::text is null or org_id = %(org)s)
    and (%(act)s::text is null or act = %(act)s or starts_with(act, %(act)s || '.'))
    and (%(actor)s::text is null or actor = %(actor)s or author = %(actor)s)
    and (%(subject)s::text is null or subject = %(subject)s)
order by at desc, n desc
limit %(limit)s

-- name: one
-- One act.
select n, at, org_id, act, subject, seq, actor_kind, actor, via, request_id, author, reason, before, after
from administrative_acts where n = %(n)s

-- name: said_before
-- What was said last of the same thing, before that act.
select after from administrative_acts
where org_id = %(org)s and act = %(act)s and n < %(n)s and (not %(by_subject)s or subject = %(subject)s)
order by n desc limit 1
