"""Asking the server: one blocking way and one for event loops, with the same attempts and deadlines."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from typing import Any

import httpx2

from tallystick_sdk import wire
from tallystick_sdk.errors import TallyError
from tallystick_sdk.retry import Attempts, Retry
from tallystick_sdk.wire import Call


class Http:
    """Blocking; safe to share between threads, and after a fork."""

    def __init__(self, base_url: str, api_key: str | None) -> None:
        self.base_url = base_url
        self._headers = wire.headers(api_key)
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None
        _blocking.add(self)

    def ask(self, call: Call, retry: Retry) -> Any:
        """The decoded answer; the call is sent again while that may help and there is time.

        Raises:
            TallyError: what the server says, or that it cannot be reached.
        """
        attempts = Attempts(retry)
        while True:
            try:
                return self.ask_once(call, attempts.timeout_seconds())
            except TallyError as error:
                time.sleep(attempts.seconds_until_next(error))

    def ask_once(self, call: Call, timeout_seconds: float) -> Any:
        """One attempt.

        Raises:
            TallyError: as `ask`.
        """
        try:
            answer = self._opened().request(
                call.method, self.base_url + call.path, content=call.body, timeout=timeout_seconds
            )
        except (httpx2.RequestError, OSError) as error:
            raise wire.unreachable(error, self.base_url) from error
        return wire.answer_of(answer.status_code, answer.headers, answer.content)

    def close(self) -> None:
        """Let connections go; the next call opens them again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def after_fork_in_child(self) -> None:
        """The connections are the parent's, and the lock may be anybody's."""
        self._lock = threading.Lock()
        self._client = None

    def _opened(self) -> httpx2.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx2.Client(headers=self._headers)
            return self._client


_blocking: weakref.WeakSet[Http] = weakref.WeakSet()


def _forked() -> None:
    for http in list(_blocking):
        http.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class AsyncHttp:
    """For event loops; connections belong to the loop that they were opened in."""

    def __init__(self, base_url: str, api_key: str | None) -> None:
        self.base_url = base_url
        self._headers = wire.headers(api_key)
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx2.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

    async def ask(self, call: Call, retry: Retry) -> Any:
        """As `Http.ask`."""
        attempts = Attempts(retry)
        while True:
            try:
                return await self.ask_once(call, attempts.timeout_seconds())
            except TallyError as error:
                await asyncio.sleep(attempts.seconds_until_next(error))

    async def ask_once(self, call: Call, timeout_seconds: float) -> Any:
        """As `Http.ask_once`."""
        try:
            answer = await self._opened().request(
                call.method, self.base_url + call.path, content=call.body, timeout=timeout_seconds
            )
        except (httpx2.RequestError, OSError) as error:
            raise wire.unreachable(error, self.base_url) from error
        return wire.answer_of(answer.status_code, answer.headers, answer.content)

    async def close(self) -> None:
        """Let the connections of the running loop go."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _opened(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = httpx2.AsyncClient(headers=self._headers)
        return client
