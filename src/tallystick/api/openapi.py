"""The OpenAPI document: what the framework derives from the typed routes, and what it cannot know.

It cannot know the events' route (see `event_schema`), nor that every refusal is a problem document, nor that
every answer carries a request id.
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from tallystick.api.access import RULES
from tallystick.api.decision_schema import DECISION_SCHEMAS
from tallystick.api.event_schema import EVENT_SCHEMAS, EVENTS_PATH, events_operation
from tallystick.api.problems import PROBLEM_TYPE
from tallystick.api.request_log import REQUEST_ID
from tallystick.invoice.model import Invoice

Schema = dict[str, Any]

PROBLEM: Schema = {
    "type": "object",
    "description": "Why a request was refused or failed (RFC 9457), and the safe thing to do now. Branch on `code`; "
    "docs/errors.md lists them.",
    "required": ["type", "title", "status", "code", "detail", "next_step", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "next_step": {"type": "string"},
        "request_id": {"type": "string"},
        "where": {"type": "string", "description": "The field, line or key at fault."},
        "errors": {
            "type": "array",
            "description": "Each fault, when several were found in one pass.",
            "items": {"$ref": "#/components/schemas/Fault"},
        },
        "error_count": {"type": "integer", "description": "How many faults there are, when not all are listed."},
    },
}
FAULT: Schema = {
    "type": "object",
    "required": ["code", "detail", "next_step"],
    "properties": {
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "next_step": {"type": "string"},
        "where": {"type": "string"},
    },
}
PROBLEM_CONTENT: Schema = {"content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}

KEY_SCHEME: Schema = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "tk_…",
    "description": "A key made by `tally keys create`. `x-scope` is what an operation needs it to be for.",
}

_REQUEST_ID_PARAMETER: Schema = {
    "name": "Request-Id",
    "in": "header",
    "required": False,
    "description": "Your id of this call, to find it again in answers and logs; one that is not well-formed is "
    "replaced. X-Request-Id is taken too.",
    "schema": {"type": "string", "pattern": f"^{REQUEST_ID.pattern}$"},
}
_REQUEST_ID_HEADER: Schema = {
    "description": "The id of this call: yours, or a new one.",
    "schema": {"type": "string"},
}
_OPERATIONS = ("get", "put", "post", "delete", "patch")

INTRODUCTION = """Metering and billing for AI products.

Amounts of money are decimal strings in USD, exact unless a name says they are rounded to the cent. Times are
RFC 3339 in UTC. Every refusal is a problem document (RFC 9457) with a stable `code`, a sentence and a safe
next step. Callers show a key (`tally keys create`); none is needed where only the same machine can reach the server,
unless the operator wants it so.
"""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that refuses with these statuses."""
    return {status: {"description": _MEANING[status], **PROBLEM_CONTENT} for status in statuses}


_MEANING = {
    400: "The body cannot be read.",
    401: "No key was shown where one is needed, or one that is not, or no longer, taken.",
    403: "The key is not for this, or not for this org.",
    404: "The thing named does not exist.",
    409: "It contradicts what is stored; that stays as it was.",
    413: "The body is too large.",
    415: "The body's type or encoding is not taken.",
    422: "Something in the request cannot be taken; each fault is named.",
    503: "Something this needs cannot be reached; trying again is safe.",
}


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """What the framework has derived from the routes, with what it cannot know; the document itself is changed."""
    document["info"]["description"] = INTRODUCTION
    document["info"]["license"] = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):  # the framework's own error shapes are never sent
        schemas.pop(unused, None)
    schemas.update({**EVENT_SCHEMAS, **DECISION_SCHEMAS}, **_invoice_schemas(), Problem=PROBLEM, Fault=FAULT)
    document["paths"] = {EVENTS_PATH: {"post": events_operation(PROBLEM_CONTENT)}, **document["paths"]}
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    document["components"]["securitySchemes"] = {"key": KEY_SCHEME}
    document["security"] = [{"key": []}, {}]
    for path in document["paths"].values():
        for method in _OPERATIONS:
            if method in path:
                _complete_operation(path[method])
    return document


def _name_scope(operation: Schema) -> None:
    """Say what a key must be for, and how one that is not is refused."""
    scope = RULES[operation["operationId"]].scope
    if scope is None:
        operation["security"] = []
        return
    operation["x-scope"] = scope
    responses = operation["responses"]
    responses.setdefault("401", problems(401)[401])
    if "403" in responses:  # a denial, or a key that is not for this
        content = responses["403"]["content"][PROBLEM_TYPE]
        content["schema"] = {"anyOf": [content["schema"], {"$ref": "#/components/schemas/Problem"}]}
    else:
        responses["403"] = problems(403)[403]


def _invoice_schemas() -> dict[str, Schema]:
    """The invoice's document, derived from the structs that it is made of, and what is shown beside it."""
    _, schemas = msgspec.json.schema_components([Invoice], ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        # Docstrings are indented; the document is read by people too.
        schema["description"] = inspect.cleandoc(schema["description"])
    schemas["Invoice"]["required"].remove("internal")  # it is left out for who may know of one org alone
    late: Schema = {name: {"type": "integer" if name == "seq" else "string"} for name in LATE_MEMBERS}
    late["billed_on"] = {
        "type": ["string", "null"],
        "description": "The invoice that bears it; null: the next one will.",
    }
    shown = {
        "type": "object",
        "required": ["invoice", "closed_at", "late_events", "unbilled_events", "late"],
        "properties": {
            "invoice": {"$ref": "#/components/schemas/Invoice"},
            "closed_at": {"type": "string", "format": "date-time"},
            "late_events": {
                "type": "integer",
                "description": "How many requests of the month arrived after the close; they are not on it.",
            },
            "unbilled_events": {
                "type": "integer",
                "description": "How many of them are on no invoice yet; they will be on the next one.",
            },
            "late": {
                "type": "array",
                "description": "The first of them.",
                "items": {"type": "object", "required": list(late), "properties": late},
            },
        },
    }
    return {**schemas, "ShownInvoice": shown}


LATE_MEMBERS = ("seq", "request_id", "time", "recorded_at")


def _complete_operation(operation: dict[str, Any]) -> None:
    operation.setdefault("parameters", []).append(_REQUEST_ID_PARAMETER)
    responses = operation["responses"]
    _name_scope(operation)
    takes_input = "requestBody" in operation or len(operation["parameters"]) > 1
    responses.pop("422", None) if not takes_input else responses.update({"422": problems(422)[422]})
    if "requestBody" in operation:
        for status in (400, 413, 415):
            responses.setdefault(str(status), problems(status)[status])
    responses["default"] = {"description": "Any other refusal or failure.", **PROBLEM_CONTENT}
    for response in responses.values():
        response.setdefault("headers", {})["Request-Id"] = _REQUEST_ID_HEADER
    operation["responses"] = dict(sorted(responses.items()))
