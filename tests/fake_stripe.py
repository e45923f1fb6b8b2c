"""Stripe's API as far as payments need it, on loopback: what is put in is answered, as JSON over HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import stripe

KEY = "sk_test_" + "a" * 24
SECRET = "whsec_" + "b" * 32


class FakeStripe:
    """The objects of one account in test mode, by their ids.

    Attributes:
        objects: what is retrieved, by its path, such as `events/evt_1`.
        asked: the paths that were asked for.
        keys, accounts: with which keys, and as which accounts.
        status: when set, every answer has it, and says nothing.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.keys: set[str] = set()
        self.accounts: set[str] = set()
        self.status: int | None = None
        self.url = ""

    def put(self, kind: str, **members: Any) -> dict[str, Any]:
        """Have an object of a kind, such as `payment_intents`."""
        object_name = {"disputes": "dispute", "events": "event"}.get(kind, kind.removesuffix("s"))
        one = {"object": object_name, "livemode": False, "metadata": {}, "currency": "usd", "created": 1, **members}
        self.objects[f"{kind}/{one['id']}"] = one
        return one

    def intent(self, name: str = "pi_1", amount: int = 1000, **members: Any) -> dict[str, Any]:
        """A PaymentIntent that has succeeded."""
        return self.put("payment_intents", id=name, status="succeeded", amount_received=amount, **members)

    def event(self, kind: str, target: dict[str, Any], name: str = "evt_1", **members: Any) -> bytes:
        """An event about an object, and the body of its callback."""
        one = self.put("events", id=name, type=kind, data={"object": target}, **members)
        return json.dumps(one).encode()

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, Any]]:
        """What is answered to a GET."""
        if self.status is not None:
            return self.status, {"error": {"type": "api_error", "message": f"no, {KEY}"}}
        if path == "refunds":
            charge = query["charge"][0]
            data = [
                one for name, one in self.objects.items() if name.startswith("refunds/") and one["charge"] == charge
            ]
            return 200, {"object": "list", "data": data, "has_more": False, "url": "/v1/refunds"}
        if path in self.objects:
            return 200, self.objects[path]
        return 404, {"error": {"type": "invalid_request_error", "code": "resource_missing", "message": "No such thing"}}


@contextmanager
def running_stripe() -> Iterator[FakeStripe]:
    """A fake on a free port of loopback."""
    fake = FakeStripe()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = parts.path.removeprefix("/v1/")
            fake.asked.append(path)
            fake.keys.add(self.headers.get("Authorization", ""))
            fake.accounts |= {self.headers["Stripe-Account"]} if "Stripe-Account" in self.headers else set()
            status, answer = fake.answer(path, parse_qs(parts.query))
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def signed(body: bytes, secret: str = SECRET, at: int | None = None) -> dict[str, str]:
    """The headers of a callback that Stripe has signed."""
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, at or int(time.time()))
    return {"stripe-signature": header, "content-type": "application/json; charset=utf-8"}
