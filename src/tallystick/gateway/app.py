"""The gateway as an ASGI application: model calls and tools, each metered before its answer is complete.

    /openai/…, /anthropic/…, /gemini/…, and each other provider's name    model calls (`model_calls`)
    /tool/NAME                                                             tools (`tools`)

It takes what begins with one of these, before the routes of the API. Every exchange ends with a line in the log.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import anyio.to_thread
import structlog
from starlette.types import Receive, Scope, Send

from tallystick.app.body_budget import BodyBudget
from tallystick.app.gateway_terms import gateway_terms, read_secret
from tallystick.app.key_lookup import KeyLookup
from tallystick.app.loop_inbox import LoopInbox
from tallystick.app.runtime import Runtime
from tallystick.app.settlement_queue import SettlementQueue
from tallystick.core.errors import TallyError
from tallystick.gateway.charges import Charges
from tallystick.gateway.errors import internal_error, refused
from tallystick.gateway.exchange import CallerLeft, Exchange
from tallystick.gateway.model_calls import ModelCalls, send_refusal
from tallystick.gateway.pool import Pool
from tallystick.gateway.providers import Secret, Shown, Upstream, is_plain_path, shown_by, unknown_path
from tallystick.gateway.tools import PREFIX, Tools, ToolTerms
from tallystick.ledger.api_key import Key, key_missing
from tallystick.wire.routes import Flavor

FINISH_SECONDS_MAX = 15
"""How long what ends holds may take when the server stops."""

_log = structlog.get_logger("tallystick.gateway")


class Gateway:
    """See the module. `start` in the event loop that serves it, `stop` in the end."""

    def __init__(self, runtime: Runtime, budget: BodyBudget, lookup: KeyLookup) -> None:
        """Begin.

        Args:
            runtime: an open one.
            budget: of all bodies that callers send, the API's too.
            lookup: of the keys that callers show.

        Raises:
            BadInput, Problems: the gateway's file, or what it names, cannot be used.
        """
        self._runtime = runtime
        self._budget = budget
        self._lookup = lookup
        terms = gateway_terms(runtime.settings)
        self._upstreams = {
            f"/{name}": Upstream(provider, _secret(read_secret(provider.key_env, provider.key_file)))
            for name, provider in terms.providers.items()
        }
        self._tool_terms = {
            name: ToolTerms(tool, _secret(read_secret(tool.key_env, tool.key_file)))
            for name, tool in terms.tools.items()
        }
        self._log: Callable[[bytes], None] = lambda _: None
        self._calls: ModelCalls | None = None

    def takes(self, path: str) -> bool:
        """Whether a path is the gateway's."""
        begin = path[: path.find("/", 1)]
        return begin in self._upstreams or begin == PREFIX

    async def start(self, inbox: LoopInbox, log: Callable[[bytes], None]) -> None:
        """Be ready to serve in the loop that runs.

        Args:
            log: takes lines of the log, without a line feed.
        """
        self._log = log
        self._pool = Pool()
        self._queue = SettlementQueue(self._runtime)
        self._charges = Charges(self._runtime, inbox, self._queue)
        self._calls = ModelCalls(self._runtime, self._charges, self._pool, new_request_id)
        self._tools = Tools(self._runtime, self._charges, self._pool, self._tool_terms, new_request_id)
        await anyio.to_thread.run_sync(self._runtime.keys.start)

    async def stop(self) -> None:
        """End what is under way: every hold that a call has left behind is settled or released."""
        try:
            async with asyncio.timeout(FINISH_SECONDS_MAX):
                await self._charges.finish()
        except TimeoutError:
            _log.error("holds_left_to_expire")
        self._pool.close()
        await anyio.to_thread.run_sync(self._queue.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._budget)
        flavor: Flavor | None = None
        try:
            begin, rest = _parted(exchange.raw_path)
            upstream = self._upstreams.get(begin)
            if upstream is None:
                await self._serve_tool(exchange, rest)
            else:
                flavor = upstream.flavor
                exchange.notes["provider"] = upstream.name
                await self._serve(exchange, upstream, rest)
        except TallyError as error:
            exchange.notes["refused"] = error.code
            await self._refuse(exchange, flavor, error)
        except CallerLeft:
            pass
        except Exception:
            _log.exception("unexpected_error", method=exchange.method, path=exchange.path)
            exchange.request_id = exchange.request_id or new_request_id()
            if not exchange.is_begun:
                await send_refusal(exchange, internal_error(flavor, exchange.request_id))
        finally:
            exchange.close()
            self._log(exchange.log_line())

    async def _serve(self, exchange: Exchange, upstream: Upstream, rest: bytes) -> None:
        if not is_plain_path(rest):
            raise unknown_path(rest.decode("latin-1"))
        shown = shown_by(exchange.headers, exchange.query)
        key = await self._key(shown)
        assert self._calls is not None  # noqa: S101 - it was started
        await self._calls.serve(exchange, upstream, rest, key, shown)

    async def _serve_tool(self, exchange: Exchange, rest: bytes) -> None:
        shown = shown_by(exchange.headers, exchange.query)
        key = await self._key(shown)
        await self._tools.serve(exchange, rest[1:].decode("latin-1"), key, shown)

    async def _key(self, shown: Shown) -> Key:
        if shown.token is None:
            raise key_missing()
        return await self._lookup.find(shown.token)

    async def _refuse(self, exchange: Exchange, flavor: Flavor | None, error: TallyError) -> None:
        exchange.request_id = exchange.request_id or new_request_id()
        if not exchange.is_begun:
            await send_refusal(exchange, refused(flavor, error, exchange.request_id))
        else:
            _log.error("answer_broke_off", request_id=exchange.request_id, **error.as_dict())


def _parted(path: bytes) -> tuple[str, bytes]:
    """The first part of a path, with its slash, and the rest, with its own."""
    cut = path.find(b"/", 1)
    return path[:cut].decode("latin-1"), path[cut:]


def new_request_id() -> str:
    """An id that no other call has."""
    return "req_" + os.urandom(16).hex()


def _secret(value: bytes | None) -> Secret | None:
    return None if value is None else Secret(value)
