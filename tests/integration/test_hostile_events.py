"""Events as strange as the checks let through are stored like any other, and none of them harms its neighbours."""

from __future__ import annotations

import random

import pytest

from journal_helpers import raw_event
from tallystick.app.ingest import ingest_events
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput
from tallystick.usage.event_problems import ID_BYTES_MAX


def four_byte_text(characters: int, seed: int) -> str:
    """Text that cannot be compressed, each character of it four bytes long."""
    source = random.Random(seed)
    return "".join(chr(source.randint(0x20000, 0x2A6DF)) for _ in range(characters))


@pytest.mark.parametrize("neighbours", [0, 9])
def test_ids_of_as_many_bytes_as_there_may_be_are_stored_and_longer_ones_harm_nobody(
    runtime: Runtime, neighbours: int
) -> None:
    org, request = four_byte_text(512, 1), four_byte_text(ID_BYTES_MAX // 4 - 512, 2)
    events = [
        raw_event(request, org_id=org),
        raw_event(request + "\N{LATIN SMALL LETTER A}", org_id=org),
        raw_event(four_byte_text(512, 3)),
        *[raw_event(f"r{n}") for n in range(neighbours)],
    ]
    results = ingest_events(runtime, events)
    others = ["accepted"] * (1 + neighbours)
    assert [result.status for result in results] == ["accepted", "rejected", *others]
    (error,) = [result.error for result in results if result.error is not None]
    assert isinstance(error, BadInput)
    assert (error.code, error.where) == ("text_too_long", "request_id")
    assert f"{ID_BYTES_MAX + 1:,} bytes" in error.detail
    assert {result.status for result in ingest_events(runtime, events)} == {"duplicate", "rejected"}
