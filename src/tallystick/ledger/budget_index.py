"""An org's budgets by what they look at: a request meets those that it falls under, however many others there are."""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.contract.decision import Budget
from tallystick.ledger.operations import Authorize
from tallystick.ledger.reservations import spending_counter

BUDGETS_MAX = 1000
"""How many budgets an org may have."""
BUDGETS_ON_ONE_MAX = 50
"""How many of them may look at the same: the org, one subject, or each subject of one kind by itself."""


class BudgetIndex:
    """The budgets of an org, which do not change.

    Attributes:
        spends: what has to be counted for them: (`day` or `month`, such as `cost:user`).
    """

    __slots__ = ("_named", "spends")

    def __init__(self, budgets: Iterable[Budget] = ()) -> None:
        self._named: dict[tuple[str, str | None], list[tuple[int, Budget]]] = {}
        spends = set()
        for place, budget in enumerate(budgets):
            self._named.setdefault((budget.scope, budget.subject), []).append((place, budget))
            spends.add((budget.per, f"{budget.of}:{budget.scope}"))
        self.spends = frozenset(spends)

    def applying(self, request: Authorize, user_id: str | None) -> list[tuple[Budget, str]]:
        """The budgets that the request falls under, in their order, each with the counter that it compares.

        Args:
            user_id: who asks; None when that is not said, or erased.
        """
        if not self._named:
            return []
        found: list[tuple[int, Budget, str | None]] = []
        found += [(place, budget, None) for place, budget in self._named.get(("org", None), ())]
        for scope, subject in (("user", user_id), ("api_key", request.api_key_id), ("feature", request.feature)):
            if subject is not None:
                for key in ((scope, None), (scope, subject)):
                    found += [(place, budget, subject) for place, budget in self._named.get(key, ())]
        found.sort(key=_place)
        return [(budget, spending_counter(budget.of, budget.scope, subject)) for _, budget, subject in found]

    def like(self, budget: Budget) -> int:
        """How many there are that look at the same as this one, whatever they measure."""
        return len(self._named.get((budget.scope, budget.subject), ()))


def _place(one: tuple[int, Budget, str | None]) -> int:
    return one[0]
