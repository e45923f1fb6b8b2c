"""What a caller shows to the gateway: its key is found wherever it stands, and goes on to nobody."""

from __future__ import annotations

import pytest

from tallystick.gateway.providers import shown_by

TOKEN = "tk_abcdefgh_" + "x" * 43


@pytest.mark.parametrize(
    "query",
    [f"key={TOKEN}", f"k%65y={TOKEN}", f"%6b%65%79=%74k_{TOKEN[3:]}", f"alt=sse&key={TOKEN}", f"key={TOKEN}&alt=sse"],
)
def test_a_key_in_the_address_is_found_and_goes_no_further(query: str) -> None:
    shown = shown_by((), query.encode())
    assert shown.token == TOKEN
    assert not shown.own_account
    assert shown.query in (b"", b"alt=sse")


@pytest.mark.parametrize("name", ["key", "k%65y", "api_key", "token"])
def test_a_key_of_ours_beside_the_callers_own_goes_no_further(name: str) -> None:
    headers = ((b"x-tally-key", TOKEN.encode()), (b"authorization", b"Bearer sk-own"))
    shown = shown_by(headers, f"alt=sse&{name}={TOKEN}".encode())
    assert (shown.token, shown.own_account, shown.query) == (TOKEN, True, b"alt=sse")


def test_the_callers_own_key_in_the_address_goes_through() -> None:
    shown = shown_by(((b"x-tally-key", TOKEN.encode()),), b"key=AIza-own&alt=sse")
    assert (shown.token, shown.own_account, shown.query) == (TOKEN, True, b"key=AIza-own&alt=sse")
