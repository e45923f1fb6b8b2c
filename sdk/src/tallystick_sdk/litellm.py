"""A callback for LiteLLM: what its calls use is recorded.

    litellm.callbacks = [tally.litellm_logger()]

It has the methods of LiteLLM's `CustomLogger`, and is one where LiteLLM is there: it looks at the class of what it
calls. It can also stand where LiteLLM takes a function (`litellm.success_callback`). Tags of one call stand in its
`metadata`, under their own names or as `tally_…`; what is not there is taken from the block's tags and the client's.
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
from tallystick_sdk.tagging import TAGS, checked
from tallystick_sdk.usage.reading import part, text

if TYPE_CHECKING:
    from tallystick_sdk.base import BaseTally

log: Final = logging.getLogger("tallystick_sdk")

_SEEN_MAX: Final = 20_000


class TallyLogger:
    """See the module. Nothing in it raises."""

    def __init__(self, tally: BaseTally, **tags: Any) -> None:
        """Begin: `tags` of all calls.

        Raises:
            TypeError: a name that is no tag.
        """
        self._tally = tally
        self._tags = dict(checked(tags))
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    # ── what LiteLLM calls ──────────────────────────────────────────────────────────────────────────────────────────

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call was answered."""
        try:
            self._answered(kwargs, response_obj, start_time, end_time)
        except Exception:
            log.exception("a call of LiteLLM could not be recorded")

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call has failed."""
        try:
            error = part(kwargs, "exception")
            status = getattr(error, "status_code", None)
            why = type(error).__name__ if error is not None else "LiteLLM reports a failure"
            members = self._members(kwargs, start_time, end_time)
            # A call that is tried again has the same id: a failure has one of its own.
            members.pop("request_id", None)
            self._call(kwargs, members).failed(f"{why} ({status})" if isinstance(status, int) else why)
        except Exception:
            log.exception("a failed call of LiteLLM could not be recorded")

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """As `log_success_event`, of `acompletion` and the like."""
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """As `log_failure_event`."""
        self.log_failure_event(kwargs, response_obj, start_time, end_time)

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """Before a call: nothing."""

    def log_post_api_call(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """After a call, whatever became of it: nothing."""

    def log_stream_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A chunk: nothing, since the whole stream comes as a success."""

    async def async_log_stream_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """As `log_stream_event`."""

    def __call__(self, kwargs: Any, completion_response: Any, start_time: Any, end_time: Any) -> None:
        """As a function in `litellm.success_callback`."""
        self.log_success_event(kwargs, completion_response, start_time, end_time)

    # ── what it means ───────────────────────────────────────────────────────────────────────────────────────────────

    def _answered(self, kwargs: Any, response: Any, start: Any, end: Any) -> None:
        if part(kwargs, "cache_hit") is True:
            return  # answered from LiteLLM's own cache: no provider was asked
        if part(kwargs, "stream") is True:
            whole = part(kwargs, "async_complete_streaming_response") or part(kwargs, "complete_streaming_response")
            if whole is None and part(response, "usage") is None:
                return  # a chunk of a stream; the whole comes at its end
            response = whole or response
        members = self._members(kwargs, start, end)
        if not self._is_first(members.get("request_id")):
            return  # LiteLLM may call the blocking and the other callback for the same call
        self._call(kwargs, members).answered(_Answer(kwargs, response))

    def _call(self, kwargs: Any, members: dict[str, Any]) -> Call:
        named = text(part(kwargs, "custom_llm_provider")) or text(
            part(part(kwargs, "litellm_params"), "custom_llm_provider")
        )
        request = {"model": _model(kwargs), "messages": part(kwargs, "messages"), "input": part(kwargs, "input")}
        provider = provider_named(named) if named else None
        return Call(self._tally, provider, request, members, tags=self._tags, timed=False)

    def _members(self, kwargs: Any, start: Any, end: Any) -> dict[str, Any]:
        found = _tags_in(part(part(kwargs, "litellm_params"), "metadata")) | _tags_in(part(kwargs, "metadata"))
        call_id = text(part(kwargs, "litellm_call_id"))
        if call_id and "request_id" not in found:
            found["request_id"] = f"litellm-{call_id}"
        if isinstance(end, datetime):
            found["time"] = end.astimezone(UTC)  # LiteLLM's are local times without a zone
            if isinstance(start, datetime):
                found["latency_ms"] = max(0, round((end - start).total_seconds() * 1000))
        return found

    def _is_first(self, request_id: Any) -> bool:
        if not isinstance(request_id, str):
            return True
        with self._lock:
            if request_id in self._seen:
                return False
            self._seen[request_id] = None
            if len(self._seen) > _SEEN_MAX:
                self._seen.popitem(last=False)
            return True


class _Answer:
    """An answer as LiteLLM has it, under the name that its provider gives the model."""

    def __init__(self, kwargs: Any, response: Any) -> None:
        self._response = response
        self.model = text(part(response, "model")) or _model(kwargs)

    def __getattr__(self, name: str) -> Any:
        return part(self._response, name)


def logger_for(tally: BaseTally, **tags: Any) -> TallyLogger:
    """A logger that LiteLLM takes for one of its own, where LiteLLM is installed."""
    try:
        from litellm.integrations.custom_logger import CustomLogger
    except ImportError:
        return TallyLogger(tally, **tags)
    return _of_litellm(CustomLogger)(tally, **tags)


def _of_litellm(base: type) -> type[TallyLogger]:
    def begin(self: Any, tally: BaseTally, **tags: Any) -> None:
        super(TallyLogger, self).__init__()
        TallyLogger.__init__(self, tally, **tags)

    return type("TallyCustomLogger", (TallyLogger, base), {"__init__": begin})


def _model(kwargs: Any) -> str | None:
    return text(part(kwargs, "model"))


def _tags_in(metadata: Any) -> dict[str, Any]:
    if not isinstance(metadata, Mapping):
        return {}
    names = (*TAGS, "request_id")
    found = {name: metadata[name] for name in names if isinstance(metadata.get(name), (str, Mapping))}
    ours = {
        name: metadata[f"tally_{name}"] for name in names if isinstance(metadata.get(f"tally_{name}"), (str, Mapping))
    }
    return found | ours
