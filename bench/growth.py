"""Whether the journal writes as fast at 20 million stored events as at 1 million; see `bench.journal`."""

from __future__ import annotations

from bench.journal import growth

run = growth
