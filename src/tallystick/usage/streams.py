"""The usage of a streamed answer, folded as its bytes pass by.

    stream = UsageStream(table, provider="openai")
    for piece in pieces:        # however the bytes were cut
        stream.feed(piece)
    used = stream.finish()

The status says how far the numbers can be trusted. `final`: the provider stated them at the end. `partial`:
the stream broke off after some usage was stated. `estimated`: no usage was stated; output is the bytes of the
generated text divided by four, rounded up, and the prompt likewise when the request is known. A client that
leaves in the middle has still been served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.usage.event import UsageStatus
from tallystick.usage.extract import Extracted, extract, provider_refusal
from tallystick.usage.folds import Fold, fold_for, unwrap
from tallystick.usage.framing import DONE, Framer
from tallystick.usage.plain_events import take_plain
from tallystick.usage.reading import first, no_usage
from tallystick.usage.table import ExtractorTable

WAITING_BYTES = 8 * 1024
"""How much of a stream may wait to be read at once."""
BYTES_PER_TOKEN = 4
"""The estimate's measure: English text has a little over four bytes to a token in today's tokenizers."""

_PROMPT_KEYS = frozenset(
    {"messages", "input", "instructions", "system", "prompt", "contents", "systemInstruction", "tools"}
)  # fmt: skip
_BINARY_KEYS = frozenset({"data", "file_data", "image_url", "url", "b64_json", "bytes"})


class UsageStream:
    """Folds one stream into what it used. Not thread-safe; memory is bounded by the largest event."""

    def __init__(
        self,
        table: ExtractorTable,
        *,
        provider: str | None = None,
        flavor: str | None = None,
        model: str | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin.

        Args:
            table: the extractors.
            provider: who answers; found out from the events when left out.
            flavor: which API; the one that fits when left out.
            model: the model, for answers that do not name it.
            request: the request's body, to estimate the prompt when the answer states no usage.
        """
        self._table = table
        self._provider = provider
        self._flavor = flavor
        self._model = model
        self._request = request or {}
        self._framer = Framer()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._is_plain = True
        self._fold: Fold | None = None
        self._refusal: str | None = None
        self._done = False

    @property
    def refusal(self) -> str | None:
        """What the provider said when it broke off with an error; None when it did not."""
        self._fold_waiting()
        return self._refusal

    @property
    def text_bytes(self) -> int:
        """How much text the model has generated so far, in UTF-8 bytes."""
        self._fold_waiting()
        return 0 if self._fold is None else self._fold.text_bytes

    @property
    def said_bytes(self) -> int:
        """How much of that text was meant for the caller, and not thought."""
        self._fold_waiting()
        return 0 if self._fold is None else self._fold.text_bytes - self._fold.thought_bytes

    @property
    def is_complete(self) -> bool:
        """Whether the provider has said that this is the end, or that the model stopped."""
        self._fold_waiting()
        return self._fold is not None and (self._fold.ended or self._fold.finished)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream; small pieces are read several at a time.

        Raises:
            BadInput: `event_too_large`.
        """
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= WAITING_BYTES:
            self._fold_waiting()

    def finish(self) -> Extracted:
        """What the stream used, now that no more bytes come.

        Raises:
            BadInput: `provider_error` when it held only a refusal, `no_usage` when it held no events of a
                known kind, or what `extract` raises.
        """
        self._fold_waiting()
        self._read(b"".join(self._waiting))
        self._waiting = []
        for event in self._framer.finish():
            self._take(event)
        fold = self._fold
        if fold is None or (self._refusal and not fold.stated and not fold.text_bytes):
            raise self._nothing()
        status = self._status(fold)
        tokens_out = estimate_tokens(fold.text_bytes)
        body = fold.body
        if status == "estimated":
            body = {**body, **fold.usage_of(estimate_tokens(prompt_bytes(self._request)), tokens_out)}
        elif status == "partial":
            fold.settle(tokens_out)
            body = fold.body
        model = self._model or _text(self._request.get("model"))
        return extract(self._table, body, provider=self._provider, flavor=self._flavor, model=model, status=status)

    def _fold_waiting(self) -> None:
        """Read what waits, up to the end of its last whole event; the rest waits on."""
        data = b"".join(self._waiting)
        if not self._is_plain:
            self._waiting, self._waiting_bytes = [], 0
            self._read(data)
            return
        whole, end, rest = data.rpartition(b"\n\n")
        if len(rest) > WAITING_BYTES:  # too long an event to wait for, or another way of writing
            self._is_plain = False
            whole, end, rest = data, b"", b""
        self._waiting, self._waiting_bytes = [rest], len(rest)
        if not whole:
            return
        for event in whole.split(b"\n\n") if end else ():
            if self._fold is None or self._done or not take_plain(self._fold, event):
                self._read(event + end)
        if not end:
            self._read(whole)

    def _read(self, data: bytes) -> None:
        for event in self._framer.feed(data):
            self._take(event)

    def _take(self, event: Any) -> None:
        if self._done:
            return
        if event is DONE:
            self._done = True
            if self._fold is not None:
                self._fold.ended = True
            return
        if not isinstance(event, Mapping):
            return
        event = unwrap(event)
        if event.get("error") or event.get("type") == "error":
            self._refusal = provider_refusal(event)
        elif first(event, "response.error"):
            self._refusal = provider_refusal(event["response"])
        if self._fold is None:
            self._fold = fold_for(event)
        if self._fold is not None:
            self._fold.take(event)

    def _status(self, fold: Fold) -> UsageStatus:
        if not fold.stated:
            return "estimated"
        return "final" if fold.ended or (fold.finished and fold.current) else "partial"

    def _nothing(self) -> BadInput:
        if self._refusal:
            return BadInput(
                "provider_error",
                f"the provider broke off with an error before it answered: {self._refusal[:300]}",
                next_step="record the request as a failure, without usage",
            )
        garbled = f"; {self._framer.garbled} events were not JSON" if self._framer.garbled else ""
        return no_usage(f"the stream holds no event of a known kind{garbled}")


def estimate_tokens(size: int) -> int:
    """Tokens in so many bytes of UTF-8 text, as far as one can tell: a fourth, rounded up."""
    return -(-size // BYTES_PER_TOKEN)


def prompt_bytes(request: Mapping[str, Any]) -> int:
    """Bytes of text in a request's prompt and tools; files and pictures in it are not text."""
    pending: list[Any] = [value for key, value in request.items() if key in _PROMPT_KEYS]
    size = 0
    while pending:
        value = pending.pop()
        if isinstance(value, str):
            size += 0 if value.startswith("data:") else len(value.encode(errors="replace"))
        elif isinstance(value, Mapping):
            pending.extend(item for key, item in value.items() if key not in _BINARY_KEYS)
        elif isinstance(value, list):
            pending.extend(value)
    return size


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
