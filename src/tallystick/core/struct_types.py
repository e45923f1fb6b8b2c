"""The types that JSON is read into, worked out while modules are imported, by one thread alone."""

from __future__ import annotations

from typing import Any

import msgspec


def work_out(*kinds: Any) -> None:
    """Have msgspec work out the members of these types now.

    It does so when a type is read into for the first time. Two threads that are first at once crash the process: one
    finds what the other has half done (seen with msgspec 0.22). A module is imported by one thread, before others read.
    """
    for kind in kinds:
        msgspec.json.Decoder(kind)
