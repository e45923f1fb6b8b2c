"""Client library of Tallystick: ask before work is done, settle it after, and record what providers' models used.

tally = Tally(api_key="tk_…", base_url="https://tally.example", feature="documents", environment="production")
client = tally.instrument(OpenAI())

@tally.billable("tailor_document", key="document_id")
def tailor(document_id: str) -> str: ...

with tally.tags(org_id="acme", user_id="u-17", session_id="s-4"):
    tailor("doc-9")
"""

from __future__ import annotations

from tallystick_sdk.async_client import AsyncTally
from tallystick_sdk.client import Tally
from tallystick_sdk.defaults import billable, configure, instrument, record
from tallystick_sdk.errors import (
    BadRequest,
    Conflict,
    Denied,
    Forbidden,
    NotFound,
    TallyError,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from tallystick_sdk.recordings import Recording, Stats
from tallystick_sdk.retry import Retry
from tallystick_sdk.tagging import tags
from tallystick_sdk.wire import VERSION
from tallystick_sdk.work import Work, current_work

__version__ = VERSION

__all__ = [
    "AsyncTally",
    "BadRequest",
    "Conflict",
    "Denied",
    "Forbidden",
    "NotFound",
    "Recording",
    "Retry",
    "Stats",
    "Tally",
    "TallyError",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
    "Work",
    "billable",
    "configure",
    "current_work",
    "instrument",
    "record",
    "tags",
]
