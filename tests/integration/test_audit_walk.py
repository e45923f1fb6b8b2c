"""No way to change anything leaves no trace: every address of the API and every command that does something is walked.

What is no act is named here, with the reason. A new address or command that stands nowhere fails the first tests; one
that leaves no act, or says the wrong thing of who it was, the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from accounts import asked
from billing import SELLER
from conftest import NOW
from invoicing import apply, event, record, subscribe
from tallystick.api.app import create_app, openapi_document
from tallystick.app.acting import login_name
from tallystick.app.audit import Wanted, iterate_acts
from tallystick.app.authorize import authorize
from tallystick.app.keys import create_key
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.app.settle import settle
from tallystick.cli.main import command
from tallystick.core.instants import format_instant

WALLETS = """
contract: wallets
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  tailor: {title: Tailor a document, price: {credits: 5}, shows: 5 credits.}
plans:
  wallet: {title: Wallet, kind: credits, base: "20", top_up: true, actions: [tailor]}
environments:
  development: {charge: false}
"""
YAML = {"Content-Type": "application/yaml"}
DECIDED = "a decision on a request, or its end: an entry of the ledger"
COMPUTED = "it computes, and writes nothing"

NO_ACTS_OF_THE_API = {
    "post_events": "usage: an entry of the ledger",
    "authorize": DECIDED,
    "settle": DECIDED,
    "release": DECIDED,
    "replay_invoice": COMPUTED,
    "preview_subscription": COMPUTED,
    "check_contract": COMPUTED,
    "quote": COMPUTED,
    "price_answer": COMPUTED,
    "take_payment_callback": "what a provider tells; the payment that it confirms is an act, as `record_payment` is",
    "retry_payment_event": "looks at what a provider has told once more; what it pays is an act likewise",
    "assign_payment_event": "needs a provider's event: tests of payments look at its act",
    "ping_webhook": "it tells an endpoint of nothing",
    "replay_webhook": "it tells what was told before; the log of deliveries has it",
    "silence_alert": "needs an alert that fires; it is `silence_alerts` for that alert",
}

ACTS_OF_THE_API: tuple[tuple[str, str, str, Any, tuple[str, ...]], ...] = (
    ("apply_contract", "POST", "/v1/contracts", WALLETS, ("contract.apply",)),
    ("set_subscription", "PUT", "/v1/orgs/acme/subscription",
     {"contract": "wallets", "plan": "wallet", "effective_from": "2026-01-01T00:00:00Z"}, ("subscription.set",)),
    ("set_billing_profile", "PUT", "/v1/orgs/acme/billing-profile",
     {"name": "Acme", "author": "ann"}, ("billing_profile.set",)),
    ("make_test_org", "PUT", "/v1/orgs/trial/test-clock",
     {"at": "2026-08-01T00:00:00Z", "author": "ann"}, ("clock.make",)),
    ("set_subscription", "PUT", "/v1/orgs/trial/subscription",
     {"contract": "acme", "plan": "pro", "effective_from": "2026-08-01T00:00:00Z"}, ("subscription.set",)),
    ("advance_test_clock", "POST", "/v1/orgs/trial/test-clock/advance", {"by": "1d", "author": "ann"},
     ("clock.advance",)),
    ("grant_credits", "POST", "/v1/orgs/acme/grants",
     {"request_id": "g1", "source": "top_up", "credits": "100", "author": "ann", "reason": "bought"}, ("grant",)),
    ("refund", "POST", "/v1/refunds",
     {"org_id": "acme", "request_id": "f1", "settlement_id": "SETTLEMENT", "author": "ann", "reason": "r"},
     ("refund",)),
    ("set_budget", "PUT", "/v1/orgs/acme/budgets/b",
     {"per": "day", "kind": "hard", "max_usd": "25", "author": "ann"}, ("budget",)),
    ("remove_budget", "DELETE", "/v1/orgs/acme/budgets/b?author=ann", None, ("budget",)),
    ("add_override", "POST", "/v1/orgs/acme/overrides",
     {"request_id": "o1", "author": "ann", "approved_by": "bob", "reason": "r", "expires_at": "2026-12-01T00:00:00Z",
      "allow_overspend": True}, ("override",)),
    ("set_standing", "PUT", "/v1/orgs/acme/standing", {"enforcement": "shadow", "author": "ann"}, ("standing",)),
    ("give_invoice_credit", "POST", "/v1/orgs/globex/invoice-credits",
     {"request_id": "k1", "amount_usd": "1", "author": "ann", "reason": "r"}, ("invoice_credit",)),
    ("create_promo", "POST", "/v1/promos",
     {"code": "SPRING", "percent": "10", "invoices": 1, "author": "ann", "reason": "r"}, ("promo.create",)),
    ("redeem_promo", "POST", "/v1/orgs/globex/promos",
     {"request_id": "m1", "code": "SPRING", "author": "ann"}, ("promo",)),
    ("end_promo", "POST", "/v1/promos/SPRING/end", {"author": "ann", "reason": "r"}, ("promo.end",)),
    ("close_month", "POST", "/v1/invoices/close", {"month": "2026-09", "orgs": ["globex"]}, ("invoice.close",)),
    ("finalize_invoices", "POST", "/v1/billing/finalize", {"month": "2026-10", "orgs": ["globex"]},
     ("invoice.close", "invoice")),
    ("record_payment", "POST", "/v1/invoices/ISSUED/payments",
     {"request_id": "p1", "amount_usd": "1", "author": "ann"}, ("payment",)),
    ("credit_invoice", "POST", "/v1/invoices/ISSUED/credit-notes",
     {"request_id": "n1", "amount_usd": "1", "author": "ann", "reason": "r"}, ("credit_note",)),
    ("void_invoice", "POST", "/v1/invoices/VOIDED/void", {"author": "ann", "reason": "r"}, ("void",)),
    ("open_dispute", "POST", "/v1/disputes",
     {"request_id": "d1", "invoice_id": "ISSUED", "reason": "r", "author": "ann"}, ("dispute", "dispute")),
    ("review_dispute", "POST", "/v1/disputes/DISPUTE/review", {"author": "ann"}, ("dispute",)),
    ("uphold_dispute", "POST", "/v1/disputes/DISPUTE/uphold", {"amount_usd": "1", "author": "ann", "reason": "r"},
     ("dispute",)),
    ("open_dispute", "POST", "/v1/disputes",
     {"request_id": "d2", "invoice_id": "ISSUED", "line": 1, "reason": "r", "author": "ann"}, ("dispute", "dispute")),
    ("reject_dispute", "POST", "/v1/disputes/DISPUTE/reject", {"author": "ann", "reason": "r"}, ("dispute",)),
    ("open_dispute", "POST", "/v1/disputes",
     {"request_id": "d3", "invoice_id": "ISSUED", "line": 1, "reason": "r", "author": "ann"}, ("dispute", "dispute")),
    ("withdraw_dispute", "POST", "/v1/disputes/DISPUTE/withdraw", {"author": "ann", "reason": "r"},
     ("dispute",)),
    ("record_incident", "POST", "/v1/incidents",
     {"request_id": "i1", "kind": "downtime", "from": "2026-10-01T00:00:00Z", "to": "2026-10-01T01:00:00Z",
      "all": True, "reason": "r", "author": "ann"}, ("incident.record",)),
    ("withdraw_incident", "POST", "/v1/incidents/inc1/withdraw",
     {"request_id": "i2", "reason": "r", "author": "ann"}, ("incident.withdraw",)),
    ("silence_alerts", "POST", "/v1/alert-silences",
     {"org_id": "acme", "for": "4h", "reason": "r", "author": "ann"}, ("alert.silence",)),
    ("end_alert_silence", "DELETE", "/v1/alert-silences/SILENCE?author=ann", None, ("alert.unsilence",)),
    ("set_own_alert_preferences", "PUT", "/v1/alert-preferences",
     {"preferences": {}, "author": "ann"}, ("alert.preferences",)),
    ("set_alert_preferences", "PUT", "/v1/orgs/acme/alert-preferences",
     {"preferences": {}, "author": "ann"}, ("alert.preferences",)),
    ("create_webhook", "POST", "/v1/webhooks", {"url": "https://hooks.example.com/in", "org_id": "acme"},
     ("webhook.create",)),
    ("change_webhook", "PATCH", "/v1/webhooks/ENDPOINT", {"description": "new"}, ("webhook.change",)),
    ("rotate_webhook_secret", "POST", "/v1/webhooks/ENDPOINT/rotate", {}, ("webhook.rotate",)),
    ("remove_webhook", "DELETE", "/v1/webhooks/ENDPOINT", None, ("webhook.remove",)),
    ("leave", "DELETE", "/v1/orgs/acme/subscription", None, ("subscription.leave",)),
)  # fmt: skip


def mutating() -> set[str]:
    paths = openapi_document()["paths"].values()
    return {one["operationId"] for ways in paths for method, one in ways.items() if method != "get"}


def test_every_address_that_changes_something_is_an_act_or_has_a_reason_not_to_be() -> None:
    walked = {operation for operation, *_ in ACTS_OF_THE_API}
    assert mutating() == walked | NO_ACTS_OF_THE_API.keys()
    assert not walked & NO_ACTS_OF_THE_API.keys()


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """A server for which keys are needed; a customer with usage in October, and one with a wallet."""
    settings = Settings(database_url=database_url, data_dir=tmp_path, require_keys=True)
    with open_runtime(settings, lambda: NOW) as runtime:
        apply(runtime, SELLER)
        subscribe(runtime, "globex")
        record(runtime, [event("r1", "globex")])
        yield runtime


def test_every_act_over_http_says_which_key_it_was_and_in_which_request(world: Runtime) -> None:
    operator = create_key(world, org_id=None, scopes=["admin"], author="ann")
    with TestClient(create_app(world), headers={"Authorization": f"Bearer {operator.token}"}) as client:
        names: dict[str, str] = {}
        for place, (operation, method, path, body, expected) in enumerate(ACTS_OF_THE_API):
            if operation == "refund":
                names["SETTLEMENT"] = _settled(client)
            if operation == "void_invoice":
                issued = client.post("/v1/billing/finalize", json={"month": "2026-08", "orgs": ["globex"]})
                names["VOIDED"] = issued.json()["results"][0]["invoice_id"]
            address, content = _filled(path, body, names)
            seen = len(_acts(world))
            headers = {"Request-Id": f"walk-{place}", **(YAML if isinstance(body, str) else {})}
            answer = client.request(method, address, headers=headers, **content)
            assert answer.status_code < 300, (operation, answer.text)
            if operation == "silence_alerts":
                names["SILENCE"] = answer.json()["silence_id"]
            if operation == "finalize_invoices":
                names["ISSUED"] = answer.json()["results"][0]["invoice_id"]
            if operation == "open_dispute":
                names["DISPUTE"] = answer.json()["dispute_id"]
            if operation == "create_webhook":
                names["ENDPOINT"] = answer.json()["endpoint_id"]
            new = _acts(world)[seen:]
            assert [one["act"] for one in new] == list(expected), operation
            for one in new:
                told = (one["actor_kind"], one["actor"], one["via"], one["request_id"])
                assert told == ("key", operator.key.key_id, f"api {operation}", f"walk-{place}")
        assert operator.token.rpartition("_")[2] not in json.dumps(_acts(world))


def _filled(path: str, body: Any, names: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """The address and the body, with what earlier answers have called things."""
    for name, value in names.items():
        path = path.replace(name, value)
    if isinstance(body, dict):
        return path, {"json": {key: names.get(str(one), one) for key, one in body.items()}}
    return path, {} if body is None else {"content": body}


def _settled(client: TestClient) -> str:
    hold = client.post("/v1/authorize", json=asked("a1", "acme")).json()["hold"]["hold_id"]
    settled = client.post("/v1/settle", json={"org_id": "acme", "hold_id": hold, "outcome": "success"})
    return str(settled.json()["settlement_id"])


def _acts(runtime: Runtime) -> list[dict[str, Any]]:
    return list(iterate_acts(runtime, Wanted()))


READS = "it only reads"
MADE_AGAIN = "what it makes follows from the ledger's entries, and runs by itself"
NO_ACTS_OF_COMMANDS = dict.fromkeys(
    (
        "audit export", "audit list", "audit show", "blocks", "budgets list", "checkpoint show", "clock show",
        "alerts list", "alerts show", "alerts silences", "dispute bundle", "dispute check", "dispute list",
        "dispute show", "doctor", "gate", "invoice-credits list", "promo list",
        "promo show", "webhooks deliveries", "webhooks delivery", "webhooks list", "webhooks show", "webhooks types",
        "contract check", "contract diff", "contract example", "contract list", "contract shadow-report",
        "contract show", "export books",
        "contract simulate", "contract test", "cost", "credits history", "credits show", "entry show", "erasures",
        "events-from-csv", "export due", "find", "holds list", "incidents list", "invoice explain", "invoice export",
        "invoice life", "invoice list", "invoice preview", "invoice replay", "invoice show", "jobs runs", "keys list",
        "orgs actions", "orgs limits", "orgs list", "orgs show", "overrides list", "payments list", "proof invoice",
        "quote", "rates diff", "rates list", "rates show", "replay", "settlements list", "sla show", "spool list",
        "usage", "version", "versions",
    ),
    READS,
) | {
    "demo": "it lives in a place of its own, which it empties",
    "authorize": DECIDED, "settle": DECIDED, "holds release": DECIDED,
    "ingest": "usage: entries of the ledger", "reprice": "corrections: entries of the ledger, by the rate card",
    "seal": MADE_AGAIN, "rollup run": MADE_AGAIN, "rollup rebuild": MADE_AGAIN, "holds expire": MADE_AGAIN,
    "jobs run": MADE_AGAIN, "alerts evaluate": MADE_AGAIN,
    "webhooks test": "it tells an endpoint of nothing", "webhooks replay": "it tells what was told before",
    "webhooks new-key": "it makes a file; the secrets that endpoints then need are acts",
    "verify": "it reads, and keeps what it found for the alert of it",
    "rates refresh": "it writes a file; the card is an act, `rates.load`, when the database takes it",
    "spool drain": "usage that waited becomes entries", "spool retry": "it waits once more; nothing is changed",
    "settlements drain": "ends of holds that waited become entries",
    "settlements retry": "they wait once more; nothing is changed",
    "restore": "what is restored is what was backed up, row by row; the place says of itself what it was made of",
    "serve": "what it serves are requests", "worker": "what it runs are jobs",
    "payments retry": NO_ACTS_OF_THE_API["retry_payment_event"],
}  # fmt: skip
ELSEWHERE = {
    "backup": "test_backup*",
    "reconcile": "test_reconcile*", "retention run": "test_retention*",
    "settlements give-up": "test_find_waiting", "spool dismiss": "test_spool_cli",
    "payments assign": "test_payment*",
}  # fmt: skip
"""Acts for which more is needed than a command: tests of what they do look at them."""


def commands() -> set[str]:
    def leaves(group: Any, path: str) -> Iterator[str]:
        for name, one in getattr(group, "commands", {}).items():
            yield from leaves(one, f"{path} {name}")
        if not getattr(group, "commands", None):
            yield path.strip()

    return set(leaves(command(), ""))


def test_every_command_is_an_act_or_has_a_reason_not_to_be() -> None:
    walked = {" ".join(words) for words, _, _ in ACTS_OF_COMMANDS}
    assert commands() == walked | NO_ACTS_OF_COMMANDS.keys() | ELSEWHERE.keys()
    assert not walked & NO_ACTS_OF_COMMANDS.keys()


ACTS_OF_COMMANDS: tuple[tuple[tuple[str, ...], str, tuple[str, ...]], ...] = (
    (("contract", "apply"), "wallets.yaml", ("contract.apply",)),
    (("orgs", "set"), "acme --contract wallets --plan wallet --from 2026-01-01", ("subscription.set",)),
    (("orgs", "profile"), "acme --name Acme", ("billing_profile.set",)),
    (("orgs", "erase-profile"), "acme", ("billing_profile.erase",)),
    (("credits", "grant"), "acme 10 --reason r --request-id g1", ("grant",)),
    (("credits", "refund"), "SETTLEMENT", ("refund",)),
    (("orgs", "suspend"), "acme --reason unpaid", ("standing",)),
    (("orgs", "resume"), "acme", ("standing",)),
    (("orgs", "shadow"), "acme --mode shadow", ("standing",)),
    (("orgs", "set"), "trial --contract wallets --plan wallet --test-clock 2026-08-01T00:00:00Z",
     ("clock.make", "subscription.set")),
    (("clock", "advance"), "trial --by 1d", ("clock.advance",)),
    (("budgets", "set"), "acme daily --max 5 --per day", ("budget",)),
    (("budgets", "remove"), "acme daily", ("budget",)),
    (("overrides", "add"), "acme --approved-by bob --reason r --expires SOON --allow-overspend",
     ("override",)),
    (("keys", "create"), "--org acme --scopes read", ("key.create",)),
    (("keys", "rotate"), "KEY --overlap 0s", ("key.rotate",)),
    (("keys", "revoke"), "KEY --reason leaked", ("key.revoke",)),
    (("erase-person",), "acme u1", ("person.erase",)),
    (("checkpoint", "rotate-key"), "", ("signing_key.rotate",)),
    (("incidents", "record"), "--from 2026-10-01T00:00:00Z --to 2026-10-01T01:00:00Z --all --reason r",
     ("incident.record",)),
    (("incidents", "withdraw"), "inc1 --reason r", ("incident.withdraw",)),
    (("invoice", "close"), "2026-08 --org globex", ("invoice.close",)),
    (("invoice", "finalize"), "2026-08 --org globex", ("invoice",)),
    (("invoice", "pay"), "globex/2026-08 --amount 1 --request-id p1", ("payment",)),
    (("invoice", "credit-note"), "globex/2026-08 --amount 1 --reason r --request-id n1", ("credit_note",)),
    (("invoice", "finalize"), "2026-07 --org globex", ("invoice.close", "invoice")),
    (("invoice", "void"), "globex/2026-07 --reason r", ("void",)),
    (("invoice-credits", "grant"), "globex --usd 1 --reason r", ("invoice_credit",)),
    (("promo", "create"), "SPRING --percent 10 --invoices 1", ("promo.create",)),
    (("promo", "redeem"), "SPRING --org globex", ("promo",)),
    (("promo", "end"), "SPRING --reason r", ("promo.end",)),
    (("alerts", "preferences"), "acme --set {}", ("alert.preferences",)),
    (("alerts", "silence"), "--org acme --for 4h --reason r", ("alert.silence",)),
    (("alerts", "unsilence"), "SILENCE", ("alert.unsilence",)),
    (("webhooks", "create"), "https://hooks.example.com/in --org acme", ("webhook.create",)),
    (("webhooks", "set"), "ENDPOINT --description new", ("webhook.change",)),
    (("webhooks", "disable"), "ENDPOINT --reason r", ("webhook.change",)),
    (("webhooks", "enable"), "ENDPOINT", ("webhook.change",)),
    (("webhooks", "rotate"), "ENDPOINT", ("webhook.rotate",)),
    (("webhooks", "remove"), "ENDPOINT", ("webhook.remove",)),
    (("dispute", "open"), "globex/2026-08 --reason r --request-id d1", ("dispute", "dispute")),
    (("dispute", "review"), "DISPUTE", ("dispute",)),
    (("dispute", "uphold"), "DISPUTE --amount 1 --reason r", ("dispute",)),
    (("dispute", "open"), "globex/2026-08 --line 1 --reason r --request-id d2", ("dispute", "dispute")),
    (("dispute", "reject"), "DISPUTE --reason r", ("dispute",)),
    (("dispute", "open"), "globex/2026-08 --line 1 --reason r --request-id d3", ("dispute", "dispute")),
    (("dispute", "withdraw"), "DISPUTE --reason r", ("dispute",)),
    (("orgs", "leave"), "acme", ("subscription.leave",)),
)  # fmt: skip


def test_every_act_of_a_command_says_who_was_logged_in_and_what_they_called(
    world: Runtime, tmp_path: Path, database_url: str
) -> None:
    (tmp_path / "wallets.yaml").write_text(WALLETS)
    environment = {"DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path / "data")}
    soon = datetime.now(UTC) + timedelta(days=1)
    names = {"wallets.yaml": str(tmp_path / "wallets.yaml"), "SOON": format_instant(soon)}
    for words, text, expected in ACTS_OF_COMMANDS:
        if words == ("credits", "refund"):
            names["SETTLEMENT"] = f"acme {_settled_here(world)} --reason r --request-id f1"
        arguments = [*words, *(word for part in text.split() for word in names.get(part, part).split())]
        seen = len(_acts(world))
        done = CliRunner().invoke(command(), arguments, env=environment)
        assert done.exit_code == 0, (arguments, done.output, done.stderr)
        new = _acts(world)[seen:]
        assert [one["act"] for one in new] == list(expected), arguments
        for one in new:
            assert (one["actor_kind"], one["actor"]) == ("os_user", login_name())
            assert one["via"] == " ".join(("tally", *words))
        for group, name in (("keys", "KEY"), ("alerts", "SILENCE"), ("webhooks", "ENDPOINT"), ("dispute", "DISPUTE")):
            if words[0] == group:
                names[name] = new[0]["subject"]


def _settled_here(runtime: Runtime) -> str:
    hold = authorize(runtime, asked("a9", "acme"))
    settled = settle(runtime, {"org_id": "acme", "hold_id": f"h{hold.seq}", "outcome": "success"})
    return f"s{settled.seq}"
