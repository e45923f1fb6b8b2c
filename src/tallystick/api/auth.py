"""Who calls: the key that a request under /v1 or for /metrics shows, found before anything of the request is read.

    Authorization: Bearer tk_…      checked whenever it is there, whether or not keys are needed
    anything else                   no key: enough where keys are not needed (`Settings.keys_are_needed`)

What a key is for, and for which org, is asked where the request's address is known (`access`). Requests that go a short
way pass neither: `Callers.caller` asks both questions for them, from memory, and sends whatever it cannot answer the
long way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send

from tallystick.api.problems import error_response
from tallystick.app.key_lookup import KeyLookup
from tallystick.app.keys import Key
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError
from tallystick.ledger.api_key import key_missing

KEY: Final = "tallystick.key"
"""Where a request's scope has the key that it has shown; None, or not there, when it has shown none."""
GUARDED: Final = ("/v1/", "/metrics")
"""What addresses begin with that keys guard. Others tell whether the server is well, and what it takes."""

SIGNED: Final = "/v1/payments/callbacks/"
"""What addresses begin with where no key is shown: a payment provider signs what it sends there."""

_PREFIX: Final = "tk_"


class Caller(NamedTuple):
    """Who may go a short way.

    Attributes:
        key_id: of the key that was shown; None where none is needed, and none was.
        org_id: the one org that the request may be about; None: any.
    """

    key_id: str | None
    org_id: str | None


ANYBODY: Final = Caller(None, None)


class Callers:
    """Finds out who calls, in one process."""

    def __init__(self, runtime: Runtime, lookup: KeyLookup) -> None:
        self._keys = runtime.keys
        self._runtime = runtime
        self._needed = runtime.settings.keys_are_needed
        self._lookup = lookup

    def token_of(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """What is shown as a key; None when nothing is that we should look at. Names of headers are in lower case."""
        shown: str | None = None
        for name, value in headers:
            if name == b"authorization":
                if shown is not None:  # which of them is meant is not guessed
                    return ""
                shown = value.decode("latin-1")
        if shown is None:
            return None
        kind, _, token = shown.partition(" ")
        token = token.strip()
        # Where no key is needed, what a proxy asks of its own callers may come along with it.
        if kind.lower() == "bearer" and (self._needed or token.startswith(_PREFIX)):
            return token
        return None

    def caller(self, token: str | None, scope: str) -> Caller | None:
        """Who may go a short way, by what is in memory; None: to be asked the long way.

        Args:
            token: as `token_of` gives it.
            scope: what the way needs a key to be for.
        """
        if token is None:
            return None if self._needed else ANYBODY
        key = self._keys.known(token, self._runtime.clock())
        if key is None or not key.may(scope):
            return None
        return Caller(key.key_id, key.org_id)

    async def find(self, token: str | None) -> Key | None:
        """The key of a request; None where it has shown none, and none is needed.

        Raises:
            Unauthorized: `key_missing`, `key_unknown`, `key_revoked`, `key_expired`.
            Unavailable: the key is not in memory, and the database cannot be asked.
        """
        if token is None:
            if self._needed:
                raise key_missing()
            return None
        return await self._lookup.find(token)


class Authentication:
    """A layer around the application: who calls what is guarded has shown a key that is taken, or needs none."""

    def __init__(self, app: ASGIApp, callers: Callers) -> None:
        self._app = app
        self._callers = callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] == "http" and scope["path"].startswith(GUARDED)
        if guarded and not scope["path"].startswith(SIGNED):
            try:
                scope[KEY] = await self._callers.find(self._callers.token_of(scope["headers"]))
            except TallyError as error:
                await error_response(error, scope.get("request_id", ""))(scope, receive, send)
                return
        await self._app(scope, receive, send)
