"""Recorded answers of providers over HTTP: each is priced exactly as `tally cost` prices it, or refused clearly."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx2
import pytest

from tallystick.api.app import create_app
from tallystick.app.answers import Terms
from tallystick.app.cost import AnswerPricer, load_extractors
from tallystick.core.errors import BadInput

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "member", "media_type"),
    [
        ("provider_responses.jsonl", "body", "application/json"),
        ("provider_errors.jsonl", None, "application/json"),
        ("provider_streams.jsonl", None, "application/json"),
        ("provider_streams.jsonl", "sse", "text/event-stream"),
    ],
)
def test_a_recorded_answer_is_priced_over_http_as_on_the_command_line(
    runtime, name: str, member: str | None, media_type: str
):
    if not (DATA / name).exists():
        pytest.skip(f"no recorded data beside the repository ({DATA / name})")
    pricer = AnswerPricer(runtime.card, load_extractors(), runtime.clock)
    app, priced = create_app(runtime), 0

    async def ask_about_each() -> None:
        nonlocal priced
        # Everything in one loop: to hand hundreds of requests to another thread takes longer than to answer them.
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x", verify=False) as client:
            for line in (DATA / name).read_text(encoding="utf-8").splitlines():
                value = json.loads(line) if member is None else json.loads(line)[member]
                content = value.encode() if isinstance(value, str) else json.dumps(value).encode()
                answer = await client.post("/v1/cost", content=content, headers={"Content-Type": media_type})
                price = pricer.price_stream if media_type == "text/event-stream" else pricer.price_text
                sent = [content] if media_type == "text/event-stream" else content
                try:
                    wanted = price(sent, Terms()).as_dict()
                except BadInput as error:
                    wanted = error.code
                else:
                    priced += 1
                if isinstance(wanted, str):
                    assert (answer.status_code, answer.json()["code"]) == (422, wanted), answer.text
                else:
                    assert (answer.status_code, answer.json()) == (200, wanted)

    asyncio.run(ask_about_each())
    assert priced > 0 or name == "provider_errors.jsonl"
