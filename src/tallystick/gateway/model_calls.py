"""A call of a model: held for the worst case, sent on unchanged, metered, settled, and only then answered to its end.

    key ─► tags ─► body ─► what is asked at most ─► hold ─► provider ─► what was used ─► settlement ─► answer

What is refused is told in the shape of the provider's own errors. Whatever happens, the hold ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Final

import anyio
import anyio.to_thread

from tallystick.app.cost import load_extractors
from tallystick.app.gateway_calls import Call
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, TallyError
from tallystick.gateway.charges import Charges, Denial, Hold
from tallystick.gateway.connection import Connection, UpstreamFailed
from tallystick.gateway.errors import denied, refused, upstream_error
from tallystick.gateway.exchange import Exchange
from tallystick.gateway.headers import Headers, first, to_caller, to_provider
from tallystick.gateway.open_call import LazyRequest, OpenCall, figure_headers
from tallystick.gateway.pool import Pool
from tallystick.gateway.providers import Shown, Upstream, check_route, unmetered
from tallystick.gateway.streams import relay_stream
from tallystick.ledger.api_key import Key
from tallystick.wire.asked import Asked, asked_of
from tallystick.wire.config import RouteTerms
from tallystick.wire.outcome import Judged, judge
from tallystick.wire.packing import readable_codings
from tallystick.wire.refusals import Refusal
from tallystick.wire.routes import route_of
from tallystick.wire.tags import tags_of
from tallystick.wire.usage_asked import with_usage_asked

ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
"""The largest answer that is held back as a whole until it is settled."""
LARGE_BODY_BYTES: Final = 128 * 1024
"""To see what a request asks for takes 3 to 14 ms for each MB of it. That of a larger body is done in a thread, so that
other calls of the loop take turns with it."""


class ModelCalls:
    """All calls of models of one event loop."""

    def __init__(self, runtime: Runtime, charges: Charges, pool: Pool, new_request_id: Callable[[], str]) -> None:
        self._runtime = runtime
        self._charges = charges
        self._pool = pool
        self._new_request_id = new_request_id
        self._large = anyio.CapacityLimiter(1)  # several at once would only wait for each other, and others for them

    async def serve(self, exchange: Exchange, upstream: Upstream, rest: bytes, key: Key, shown: Shown) -> None:
        """Serve one call.

        Args:
            rest: the path behind the provider's name, with its slash.
            key: the virtual key, known and taken.

        Raises:
            TallyError: it is refused; nothing was answered yet.
        """
        key.require("gateway")
        path = rest.decode("latin-1")
        route = route_of(upstream.flavor, exchange.method, path)
        check_route(route, exchange.method, path, own_account=shown.own_account)
        terms = upstream.terms.terms_of(path)
        if route.free:
            body = await exchange.body(self._runtime.settings.body_bytes_max)
            await self._pass_free(exchange, upstream, terms, path, body, shown)
            return
        tags = tags_of(exchange.headers, key.defaults)
        exchange.request_id = tags.request_id or self._new_request_id()
        body = await exchange.body(self._runtime.settings.body_bytes_max)
        _check_packing(exchange.headers)
        look = partial(
            _look,
            upstream,
            path,
            shown.query.decode("latin-1"),
            body,
            method=exchange.method,
            content_type=(first(exchange.headers, b"content-type") or b"").decode("latin-1"),
        )
        is_large = len(body) > LARGE_BODY_BYTES
        asked, sent = await anyio.to_thread.run_sync(look, limiter=self._large) if is_large else look()
        _check_asked(asked, path)
        call = Call(
            org_id=key.org_id or "",
            request_id=exchange.request_id,
            user_id=tags.user_id,
            session_id=tags.session_id,
            feature=tags.feature,
            environment=tags.environment,
            api_key_id=key.key_id,
            provider=upstream.terms.provider,
            model=asked.model,
            meters=asked.worst_meters(tokens_in_default=terms.tokens_in_max, tokens_out_default=terms.tokens_out_max),
            action=tags.action,
            work_key=tags.work_key,
            payer="customer" if shown.own_account else None,
            attributes=tags.attributes,
        )
        notes = exchange.notes
        notes["org_id"], notes["key_id"], notes["model"] = call.org_id, key.key_id, call.model
        hold = await self._charges.begin(call)
        if isinstance(hold, Denial):
            notes["denied"] = hold.result.decision.code
            await send_refusal(exchange, denied(asked.api, hold, exchange.request_id))
            return
        notes["hold"] = hold.recorded.seq
        await self._call(exchange, upstream, terms, path, body, sent, asked, shown, hold)

    # ── the call itself ─────────────────────────────────────────────────────────────────────────

    async def _call(
        self,
        exchange: Exchange,
        upstream: Upstream,
        terms: RouteTerms,
        path: str,
        body: bytes,
        sent: bytes,
        asked: Asked,
        shown: Shown,
        hold: Hold,
    ) -> None:
        call = OpenCall(
            self._runtime,
            self._charges,
            exchange,
            upstream,
            terms,
            asked,
            LazyRequest(body),
            hold,
            shown.own_account,
            _asks_usage(upstream, asked),
            perf_counter(),
        )
        try:
            await self._ask(call, path, sent, shown)
        except asyncio.CancelledError:
            call.settle_unattended(Judged("failure", None, "broke_off", "the server was stopped"))
            raise
        except TallyError as error:
            if exchange.is_begun:
                raise
            await send_refusal(exchange, refused(asked.api, error, exchange.request_id))
        finally:
            if not call.is_ended:  # a fault of ours: the hold is not to outlive it
                call.settle_unattended(Judged("failure", None, "broke_off", "the call broke off"))
            if call.connection is not None:
                self._pool.give_back(upstream.address, call.connection)

    async def _ask(self, call: OpenCall, path: str, body: bytes, shown: Shown) -> None:
        exchange = call.exchange
        try:
            connection = call.connection = await self._send(exchange, call.upstream, call.terms, path, body, shown,
                                                            is_stream=call.asked.stream)  # fmt: skip
            if _is_streamed(call.asked, connection):
                await relay_stream(call)
                return
            answer = await whole_body(connection)
        except UpstreamFailed as failure:
            await self._tell_failure(call, failure)
            return
        judged = judge(
            load_extractors(),
            call.asked,
            call.upstream.terms.provider,
            status=connection.status,
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in connection.headers},
            body=answer,
            request=call.request,
        )
        call.sent_bytes = len(answer)
        figures = await call.settle(judged)
        headers = to_caller(connection.headers, own_account=call.own_account)
        await exchange.answer(connection.status, [*headers, *figure_headers(figures)], answer)

    async def _tell_failure(self, call: OpenCall, failure: UpstreamFailed) -> None:
        """The provider did not answer, or not to the end, and nothing was sent to the caller yet."""
        call.exchange.notes["upstream"] = failure.why
        error = upstream_error(failure)
        if failure.sent:
            figures = await call.settle(Judged("failure", None, "broke_off", failure.detail))
        else:
            figures = await call.release(error.code)
        refusal = refused(call.asked.api, error, call.exchange.request_id)
        await send_refusal(call.exchange, refusal, figure_headers(figures))

    async def _send(
        self,
        exchange: Exchange,
        upstream: Upstream,
        terms: RouteTerms,
        path: str,
        body: bytes,
        shown: Shown,
        *,
        is_stream: bool,
    ) -> Connection:
        headers = to_provider(exchange.headers, own_account=shown.own_account, names_ours=(upstream.auth_header,))
        if not shown.own_account:
            headers += upstream.auth()
        accepted = first(exchange.headers, b"accept-encoding")
        packing = "identity" if is_stream or accepted is None else readable_codings(accepted.decode("latin-1"))
        lines = b"".join([b"%b: %b\r\n" % header for header in headers])
        target = upstream.target(path) + (b"?" + shown.query if shown.query else b"")
        request = b"%b %b HTTP/1.1\r\nhost: %b\r\n%baccept-encoding: %b\r\n" % (
            exchange.method.encode(), target, upstream.address.host_header, lines, packing.encode()
        )  # fmt: skip
        if body or exchange.method != "GET":
            request += b"content-length: %d\r\n" % len(body)
        return await self._pool.ask(
            upstream.address,
            request + b"\r\n",
            body,
            connect_seconds=upstream.terms.connect_timeout_seconds,
            silence_seconds=upstream.terms.read_timeout_seconds,
            total_seconds=terms.total_timeout_seconds,
        )

    async def _pass_free(
        self, exchange: Exchange, upstream: Upstream, terms: RouteTerms, path: str, body: bytes, shown: Shown
    ) -> None:
        """Pass on what costs nothing: lists, counts, and what a caller does in its own account."""
        exchange.request_id = exchange.request_id or self._new_request_id()
        try:
            connection = await self._send(exchange, upstream, terms, path, body, shown, is_stream=False)
        except UpstreamFailed as failure:
            exchange.notes["upstream"] = failure.why
            raise upstream_error(failure) from None
        try:
            headers = to_caller(connection.headers, own_account=shown.own_account)
            await exchange.begin(connection.status, [*headers, (b"x-tally-request-id", exchange.request_id.encode())])
            while data := await connection.next():
                await exchange.send(data)
            await exchange.send(b"", more=False)
        except UpstreamFailed as failure:
            exchange.notes["upstream"] = failure.why  # its caller sees that the answer does not end
        finally:
            self._pool.give_back(upstream.address, connection)


async def send_refusal(exchange: Exchange, refusal: Refusal, more: Sequence[tuple[bytes, bytes]] = ()) -> None:
    """Answer with a refusal."""
    headers = [(name.encode(), value.encode("latin-1")) for name, value in refusal.headers]
    told = [header for header in more if header[0] != b"x-tally-request-id"]
    await exchange.begin(refusal.status, [*headers, (b"x-tally-request-id", exchange.request_id.encode()), *told])
    await exchange.send(refusal.body, more=False)


async def whole_body(connection: Connection) -> bytes:
    """The whole body of an answer.

    Raises:
        UpstreamFailed: it broke off, or is larger than what is held back.
    """
    data = await connection.next()
    pieces = [data]
    size = len(data)
    while data:
        data = await connection.next()
        pieces.append(data)
        size += len(data)
        if size > ANSWER_BYTES_MAX:
            connection.abort()
            raise UpstreamFailed("garbage", f"the answer has more than {ANSWER_BYTES_MAX:,} bytes", sent=True)
    return pieces[0] if len(pieces) <= 2 else b"".join(pieces)


def _look(
    upstream: Upstream, path: str, query: str, body: bytes, *, method: str, content_type: str
) -> tuple[Asked, bytes]:
    """What a request asks for, and its body as it is sent on."""
    asked = asked_of(upstream.flavor, path, query, body, method=method, content_type=content_type)
    return asked, with_usage_asked(body) if _asks_usage(upstream, asked) else body


def _asks_usage(upstream: Upstream, asked: Asked) -> bool:
    """Whether the stream's usage is asked for here, where the caller did not."""
    return asked.stream and not asked.usage_asked and upstream.terms.ask_usage


def _is_streamed(asked: Asked, connection: Connection) -> bool:
    """Whether the answer is one that goes on bit by bit: a stream that was asked for, and no error."""
    if not 200 <= connection.status < 300:
        return False
    kind = (first(connection.headers, b"content-type") or b"").partition(b";")[0].strip().lower()
    return kind == b"text/event-stream" or (asked.stream and not asked.events)


def _check_asked(asked: Asked, path: str) -> None:
    if asked.deferred:
        raise unmetered(path)
    if asked.fault == "malformed_json":
        raise BadInput(
            "malformed_json", "the body is not a JSON object", next_step="send one JSON object, as the API takes it"
        )
    if asked.fault is not None:
        raise BadInput(
            "duplicate_key",
            "an object in the body names a member twice, and readers differ in which one they take",
            next_step="name each member once",
        )


def _check_packing(headers: Headers) -> None:
    packing = first(headers, b"content-encoding")
    if packing is not None and packing.strip().lower() not in (b"", b"identity"):
        raise BadInput(
            "unsupported_content_encoding",
            "the request's body is packed, so that what it asks for cannot be seen",
            next_step="send it without Content-Encoding",
            where="content-encoding",
        )
