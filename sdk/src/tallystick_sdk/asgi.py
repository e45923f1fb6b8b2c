"""ASGI middleware: an action for each route. It is authorized before the request is handled, and settled by the
answer's status before the answer is complete.

    app = TallyMiddleware(
        app,
        tally,
        actions={"POST /documents/{id}/tailor": Action("tailor_document", key="{id}")},
        identify=lambda scope: {"org_id": …, "user_id": …, "session_id": …},
    )

A denial is answered with 402, 403 or 429 as a problem document (RFC 9457), with the decision in it. The last bytes of
an answer wait until the settlement is written, so that whoever has all of it has been charged; when the server cannot
be reached, the settlement is kept on disk, and the answer goes out.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tallystick_sdk.errors import Denied, TallyError, Unavailable
from tallystick_sdk.settling import begin_async, end_async
from tallystick_sdk.tagging import checked, merged, tags
from tallystick_sdk.work import Entered, Work

if TYPE_CHECKING:
    from tallystick_sdk.base import BaseTally

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Identify = Callable[[Scope], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]


def outcome_of_status(status: int) -> str:
    """2xx and 3xx are a success, but 204 (nothing was found) is empty; the rest has failed."""
    if status == 204:
        return "empty"
    return "success" if status < 400 else "failure"


@dataclass(frozen=True)
class Action:
    """What a route does.

    Attributes:
        action: the contract's action.
        key: what it is done to (`work_key`): a template of the path's parameters, such as `"{id}"`; None for nothing.
        model, provider, meters: as of `Tally.authorize`.
        outcome: from the answer's status to `success`, `empty` or `failure`.
        tags: of this route.
    """

    action: str
    key: str | None = None
    model: str | None = None
    provider: str | None = None
    meters: Mapping[str, int] | None = None
    outcome: Callable[[int], str] = outcome_of_status
    tags: Mapping[str, Any] = field(default_factory=dict)


class TallyMiddleware:
    """See the module."""

    def __init__(
        self,
        app: App,
        tally: BaseTally,
        *,
        actions: Mapping[str, Action | str],
        identify: Identify | None = None,
    ) -> None:
        """Wrap an app.

        Args:
            app: any ASGI app.
            tally: either client; an `AsyncTally` needs no threads.
            actions: by `"METHOD /path/{parameter}"`; `{rest:path}` takes slashes too; `*` for any method. The first
                that fits is taken.
            identify: whose request it is: tags of a scope. They are also those of what is recorded in requests that
                are no action.

        Raises:
            ValueError: a route that is not written so.
        """
        self._app = app
        self._tally = tally
        self._identify = identify
        self._routes = [_Route(written, action) for written, action in actions.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        who = self._identify(scope) if self._identify is not None else {}
        known = checked(await who if inspect.isawaitable(who) else who)
        for route in self._routes:
            arguments = route.fits(scope)
            if arguments is not None:
                await self._bill(route.action, {**known, **route.members(arguments)}, scope, receive, send)
                return
        with tags(**known):
            await self._app(scope, receive, send)

    async def _bill(
        self, action: Action, members: Mapping[str, Any], scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            asked = merged(self._tally.members(), members)
            work = await begin_async(self._tally, asked, fail_open=self._tally.fail_open)
        except TallyError as error:
            await _refuse(send, error)
            return
        answer = _Answer(self._tally, work, action, send)
        entered = Entered(work)
        try:
            await self._app(scope, receive, answer.send)
        except BaseException as error:
            entered.leave()
            await answer.end(error)
            raise
        entered.leave()
        # An app that ends without an answer has failed.
        await answer.end(None if answer.is_ended else RuntimeError("there was no whole answer"))


class _Answer:
    """The answer on its way: its status is noted, and its end waits for the settlement."""

    def __init__(self, tally: BaseTally, work: Work, action: Action, send: Send) -> None:
        self._tally = tally
        self._work = work
        self._action = action
        self._send = send
        self.is_ended = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._work.outcome == "success":
            # What the handler itself has said of the work goes first.
            self._work.outcome = self._action.outcome(int(message["status"]))
        kind = message["type"]
        if kind == "http.response.pathsend":  # a file that the server sends by itself: an answer's end
            await self.end(None)
        if kind != "http.response.body" or message.get("more_body"):
            await self._send(message)
            return
        if message.get("body"):  # all but the end goes on at once
            await self._send({"type": "http.response.body", "body": message["body"], "more_body": True})
        await self.end(None)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def end(self, error: BaseException | None) -> None:
        """Settle, once."""
        if not self.is_ended:
            self.is_ended = True
            await end_async(self._tally, self._work, error)


_PARAMETER: Final = re.compile(r"\{(\w+)(:path)?\}")


class _Route:
    def __init__(self, written: str, action: Action | str) -> None:
        method, _, path = written.partition(" ")
        if not method.isupper() and method != "*":
            raise ValueError(f"{written!r} is no route; write it as 'POST /path/{{id}}'")
        if not path.startswith("/"):
            raise ValueError(f"{written!r} is no route; its path begins with /")
        self._method = method
        names = [match[1] for match in _PARAMETER.finditer(path)]
        pattern, end = "", 0
        for match in _PARAMETER.finditer(path):
            pattern += re.escape(path[end : match.start()]) + f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})"
            end = match.end()
        self._pattern = re.compile(pattern + re.escape(path[end:]))
        self.action = Action(action) if isinstance(action, str) else action
        for match in _PARAMETER.finditer(self.action.key or ""):
            if match[1] not in names:
                raise ValueError(f"{written!r} has no parameter {match[1]!r}, which its key names")

    def fits(self, scope: Scope) -> dict[str, str] | None:
        if self._method not in ("*", scope["method"]):
            return None
        match = self._pattern.fullmatch(scope["path"])
        return None if match is None else match.groupdict()

    def members(self, arguments: Mapping[str, str]) -> dict[str, Any]:
        one = self.action
        said: dict[str, Any] = {
            "action": one.action, "model": one.model, "provider": one.provider, "meters": one.meters, **one.tags,
        }  # fmt: skip
        if one.key is not None:
            said["work_key"] = one.key.format(**arguments)
        return {name: value for name, value in said.items() if value is not None}


async def _refuse(send: Send, error: TallyError) -> None:
    status = (error.status or 503) if isinstance(error, (Denied, Unavailable)) else 500
    problem: dict[str, Any] = {
        "type": f"urn:tallystick:error:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": status,
        "code": error.code,
        "detail": error.detail,
        "next_step": error.next_step,
    }
    headers = [(b"content-type", b"application/problem+json")]
    if isinstance(error, Denied):
        step = error.decision.next_step
        problem["decision"] = {
            "allow": False, "code": error.decision.code, "message": error.decision.message,
            "next_step": {"kind": step.kind, "text": step.text, "plan": step.plan, "model": step.model},
        }  # fmt: skip
    elif status == 500:  # our own fault, or our key's: nothing that a customer should read about
        problem |= {
            "code": "billing_failed",
            "detail": "it could not be asked whether this may be done",
            "next_step": "",
        }
    if error.retry_after_seconds is not None and status in (429, 503):
        headers.append((b"retry-after", str(math.ceil(error.retry_after_seconds)).encode()))
    body = json.dumps(problem, ensure_ascii=False).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
