"""Rounds of killing a gateway under load: whoever has a complete answer finds its entry in the ledger.

`python -m crash.gateway_rounds [ROUNDS] [SEED]`. In every round `tally serve` dies by SIGKILL, at a named step of
writing or at any moment, while callers ask for whole answers and streams, settled before the answer and after it. Some
who had no complete answer ask again under the same id. In the end: what was answered stands in the ledger, at the place
that was told and at the cost that was told; no id was charged twice; no hold outlives its life; all sums hold.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from account_operations import CHECKS, subscribe
from crash.bank_teller import CONTRACT
from crash.rounds import ROOT, named_steps
from fake_upstream import Asked, FakeUpstream, Reply, stream
from gateway_tools import DEFAULTS, WHOLE, chat, chat_answer
from tally_processes import TallyProcess, run_tally
from tallystick.app.grants import grant
from tallystick.app.hold_expiry import expire_due
from tallystick.app.keys import create_key
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.journal.server import EmbeddedServer

ORGS = ("bank-a", "bank-b", "bank-c")
EXPECTED = ("request_in_flight", "request_already_charged", "database_unreachable", "hard_limit_reached")
"""What calls may be refused for, and that is no wrong of the gateway's; the contract allows only so much a minute."""
SENDERS = 12
HOLD_SECONDS = 2.1
"""The life of a hold in the contract, and a little more."""
_LISTENING = re.compile(r"listening on \S+:(\d+)")
_START_SECONDS_MAX = 90
_TALLY = re.compile(rb": tally (\{.*?\})\n\n")
_USAGE = "select org_id, seq, request_id, cost_pico from ledger_entries where kind = 'usage'"
_CHARGED = """
select hold.org_id, split_part(hold.request_id, '~', 1), count(*)
from ledger_entries as settlement join ledger_entries as hold
    on hold.org_id = settlement.org_id and hold.seq = settlement.refers_to_seq
where settlement.kind = 'settlement' and settlement.body::jsonb -> 'request' ->> 'outcome' = 'success'
group by 1, 2 having count(*) > 1
"""


