"""What meters and kinds of charges are called for somebody who has never seen a ledger."""

from __future__ import annotations

from typing import Final

from tallystick.invoice.adjusted_lines import KIND_TITLES
from tallystick.invoice.model import InvoiceLine

_METERS: Final = {
    "tokens_in": "Input tokens",
    "tokens_out": "Output tokens",
    "reasoning_tokens": "Reasoning tokens",
    "cache_read_tokens": "Cached input tokens, read",
    "cache_write_tokens": "Cached input tokens, written",
    "cache_write_5m_tokens": "Cached input tokens, written for 5 minutes",
    "cache_write_1h_tokens": "Cached input tokens, written for 1 hour",
}
_KINDS: Final = {**KIND_TITLES, "commit_true_up": "Minimum commitment, what is left of it"}


def meter_title(meter: str) -> str:
    """A meter in words: its own, or its name as words."""
    return _METERS.get(meter) or meter.replace("_", " ").capitalize()


def line_name(line: InvoiceLine) -> str:
    """What a line charges for, in words."""
    kind = line.kind if line.adjusts is None else line.adjusts.kind
    return meter_title(line.meter) if kind == "usage" and line.meter is not None else _KINDS[kind]
