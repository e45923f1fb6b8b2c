"""`Tally`: the blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Self

from tallystick_sdk import wire
from tallystick_sdk.base import BaseTally
from tallystick_sdk.decoding import decode
from tallystick_sdk.requests import authorize_body, needed_org, release_body, settle_body
from tallystick_sdk.results import Actions, Authorization, Limits, Release, Settlement, Wallet
from tallystick_sdk.sender import EXIT_SECONDS


class Tally(BaseTally):
    """The client for programs without an event loop, and for their threads: share one.

    Every call may be tried several times within one deadline; each has its effect once.
    """

    def authorize(
        self,
        action: str | None = None,
        *,
        request_id: str | None = None,
        model: str | None = None,
        meters: Mapping[str, int] | None = None,
        provider: str | None = None,
        **tags: Any,
    ) -> Authorization:
        """May it be done? When it may, what it takes at most is held, until it is settled or released.

        Args:
            action: the contract's action.
            request_id: your id of the request; the same again is the same hold. Made when left out.
            model: that it will call.
            meters: the most of each meter that it may take.
            provider: whose model.
            tags: whom it belongs to; what is left out is taken from the block's tags and the client's.

        Raises:
            Denied: it may not; `decision` says why, `next_step` what to do.
            BadRequest: `missing_tags`, or what is wrong with the request.
            TallyError: what else the server refuses, or that it cannot be reached.
        """
        said = {"action": action, "request_id": request_id, "model": model, "meters": meters, "provider": provider}
        body = authorize_body(self.members(tags, {name: value for name, value in said.items() if value is not None}))
        return decode(Authorization, self.blocking_http.ask(wire.post("/v1/authorize", body), self.retry))

    def settle(
        self,
        hold_id: Authorization | str,
        outcome: str = "success",
        events: Iterable[Mapping[str, Any]] = (),
        *,
        charge_credits: Decimal | str | int | None = None,
        org_id: str | None = None,
    ) -> Settlement:
        """It is done: its usage is stored, what the contract says is charged, and the rest goes back.

        Args:
            hold_id: the hold's id, or what `authorize` gave.
            outcome: `success`, `empty` or `failure`; the contract says which of them are charged.
            events: its usage, as of `record`; what they leave out of the tags is the hold's.
            charge_credits: the most to charge, where it is not for the contract to say.
            org_id: of the hold, when only its id is given; else the tags'.

        Raises:
            Conflict: `hold_resolved` (it was settled otherwise, or released), `hold_expired`, `request_id_conflict`.
            TallyError: what else the server refuses, or that it cannot be reached.
        """
        body = settle_body(*self._hold(hold_id, org_id), outcome, events, charge_credits)
        return decode(Settlement, self.blocking_http.ask(wire.post("/v1/settle", body), self.retry))

    def release(self, hold_id: Authorization | str, reason: str | None = None, *, org_id: str | None = None) -> Release:
        """It was not done: all that was held goes back.

        Raises:
            Conflict: `hold_resolved` (it was settled), `hold_expired`.
            TallyError: what else the server refuses, or that it cannot be reached.
        """
        body = release_body(*self._hold(hold_id, org_id), reason)
        return decode(Release, self.blocking_http.ask(wire.post("/v1/release", body), self.retry))

    def wallet(self, org_id: str | None = None) -> Wallet:
        """What an org has: credits by grant, and what is held.

        Raises:
            TallyError: what the server refuses, or that it cannot be reached.
        """
        return decode(Wallet, self.blocking_http.ask(self._of_org(org_id, "wallet"), self.retry))

    def limits(self, org_id: str | None = None) -> Limits:
        """Each limit and budget of an org: used, held, the most, when it begins anew.

        Raises:
            TallyError: as `wallet`.
        """
        return decode(Limits, self.blocking_http.ask(self._of_org(org_id, "limits"), self.retry))

    def actions(self, org_id: str | None = None) -> Actions:
        """The price list of an org's plan, as its customer sees it.

        Raises:
            TallyError: as `wallet`.
        """
        return decode(Actions, self.blocking_http.ask(self._of_org(org_id, "actions"), self.retry))

    def flush(self, timeout_seconds: float = 30.0) -> bool:
        """Wait until all that was recorded so far is sent; whether it is."""
        return self.sender.flush(timeout_seconds)

    def close(self, timeout_seconds: float = EXIT_SECONDS) -> bool:
        """Send what can be sent in that time, and let go of connections and files; whether all was sent."""
        is_sent = self.sender.close(timeout_seconds)
        self.blocking_http.close()
        return is_sent

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hold(self, hold: Authorization | str, org_id: str | None) -> tuple[str | None, str]:
        if isinstance(hold, Authorization):
            return hold.org_id, hold.hold_id
        return org_id or self.members().get("org_id"), hold

    def _of_org(self, org_id: str | None, what: str) -> wire.Call:
        return wire.get("v1", "orgs", needed_org(org_id or self.members().get("org_id")), what)
