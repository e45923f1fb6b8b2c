"""What is seen at once of an answer's usage is what all of the rules come to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput
from tallystick.usage.inclusion import _all_meters, disjoint_meters
from tallystick.usage.reading import Reported

USUAL = ("input_tokens", "output_tokens", "cache_read_tokens", "output_reasoning_tokens")
OTHERS = (
    "cache_write_tokens",
    "cache_write_5m_tokens",
    "input_audio_tokens",
    "cache_audio_read_tokens",
    "output_audio_tokens",
    "input_tool_tokens",
    "web_searches",
)
QUANTITIES = st.one_of(st.just(0), st.integers(0, 50), st.integers(0, 10**12))


@given(
    st.dictionaries(st.sampled_from(USUAL), QUANTITIES),
    st.dictionaries(st.sampled_from(OTHERS), st.one_of(st.just(0), st.just(0), st.integers(0, 50))),
)
def test_the_short_way_comes_to_the_same_as_the_long_one(usual: dict[str, int], others: dict[str, int]) -> None:
    quantities = {**usual, **others}
    reported = Reported(quantities, {key: f"usage.{key}" for key in quantities})

    def told(read: object) -> object:
        try:
            return list(read(reported).items())  # type: ignore[operator]
        except BadInput as error:
            return error.as_dict()

    assert told(disjoint_meters) == told(_all_meters)
