"""Tools: external APIs that are called through the gateway, each with a hold before it and `tool_calls: 1` after it.

Which tools there are, where, and with which methods, the configuration says; callers name one, and send what it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final

from tallystick.app.gateway_calls import Call
from tallystick.app.gateway_settlements import Used
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, NotFound, TallyError
from tallystick.gateway.charges import Charges, Denial, Hold
from tallystick.gateway.connection import Connection, UpstreamFailed
from tallystick.gateway.errors import denied, refused, upstream_error
from tallystick.gateway.exchange import Exchange
from tallystick.gateway.headers import first, to_caller, to_provider
from tallystick.gateway.model_calls import send_refusal, whole_body
from tallystick.gateway.open_call import figure_headers, provider_request_id
from tallystick.gateway.pool import Address, Pool, address_of
from tallystick.gateway.providers import Secret, Shown
from tallystick.ledger.api_key import Key
from tallystick.ledger.members import short
from tallystick.usage.event import Outcome
from tallystick.wire.config import Tool
from tallystick.wire.tags import tags_of

PREFIX: Final = "/tool"
METER: Final = "tool_calls"


class ToolTerms:
    """A tool, ready to be called."""

    def __init__(self, tool: Tool, key: Secret | None) -> None:
        self.tool = tool
        self.address: Address = address_of(tool.url)
        self.auth = (
            []
            if key is None
            else [(tool.auth_header.encode(), tool.auth_value(key.value.decode("latin-1")).encode("latin-1"))]
        )


class Tools:
    """All calls of tools of one event loop."""

    def __init__(
        self,
        runtime: Runtime,
        charges: Charges,
        pool: Pool,
        tools: dict[str, ToolTerms],
        new_request_id: Callable[[], str],
    ) -> None:
        self._runtime = runtime
        self._charges = charges
        self._pool = pool
        self._tools = tools
        self._new_request_id = new_request_id

    async def serve(self, exchange: Exchange, name: str, key: Key, shown: Shown) -> None:
        """Serve one call of a tool.

        Raises:
            TallyError: it is refused; nothing was answered yet.
        """
        key.require("tools")
        terms = self._tool(name, exchange.method)
        tags = tags_of(exchange.headers, key.defaults)
        exchange.request_id = tags.request_id or self._new_request_id()
        body = await exchange.body(self._runtime.settings.body_bytes_max)
        call = Call(
            org_id=key.org_id or "",
            request_id=exchange.request_id,
            user_id=tags.user_id,
            session_id=tags.session_id,
            feature=tags.feature,
            environment=tags.environment,
            api_key_id=key.key_id,
            provider=None,
            model=None,
            meters={METER: 1},
            action=tags.action,
            work_key=tags.work_key,
            payer="customer" if shown.own_account else None,
            attributes=tags.attributes,
        )
        notes = exchange.notes
        notes["org_id"], notes["key_id"], notes["tool"] = call.org_id, key.key_id, name
        hold = await self._charges.begin(call)
        if isinstance(hold, Denial):
            notes["denied"] = hold.result.decision.code
            await send_refusal(exchange, denied(None, hold, exchange.request_id))
            return
        notes["hold"] = hold.recorded.seq
        await _ToolCall(self._runtime, self._charges, self._pool, exchange, terms, hold, shown).run(body)

    def _tool(self, name: str, method: str) -> ToolTerms:
        terms = self._tools.get(name)
        if terms is None:
            raise NotFound(
                "unknown_tool",
                f"{short(name)} is no tool that can be called here",
                next_step=f"call one of {', '.join(sorted(self._tools)) or 'none: no tool is configured'}",
            )
        if method not in terms.tool.methods:
            raise BadInput(
                "method_not_allowed",
                f"{name} is not called with {method}",
                next_step=f"use {' or '.join(terms.tool.methods)}",
            )
        return terms


class _ToolCall:
    """A call of a tool that was let through."""

    def __init__(
        self,
        runtime: Runtime,
        charges: Charges,
        pool: Pool,
        exchange: Exchange,
        terms: ToolTerms,
        hold: Hold,
        shown: Shown,
    ) -> None:
        self._runtime, self._charges, self._pool = runtime, charges, pool
        self._exchange, self._terms, self._hold, self._shown = exchange, terms, hold, shown
        self._started = perf_counter()
        self._connection: Connection | None = None
        self._is_ended = False

    async def run(self, body: bytes) -> None:
        """Call the tool, settle, and answer."""
        exchange = self._exchange
        try:
            connection = self._connection = await self._ask(body)
            answer = await whole_body(connection)
            outcome: Outcome = "success" if 200 <= connection.status < 300 else "failure"
            exchange.notes["outcome"] = outcome
            self._is_ended = True
            later = self._terms.tool.commit == "async"
            figures = await self._charges.settle(self._hold, self._used(outcome, len(answer)), later=later)
            exchange.notes["entry"] = figures.entry
            headers = to_caller(connection.headers, own_account=self._shown.own_account)
            await exchange.answer(connection.status, [*headers, *figure_headers(figures)], answer)
        except UpstreamFailed as failure:
            await self._tell(failure)
        except asyncio.CancelledError:
            self._end_unattended()
            raise
        except TallyError as error:
            await send_refusal(exchange, refused(None, error, exchange.request_id))
        finally:
            self._end_unattended()
            if self._connection is not None:
                self._pool.give_back(self._terms.address, self._connection)

    async def _ask(self, body: bytes) -> Connection:
        exchange, tool, address = self._exchange, self._terms.tool, self._terms.address
        own = self._shown.own_account
        headers = to_provider(exchange.headers, own_account=own, names_ours=(tool.auth_header.encode(),))
        headers += [] if own else self._terms.auth
        accepted = first(exchange.headers, b"accept-encoding") or b"identity"
        query = b"?" + self._shown.query if self._shown.query else b""
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        request = b"%b %b%b HTTP/1.1\r\nhost: %b\r\n%baccept-encoding: %b\r\n" % (
            exchange.method.encode(),
            address.path or b"/",
            query,
            address.host_header,
            lines,
            accepted,
        )
        if body or exchange.method not in ("GET", "DELETE"):
            request += b"content-length: %d\r\n" % len(body)
        return await self._pool.ask(
            address,
            request + b"\r\n",
            body,
            connect_seconds=tool.connect_timeout_seconds,
            silence_seconds=tool.total_timeout_seconds,
            total_seconds=tool.total_timeout_seconds,
        )

    async def _tell(self, failure: UpstreamFailed) -> None:
        exchange, error = self._exchange, upstream_error(failure)
        exchange.notes["upstream"] = failure.why
        self._is_ended = True
        if failure.sent:
            figures = await self._charges.settle(self._hold, self._used("failure", 0))
        else:
            figures = await self._charges.release(self._hold, error.code)
        await send_refusal(exchange, refused(None, error, exchange.request_id), figure_headers(figures))

    def _used(self, outcome: Outcome, sent_bytes: int) -> Used:
        meters = {METER: 1}
        if self._terms.tool.egress:
            meters["egress_bytes"] = sent_bytes
        attributes = dict(self._hold.call.attributes)
        connection = self._connection
        if connection is not None and connection.status:
            attributes["provider_status"] = str(connection.status)
            provider_id = provider_request_id(connection.headers)
            if provider_id:
                attributes["provider_request_id"] = provider_id
        latency_ms = int((perf_counter() - self._started) * 1000)
        return Used(outcome, self._runtime.clock(), latency_ms, None, meters, attributes, self._terms.tool.name)

    def _end_unattended(self) -> None:
        """The call broke off here: its hold is not to outlive it."""
        if not self._is_ended:
            self._is_ended = True
            self._charges.in_the_background(self._charges.settle(self._hold, self._used("failure", 0)))
