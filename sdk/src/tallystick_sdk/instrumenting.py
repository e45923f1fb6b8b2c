"""`tally.instrument(OpenAI())`: what each call uses is recorded, without the gateway.

    client = tally.instrument(OpenAI())
    with tally.tags(org_id="acme", user_id="u-17", session_id="s-4"):
        client.chat.completions.create(model="gpt-4o-mini", messages=[…])

The official `openai` and `anthropic` clients (of Azure, Bedrock and Vertex too), blocking and not, streaming, helpers
and raw responses included, send every call through one method, `request`; that is where they are read along. Of other
libraries the methods that are usual are: `chat.completions.create`, `messages.create`, `models.generate_content`, ….

The client is changed in place and given back; clients that are made from it (`with_options`) are recorded as well.
Nothing of a prompt or an answer is kept. Neither library is imported here.
"""

from __future__ import annotations

import inspect
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tallystick_sdk.errors import BadRequest
from tallystick_sdk.providers import provider_named, provider_of_client
from tallystick_sdk.recorder import Call
from tallystick_sdk.tagging import checked, tags_of_headers
from tallystick_sdk.usage.answers import Part, Used
from tallystick_sdk.usage.estimates import estimated, prompt_bytes
from tallystick_sdk.usage.reading import items_of, part, text, word
from tallystick_sdk.usage.shapes import shape_of
from tallystick_sdk.watching import BodySink, StreamSink, WatchedStream, watch_response

if TYPE_CHECKING:
    from tallystick_sdk.base import BaseTally

log: Final = logging.getLogger("tallystick_sdk")
Client = TypeVar("Client")

_METERED: Final = (
    "/chat/completions", "/completions", "/responses", "/responses/compact", "/embeddings", "/images/generations",
    "/images/edits", "/images/variations", "/audio/transcriptions", "/audio/translations", "/audio/speech", "/messages",
)  # fmt: skip
"""Where calls are billed; everything else that clients ask (models, files, batches, counting tokens) is not."""

_METHODS: Final = (
    "chat.completions.create", "completions.create", "responses.create", "embeddings.create", "images.generate",
    "messages.create", "models.generate_content", "models.generate_content_stream", "models.embed_content",
    "aio.models.generate_content", "aio.models.generate_content_stream", "aio.models.embed_content",
)  # fmt: skip
_PENDING_MAX: Final = 10_000
_MARK: Final = "_tallystick_instrument"


def instrument_client(
    tally: BaseTally, client: Client, *, provider: str | None = None, ask_usage: bool = True, **tags: Any
) -> Client:
    """Record what each call of a client uses, from now on.

    Args:
        tally: what records.
        client: of `openai`, `anthropic`, or one in their shape.
        provider: whose models it calls; found out from its address or its class when left out.
        ask_usage: ask for the usage of chat streams where the caller does not, and keep the chunk that states it from
            the caller; without it such streams are estimated.
        tags: of all its calls; those of a block or of `x-tally-…` in `extra_headers` of one call go before them.

    Returns:
        The same client.

    Raises:
        BadRequest: `through_gateway`, for a client that calls the gateway of the same server, which records it.
        TypeError: there is nothing in it that could be recorded, or a name is no tag.
    """
    if getattr(client, _MARK, None) is not None:
        return client
    address = str(getattr(client, "base_url", "") or "")
    if address and (address.rstrip("/") + "/").startswith(tally.base_url + "/"):
        raise BadRequest(
            "through_gateway",
            "this client calls the gateway, which records its calls; they would be counted twice",
            next_step="use it as it is",
        )
    known = provider_named(provider) if provider else provider_of_client(client)
    watcher = _Watcher(tally, known, dict(checked(tags)), ask_usage=ask_usage)
    if callable(getattr(client, "request", None)) and hasattr(client, "base_url"):
        watcher.wrap_request(client)
    elif not watcher.wrap_methods(client):
        raise TypeError(f"{type(client).__name__} is no client whose calls can be recorded")
    setattr(client, _MARK, watcher)
    return client


