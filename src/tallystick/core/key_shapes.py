"""What keys look like, so that one that was put in the wrong place is refused there, and shown nowhere.

Ours are known for certain: `tk_`, eight characters, `_`, and a secret. Of providers' keys those are known whose form no
name or id has by accident. What looks like neither is not guessed at.
"""

from __future__ import annotations

import re
from typing import Final

_OURS: Final = re.compile(r"(tk_[0-9A-Za-z]{8})_[0-9A-Za-z]+")
_BEGINS = r"(?:(?<![0-9A-Za-z])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt])|(?<=\\u[0-9A-Fa-f]{4}))"
"""Where a provider's key may begin: not within a word, but right after a space as addresses and JSON write it."""
_PROVIDERS: Final = re.compile(
    _BEGINS
    + r"""(?:
        (sk-(?:proj|ant|or|svcacct|admin|None)-)[0-9A-Za-z_-]{16,}
      | (sk-)[0-9A-Za-z]{20,}
      | (gsk_)[0-9A-Za-z]{32,}
      | (AIza)[0-9A-Za-z_-]{30,}
      | (whsec_)[0-9A-Za-z+/_-]{16,}={0,2}
    )""",
    re.VERBOSE,
)
"""Of providers, and the secrets that webhooks are signed with."""
_NO_WORDS = r"(?=[0-9A-Za-z_-]{0,80}?(?:[0-9A-Za-z]{20}|[0-9][0-9A-Za-z_-]{0,80}?[A-Z]|[A-Z][0-9A-Za-z_-]{0,80}?[0-9]))"
"""What is drawn at random soon has digits and capitals, or goes on without a break; `sk-admin-dashboard-overview` does
not.
"""
_KEYS: Final = re.compile(
    r"""tk_[0-9A-Za-z]{8}_(?:[0-9A-Za-z]{43} | (?=[a-z]{0,15}[0-9A-Z])[0-9A-Za-z]{16,})
      | """
    + _BEGINS
    + r"""(?:
        sk-(?:proj|ant|or|svcacct|admin|None)-"""
    + _NO_WORDS
    + r"""[0-9A-Za-z_-]{16,}
      | sk-(?=[a-z]{0,40}[0-9A-Z])[0-9A-Za-z]{20,}
      | gsk_(?=[a-z]{0,40}[0-9A-Z])[0-9A-Za-z]{32,}
      | AIza[0-9A-Za-z_-]{30,}
    )""",
    re.VERBOSE,
)
"""What is refused: a secret whole or in large part, and no name. Less of one is shown nowhere, but refused nowhere."""


def may_hold_key(text: str) -> bool:
    """Whether it is worth looking for one: False means that there is none."""
    return "tk_" in text or "sk-" in text or "gsk_" in text or "AIza" in text or "whsec_" in text


def holds_key(text: str) -> bool:
    """Whether a key stands in the text, ours or a provider's."""
    if not may_hold_key(text):
        return False
    return _KEYS.search(text) is not None


def without_secrets(text: str) -> str:
    """The text with no more than the beginning of each key in it, of ours the public part."""
    if not may_hold_key(text):
        return text
    return _PROVIDERS.sub(_begin, _OURS.sub(r"\1_…", text))


def line_without_secrets(line: bytes) -> bytes:
    """The same of a line of JSON; nothing in a key is escaped there."""
    if b"tk_" in line or b"sk-" in line or b"gsk_" in line or b"AIza" in line or b"whsec_" in line:
        return without_secrets(line.decode()).encode()
    return line


def _begin(found: re.Match[str]) -> str:
    return next(part for part in found.groups() if part) + "…"
