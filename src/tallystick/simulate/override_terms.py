"""Exceptions made under one contract, as another would have them."""

from __future__ import annotations

import msgspec

from tallystick.contract.decision import Override
from tallystick.contract.model import Contract
from tallystick.contract.policy_terms import limit_name


def translated(override: Override, plan: str | None, before: Contract | None, draft: Contract) -> Override:
    """The override with its limits in the places that they have in the draft: those of the same name and kind.

    Args:
        plan: the org's, for an override that names none.
        before: the contract that it was made under; None for one that is not known.
    """
    if not override.limits or override.limit_names:
        return override  # what it calls its limits finds them in any version
    name = override.plan or plan or ""
    old, new = None if before is None else before.plans.get(name), draft.plans.get(name)
    limits: dict[int, int] = {}
    if old is not None and new is not None:
        places = {(limit_name(limit), limit.kind): place for place, limit in enumerate(new.limits)}
        for place, most in override.limits.items():
            if place < len(old.limits):
                same = places.get((limit_name(old.limits[place]), old.limits[place].kind))
                if same is not None:
                    limits[same] = most
    return msgspec.structs.replace(override, limits=limits)
