"""What is not HTTP at all is answered like every other refusal: a problem document, with an id that is in the log."""

from __future__ import annotations

import secrets

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tallystick.api.problems import problem, problem_response

_log = structlog.get_logger("tallystick.api")


class ProblemHttpProtocol(HttpToolsProtocol):
    """The server's HTTP protocol; only its answer to what it cannot parse is ours."""

    def send_400_response(self, msg: str) -> None:
        """Answer with `malformed_http` and close the connection: where the next request would begin is not known."""
        request_id = "req_" + secrets.token_hex(16)
        document = problem(
            400,
            "malformed_http",
            "what was sent is not an HTTP request: its first line, a header, a length or a chunk is malformed",
            "send HTTP/1.1; addresses are shorter than 64 KiB",
            request_id=request_id,
        )
        response = problem_response(document, {"Request-Id": request_id, "Connection": "close"})
        head = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head + b"\r\n" + bytes(response.body))
        self.transport.close()
        _log.warning("request_not_read", request_id=request_id, status=400, reason=msg)
