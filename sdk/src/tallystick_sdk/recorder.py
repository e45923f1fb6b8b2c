"""From answers of providers to usage events: what every instrument of this library ends in. It never raises."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from tallystick_sdk.events import new_id
from tallystick_sdk.providers import provider_named
from tallystick_sdk.tagging import current_tags, merged
from tallystick_sdk.usage.answers import Used, refusal_in, used_by
from tallystick_sdk.usage.estimates import estimate_of
from tallystick_sdk.usage.reading import UsageUnreadable, part, text
from tallystick_sdk.work import current_work

if TYPE_CHECKING:
    from tallystick_sdk.base import BaseTally
    from tallystick_sdk.recordings import Recording

log: Final = logging.getLogger("tallystick_sdk")


class Call:
    """A call of a provider's API that is under way.

    Attributes:
        members: of the events that it will be, as far as they are known before: tags, request id.
        work: what it is part of.
    """

    def __init__(
        self,
        tally: BaseTally,
        provider: str | None,
        request: Mapping[str, Any],
        members: Mapping[str, Any],
        *,
        tags: Mapping[str, Any] | None = None,
        timed: bool = True,
    ) -> None:
        self.tally = tally
        self.provider = provider
        self.request = request
        # Tags and work are those of the call: a stream may be read to its end somewhere else.
        self.work = current_work()
        self.members = merged(tally.default_tags, tags or {}, current_tags(), members)
        self._began = time.monotonic() if timed else None

    def answered(self, answer: Any) -> list[Recording]:
        """The provider has answered, all at once."""
        try:
            refusal = refusal_in(answer)
            if refusal is not None:
                return self.failed(refusal)
            used = used_by(answer, self.provider)
        except UsageUnreadable as error:
            log.error("what an answer used is estimated: %s", error)  # noqa: TRY400
            used = estimate_of(answer, self.request)
        return self.used(used, answer_id=text(part(answer, "id")) or text(part(answer, "responseId")))

    def used(self, used: Used, *, answer_id: str | None = None, **more: Any) -> list[Recording]:
        """It is known what the call used."""
        request_id = self.members.get("request_id") or new_id()
        found = []
        for number, one in enumerate(used.parts):
            members = {
                "request_id": request_id if number == 0 else f"{request_id}~{number + 1}",
                "provider": self.provider,
                "model": one.model or used.model or text(self.request.get("model")),
                "meters": dict(one.meters),
                "usage_status": used.status,
                "price_context": dict(used.price_context) or None,
                # One cost for all of it: the first part has it, and the others come on top with nothing.
                "provider_cost_pico": used.provider_cost_pico if number == 0 or used.provider_cost_pico is None else 0,
                "attributes": {"provider_request_id": answer_id} if answer_id else None,
            }
            found.append(self._record(members | more))
        return found

    def failed(self, why: str) -> list[Recording]:
        """The provider has refused, or did not answer: nothing was used, as far as anybody can tell."""
        members = {
            "request_id": self.members.get("request_id") or new_id(),
            "provider": self.provider,
            "model": text(self.request.get("model")),
            "meters": {},
            "outcome": "failure",
            "attributes": {"error": why},
        }
        return [self._record(members)] if members["model"] else []

    def _record(self, members: Mapping[str, Any]) -> Recording:
        took = {} if self._began is None else {"latency_ms": max(0, round((time.monotonic() - self._began) * 1000))}
        return self.tally.record_in(self.work, took, self.members, members)


def record_answer(
    tally: BaseTally, answer: Any, *, request: Mapping[str, Any], provider: str | None, members: Mapping[str, Any]
) -> list[Recording]:
    """As `Tally.record_response`."""
    known = provider_named(provider) if provider else _provider_of_shape(answer)
    return Call(tally, known, request, members, timed=False).answered(answer)


def _provider_of_shape(answer: Any) -> str | None:
    from tallystick_sdk.usage.shapes import GEMINI, MESSAGES, shape_of

    shape = shape_of(answer)
    if shape is None:
        return None
    return {GEMINI.name: "google", MESSAGES.name: "anthropic", "converse": "aws", "cohere": "cohere"}.get(
        shape.name, "openai"
    )
