"""The application: routes of the control plane, the route that events come in by, and what surrounds them all.

    Linger                an early answer reaches a caller who is still sending
      Gateway             calls of models and tools, by the first part of their path
      RequestLog          request id, log line, last resort for what nobody foresaw
        Authentication    the key that is shown, where one is
          FastAPI         addresses, parameters, what keys are for (`access`), problem documents
            /v1/events    a plain route: a body of thousands of events is read without models
            all others    typed routes, one module for each subject

The journal is synchronous: everything that touches it runs in a bounded pool of threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import structlog
from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from tallystick import __version__
from tallystick.api import (
    accounts,
    alerts,
    audit,
    billing,
    checkpoints,
    contracts,
    costs,
    decisions,
    disputes,
    events,
    find,
    health,
    invoice_credits,
    invoices,
    metrics,
    orgs,
    payments,
    quotes,
    rates,
    rollups,
    sla,
    versions,
    wallets,
    webhooks,
)
from tallystick.api.access import allow
from tallystick.api.auth import Authentication, Callers
from tallystick.api.context import refuse_nul
from tallystick.api.decisions import ADDRESSES, ShortOperations
from tallystick.api.event_schema import EVENTS_PATH
from tallystick.api.linger import Linger
from tallystick.api.logs import LineBuffer
from tallystick.api.openapi import completed
from tallystick.api.problems import (
    answer_http_exception,
    answer_tally_error,
    answer_unexpected,
    answer_validation_error,
)
from tallystick.api.request_log import RequestLog
from tallystick.api.short_ways import ShortWay, ShortWays
from tallystick.api.single_events import SingleEvents
from tallystick.app.body_budget import BodyBudget
from tallystick.app.key_lookup import KeyLookup
from tallystick.app.loop_inbox import LoopInbox
from tallystick.app.peers import Peers, Place
from tallystick.app.rates_watch import RatesWatch
from tallystick.app.runtime import Runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import TallyError
from tallystick.gateway.app import Gateway

BODIES_IN_MEMORY = 4
"""How many bodies of the largest size may be in memory at once."""
CONTROL_THREADS = 8
INGEST_THREADS = 4
"""Together no more than the database's pool has connections; more would only wait for one."""

RATES_LOOK_SECONDS = 30
"""How long a rate card that was added beside a running server may stay unknown to it."""

_log = structlog.get_logger("tallystick.api")


def create_app(runtime: Runtime, place: Place | None = None) -> ASGIApp:
    """The application over an open runtime, ready for any ASGI server.

    Args:
        runtime: an open one.
        place: which of several workers this is; None for one that is alone.
    """
    api = build_api(runtime.settings)
    api.state.runtime = runtime
    api.state.place = place
    lookup = KeyLookup(runtime)
    gateway = api.state.gateway = Gateway(runtime, api.state.body_budget, lookup)
    callers = api.state.callers = Callers(runtime, lookup)
    return Linger(_Front(gateway, RequestLog(Authentication(api, callers))))


class _Front:
    """What the gateway takes goes there, everything else to the API."""

    def __init__(self, gateway: Gateway, api: ASGIApp) -> None:
        self._gateway = gateway
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._gateway.takes(scope["path"]):
            await self._gateway(scope, receive, send)
        else:
            await self._api(scope, receive, send)


@cache
def openapi_document() -> dict[str, Any]:
    """The OpenAPI document, which nobody may change; it needs no runtime and depends on nothing that an operator sets.

    It is worked out once in a process, as the routes are: a second in which a server answers nobody else.
    """
    return completed(FastAPI.openapi(build_api(Settings(data_dir="/"))))


def build_api(settings: Settings) -> FastAPI:
    """All routes and handlers, without a runtime."""
    api = FastAPI(
        title="Tallystick",
        version=__version__,
        docs_url=None,  # its page would load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_running,
        exception_handlers={
            TallyError: answer_tally_error,
            HTTPException: answer_http_exception,
            RequestValidationError: answer_validation_error,
            Exception: answer_unexpected,
        },
    )
    api.state.body_budget = BodyBudget(BODIES_IN_MEMORY * settings.body_bytes_max)
    api.state.ingest_limiter = anyio.CapacityLimiter(INGEST_THREADS)
    api.state.callback_limiter = anyio.CapacityLimiter(payments.CALLBACKS_AT_ONCE)
    api.state.callback_budget = BodyBudget(payments.CALLBACK_BYTES_ALL)
    api.add_route(EVENTS_PATH, events.post_events, methods=["POST"], include_in_schema=False)
    api.router.routes.extend(_routes())
    api.openapi = openapi_document  # type: ignore[method-assign]
    return api


@cache
def _routes() -> tuple[BaseRoute, ...]:
    """Every route of the modules. What each takes and answers is worked out once in a process, and not again for each
    application: it takes longer than thousands of requests.
    """
    whole = FastAPI(openapi_url=None, dependencies=[Depends(refuse_nul), Depends(allow)])
    for module in (
        decisions,
        billing,
        invoice_credits,
        disputes,
        payments,
        invoices,
        checkpoints,
        accounts,
        wallets,
        rollups,
        alerts,
        sla,
        orgs,
        find,
        contracts,
        quotes,
        rates,
        costs,
        versions,
        health,
        metrics,
        audit,
        webhooks,
    ):
        whole.include_router(module.router)
    return tuple(whole.routes)


@asynccontextmanager
async def _running(api: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """While the server runs: threads are bounded, and newer rate cards are looked for.

    What is given to the server are the short ways, which its protocol takes before any route.
    """
    # The routes that are plain functions run in the framework's pool, which is this one.
    anyio.to_thread.current_default_thread_limiter().total_tokens = CONTROL_THREADS
    runtime: Runtime = api.state.runtime
    runtime.keys.start()
    await anyio.to_thread.run_sync(runtime.known_meters)  # what asks the database is asked before anybody waits
    log = LineBuffer(asyncio.get_running_loop())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch_rates, RatesWatch(runtime))
        inbox = LoopInbox(asyncio.get_running_loop())
        peers = await _meet_peers(runtime, api.state.place, inbox)
        gateway: Gateway = api.state.gateway
        await gateway.start(inbox, lambda line: log.add(msgspec.Raw(line)))
        operations = [ShortOperations(address, runtime, inbox) for address in ADDRESSES]
        ways: list[ShortWay] = [SingleEvents(runtime, inbox), *operations]
        body_bytes_max = runtime.settings.body_bytes_max
        yield {"short_ways": ShortWays(ways, log, body_bytes_max=body_bytes_max, callers=api.state.callers)}
        await gateway.stop()
        if peers is not None:
            runtime.operations.elsewhere = None
            await peers.stop()
        log.flush()
        tasks.cancel_scope.cancel()


async def _meet_peers(runtime: Runtime, place: Place | None, inbox: LoopInbox) -> Peers | None:
    if place is None:
        return None
    peers = Peers(place, runtime.operations.submit_here, inbox)
    await peers.start()
    runtime.operations.elsewhere = peers.offer
    return peers


async def _watch_rates(watch: RatesWatch) -> None:
    while True:
        await anyio.sleep(RATES_LOOK_SECONDS)
        try:
            if await anyio.to_thread.run_sync(watch.reload_if_newer):
                _log.info("rate_card_changed", rate_version=watch.runtime.card.version)
        except TallyError as error:
            _log.warning("rate_card_not_read", **error.as_dict())
