"""The answers of `POST /v1/events`, straight from the ledger's receipts; `event_schema` documents the shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response

from tallystick.api.event_bodies import EventBody, Item
from tallystick.api.problems import error_response
from tallystick.app.event_results import TAKEN, EventResult, Refused, TakenResult, result_of, results_of, taken_result
from tallystick.core.errors import TallyError
from tallystick.core.key_shapes import without_secrets
from tallystick.ledger.receipt import Receipt
from tallystick.usage.event import UsageEvent

JSON_TYPE = "application/json"

_encode = msgspec.json.Encoder().encode


class _Results(msgspec.Struct, omit_defaults=True, gc=False):
    results: Sequence[TakenResult | dict[str, Any]]
    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    spooled: int = 0  # named only where there are any: few deployments ever spool


class Answer(NamedTuple):
    """An answer: its HTTP status, its body, and what its headers say besides its length."""

    status: int
    body: bytes
    media_type: str = JSON_TYPE
    headers: Mapping[str, str] | None = None

    def response(self) -> Response:
        """As the framework sends it."""
        return Response(self.body, self.status, self.headers, self.media_type)


def answer_events(
    read: EventBody, checked: Sequence[UsageEvent | Refused], receipts: Sequence[Receipt], request_id: str
) -> Answer:
    """The answer to a body whose sound events got these receipts, in order."""
    counts = Counter([receipt.status for receipt in receipts])
    if len(receipts) == len(checked) and counts["accepted"] + counts["duplicate"] == len(receipts):
        rows: list[TakenResult] = list(map(taken_result, range(len(receipts)), receipts))
        if read.lines is not None:
            for row, line in zip(rows, read.lines, strict=True):
                row.line = line
        return _results(rows, counts, alone=read.alone)
    results = results_of(checked, receipts)
    if read.alone and (error := results[0].error) is not None:
        return error_answer(error, request_id, **_both_fingerprints(results[0]))
    counts["rejected"] += len(checked) - len(receipts)
    documents = [_document(item, result) for item, result in zip(read.items, results, strict=True)]
    return _results(documents, counts, alone=read.alone)


def answer_one(receipt: Receipt, request_id: str) -> Answer:
    """The answer to one sound event that was sent alone: what `answer_events` gives."""
    if receipt.status in TAKEN:
        is_new = receipt.status == "accepted"
        document = _Results([taken_result(0, receipt)], int(is_new), int(not is_new), 0, 0)
        return Answer(201 if is_new else 200, _encode(document))
    result = result_of(0, receipt)
    if result.error is not None:
        return error_answer(result.error, request_id, **_both_fingerprints(result))
    return _results([result.as_dict()], Counter((receipt.status,)), alone=True)


def error_answer(error: TallyError, request_id: str, **more: Any) -> Answer:
    """One of our own errors as a problem document; see `error_response`."""
    response = error_response(error, request_id, **more)
    headers = {name: value for name, value in response.headers.items() if name == "retry-after"}
    return Answer(response.status_code, bytes(response.body), response.media_type or "", headers)


def _results(rows: Sequence[TakenResult | dict[str, Any]], counts: Counter[Any], *, alone: bool) -> Answer:
    accepted, duplicate, spooled = counts["accepted"], counts["duplicate"], counts["spooled"]
    document = _Results(rows, accepted, duplicate, counts["conflict"], counts["rejected"], spooled)
    if accepted + duplicate + spooled < len(rows):
        status = 207
    elif spooled:
        status = 202
    else:
        status = 201 if alone and accepted else 200
    return Answer(status, _encode(document))


def _document(item: Item, result: EventResult) -> dict[str, Any]:
    """One event's result: what the ledger says of it, and what the sender needs to find it again."""
    members = result.as_dict()
    if item.line is not None:
        members["line"] = item.line
    if result.receipt is None and isinstance(item.value, dict):
        for name in ("org_id", "request_id"):
            value = item.value.get(name)
            if isinstance(value, str):
                members[name] = without_secrets(value[:512])
    return members


def _both_fingerprints(result: EventResult) -> dict[str, Any]:
    """For a conflict: of what was sent and of what is stored, and where that stands."""
    receipt = result.receipt
    if receipt is None or receipt.stored_fingerprint is None:
        return {}
    return {"fingerprint": receipt.fingerprint, "stored_fingerprint": receipt.stored_fingerprint, "seq": receipt.seq}
