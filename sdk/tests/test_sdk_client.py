"""Authorize, settle, release and look, against a real server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from tallystick.wire.tags import tags_of
from tallystick_sdk import (
    AsyncTally,
    BadRequest,
    Conflict,
    Denied,
    NotFound,
    Retry,
    Tally,
    Unavailable,
)
from tallystick_sdk.tagging import tags_of_headers

USAGE = {"provider": "openai", "model": "gpt-4o-mini", "meters": {"tokens_in": 1000, "tokens_out": 200}}


def test_work_is_held_settled_and_seen_in_the_wallet(tally: Tally, org: Any) -> None:
    held = tally.authorize("tailor", model="gpt-4o-mini", meters={"tokens_in": 2000, "tokens_out": 500})
    assert (held.decision.allow, held.hold.credits, held.decision.quote.credits) == (True, Decimal(5), Decimal(5))
    assert held.hold.expires_at > datetime.now(UTC)
    assert tally.wallet().held == Decimal(5)

    settled = tally.settle(held, events=[{**USAGE, "request_id": "call-1"}])
    assert (settled.charged_credits, settled.outcome, settled.priced) == (Decimal(5), "success", True)
    assert settled.cost_usd == Decimal("0.00027")
    assert [(one.request_id, one.cost_usd) for one in settled.events] == [("call-1", Decimal("0.00027"))]
    wallet = tally.wallet()
    assert (wallet.available, wallet.held, wallet.org_id) == (Decimal(95), Decimal(0), org.org_id)
    assert wallet.grants[0].granted == Decimal(100)
    (event,) = org.ledger()
    assert (event["user_id"], event["feature"], event["action"]) == ("u-1", "documents", "tailor")


def test_what_is_released_goes_back(tally: Tally) -> None:
    held = tally.authorize("tailor")
    assert tally.release(held, "the user has cancelled it").returned_credits == Decimal(5)
    assert tally.wallet().available == Decimal(100)


def test_a_denial_is_an_exception_with_the_whole_decision(tally: Tally) -> None:
    with pytest.raises(Denied) as denied:
        tally.authorize("research", meters={"tokens_in": 10**9}, model="gpt-4o")
    error = denied.value
    assert (error.code, error.status) == ("insufficient_credits", 402)
    assert error.decision.next_step.kind == "top_up"
    assert error.decision.next_step.credits == Decimal(100)
    assert error.next_step == error.decision.next_step.text
    assert error.wallet.after.available == Decimal(100)
    assert "insufficient_credits" in str(error)


def test_the_same_request_again_is_the_same_hold_and_the_same_settlement(tally: Tally) -> None:
    first = tally.authorize("tailor", request_id="job-1")
    assert tally.authorize("tailor", request_id="job-1") == first
    events = [{**USAGE, "request_id": "call-1", "time": "2026-11-01T12:00:00Z"}]
    settled = tally.settle(first, "success", events)
    assert tally.settle(first.hold_id, "success", events) == settled
    with pytest.raises(Conflict, match="hold_resolved"):
        tally.settle(first, "failure", events)
    assert tally.wallet().available == Decimal(95)


def test_limits_and_the_price_list_are_typed(tally: Tally) -> None:
    limits = tally.limits()
    assert (limits.plan, limits.contract, limits.enforcement) == ("wallet", "shop", "enforce")
    actions = {one.action: one for one in tally.actions().actions}
    assert (actions["tailor"].credits, actions["research"].credits) == (Decimal(5), None)
    assert actions["research"].max_credits == Decimal(200)


@pytest.mark.parametrize("missing", ["org_id", "user_id", "session_id", "feature", "environment"])
def test_missing_tags_are_named_before_anything_is_sent(tally_of: Callable[..., Tally], missing: str) -> None:
    with pytest.raises(BadRequest, match=missing) as refused:
        tally_of(**{missing: None}, retry=Retry(deadline_seconds=0)).authorize("tailor")
    assert refused.value.code == "missing_tags"


def test_what_the_server_refuses_carries_its_code_and_next_step(tally: Tally) -> None:
    with pytest.raises(NotFound) as unknown:
        tally.settle("h999999")
    assert (unknown.value.code, unknown.value.status) == ("hold_unknown", 404)
    assert unknown.value.next_step
    assert unknown.value.request_id
    with pytest.raises(BadRequest) as wrong:
        tally.authorize("tailor", meters={"tokens_in": -1, "no_meter": 2})
    assert wrong.value.status == 422
    assert {problem["code"] for problem in wrong.value.problems} or wrong.value.code


def test_tags_of_a_block_go_before_those_of_the_client_and_inner_ones_before_outer(tally: Tally, org: Any) -> None:
    with tally.tags(user_id="u-2", attributes={"job": "j-1"}):
        with tally.tags(session_id="s-9", attributes={"step": "2"}):
            tally.record(USAGE)
        tally.record(USAGE, user_id="u-3")
    assert tally.flush()
    found = {(one["user_id"], one["session_id"]): one["attributes"] for one in org.ledger()}
    assert found == {("u-2", "s-9"): {"job": "j-1", "step": "2"}, ("u-3", "s-1"): {"job": "j-1"}}
    with pytest.raises(TypeError, match="no tag is called usr"), tally.tags(usr="x"):
        pass


def test_the_async_client_does_the_same(org: Any) -> None:
    tags = {"org_id": org.org_id, "user_id": "u", "session_id": "s", "feature": "f", "environment": "production"}

    async def run() -> None:
        async with AsyncTally(base_url=org.url, **tags) as tally:
            held = await tally.authorize("tailor")
            settled = await tally.settle(held, events=[USAGE])
            assert settled.charged_credits == Decimal(5)
            other = await tally.authorize("tailor")
            assert (await tally.release(other)).returned_credits == Decimal(5)
            assert (await tally.wallet()).available == Decimal(95)
            assert (await tally.limits()).plan == "wallet"
            assert (await tally.actions()).plan == "wallet"
            with pytest.raises(Denied):
                await tally.authorize("nothing_like_that")
            assert await tally.record(USAGE)  # it is on disk
            assert await tally.flush()

    asyncio.run(run())
    asyncio.run(run_again(org.url, tags))
    assert len(org.ledger()) == 2


async def run_again(url: str, tags: dict[str, str]) -> None:
    tally = AsyncTally(base_url=url, **tags)
    assert (await tally.wallet()).held == Decimal(0)
    await tally.close()


def test_a_server_that_is_not_there_is_unavailable_when_the_deadline_is_over(unused_url: str) -> None:
    tally = Tally(base_url=unused_url, org_id="acme", retry=Retry(deadline_seconds=0.5, wait_seconds=0.05))
    with pytest.raises(Unavailable, match="server_unreachable") as gone:
        tally.wallet()
    assert gone.value.status is None
    assert "tk_" not in repr(tally) + str(gone.value)
    tally.close(0)


@pytest.mark.parametrize("url", ["ftp://x", "nothing", "http://", "http://key@host/", "http://host/?key=1"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(BadRequest, match="invalid_base_url"):
        Tally(base_url=url)


def test_a_key_that_could_not_stand_in_a_header_is_refused_and_not_shown() -> None:
    with pytest.raises(BadRequest, match="invalid_api_key") as refused:
        Tally(api_key="tk_secret\nHost: evil")
    assert "secret" not in str(refused.value)
    assert "tk_hidden" not in repr(Tally(api_key="tk_hidden", spool=False))


def test_importing_it_imports_neither_the_server_nor_any_other_library_that_it_can_be_used_with() -> None:
    program = (
        "import sys, tallystick_sdk, tallystick_sdk.billing, tallystick_sdk.instrumenting, tallystick_sdk.asgi,"
        " tallystick_sdk.litellm, tallystick_sdk.otel\n"
        "assert callable(tallystick_sdk.billable) and callable(tallystick_sdk.instrument)\n"
        "found = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(found & {'tallystick', 'openai', 'anthropic', 'opentelemetry', 'litellm', 'pydantic'}))"
    )
    source = Path(__file__).resolve().parents[1] / "src"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(source)}
    )
    assert done.stdout == "[]\n"


def test_tags_go_to_the_gateway_in_headers_that_it_reads_and_an_instrument_too() -> None:
    tally = Tally(spool=False, org_id="acme", feature="documents", environment="production")
    with tally.tags(user_id="u-1", session_id="s-1", attributes={"job": "j-1"}):
        headers = tally.headers(action="tailor", work_key="doc-9")
    read = tags_of([(name.encode(), value.encode()) for name, value in headers.items()])
    assert (read.feature, read.user_id, read.session_id, read.environment) == ("documents", "u-1", "s-1", "production")
    assert (read.action, read.work_key, read.attributes) == ("tailor", "doc-9", {"job": "j-1"})
    assert tags_of_headers(headers) == {
        name: value for name, value in structs.asdict(read).items() if value is not None
    }
    for wrong in ({"user_id": "zoë"}, {"feature": "a\nb"}, {"attributes": {"a b": "c"}}):
        with pytest.raises(ValueError, match="plain ASCII"):
            tally.headers(**wrong)
