-- What runs by itself: its runs, and how long the queue is.

-- name: begin_lock
-- Held as long as the session lives: the same job runs once at a time, whoever starts it.
select pg_try_advisory_lock(hashtextextended('tallystick job ' || %(job)s, 0))

-- name: is_running
select exists (
    select from pg_locks, lateral (select hashtextextended('tallystick job ' || %(job)s, 0) as key) as wanted
    where locktype = 'advisory' and objsubid = 1 and database = (select oid from pg_database where datname = current_database())
        and classid = ((key >> 32) & 4294967295)::oid and objid = (key & 4294967295)::oid and granted
)

-- name: bury
-- Runs that have no end although nobody is at the job: their process is gone.
update tallystick_jobs.job_runs set outcome = 'killed', ended_at = %(now)s, seen_at = %(now)s
where job = %(job)s and outcome = 'running'

-- name: begin
insert into tallystick_jobs.job_runs (job, started_at, seen_at, outcome, started_by)
values (%(job)s, %(now)s, %(now)s, 'running', %(by)s) returning run

-- name: end
update tallystick_jobs.job_runs set outcome = %(outcome)s, ended_at = %(now)s, seen_at = %(now)s, done = %(done)s,
    detail = %(detail)s, error = %(error)s where run = %(run)s

-- name: forget
-- All but the last runs of the job.
delete from tallystick_jobs.job_runs where job = %(job)s and run <= (
    select run from tallystick_jobs.job_runs where job = %(job)s order by run desc offset %(keep)s limit 1
)

-- name: note_quiet
-- A look that found nothing to do is added to the last run when that was one, too.
update tallystick_jobs.job_runs set looks = looks + %(looks)s, seen_at = %(now)s, ended_at = %(now)s
where run = (select max(run) from tallystick_jobs.job_runs where job = %(job)s)
    and outcome = 'done' and done = 0 and detail = %(detail)s and started_by = %(by)s

-- name: note
insert into tallystick_jobs.job_runs (job, started_at, seen_at, ended_at, outcome, looks, done, detail, error, started_by)
values (%(job)s, %(started_at)s, %(now)s, %(now)s, %(outcome)s, %(looks)s, %(done)s, %(detail)s, %(error)s, %(by)s)

-- name: latest
-- Of each job its last run, its last one that went well, and how many have failed since then.
select last.job, last.run, last.started_at, last.seen_at, last.ended_at, last.outcome, last.looks, last.done, last.detail, last.error,
       last.started_by, well.seen_at,
       (select count(*) from tallystick_jobs.job_runs as since
        where since.job = last.job and since.run > coalesce(well.run, 0) and since.outcome in ('failed', 'killed')),
       failed.error, failed.ended_at
from (select distinct on (job) * from tallystick_jobs.job_runs order by job, run desc) as last
left join lateral (
    select run, seen_at from tallystick_jobs.job_runs where job = last.job and outcome = 'done' order by run desc limit 1
) as well on true
left join lateral (
    select error, ended_at from tallystick_jobs.job_runs where job = last.job and outcome = 'failed' order by run desc limit 1
) as failed on true
order by last.job

-- name: runs
-- The last runs of a job, the newest first.
select job, run, started_at, seen_at, ended_at, outcome, looks, done, detail, error, started_by
from tallystick_jobs.job_runs where job = %(job)s order by run desc limit %(limit)s

-- name: queue
-- How many jobs wait, how many are at work, and how many workers said within half a minute that they live.
select count(*) filter (where status = 'todo' and coalesce(scheduled_at, now()) <= now()), count(*) filter (where status = 'doing'),
       (select count(*) from tallystick_jobs.procrastinate_workers where last_heartbeat > now() - interval '30 seconds')
from tallystick_jobs.procrastinate_jobs
