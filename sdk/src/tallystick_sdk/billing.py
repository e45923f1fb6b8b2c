"""Billable work: authorize, do it, settle by its outcome, and give back what was held when it fails.

    @tally.billable("tailor_document", key="document_id")
    def tailor(document_id: str) -> str: ...

    with tally.billable("tailor_document", key=document.id) as work:
        if not found:
            work.outcome = "empty"

Usage that is recorded within the work (also by an instrumented client) is part of it: it is kept on disk at once, and
sent with the settlement; should the process die, it is sent by itself once the hold's life is over.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from tallystick_sdk.async_client import AsyncTally
from tallystick_sdk.client import Tally
from tallystick_sdk.settling import begin, begin_async, end, end_async
from tallystick_sdk.tagging import checked
from tallystick_sdk.work import Entered, Work
from tallystick_sdk.work_terms import Terms, bound_terms

if TYPE_CHECKING:
    from tallystick_sdk.base import BaseTally

Function = TypeVar("Function", bound=Callable[..., Any])
_ASYNC_ONLY: Final = "an AsyncTally is awaited: decorate an async function, or write async with"


class Billable:
    """See `BaseTally.billable`. As a context manager it is good for one block, as a decorator for every call."""

    def __init__(
        self,
        tally: BaseTally | None,
        action: str,
        *,
        key: Any = None,
        model: Any = None,
        meters: Any = None,
        provider: Any = None,
        request_id: Any = None,
        outcome: Callable[[Any], str] | None = None,
        fail_open: bool | None = None,
        **tags: Any,
    ) -> None:
        """Begin.

        Args:
            tally: the client; None for the default one when the work begins.
            action: the contract's action.
            key: what it is done to (`work_key`): doing it again may be free. Of a decorator the name of a parameter, a
                template of parameters (`"{job}:{document}"`), or a function of the call's arguments.
            model, meters, provider: as of `Tally.authorize`. `meters` is the most that it may take.
            request_id: of the hold; work begun twice under one id is one hold. Made when left out.
            outcome: of a decorator: from what the function returned to `success`, `empty` or `failure`.
            fail_open: whether to do the work when the server cannot be asked; else the client's setting.
            tags: whom it belongs to. Of a decorator `key` and all of these may be functions of the call's arguments.

        Raises:
            TypeError: a name that is no tag.
        """
        self._tally = tally
        self._terms = Terms(
            action=action, key=key, model=model, meters=meters, provider=provider, request_id=request_id,
            tags=checked(tags),
        )  # fmt: skip
        self._outcome = outcome
        self._fail_open = fail_open
        self._running: _Running | None = None

    # ── as a context manager ────────────────────────────────────────────────────────────────────────────────────────

    def __enter__(self) -> Work:
        self._running = running = self._begun_with(None)
        return running.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.__exit__()
            running.end(error)

    async def __aenter__(self) -> Work:
        self._running = running = await self._begun_async(None)
        return running.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.__exit__()
            await running.end_async(error)

    # ── as a decorator ──────────────────────────────────────────────────────────────────────────────────────────────

    def __call__(self, function: Function) -> Function:
        """The same function, billed by the call; also a generator's or an async one's.

        Raises:
            TypeError: `key` names no parameter of it, or an `AsyncTally` cannot be awaited in it.
        """
        bind = bound_terms(self._terms, function)
        if inspect.isasyncgenfunction(function):
            wrapped: Callable[..., Any] = self._async_generator(function, bind)
        elif inspect.iscoroutinefunction(function):
            wrapped = self._coroutine(function, bind)
        elif isinstance(self._tally, AsyncTally):
            raise TypeError(_ASYNC_ONLY)
        elif inspect.isgeneratorfunction(function):
            wrapped = self._generator(function, bind)
        else:
            wrapped = self._plain(function, bind)
        return cast(Function, functools.wraps(function)(wrapped))

    def _plain(self, function: Callable[..., Any], bind: _Bind) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            running = self._begun_with(bind(given, more))
            try:
                with running:
                    result = function(*given, **more)
                running.judge(self._outcome, result)
            except BaseException as error:
                running.end(error)
                raise
            running.end(None)
            return result

        return call

    def _coroutine(self, function: Callable[..., Any], bind: _Bind) -> Callable[..., Any]:
        async def call(*given: Any, **more: Any) -> Any:
            running = await self._begun_async(bind(given, more))
            try:
                with running:
                    result = await function(*given, **more)
                running.judge(self._outcome, result)
            except BaseException as error:
                await running.end_async(error)
                raise
            await running.end_async(None)
            return result

        return call

    def _generator(self, function: Callable[..., Any], bind: _Bind) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Generator[Any, Any, Any]:
            running = self._begun_with(bind(given, more))
            steps = function(*given, **more)
            step = functools.partial(steps.send, None)
            result: Any = None
            try:
                while True:
                    try:
                        with running:  # only while it runs: between its steps the context is its reader's
                            item = step()
                    except StopIteration as stop:
                        result = stop.value
                        running.judge(self._outcome, result)
                        break
                    try:
                        step = functools.partial(steps.send, (yield item))
                    except GeneratorExit:
                        with running:
                            steps.close()
                        raise
                    except BaseException as thrown:
                        step = functools.partial(steps.throw, thrown)
            except BaseException as error:
                running.end(error)
                raise
            running.end(None)
            return result

        return call

    def _async_generator(self, function: Callable[..., Any], bind: _Bind) -> Callable[..., Any]:
        async def call(*given: Any, **more: Any) -> AsyncGenerator[Any, Any]:
            running = await self._begun_async(bind(given, more))
            steps = function(*given, **more)
            step = functools.partial(steps.asend, None)
            try:
                while True:
                    try:
                        with running:
                            item = await step()
                    except StopAsyncIteration:
                        break
                    try:
                        step = functools.partial(steps.asend, (yield item))
                    except GeneratorExit:
                        with running:
                            await steps.aclose()
                        raise
                    except BaseException as thrown:
                        step = functools.partial(steps.athrow, thrown)
            except BaseException as error:
                await running.end_async(error)
                raise
            await running.end_async(None)

        return call

    # ── what they share ─────────────────────────────────────────────────────────────────────────────────────────────

    def _client(self) -> BaseTally:
        from tallystick_sdk.defaults import default_tally

        return self._tally or default_tally()

    def _begun_with(self, bound: Mapping[str, Any] | None) -> _Running:
        tally = self._client()
        if not isinstance(tally, Tally):
            raise TypeError(_ASYNC_ONLY)
        members = tally.members(self._terms.plain() if bound is None else bound)
        return _Running(tally, begin(tally, members, fail_open=self._opens(tally)))

    async def _begun_async(self, bound: Mapping[str, Any] | None) -> _Running:
        tally = self._client()
        members = tally.members(self._terms.plain() if bound is None else bound)
        return _Running(tally, await begin_async(tally, members, fail_open=self._opens(tally)))

    def _opens(self, tally: BaseTally) -> bool:
        return tally.fail_open if self._fail_open is None else self._fail_open


_Bind = Callable[[tuple[Any, ...], Mapping[str, Any]], Mapping[str, Any]]


_endings: set[asyncio.Future[None]] = set()
"""What is under way; the loop itself would forget it."""


class _Running:
    """One piece of work, from its hold to its end."""

    def __init__(self, tally: BaseTally, work: Work) -> None:
        self._tally = tally
        self._work = work
        self._entered: Entered | None = None

    def __enter__(self) -> Work:
        self._entered = Entered(self._work)
        return self._work

    def __exit__(self, *_: object) -> None:
        if self._entered is not None:
            self._entered.leave()
            self._entered = None

    def judge(self, outcome: Callable[[Any], str] | None, result: Any) -> None:
        if outcome is not None:
            self._work.outcome = outcome(result)

    def end(self, error: BaseException | None) -> None:
        assert isinstance(self._tally, Tally)  # noqa: S101  what began it
        end(self._tally, self._work, error)

    async def end_async(self, error: BaseException | None) -> None:
        # What is under way is finished though the caller is cancelled: a hold that is left open blocks a customer.
        ending = asyncio.ensure_future(end_async(self._tally, self._work, error))
        _endings.add(ending)
        ending.add_done_callback(_endings.discard)
        await asyncio.shield(ending)
