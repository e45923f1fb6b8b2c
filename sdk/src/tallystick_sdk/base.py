"""What both clients share: settings, tags, the background sender, and what instruments other libraries."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tallystick_sdk import settings, wire
from tallystick_sdk.errors import BadRequest, TallyError
from tallystick_sdk.events import complete, new_id
from tallystick_sdk.http import Http
from tallystick_sdk.recordings import Recording, Stats
from tallystick_sdk.retry import Retry
from tallystick_sdk.sender import Sender
from tallystick_sdk.settings import SpoolPlace
from tallystick_sdk.spool import Refused, Spool, Waiting
from tallystick_sdk.tagging import checked, current_tags, headers_of_tags, merged, tags
from tallystick_sdk.work import Work, current_work

if TYPE_CHECKING:
    from tallystick_sdk.billing import Billable
    from tallystick_sdk.litellm import TallyLogger
    from tallystick_sdk.otel import TallySpanProcessor

log: Final = logging.getLogger("tallystick_sdk")
Client = TypeVar("Client")


class BaseTally:
    """See `Tally` and `AsyncTally`."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        retry: Retry | None = None,
        spool: SpoolPlace = None,
        spool_items_max: int = 100_000,
        spool_bytes_max: int = 256 * 1024 * 1024,
        fail_open: bool = False,
        on_refused: Callable[[Refused], None] | None = None,
        **default_tags: Any,
    ) -> None:
        """Begin. Nothing is asked of the server yet; what an earlier process left in the spool is sent from now on.

        Args:
            api_key: a key of the server's (`tally keys create`); else TALLY_API_KEY, else none.
            base_url: where the server is; else TALLY_BASE_URL, else http://127.0.0.1:8080.
            retry: how long and how often is tried.
            spool: the file of what waits to be sent; else one in TALLY_SPOOL_DIR or the user's state folder. False
                keeps it in memory only, and what is not sent when the process dies is lost.
            spool_items_max, spool_bytes_max: how much may wait there. What comes beyond it is dropped, and counted.
            fail_open: whether billable work is done when the server cannot be asked; its usage is recorded then, and
                nothing is charged for it.
            on_refused: called, in a thread of the sender, with what the server will never take.
            default_tags: of everything that it does: `org_id`, `feature`, `environment`, …; see `tagging.TAGS`.

        Raises:
            BadRequest: `invalid_base_url`, `invalid_api_key`.
            TypeError: a name that is no tag.
        """
        self.base_url = settings.base_url_of(base_url)
        key = settings.api_key_of(api_key)
        self.retry = retry or Retry()
        self.fail_open = fail_open
        self.default_tags = settings.defaults_of(default_tags)
        place = _usable(spool, self.base_url)
        self._spool = Spool(place, items_max=spool_items_max, bytes_max=spool_bytes_max)
        self.blocking_http = Http(self.base_url, key)
        self.sender = Sender(self._spool, self.blocking_http, on_refused=on_refused)
        self._open(key)
        self.sender.start_if_any_waits()
        weakref.finalize(self, self.sender.end_when_idle).atexit = False

    def _open(self, api_key: str | None) -> None:
        """What a kind of client needs besides."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r})"

    # ── whom it belongs to ──────────────────────────────────────────────────────────────────────────────────────────

    def tags(self, **given: Any) -> AbstractContextManager[None]:
        """Tags of everything that is authorized or recorded within a block; see `tallystick_sdk.tagging`."""
        return tags(**given)

    def members(self, *given: Mapping[str, Any]) -> dict[str, Any]:
        """The client's tags, the block's and those given, the later before the earlier."""
        return merged(self.default_tags, current_tags(), *given)

    def headers(self, **given: Any) -> dict[str, str]:
        """The tags as `x-tally-…` headers, for a call through the gateway: `extra_headers=tally.headers()`.

        Raises:
            TypeError: a name that is no tag.
            ValueError: a value that cannot stand in a header.
        """
        return headers_of_tags(self.members(checked(given)))

    # ── usage ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def record(self, event: Mapping[str, Any] | None = None, /, **members: Any) -> Recording:
        """Record a usage event. It returns at once and never raises: the event is on disk a moment later, and sent
        from there. Within billable work it is part of that work, and sent with its settlement.

        Args:
            event: members of the event, as `POST /v1/events` takes them.
            members: more of them, which go first: `model`, `meters`, `provider`, `request_id`, `time` (a datetime),
                `latency_ms`, `outcome`, `usage_status`, `provider_cost_usd`, the tags, and so on. What is left out is
                taken from the block's tags and the client's; `request_id` and `time` are made.

        Returns:
            What was recorded: `wait()` for it, or `await` it, to know that it is on disk; nobody has to.
        """
        return self.record_in(current_work(), event or {}, members)

    def record_in(self, work: Work | None, *given: Mapping[str, Any]) -> Recording:
        """As `record`, as part of work that need not be the context's; later members go before earlier ones."""
        try:
            return self._record(work, merged(*given))
        except Exception as error:
            known = error if isinstance(error, TallyError) else BadRequest("not_an_event", repr(error))
            recording = Recording(new_id(), known)
            self.sender.refused_here(recording, known)
            return recording

    def _record(self, work: Work | None, given: Mapping[str, Any]) -> Recording:
        whole = complete(merged(self.default_tags, current_tags(), given))
        item = Waiting("event", str(whole["org_id"]), str(whole["request_id"]), wire.encode(whole))
        if work is not None and work.take(whole):
            item = item._replace(due_at=work.alone_from)
        return self.sender.offer(item)

    def record_response(
        self, response: object, *, request: Mapping[str, Any] | None = None, provider: str | None = None, **members: Any
    ) -> list[Recording]:
        """Record what an answer of a provider used: of OpenAI's, Anthropic's or Gemini's APIs, or in their shapes.

        Args:
            response: the answer, as their client libraries give it or as decoded JSON.
            request: what was sent, for an estimate where the answer states no usage.
            provider: who answered; found out from the answer's shape when left out.
            members: as of `record`.

        Returns:
            One for each sampling that the provider bills on its own; nearly always one.
        """
        from tallystick_sdk.recorder import record_answer

        return record_answer(self, response, request=request or {}, provider=provider, members=members)

    def stats(self) -> Stats:
        """What became of what was recorded."""
        return self.sender.stats()

    def refused(self) -> list[Refused]:
        """What the server will never take, and why; kept in the spool, oldest first."""
        return self._spool.refused()

    # ── around other libraries ──────────────────────────────────────────────────────────────────────────────────────

    def instrument(self, client: Client, *, provider: str | None = None, **given: Any) -> Client:
        """Record what each call of an OpenAI or Anthropic client uses; see `tallystick_sdk.instrumenting`."""
        from tallystick_sdk.instrumenting import instrument_client

        return instrument_client(self, client, provider=provider, **given)

    def billable(self, action: str, **terms: Any) -> Billable:
        """Work that a customer is charged for: a decorator, and a context manager; see `tallystick_sdk.billing`."""
        from tallystick_sdk.billing import Billable

        return Billable(self, action, **terms)

    def litellm_logger(self, **given: Any) -> TallyLogger:
        """A callback for LiteLLM: `litellm.callbacks = [tally.litellm_logger()]`; see `tallystick_sdk.litellm`."""
        from tallystick_sdk.litellm import logger_for

        return logger_for(self, **given)

    def span_processor(self, **given: Any) -> TallySpanProcessor:
        """An OpenTelemetry span processor for the GenAI conventions; see `tallystick_sdk.otel`."""
        from tallystick_sdk.otel import TallySpanProcessor

        return TallySpanProcessor(self, **given)


def _usable(spool: SpoolPlace, base_url: str) -> Path | None:
    """The spool's file; None, and a warning, when its folder cannot be written: recording must not break the work."""
    try:
        path = settings.spool_path(spool, base_url)
        if path is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(path if path.exists() else path.parent, os.W_OK):
                raise PermissionError(f"{path} cannot be written")
    except (OSError, RuntimeError) as error:
        log.warning("no spool on disk (%s): what is not sent when this process dies is lost", error)
        return None
    return path
