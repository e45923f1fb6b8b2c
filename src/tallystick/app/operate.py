"""What the use cases of accounts have in common: the meters that are known, orgs that exist, ids of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tallystick.app.orgs import Org, find_org
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, Problems
from tallystick.ledger.encoding import SALT_BYTES
from tallystick.usage.event_problems import check_text

T = TypeVar("T")


def with_meters(runtime: Runtime, check: Callable[[frozenset[str]], T]) -> T:
    """What `check` gives for the known meters; checked once more when it does not know one that was declared since."""
    try:
        return check(runtime.known_meters())
    except BadInput as error:
        if not _mentions_unknown_meter(error):
            raise
    return check(runtime.known_meters(reload=True))


def existing_org(runtime: Runtime, org_id: str) -> Org:
    """The org, before anything is written for it: a slip of the pen makes no new customer.

    Raises:
        BadInput: the id cannot be one.
        NotFound: `unknown_org`.
    """
    check_text("org_id", org_id)
    return find_org(runtime, org_id)


def new_salt(runtime: Runtime) -> bytes:
    """The salt of a fingerprint."""
    return runtime.random_bytes(SALT_BYTES)


def new_request_id(runtime: Runtime) -> str:
    """An id for a request that brings none: sent again, it is another one."""
    return f"own-{runtime.random_bytes(12).hex()}"


def _mentions_unknown_meter(error: BadInput) -> bool:
    problems = error.problems if isinstance(error, Problems) else (error,)
    return any(problem.code == "unknown_meter" for problem in problems)
