"""A call that was let through: its hold is open, its request is with the provider, and it is to be settled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from tallystick.app.gateway_settlements import CallFigures, Used
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError
from tallystick.gateway.charges import Charges, Hold
from tallystick.gateway.connection import Connection
from tallystick.gateway.exchange import Exchange
from tallystick.gateway.headers import Headers, first
from tallystick.gateway.providers import Upstream
from tallystick.usage.extract import decode_body
from tallystick.wire.asked import Asked
from tallystick.wire.config import RouteTerms
from tallystick.wire.outcome import Judged

_PROVIDER_IDS = (b"x-request-id", b"request-id", b"x-goog-request-id", b"apim-request-id", b"x-amzn-requestid")
_ID_CHARS_MAX = 200
_UNCERTAIN = frozenset({"broke_off", "garbage", "caller_left", "no_usage"})
"""What becomes of calls of which the provider did not say what they used."""


class LazyRequest(Mapping[str, Any]):
    """A request's body as a mapping, decoded only if somebody looks into it: for estimates."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._decoded: dict[str, Any] | None = None

    def _request(self) -> dict[str, Any]:
        if self._decoded is None:
            try:
                self._decoded = decode_body(self._body)
            except TallyError:
                self._decoded = {}
        return self._decoded

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, name: str) -> Any:
        return self._request()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._request())

    def __len__(self) -> int:
        return len(self._request())


@dataclass(slots=True)
class OpenCall:
    """See the module.

    Attributes:
        own_account: the caller's own key of the provider is used.
        hides_usage: the stream's usage was asked for here, and what comes of it is hidden.
        sent_bytes: of the answer's body, to the caller.
        is_ended: its hold is settled or released, or is about to be.
    """

    runtime: Runtime
    charges: Charges
    exchange: Exchange
    upstream: Upstream
    terms: RouteTerms
    asked: Asked
    request: LazyRequest
    hold: Hold
    own_account: bool
    hides_usage: bool
    started: float
    connection: Connection | None = None
    sent_bytes: int = 0
    is_ended: bool = False

    async def settle(self, judged: Judged) -> CallFigures:
        """Have what became of the call written; it is in the ledger when this returns.

        Raises:
            TallyError: it could not be written.
        """
        self.is_ended = True
        used = self._used(judged)
        self._note(judged)
        figures = await self.charges.settle(self.hold, used, later=self.terms.commit == "async")
        self.exchange.notes["entry"] = figures.entry
        return figures

    async def release(self, reason: str) -> CallFigures:
        """Give back what was held: nothing was sent to the provider.

        Raises:
            TallyError: it could not be written.
        """
        self.is_ended = True
        self.exchange.notes["outcome"] = "released"
        return await self.charges.release(self.hold, reason)

    def settle_unattended(self, judged: Judged) -> None:
        """The same for a call that nobody serves any more: this process is being stopped."""
        if not self.is_ended:
            self.is_ended = True
            self._note(judged)
            self.charges.in_the_background(self.charges.settle(self.hold, self._used(judged)))

    def _used(self, judged: Judged) -> Used:
        attributes = dict(self.hold.call.attributes)
        connection = self.connection
        if connection is not None and connection.status:
            attributes["provider_status"] = str(connection.status)
            provider_id = provider_request_id(connection.headers)
            if provider_id:
                attributes["provider_request_id"] = provider_id
        return Used(
            judged.outcome,
            self.runtime.clock(),
            int((perf_counter() - self.started) * 1000),
            judged.extracted,
            {"egress_bytes": self.sent_bytes} if self.terms.egress else {},
            attributes,
            status="estimated" if judged.why in _UNCERTAIN else "final",
            is_refused=judged.why == "refused",
        )

    def _note(self, judged: Judged) -> None:
        notes = self.exchange.notes
        notes["outcome"], notes["why"] = judged.outcome, judged.why
        if judged.detail and judged.why not in ("answered", "nothing_said", "caller_left"):
            notes["provider_said"] = judged.detail
        if self.connection is not None:
            notes["provider_status"] = self.connection.status or None
            notes["provider_request_id"] = provider_request_id(self.connection.headers)


def provider_request_id(headers: Headers) -> str | None:
    """By which the provider knows the request."""
    for name in _PROVIDER_IDS:
        value = first(headers, name)
        if value:
            text = value.decode("latin-1").strip()[:_ID_CHARS_MAX]
            return text if text.isprintable() and text else None
    return None


def figure_headers(figures: CallFigures) -> Headers:
    """What is told of a settled call in the headers of its answer."""
    told = [
        ("x-tally-request-id", figures.request_id),
        ("x-tally-hold", figures.hold_id),
        ("x-tally-entry", figures.entry),
        ("x-tally-cost-usd", figures.cost_usd),
        ("x-tally-cost-status", figures.status),
        ("x-tally-credits", figures.credits),
        ("x-tally-balance", figures.balance),
    ]
    return [(name.encode(), str(value).encode("utf-8")) for name, value in told if value is not None]
