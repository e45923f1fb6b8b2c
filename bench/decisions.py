"""`POST /v1/authorize` and `/v1/settle` of `tally serve`: pairs a second, each durable, and how long one call waits.

Every pair decides on a plan with limits, holds and charges credits by lot, stores and prices one usage event, hashes
its three entries and posts their transfers; the calls come from another process over many connections. Measured
against, in the same run and the same database server: the same pairs by one transaction for each step (see
`bench.wallet_by_wallet`), without HTTP and much else.

Each is measured in turns, and the best turn of each counts: what else the machine does takes from all alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import NamedTuple

from bench import wallet_by_wallet
from bench.decisions_load import org_name
from bench.http_ingest import WORKERS, serving
from bench.journal import bench_runtime
from bench.report import Row
from tallystick.app.contracts import apply_contract
from tallystick.app.grants import grant
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime

TURNS = 3
CONNECTIONS, PAIRS, WALLETS = 64, 10_000, 100
FEW_CONNECTIONS, FEW_PAIRS = 8, 3_000
NAIVE_PAIRS, NAIVE_HOT_PAIRS = 5_000, 1_000

PAIRS_MIN, HOT_SHARE_MIN, P50_MS_MAX = 2_000, 0.6, 5.0

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_CONTRACT = """\
contract: bench
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  brief: {title: Write a brief, price: {credits: 5}, charge_on: [success], shows: 5 credits a brief.}
plans:
  wallet:
    title: Wallet
    kind: credits
    base: "20"
    top_up: true
    limits:
      - {meters: [tokens_in, tokens_out], max: 1000000000000, per: day, kind: hard}
      - {meters: [tokens_out], max: 1000000000000, per: month, kind: soft, warn_at: [0.8, 1.0]}
"""


class Called(NamedTuple):
    """What one run of the caller has seen."""

    seconds: float
    pairs: int
    authorize_p50_ms: float
    authorize_p99_ms: float
    settle_p50_ms: float
    settle_p99_ms: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.pairs / self.seconds


def run() -> list[Row]:
    """Pairs a second over many wallets and one, and the latency of few callers."""
    spread: list[Called] = []
    hot: list[Called] = []
    few: list[Called] = []
    naive = naive_hot = 0.0
    with bench_runtime() as runtime:
        open_wallets(runtime)
        wallet_by_wallet.make(runtime.database.url, WALLETS)
        for turn in range(TURNS):
            with serving(runtime.settings.data_dir) as port:
                call(port, CONNECTIONS, 500, WALLETS, f"warm{turn}")
                spread.append(call(port, CONNECTIONS, PAIRS, WALLETS, f"spread{turn}"))
                hot.append(call(port, CONNECTIONS, PAIRS, 1, f"hot{turn}"))
                few.append(call(port, FEW_CONNECTIONS, FEW_PAIRS, WALLETS, f"few{turn}"))
            naive = max(naive, one_by_one(runtime, NAIVE_PAIRS, WALLETS, f"n{turn}"))
            naive_hot = max(naive_hot, one_by_one(runtime, NAIVE_HOT_PAIRS, 1, f"h{turn}"))
    best, best_hot = (max(turns, key=lambda called: called.rate) for turns in (spread, hot))
    return _rows(best, best_hot, min(few, key=lambda called: called.authorize_p50_ms), naive, naive_hot)


def _rows(spread: Called, hot: Called, few: Called, naive: float, naive_hot: float) -> list[Row]:
    each = "one transaction for each step, without HTTP"
    return [
        Row(
            f"authorize + settle, {WALLETS} wallets, {CONNECTIONS} connections, {WORKERS} workers",
            f"{spread.rate:,.0f} pairs/s; authorize p50 {spread.authorize_p50_ms:.1f},"
            f" p99 {spread.authorize_p99_ms:.1f} ms; settle p50 {spread.settle_p50_ms:.1f},"
            f" p99 {spread.settle_p99_ms:.1f} ms",
            f"{each}: {naive:,.0f} pairs/s",
            f"{PAIRS_MIN:,} pairs/s",
            spread.rate >= PAIRS_MIN,
        ),
        Row(
            "the same on one hot wallet",
            f"{hot.rate:,.0f} pairs/s, {hot.rate / spread.rate:.2f} of the spread rate",
            f"{each}: {naive_hot:,.0f} pairs/s",
            f"{HOT_SHARE_MIN} of the spread rate",
            hot.rate >= HOT_SHARE_MIN * spread.rate,
        ),
        Row(
            f"the same over {WALLETS} wallets at {FEW_CONNECTIONS} connections",
            f"{few.rate:,.0f} pairs/s; authorize p50 {few.authorize_p50_ms:.1f}, p99 {few.authorize_p99_ms:.1f} ms",
            "",
            f"authorize p50 under {P50_MS_MAX:.0f} ms",
            few.authorize_p50_ms < P50_MS_MAX,
        ),
    ]


def open_wallets(runtime: Runtime) -> None:
    """Orgs on a plan with credits, each with more than enough of them."""
    apply_contract(runtime, _CONTRACT, "bench.yaml")
    for number in range(WALLETS):
        org_id = org_name(number)
        set_subscription(runtime, org_id, contract="bench", plan="wallet", time_zone="UTC", effective_from=_BEGAN)
        for lot in range(3):
            members = {"request_id": f"g{lot}", "source": "promo", "credits": "100000", "author": "b", "reason": "b"}
            grant(runtime, org_id, {**members, "expires_at": f"{2090 + lot}-01-01T00:00:00Z"})


def one_by_one(runtime: Runtime, pairs: int, orgs: int, prefix: str) -> float:
    """Pairs a second of what is measured against, by as many callers in as many processes."""
    url = runtime.database.url
    return wallet_by_wallet.pairs_per_second(url, CONNECTIONS, pairs, orgs, WORKERS, prefix=prefix)


def call(port: int, connections: int, pairs: int, orgs: int, prefix: str) -> Called:
    """Call from a process of its own; every request must be allowed, and every hold settled."""
    command = [sys.executable, "-m", "bench.decisions_load"]
    command += [str(argument) for argument in (port, connections, pairs, orgs, prefix)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Called(**json.loads(done.stdout))
