"""An OpenTelemetry span processor: spans of the GenAI conventions (`gen_ai.*`) become usage events.

    provider = TracerProvider()
    provider.add_span_processor(tally.span_processor())

It reads spans of model calls: `chat`, `text_completion`, `generate_content`, `embeddings`. Spans of agents, tools and
workflows are passed over: what they state is the sum of the calls within, and would be counted twice. By the
conventions `gen_ai.usage.input_tokens` includes what was read from and written to caches, and
`gen_ai.usage.output_tokens` includes reasoning.

Tags are taken from the span (`tally.org_id`, `tally.user_id` and so on; `enduser.id`, `session.id` and
`gen_ai.conversation.id` too), from the tags of the block in which it was begun, and from the client's.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tallystick_sdk.providers import provider_named
from tallystick_sdk.recorder import Call
from tallystick_sdk.tagging import TAGS, checked, merged
from tallystick_sdk.usage.answers import Part, Used
from tallystick_sdk.usage.meters import disjoint
from tallystick_sdk.usage.reading import QUANTITY_MAX, UsageUnreadable

if TYPE_CHECKING:
    from tallystick_sdk.base import BaseTally

log: Final = logging.getLogger("tallystick_sdk")

OPERATIONS: Final = frozenset({"chat", "text_completion", "generate_content", "embeddings", "completion", "embedding"})
_CLASSES: Final = (
    ("in", ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")),
    ("out", ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")),
    ("cache_read", ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")),
    (
        "cache_write",
        (
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
        ),
    ),
    ("reasoning", ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_output_tokens")),
    ("audio_in", ("gen_ai.usage.audio.input_tokens",)),
    ("audio_out", ("gen_ai.usage.audio.output_tokens",)),
    ("image_in", ("gen_ai.usage.image.input_tokens",)),
    ("image_out", ("gen_ai.usage.image.output_tokens",)),
)
_TAG_ATTRIBUTES: Final = (
    ("user_id", ("enduser.pseudo.id", "enduser.id", "user.id")),
    ("session_id", ("session.id", "gen_ai.conversation.id")),
    ("environment", ("deployment.environment.name", "deployment.environment")),
)
_OPEN_MAX: Final = 20_000


class TallySpanProcessor:
    """See the module. It has the methods of `opentelemetry.sdk.trace.SpanProcessor`; nothing in it raises."""

    def __init__(self, tally: BaseTally, **tags: Any) -> None:
        """Begin: `tags` of all spans.

        Raises:
            TypeError: a name that is no tag.
        """
        self._tally = tally
        self._tags = dict(checked(tags))
        self._open: OrderedDict[tuple[int, int], Call] = OrderedDict()
        self._lock = threading.Lock()

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """A span begins; the tags and the work of the moment are its."""
        try:
            context = span.get_span_context()
            call = Call(self._tally, None, {}, {}, tags=self._tags, timed=False)
            with self._lock:
                self._open[context.trace_id, context.span_id] = call
                while len(self._open) > _OPEN_MAX:
                    self._open.popitem(last=False)
        except Exception:
            log.exception("a span could not be read")

    def on_end(self, span: Any) -> None:
        """A span has ended."""
        try:
            context = span.get_span_context()
            with self._lock:
                call = self._open.pop((context.trace_id, context.span_id), None)
            if _is_call(span.attributes or {}):
                self._record(span, call or Call(self._tally, None, {}, {}, tags=self._tags, timed=False))
        except Exception:
            log.exception("a span could not be recorded")

    def _on_ending(self, span: Any) -> None:
        """Part of the interface, before `on_end`: nothing."""

    def shutdown(self) -> None:
        """The tracer provider ends: what was recorded is sent."""
        self._tally.sender.flush(5.0)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what was recorded; whether all was."""
        return self._tally.sender.flush(timeout_millis / 1000)

    def _record(self, span: Any, call: Call) -> None:
        attributes: Mapping[str, Any] = span.attributes
        context = span.get_span_context()
        resource = getattr(getattr(span, "resource", None), "attributes", None) or {}
        named = attributes.get("gen_ai.provider.name") or attributes.get("gen_ai.system")
        call.provider = provider_named(str(named)) if named else None
        model = attributes.get("gen_ai.response.model") or attributes.get("gen_ai.request.model")
        call.request = {"model": model}
        call.members = merged(_tags_of(resource), call.members, _tags_of(attributes))
        call.members["request_id"] = f"otel-{context.trace_id:032x}-{context.span_id:016x}"
        call.members["time"] = datetime.fromtimestamp(span.end_time / 1e9, UTC)
        call.members["latency_ms"] = max(0, (span.end_time - span.start_time) // 1_000_000)
        failed = attributes.get("error.type")
        try:
            used = _used(attributes, str(model) if model else None)
        except UsageUnreadable as error:
            call.failed(f"the span's usage cannot be read: {error.detail}")
            return
        if used is None:
            if failed:
                call.failed(str(failed))
            else:
                log.warning("a span of a model call states no usage: nothing is recorded of it")
            return
        answer_id = attributes.get("gen_ai.response.id")
        call.used(used, answer_id=str(answer_id) if answer_id else None, **({"outcome": "failure"} if failed else {}))


def _is_call(attributes: Mapping[str, Any]) -> bool:
    operation = attributes.get("gen_ai.operation.name")
    if operation is not None:
        return operation in OPERATIONS
    # Instruments from before operations were named.
    return "gen_ai.system" in attributes and any(name in attributes for _, names in _CLASSES[:2] for name in names)


def _used(attributes: Mapping[str, Any], model: str | None) -> Used | None:
    stated: dict[str, int] = {}
    for name, keys in _CLASSES:
        value = next((attributes[key] for key in keys if attributes.get(key) is not None), None)
        if value is None:
            continue
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 0 <= value <= QUANTITY_MAX
            or value % 1
        ):
            raise UsageUnreadable("invalid_quantity", f"{value!r} is no quantity", where=keys[0])
        stated[name] = int(value)
    if "in" not in stated and "out" not in stated:
        return None
    tier = attributes.get("openai.response.service_tier") or attributes.get("gen_ai.openai.response.service_tier")
    context = {"service_tier": str(tier)} if tier and tier not in ("default", "auto", "standard") else {}
    return Used(model=model, parts=(Part(meters=disjoint(_whole(stated))),), price_context=context)


def _whole(stated: dict[str, int]) -> dict[str, int]:
    """Some instruments pass on a provider's own counts, which leave caches out of the input: then it is smaller than
    its parts, and the parts come on top.
    """
    cached = stated.get("cache_read", 0) + stated.get("cache_write", 0)
    return stated | {"in": stated.get("in", 0) + cached} if stated.get("in", 0) < cached else stated


def _tags_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, keys in _TAG_ATTRIBUTES:
        value = next((attributes[key] for key in keys if attributes.get(key)), None)
        if value is not None:
            found[name] = str(value)
    for name in TAGS:
        if name != "attributes" and attributes.get(f"tally.{name}"):
            found[name] = str(attributes[f"tally.{name}"])
    return found
