"""Until when a charge can be disputed, and how long the seller has to answer: the block `disputes`."""

from __future__ import annotations

from datetime import timedelta

from tallystick.contract.fields import Place
from tallystick.contract.model import Disputes
from tallystick.contract.words import duration

DISPUTES_KEYS = ("window", "answer_within")
WINDOW_MAX = timedelta(days=3660)
ANSWER_MAX = timedelta(days=366)


def read_disputes(place: Place) -> Disputes:
    """The block `disputes`."""
    fields = place.fields(*DISPUTES_KEYS)
    stand_in = Disputes()
    window = fields.get("window", Place.duration, stand_in.window)
    answer = fields.get("answer_within", Place.duration, stand_in.answer_within)
    if window > WINDOW_MAX:
        what = f"an invoice can be disputed for {duration(WINDOW_MAX)} at most"
        fields.at("window").note("invalid_duration", what)
    if answer > ANSWER_MAX:
        what = f"a dispute is answered within {duration(ANSWER_MAX)} at most"
        fields.at("answer_within").note("invalid_duration", what)
    return Disputes(window, answer)
