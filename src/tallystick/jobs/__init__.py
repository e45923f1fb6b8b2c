"""The queue of jobs: procrastinate, in the same database. It says when; what is done is the use cases' matter."""
