"""`tally webhooks`: endpoints are made, tested, changed and removed, and what was sent is listed and sent again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from tally_processes import run_tally
from webhook_receivers import Receiver, answer_with, receiving

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "TALLY_DATA_DIR": str(tmp_path), "TALLY_WEBHOOK_ALLOW": "127.0.0.1"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def webhooks(environment: dict[str, str], *arguments: str, code: int = 0) -> Done:
    done = run_tally("webhooks", *arguments, env={**os.environ, **environment})
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def lines(result: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_an_endpoint_is_made_tested_changed_and_removed(environment: dict[str, str], receiver: Receiver) -> None:
    made = webhooks(environment, "create", receiver.url, "--org", "acme", "--types", "invoice.*, alert.firing")
    secret = made.stdout.strip()
    assert secret.startswith("whsec_")
    assert secret not in made.stderr
    (listed,) = lines(webhooks(environment, "list", "--json"))
    there = listed["endpoint_id"]
    assert (listed["org_id"], listed["types"], listed["state"]) == ("acme", ["alert.firing", "invoice.*"], "enabled")

    tested = json.loads(webhooks(environment, "test", there, "--json").stdout)
    assert (tested["state"], tested["last_attempt"]["status"]) == ("delivered", 200)
    sent = receiver.requests[0]
    assert Webhook(secret).verify(sent.body, sent.headers)["type"] == "webhook.ping"
    receiver.answer = answer_with(503, b"not now")
    assert "answered 503, in " in webhooks(environment, "test", there, code=1).stdout
    shown = lines(webhooks(environment, "deliveries", there, "--json"))
    assert [one["state"] for one in shown] == ["failed", "delivered"]
    assert "not now" in webhooks(environment, "delivery", shown[0]["delivery_id"]).stdout
    assert len(lines(webhooks(environment, "deliveries", there, "--state", "failed", "--json"))) == 1

    assert "moving" in webhooks(environment, "disable", there, "--reason", "moving").stdout
    assert json.loads(webhooks(environment, "enable", there, "--json").stdout)["state"] == "enabled"
    changed = json.loads(webhooks(environment, "set", there, "--types", "*", "--json").stdout)
    assert changed["types"] == ["*"]
    rotated = webhooks(environment, "rotate", there, "--overlap", "0s").stdout.strip()
    receiver.answer = answer_with(204)
    webhooks(environment, "test", there)
    last = receiver.requests[-1]
    assert Webhook(rotated).verify(last.body, last.headers)
    assert len(last.headers["webhook-signature"].split()) == 1
    assert "0 events" in webhooks(environment, "replay", there, "--since", "2026-01-01").stdout
    assert "removed" in webhooks(environment, "remove", there).stdout
    assert webhooks(environment, "list").stdout == ""
    shown = webhooks(environment, "show", there, code=2)
    everything = made.stderr + shown.stdout + shown.stderr
    assert secret not in everything


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["create", "https://169.254.169.254/latest", "--org", "acme"], "webhook_address_refused"),
        (["create", "https://hooks.example.com/", "--org", "acme", "--types", "invoice.payed"], "unknown_event_type"),
        (["create", "https://hooks.example.com/"], "invalid_option"),
        (["create", "https://hooks.example.com/", "--org", "acme", "--operator"], "invalid_option"),
        (["rotate", "we_1", "--overlap", "31d"], "invalid_duration"),
        (["replay", "we_1"], "missing_field"),
        (["replay", "we_1", "--since", "yesterday"], "invalid_time"),
        (["deliveries", "we_1", "--state", "lost"], "invalid_option"),
        (["test", "we_1"], "unknown_webhook"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(
    environment: dict[str, str], arguments: list[str], code: str
) -> None:
    assert f"[{code}]" in webhooks(environment, *arguments, code=2).stderr


def test_the_types_are_listed(environment: dict[str, str]) -> None:
    assert "dispute.upheld" in webhooks(environment, "types").stdout
