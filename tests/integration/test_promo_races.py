"""The last places of a promo code, raced for by threads of two processes; and credits that come as an invoice goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from billing import OCTOBER, SELLER, findings, money
from invoicing import apply, event, record, subscribe
from tally_processes import run_program
from tallystick.app.invoice_credits import give_credit, show_credits
from tallystick.app.invoice_life import finalize_month, show_life
from tallystick.app.promos import create_promo, redeem_promo, show_promo
from tallystick.app.runtime import Runtime

ORGS = [f"org-{number:02}" for number in range(16)]
PROGRAM = """
import json, os, sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from tallystick.app.promos import redeem_promo
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import TallyError
asked = json.loads(os.environ["ASKED"])
with open_runtime(Settings(database_url=os.environ["URL"], data_dir=Path(os.environ["DIR"])),
                  lambda: datetime(2026, 11, 2, 12, tzinfo=UTC)) as runtime:
    def redeem(one):
        org_id, code, request_id = one
        try:
            redeem_promo(runtime, org_id, {"code": code, "request_id": request_id, "author": "ann"})
        except TallyError as error:
            return error.code
        return "redeemed"
    print("ready", flush=True)
    sys.stdin.readline()
    with ThreadPoolExecutor(8) as pool:
        print(json.dumps(list(pool.map(redeem, asked))))
"""


def test_the_last_places_of_a_code_are_given_once(runtime: Runtime, database_url: str, tmp_path: Path) -> None:
    apply(runtime, SELLER)
    for org_id in ORGS:
        subscribe(runtime, org_id)
    create_promo(runtime, {"code": "FEW", "percent": "10", "limit": 3, "author": "ann"})
    create_promo(runtime, {"code": "MANY", "amount_usd": "1", "author": "ann"})
    asked = [[[org_id, "FEW", f"f{place}"], [org_id, "MANY", f"m{place}"]] for org_id in ORGS for place in (0, 1)]
    processes = []
    for place in (0, 1):
        mine = [one for pair in asked[place::2] for one in pair]
        environment = {**os.environ, "URL": database_url, "DIR": str(tmp_path), "ASKED": json.dumps(mine)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, **pipes))  # type: ignore[call-overload]
    for one in processes:
        assert one.stdout.readline() == "ready\n"
    for one in processes:
        one.stdin.write("go\n")
        one.stdin.flush()
    answers = [json.loads(one.communicate(timeout=60)[0]) for one in processes]
    few = [answer for both in answers for answer in both[0::2]]
    many = [answer for both in answers for answer in both[1::2]]
    assert few.count("redeemed") == 3
    assert set(few) <= {"redeemed", "promo_exhausted", "promo_used"}
    assert sorted(many) == ["promo_used"] * 16 + ["redeemed"] * 16
    assert (show_promo(runtime, "FEW").taken, show_promo(runtime, "MANY").taken) == (3, 16)
    assert sum(len(show_credits(runtime, org_id).credits) for org_id in ORGS) == 19
    assert findings(runtime) == []


def test_a_credit_that_comes_as_an_invoice_is_issued_is_used_by_it_or_left(runtime: Runtime) -> None:
    apply(runtime, SELLER)
    for org_id in ORGS:
        subscribe(runtime, org_id)
        record(runtime, [event("r1", org_id)])

    def give(org_id: str) -> None:
        give_credit(runtime, org_id, source="sla", amount_cents=400, reason="r", author="a", request_id="k1")

    with ThreadPoolExecutor(8) as pool:
        issuing = pool.submit(finalize_month, runtime, OCTOBER, ORGS)
        list(pool.map(give, ORGS))
        issuing.result()
    for org_id in ORGS:
        life = show_life(runtime, f"{org_id}/{OCTOBER}").as_dict()
        used_cents = int(life["applied_usd"].replace(".", ""))
        assert used_cents + show_credits(runtime, org_id).left_cents == 400
        expense = {"sla_expense": used_cents} if used_cents else {}
        assert money(runtime, org_id) == {"receivable": 1000 - used_cents, "revenue": -1000} | expense
    assert findings(runtime) == []


def test_a_process_that_is_killed_as_it_redeems_takes_no_place(
    runtime: Runtime, database_url: str, tmp_path: Path
) -> None:
    apply(runtime, SELLER)
    subscribe(runtime, "globex")
    create_promo(runtime, {"code": "ONE", "amount_usd": "5", "limit": 1, "author": "ann"})
    program = """
import os, signal
from pathlib import Path
from tallystick.app.promos import redeem_promo
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.journal import steps
def at(step):
    if step == "operations.copied":
        os.kill(os.getpid(), signal.SIGKILL)
with open_runtime(Settings(database_url=os.environ["URL"], data_dir=Path(os.environ["DIR"]))) as runtime:
    steps.install(at)
    redeem_promo(runtime, "globex", {"code": "ONE", "request_id": "m1", "author": "ann"})
"""
    environment = {**os.environ, "URL": database_url, "DIR": str(tmp_path)}
    killed = run_program(program, env=environment)
    assert killed.returncode == -9
    assert show_promo(runtime, "ONE").taken == 0
    assert redeem_promo(runtime, "globex", {"code": "ONE", "request_id": "m1", "author": "ann"}).recorded.is_new
    assert show_promo(runtime, "ONE").taken == 1
    assert findings(runtime) == []