@dataclass
class Report:
    """What the rounds came to."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    asked_again: Counter[str] = field(default_factory=Counter)
    wrongs: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = f"seed {self.seed}: {self.kills.total()} kills, answered {dict(self.answered)}, {self.cut} cut,"
        said += f" asked again {dict(self.asked_again)}, {len(self.wrongs)} wrongs"
        return said + "".join(f"\n  {wrong}" for wrong in self.wrongs[:20])


@dataclass(frozen=True)
class Promise:
    """What a complete answer said. `seq` and `cost_usd` are None where it is settled after the answer."""

    org_id: str
    request_id: str
    seq: int | None
    cost_usd: str | None


class GatewayRounds:
    """The rounds in one data directory, whose database lives through all of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.report = Report(seed)
        self._random = random.Random(seed)
        self._promises: list[Promise] = []
        self._unanswered: list[tuple[str, str]] = []
        self._numbers = iter(range(10**9))
        self._lock = threading.Lock()
        self._tokens: dict[str, str] = {}
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TALLY_")},
            "TALLY_DATA_DIR": str(folder),
            "TALLY_SEAL_SECONDS": "0",
            "TALLY_GATEWAY_FILE": str(folder / "gateway.yaml"),
            "PROVIDER_KEY": "sk-crash",
            "PYTHONPATH": str(ROOT / "tests"),
        }
        self._environment.pop("DATABASE_URL", None)

    def play(self, rounds: int, progress: Callable[[str], object] = lambda _: None) -> Report:
        """Play so many rounds, each named step at least once when there are enough."""
        kinds = [*named_steps("operations."), *named_steps("settlements."), "", "", ""]
        plan = (kinds * (rounds // len(kinds) + 1))[:rounds]
        self._random.shuffle(plan)
        with EmbeddedServer(self.folder), FakeUpstream() as upstream:
            self._open(upstream)
            for step in plan:
                self._round(step)
                progress(str(self.report))
                if self.report.wrongs:
                    return self.report
            self._settle_all()
            self._check()
        return self.report

    def _open(self, upstream: FakeUpstream) -> None:
        upstream.choose = _answer
        base = f"{{base_url: '{upstream.url}', key_env: PROVIDER_KEY"
        (self.folder / "gateway.yaml").write_text(
            f"providers:\n  openai: {base}}}\n  later: {base}, provider: openai, commit: async}}\n"
        )
        with open_runtime(Settings(data_dir=self.folder)) as runtime:
            subscribe(runtime, *ORGS, plan="wallet", contract=CONTRACT)
            for org_id in ORGS:
                members = {"request_id": "g", "source": "promo", "credits": "10000000", "author": "a", "reason": "r"}
                grant(runtime, org_id, members)
                made = create_key(runtime, org_id=org_id, scopes=["gateway"], author="a", defaults=DEFAULTS)
                self._tokens[org_id] = made.token

    # ── one round ───────────────────────────────────────────────────────────────────────────────

    def _round(self, step: str) -> None:
        process = self._start(step or "never", self._random.randint(1, 40))
        try:
            port = self._port(process)
            dead = threading.Event()
            senders = [threading.Thread(target=self._send, args=(port, dead, place)) for place in range(SENDERS)]
            for sender in senders:
                sender.start()
            until = time.monotonic() + (self._random.uniform(0.05, 0.7) if not step else 6.0)
            while process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                step = ""
            process.wait()
            dead.set()
            for sender in senders:
                sender.join(30)
            self.report.kills[step or "a moment"] += 1
        finally:
            process.kill()
            process.wait()

    def _start(self, step: str, times: int) -> TallyProcess:
        with (self.folder / "log").open("wb") as log:
            command, said = [step, times, "serve", "--port", 0], log.fileno()
            return TallyProcess(command, env=self._environment, stdout=said, stderr=said, main="crash.victim")

    def _port(self, process: TallyProcess) -> int:
        deadline = time.monotonic() + _START_SECONDS_MAX
        while not (found := _LISTENING.search((self.folder / "log").read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"it did not start: {(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.02)
        return int(found[1])

    def _send(self, port: int, dead: threading.Event, place: int) -> None:
        draw = random.Random(f"{self.report.seed} {place} {self.report.kills.total()}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while not dead.is_set():
            again = None
            with self._lock:
                if self._unanswered and draw.random() < 0.3:
                    again = self._unanswered.pop(draw.randrange(len(self._unanswered)))
                org_id, request_id = again or (draw.choice(ORGS), f"g{next(self._numbers)}")
            try:
                said = self._ask(connection, org_id, request_id, draw)
            except (OSError, http.client.HTTPException):
                with self._lock:
                    self._unanswered.append((org_id, request_id))
                    self.report.cut += 1
                return
            if again is not None:
                with self._lock:
                    self.report.asked_again[said] += 1
                    if said == "request_in_flight":
                        self._unanswered.append(again)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, org_id: str, request_id: str, draw: random.Random) -> str:
        """Ask, and take down what a complete answer promises; what it said in a word."""
        number = int(request_id[1:])
        is_stream, is_later = number % 3 == 0, number % 5 == 0
        body = json.dumps(chat(stream=is_stream) if is_stream else chat()).encode()
        headers = {
            "authorization": f"Bearer {self._tokens[org_id]}",
            "x-tally-request-id": request_id,
            "x-tally-action": "write",
            "content-type": "application/json",
        }
        path = f"/{'later' if is_later else 'openai'}/v1/chat/completions"
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            code = json.loads(content)["error"]["code"]
            if code not in EXPECTED:
                with self._lock:
                    self.report.wrongs.append(f"{request_id} was answered {answer.status}: {content[:500]!r}")
            return str(code)
        if is_stream:
            found = _TALLY.search(content)
            if found is None or not content.endswith(b"data: [DONE]\n\n"):
                with self._lock:
                    self.report.wrongs.append(f"{request_id} has no figures, or no end: {content[-300:]!r}")
                return "incomplete"
            told: dict[str, Any] = json.loads(found[1])
        else:
            told = {
                "request_id": answer.headers["x-tally-request-id"],
                "entry": answer.headers["x-tally-entry"],
                "cost_usd": answer.headers["x-tally-cost-usd"],
                "status": answer.headers["x-tally-cost-status"],
            }
        queued = told["status"] == "queued"
        seq = None if queued else int(told["entry"])
        with self._lock:
            self._promises.append(Promise(org_id, told["request_id"], seq, None if queued else told["cost_usd"]))
            self.report.answered["queued" if queued else "settled"] += 1
        return "answered"

    # ── in the end ──────────────────────────────────────────────────────────────────────────────

    def _settle_all(self) -> None:
        """Serve once more, until what waits on disk is in the ledger, and holds are over."""
        process = self._start("never", 1)
        try:
            self._port(process)
            until = time.monotonic() + 30
            while (self.folder / "settlements" / "waiting").exists() and time.monotonic() < until:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            if process.wait(60):
                self.report.wrongs.append("the server did not stop in order")
        finally:
            process.kill()
            process.wait()

    def _check(self) -> None:
        time.sleep(HOLD_SECONDS)
        with open_runtime(Settings(data_dir=self.folder)) as runtime:
            expire_due(runtime)
            with psycopg.connect(runtime.database.url) as connection:
                wrongs = self.report.wrongs
                for name, query in CHECKS.items():
                    wrongs += [f"{name}: {row}" for row in connection.execute(query.encode())]
                wrongs += [f"charged twice: {row}" for row in connection.execute(_CHARGED)]
                open_holds = connection.execute("select count(*) from open_holds").fetchall()
                if open_holds != [(0,)]:
                    wrongs.append(f"holds outlive their life: {open_holds}")
                stored = {(org, name): (seq, cost) for org, seq, name, cost in connection.execute(_USAGE)}
        for promise in self._promises:
            kept = stored.get((promise.org_id, promise.request_id))
            if kept is None:
                self.report.wrongs.append(f"lost: {promise}")
            elif promise.seq is not None and kept != (promise.seq, _pico(promise.cost_usd)):
                self.report.wrongs.append(f"moved: {promise} is {kept}")
        done = run_tally("verify", "--json", env=self._environment)
        if done.returncode:
            self.report.wrongs.append(f"verify ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")


def _pico(usd: str | None) -> int | None:
    from decimal import Decimal

    return None if usd is None else int(Decimal(usd) * 10**12)


def _answer(asked: Asked) -> Reply:
    """A whole answer or a stream, now and then slowly, so that a kill finds calls in every state."""
    number = int.from_bytes(asked.body[-8:], "big") + len(asked.headers)
    slow = 0.03 if os.urandom(1)[0] < 60 else 0.0
    if b'"stream": true' in asked.body:
        return stream(WHOLE, cuts=range(100, len(WHOLE), 300), piece_seconds=slow)
    return Reply(body=chat_answer(tokens_in=100 + number % 7), first_seconds=slow)


def main() -> None:
    """The long run."""
    import shutil
    import tempfile

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="tally-"))
    folder.chmod(0o711)
    report = GatewayRounds(folder, seed).play(rounds, lambda said: print(said, file=sys.stderr, flush=True))
    print(report)
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if report.wrongs else 0)


if __name__ == "__main__":
    main()