class _Watcher:
    """What is recorded of one client's calls, and for whom."""

    def __init__(self, tally: BaseTally, provider: str | None, tags: Mapping[str, Any], *, ask_usage: bool) -> None:
        self._tally = tally
        self._provider = provider
        self._tags = tags
        self._ask_usage = ask_usage
        self._pending: OrderedDict[str, Call] = OrderedDict()

    # ── the official clients ────────────────────────────────────────────────────────────────────────────────────────

    def wrap_request(self, client: Any) -> None:
        """Read along every request of a client."""
        inner = client.request

        def request(cast_to: Any, options: Any, *rest: Any, **more: Any) -> Any:
            begun = self._begin(options, stream=bool(more.get("stream")))
            try:
                try:
                    result = inner(cast_to, options, *rest, **more)
                except Exception as error:
                    if not self._asks_too_much(begun, options, error):
                        raise
                    result = inner(cast_to, options, *rest, **more)
            except BaseException as error:
                self._failed(begun, error)
                raise
            return self._answered(begun, options, result)

        async def arequest(cast_to: Any, options: Any, *rest: Any, **more: Any) -> Any:
            begun = self._begin(options, stream=bool(more.get("stream")))
            try:
                try:
                    result = await inner(cast_to, options, *rest, **more)
                except Exception as error:
                    if not self._asks_too_much(begun, options, error):
                        raise
                    result = await inner(cast_to, options, *rest, **more)
            except BaseException as error:
                self._failed(begun, error)
                raise
            return self._answered(begun, options, result)

        client.request = arequest if inspect.iscoroutinefunction(inner) else request
        for name in ("copy", "with_options"):
            made = getattr(client, name, None)
            if callable(made):
                setattr(client, name, self._instrumented(made))

    def _instrumented(self, made: Callable[..., Any]) -> Callable[..., Any]:
        def copy(*given: Any, **more: Any) -> Any:
            other = made(*given, **more)
            known = provider_of_client(other) if "base_url" in more else self._provider
            watcher = _Watcher(self._tally, known, self._tags, ask_usage=self._ask_usage)
            watcher.wrap_request(other)
            setattr(other, _MARK, watcher)
            return other

        return copy

    def _begin(self, options: Any, *, stream: bool) -> _Begun | None:
        try:
            headers = part(options, "headers")
            path = str(part(options, "url") or "").partition("?")[0].rstrip("/")
            said: dict[str, Any] = {}
            if isinstance(headers, Mapping):
                said = tags_of_headers(headers)
                if said:  # they are for us, and not for the provider
                    options.headers = {key: value for key, value in headers.items() if not _is_ours(key)}
            if word(part(options, "method")) != "post" or not _is_metered(path):
                return None
            body = part(options, "json_data")
            body = body if isinstance(body, Mapping) else {}
            extra = part(options, "extra_json")
            request = {**body, **extra} if isinstance(extra, Mapping) else body
            hides = stream and self._ask_usage and path.endswith("/completions") and not _asks_usage(request)
            if hides:
                asked = {**(body.get("stream_options") or {}), "include_usage": True}
                options.json_data = {**body, "stream_options": asked}
            return _Begun(self._call(request, said), path, stream=stream, hides_usage=hides)
        except Exception:
            log.exception("a call could not be read along")
            return None

    def _asks_too_much(self, begun: _Begun | None, options: Any, error: Exception) -> bool:
        """Whether the provider does not know what we have added to the request; it is taken out again, for good."""
        if begun is None or not begun.hides_usage or getattr(error, "status_code", None) not in (400, 422):
            return False
        if "stream_options" not in str(error):
            return False
        self._ask_usage = begun.hides_usage = False
        options.json_data = {key: value for key, value in options.json_data.items() if key != "stream_options"}
        if begun.call.request.get("stream_options") is not None:
            options.json_data["stream_options"] = begun.call.request["stream_options"]
        return True

    def _call(self, request: Mapping[str, Any], said: Mapping[str, Any]) -> Call:
        return Call(self._tally, self._provider, request, said, tags=self._tags)

    def _answered(self, begun: _Begun | None, options: Any, result: Any) -> Any:
        try:
            if begun is None:
                self._maybe_finished(options, result)
                return result
            return self._watch(begun, result)
        except Exception:
            log.exception("what a call used could not be recorded")
            return result

    def _watch(self, begun: _Begun, result: Any) -> Any:
        raw = getattr(result, "http_response", None)
        response = raw if raw is not None else getattr(result, "response", None) if begun.is_stream else None
        if begun.is_speech:  # billed by its text; sound states nothing
            self._whole(begun, result)
            return result
        if response is not None and hasattr(response, "iter_bytes"):
            if getattr(response, "is_stream_consumed", False):
                self._whole(begun, response.json() if raw is not None else result)
                return result
            if begun.is_stream and raw is None and "amazon.eventstream" in str(response.headers.get("content-type")):
                return WatchedStream(result, StreamSink(begun.call, hides_usage=False))  # Bedrock's own framing
            is_events = "event-stream" in str(response.headers.get("content-type", ""))
            streamed = begun.is_stream or is_events
            sink = StreamSink(begun.call, hides_usage=begun.hides_usage) if streamed else BodySink(begun.call)
            watch_response(response, sink)
            return result
        if begun.is_stream:
            return WatchedStream(result, StreamSink(begun.call, hides_usage=begun.hides_usage))
        self._whole(begun, result)
        return result

    def _whole(self, begun: _Begun, answer: Any) -> None:
        call = begun.call
        if word(part(answer, "status")) in ("queued", "in_progress") and text(part(answer, "id")):
            # A response in the background states its usage when it is asked for later.
            self._pending[str(part(answer, "id"))] = call
            while len(self._pending) > _PENDING_MAX:
                self._pending.popitem(last=False)
        elif begun.is_speech:
            count = len(str(call.request.get("input") or ""))
            call.used(Used(model=None, parts=(Part(meters={"characters_in": count}),), status="estimated"))
        elif "/images/" in begun.path and shape_of(answer) is None and part(answer, "data") is not None:
            count = len(items_of(part(answer, "data")))
            call.used(Used(model=None, parts=(Part(meters={"images_generated": count}),)))
        else:
            call.answered(answer)

    def _maybe_finished(self, options: Any, result: Any) -> None:
        if not self._pending or "/responses/" not in str(part(options, "url") or ""):
            return
        answer_id = text(part(result, "id"))
        if answer_id in self._pending and word(part(result, "status")) not in ("queued", "in_progress"):
            self._pending.pop(str(answer_id)).answered(result)

    def _failed(self, begun: _Begun | None, error: BaseException) -> None:
        try:
            if begun is None:
                return
            status = getattr(error, "status_code", None)
            name = type(error).__name__  # and nothing of its text, which may quote the prompt or a key
            if isinstance(status, int):
                begun.call.failed(f"{name} ({status})")
            elif isinstance(error, Exception) and "timeout" not in name.lower():
                begun.call.failed(name)
            else:
                # The provider may well have read the prompt, and charge it.
                guess = estimated(text(begun.call.request.get("model")), prompt_bytes(begun.call.request), 0)
                begun.call.used(guess, outcome="failure")
        except Exception:
            log.exception("a failed call could not be recorded")

    # ── others ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def wrap_methods(self, client: Any) -> bool:
        """Read along the usual methods of a client; whether it has any."""
        found = False
        for path in _METHODS:
            *owners, name = path.split(".")
            owner = client
            for one in owners:
                owner = getattr(owner, one, None)
            method = getattr(owner, name, None)
            if callable(method):
                setattr(owner, name, self._wrapped(method, is_stream=name.endswith("_stream")))
                found = True
        return found

    def _wrapped(self, method: Callable[..., Any], *, is_stream: bool) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            begun = self._begin_method(more, is_stream=is_stream or more.get("stream") is True)
            try:
                result = method(*given, **more)
            except BaseException as error:
                self._failed(begun, error)
                raise
            return waited(begun, result) if inspect.isawaitable(result) else self._answered(begun, None, result)

        async def waited(begun: _Begun | None, result: Any) -> Any:
            try:
                answer = await result
            except BaseException as error:
                self._failed(begun, error)
                raise
            return self._answered(begun, None, answer)

        return call

    def _begin_method(self, more: dict[str, Any], *, is_stream: bool) -> _Begun:
        headers = more.get("extra_headers")
        said: dict[str, Any] = {}
        if isinstance(headers, Mapping):
            said = tags_of_headers(headers)
            more["extra_headers"] = {key: value for key, value in headers.items() if not _is_ours(key)}
        return _Begun(self._call(more, said), "", stream=is_stream, hides_usage=False)


class _Begun:
    """A call that is under way."""

    def __init__(self, call: Call, path: str, *, stream: bool, hides_usage: bool) -> None:
        self.call = call
        self.path = path
        self.is_stream = stream
        self.is_speech = path.endswith("/audio/speech")
        self.hides_usage = hides_usage


def _is_metered(path: str) -> bool:
    return path.endswith(_METERED) and "/threads/" not in path


def _is_ours(header: Any) -> bool:
    return str(header).lower().startswith("x-tally-")


def _asks_usage(request: Mapping[str, Any]) -> bool:
    options = request.get("stream_options")
    return isinstance(options, Mapping) and options.get("include_usage") is True
