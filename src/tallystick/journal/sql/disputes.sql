-- Disputes, their events and their evidence.

-- name: columns
-- One dispute.
select org_id, seq, request_id, what, state, invoice_id, line, entries, charged_seqs, charged_pico, disputed_cents, author,
       reason, opened_at, answer_due_at, evidence_seq, evidence_sha256, differences, proposed_cents, decided_at,
       explanation, upheld_cents, upheld_seqs, upheld_pico
from disputes where org_id = %(org)s and seq = %(seq)s

-- name: of_orgs
-- What a group of steps is decided from: disputes that are named, and those of orgs in which something is disputed anew
-- that keep it from being disputed once more. The orgs' heads are locked.
select org_id, seq, request_id, what, state, invoice_id, line, entries, charged_seqs, charged_pico, disputed_cents, author,
       reason, opened_at, answer_due_at, evidence_seq, evidence_sha256, differences, proposed_cents, decided_at,
       explanation, upheld_cents, upheld_seqs, upheld_pico
from disputes
where (org_id, seq) in (select * from unnest(%(orgs)s::text[], %(seqs)s::bigint[]))
   or (org_id = any(%(opening)s::text[]) and state in ('open', 'under_review', 'upheld'))

-- name: save
insert into disputes (
    org_id, seq, request_id, what, state, invoice_id, line, entries, charged_seqs, charged_pico, disputed_cents, author,
    reason, opened_at, answer_due_at, evidence_seq, evidence_sha256, differences, proposed_cents, decided_at,
    explanation, upheld_cents, upheld_seqs, upheld_pico
) values (
    %(org_id)s, %(seq)s, %(request_id)s, %(what)s, %(state)s, %(invoice_id)s, %(line)s, %(entries)s, %(charged_seqs)s,
    %(charged_pico)s, %(disputed_cents)s, %(author)s, %(reason)s, %(opened_at)s, %(answer_due_at)s, %(evidence_seq)s,
    %(evidence_sha256)s, %(differences)s, %(proposed_cents)s, %(decided_at)s, %(explanation)s, %(upheld_cents)s,
    %(upheld_seqs)s, %(upheld_pico)s
)
on conflict (org_id, seq) do update set
    state = excluded.state, evidence_seq = excluded.evidence_seq, evidence_sha256 = excluded.evidence_sha256,
    differences = excluded.differences, proposed_cents = excluded.proposed_cents, decided_at = excluded.decided_at,
    explanation = excluded.explanation, upheld_cents = excluded.upheld_cents, upheld_seqs = excluded.upheld_seqs,
    upheld_pico = excluded.upheld_pico

-- name: add_event
insert into dispute_events (org_id, seq, dispute_seq, step, at, author, reason)
values (%(org_id)s, %(seq)s, %(dispute_seq)s, %(step)s, %(at)s, %(author)s, %(reason)s)

-- name: list
-- The newest first; null: any.
select org_id, seq, request_id, what, state, invoice_id, line, entries, charged_seqs, charged_pico, disputed_cents, author,
       reason, opened_at, answer_due_at, evidence_seq, evidence_sha256, differences, proposed_cents, decided_at,
       explanation, upheld_cents, upheld_seqs, upheld_pico
from disputes
where (%(org)s::text is null or org_id = %(org)s)
  and (%(states)s::text[] is null or state = any(%(states)s))
  and (%(invoice)s::text is null or invoice_id = %(invoice)s)
  and (%(after_at)s::timestamptz is null
       or (opened_at, org_id, seq) < (%(after_at)s::timestamptz, %(after_org)s::text, %(after_seq)s::bigint))
order by opened_at desc, org_id desc, seq desc
limit %(limit)s

-- name: by_request
select org_id, seq, request_id, what, state, invoice_id, line, entries, charged_seqs, charged_pico, disputed_cents, author,
       reason, opened_at, answer_due_at, evidence_seq, evidence_sha256, differences, proposed_cents, decided_at,
       explanation, upheld_cents, upheld_seqs, upheld_pico
from disputes where org_id = %(org)s and request_id = %(request)s

-- name: unproved
-- Disputes that have no evidence yet, the oldest first.
select org_id, seq from disputes where evidence_seq is null and (%(org)s::text is null or org_id = %(org)s)
order by opened_at, org_id, seq

-- name: events_of
select dispute_seq, seq, step, at, author, reason from dispute_events
where org_id = %(org)s and dispute_seq = %(seq)s order by seq

-- name: events_of_org
select dispute_seq, seq, step, at, author, reason from dispute_events where org_id = %(org)s order by seq

-- name: orgs_with_disputes
select distinct org_id from disputes where %(org)s::text is null or org_id = %(org)s
union
select distinct org_id from dispute_events where %(org)s::text is null or org_id = %(org)s

-- name: add_evidence
insert into dispute_evidence (org_id, dispute_seq, sha256, document)
values (%(org)s, %(seq)s, %(sha256)s, %(document)s) on conflict do nothing

-- name: evidence
select document from dispute_evidence where org_id = %(org)s and dispute_seq = %(seq)s and sha256 = %(sha256)s

-- name: evidence_of_org
-- Every document of the org, with the hash that it has and the one that it is kept under.
select dispute_seq, sha256, encode(sha256(convert_to(document, 'UTF8')), 'hex') from dispute_evidence
where org_id = %(org)s order by dispute_seq, sha256

-- name: orgs_of_seq
-- Whose dispute bears that number: each org numbers its own.
select org_id from disputes where seq = %(seq)s order by org_id limit 3
