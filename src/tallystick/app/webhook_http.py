"""One request to an address that was judged: over a socket of our own, within a deadline, answered in few bytes.

    resolve ─► judge every address ─► connect to one of them ─► TLS by the name ─► POST ─► status, beginning of the body

The connection is made to the very address that was judged: the name is not looked up again. No redirect is followed, no
proxy of the environment is used, and nothing of the answer beyond its beginning is read. One deadline holds for all of
it, so that an answer that drips in byte by byte ends as one that never comes.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from tallystick.core.errors import BadInput
from tallystick.wire.webhook_address import Address, AllowList, Target, check_address

CONNECT_SECONDS = 5.0
TOTAL_SECONDS = 15.0
"""For connecting, sending and the answer together."""
RESOLVE_SECONDS = 5.0
ANSWER_BYTES_MAX = 64 * 1024
"""Most bytes of an answer that are read, its headers among them."""
EXCERPT_BYTES = 1024
"""How much of an answer's body is read and kept."""
ADDRESSES_TRIED = 3

Resolve = Callable[[str, int], Sequence[Address]]


class Failure(Exception):
    """There is no answer: why, in a few words that tell nothing of our own network."""


class Answer(NamedTuple):
    """What was answered.

    Attributes:
        status: of HTTP.
        body: the beginning of it, as it came.
        retry_after: the header, where there is one.
    """

    status: int
    body: bytes
    retry_after: str | None


@cache
def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """How servers are known: by the system's authorities, or those of the file as well.

    Raises:
        BadInput: `invalid_setting`.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(
                "invalid_setting",
                f"{ca_file} cannot be read as certificates: {error}",
                next_step="name a file of certificates in PEM form",
                where="TALLY_WEBHOOK_CA_FILE",
            ) from None
    return context


def resolve(host: str, port: int) -> Sequence[Address]:
    """The addresses of a host, in the order in which they are to be tried.

    Raises:
        Failure: it has none, or nobody says so in time.
    """
    with suppress(ValueError):
        return [ip_address(host)]
    found: list[Any] = []

    def look_up() -> None:
        with suppress(OSError, UnicodeError):
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP))

    # The system's resolver knows no deadline of ours: whoever's servers are slow keeps a thread, and not the delivery.
    thread = threading.Thread(target=look_up, name="tally-webhook-resolve", daemon=True)
    thread.start()
    thread.join(RESOLVE_SECONDS)
    addresses = list(dict.fromkeys(ip_address(str(one[4][0]).partition("%")[0]) for one in list(found)))
    if not addresses:
        raise Failure(
            "the host's name has no address" if not thread.is_alive() else "the host's name was not resolved in time"
        )
    return addresses


def post(
    target: Target,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allow: AllowList,
    context: ssl.SSLContext,
    resolver: Resolve = resolve,
    total_seconds: float = TOTAL_SECONDS,
) -> Answer:
    """Send a body and give back what is answered, whatever its status.

    Args:
        target: as `parse_target` gives it.
        headers: besides those that every request has.
        resolver: what addresses a host has.

    Raises:
        Failure: there is no answer.
        BadInput: `webhook_address_refused`: any of the host's addresses is not of the public internet, nor allowed.
    """
    addresses = resolver(target.host, target.port)
    for address in addresses:  # one that is refused among them is the sign of an attack, or of a mistake
        check_address(address, target, allow)
    deadline = time.monotonic() + total_seconds
    connection = _connect(addresses[:ADDRESSES_TRIED], target.port, deadline)
    try:
        if target.scheme == "https":
            connection = _encrypt(connection, context, target.host, deadline)
        return _exchange(connection, target, body, headers, deadline)
    except TimeoutError:
        raise Failure(f"no whole answer within {total_seconds:g} seconds") from None
    except ssl.SSLCertVerificationError as error:
        raise Failure(f"its certificate is not trusted: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise Failure(f"TLS failed: {(error.reason or 'unknown').lower().replace('_', ' ')}") from None
    except http.client.HTTPException as error:
        raise Failure(f"the answer is not HTTP as we know it: {type(error).__name__}") from None
    except OSError as error:
        raise Failure(f"the connection was lost: {(error.strerror or type(error).__name__).lower()}") from None
    finally:
        connection.close()


def _connect(addresses: Sequence[Address], port: int, deadline: float) -> socket.socket:
    why = "nothing answers"
    for address in addresses:
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(min(CONNECT_SECONDS, _left(deadline)))
            connection.connect((str(address), port))
        except TimeoutError:
            connection.close()
            why = f"no connection within {CONNECT_SECONDS:g} seconds"
        except OSError as error:
            connection.close()
            why = f"no connection: {(error.strerror or 'refused').lower()}"
        else:
            return connection
    raise Failure(why)


def _encrypt(connection: socket.socket, context: ssl.SSLContext, host: str, deadline: float) -> socket.socket:
    connection.settimeout(_left(deadline))
    return context.wrap_socket(connection, server_hostname=host)


def _exchange(
    connection: socket.socket, target: Target, body: bytes, headers: Mapping[str, str], deadline: float
) -> Answer:
    lines = {"Host": target.host_header, **headers, "Content-Length": str(len(body)), "Connection": "close"}
    head = f"POST {target.path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    connection.settimeout(_left(deadline))
    with suppress(BrokenPipeError, ConnectionResetError):  # who answers before having read it all is heard all the same
        connection.sendall(f"{head}\r\n".encode("ascii") + body)
    received = _Bounded(connection, deadline)
    passed = []  # one that is dropped would close what the next one is read from
    while True:
        response = http.client.HTTPResponse(received, method="POST")  # type: ignore[arg-type]
        response.begin()
        if not 100 <= response.status < 200 or response.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
            break
        passed.append(response)  # it only says that the answer is still to come
    begun = response.read(EXCERPT_BYTES)
    return Answer(response.status, begun, response.getheader("Retry-After"))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _Bounded(io.RawIOBase):
    """What is read from a socket until the deadline, and no more of it than may be."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        super().__init__()
        self._connection = connection
        self._deadline = deadline
        self._bytes_left = ANSWER_BYTES_MAX
        self._reader: io.BufferedReader = io.BufferedReader(self, 4096)

    def makefile(self, mode: str) -> io.BufferedReader:
        """As a socket's: what the standard library reads an answer from, and the next one where it left off."""
        assert mode == "rb"  # noqa: S101 - there is no other use of it
        return self._reader

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._bytes_left <= 0:
            raise http.client.HTTPException("too long")
        self._connection.settimeout(_left(self._deadline))
        count = self._connection.recv_into(memoryview(buffer)[: self._bytes_left])
        self._bytes_left -= count
        return count
