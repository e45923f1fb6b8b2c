"""What the OpenAPI document says of `POST /v1/events`, whose bodies no model of the framework reads."""

from __future__ import annotations

from typing import Any

from tallystick.api.event_bodies import CLOUDEVENT_BATCH_TYPE, CLOUDEVENT_TYPE, JSON_LINES_TYPES, JSON_TYPE
from tallystick.usage.meters import METERS, QUANTITY_MAX

Schema = dict[str, Any]

EVENTS_PATH = "/v1/events"


def text(description: str, **more: Any) -> Schema:
    """A text as every field takes it."""
    return {"type": "string", "minLength": 1, "maxLength": 512, "description": description, **more}


def ref(name: str) -> Schema:
    """Where the schema of that name is."""
    return {"$ref": f"#/components/schemas/{name}"}


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}

USAGE_EVENT: Schema = {
    "type": "object",
    "description": "One raw usage fact. Its identity is (org_id, request_id): the same content may be sent again, "
    "other content is a conflict. Members that are not listed here are refused.",
    "additionalProperties": False,
    "required": [
        "org_id", "request_id", "time", "user_id", "session_id", "feature", "environment", "model", "meters",
    ],
    "properties": {
        "org_id": text("The customer."),
        "request_id": text("Your id of the request; a retry sends the same one."),
        "time": {
            "type": "string",
            "format": "date-time",
            "description": "When the action completed: RFC 3339 with a zone, 5 minutes ahead of our clock at most.",
        },
        "user_id": text("Who acted; a pseudonym, never a name or an address."),
        "session_id": text("The conversation or job it belongs to."),
        "feature": text("The product feature."),
        "environment": text("Such as production, staging, development."),
        "model": text("The model as the provider named it; without a model call, the tool or route."),
        "provider": text("Who answered; null for an event without a model call.", type=["string", "null"]),
        "meters": {
            "type": "object",
            "description": "Quantity by meter, whole numbers. Classes of tokens never overlap: tokens_in leaves out "
            "cached tokens, tokens_out leaves out reasoning. A contract may declare more meters than the built-in: "
            + ", ".join(METERS),
            "additionalProperties": {"type": "integer", "minimum": 0, "maximum": QUANTITY_MAX},
        },
        "api_key_id": text("The id, never the secret, of the key that was used.", type=["string", "null"]),
        "action": text("The contract's action, when the event belongs to one.", type=["string", "null"]),
        "latency_ms": {"type": ["integer", "null"], "minimum": 0, "description": "How long the call took."},
        "outcome": {"enum": ["success", "empty", "failure"], "default": "success"},
        "usage_status": {"enum": ["final", "partial", "estimated"], "default": "final"},
        "price_context": {
            **TEXTS,
            "description": "What else decides the price, as served: service_tier, speed, route, search_type, "
            "inference_geo.",
        },
        "provider_cost_pico": {
            "type": ["integer", "null"],
            "minimum": 0,
            "description": "What the provider itself says the call cost, in units of 10^-12 USD.",
        },
        "payer": {
            "enum": ["seller", "customer"],
            "default": "seller",
            "description": "Who pays the provider; customer: a key of its own was used, and the cost is none of ours.",
        },
        "attributes": {**TEXTS, "description": "Whatever else you want to find again."},
    },
}  # fmt: skip

CLOUD_EVENT: Schema = {
    "type": "object",
    "description": "A CloudEvent 1.0 in structured mode. `data` is the usage event; `id` and `time` stand in for its "
    "request_id and time where it has none.",
    "required": ["specversion", "id", "source", "type", "data"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1},
        "type": {"type": "string", "minLength": 1},
        "time": {"type": "string", "format": "date-time"},
        "data": {"type": "object", "description": "A UsageEvent."},
    },
}

EVENT_RESULT: Schema = {
    "type": "object",
    "description": "What became of one event. `accepted` is written to the ledger, `spooled` to disk until the ledger "
    "can be reached again; a `duplicate` has the receipt of the original; of the others nothing was written.",
    "required": ["index", "status"],
    "properties": {
        "index": {"type": "integer", "minimum": 0, "description": "Its place in the body."},
        "line": {"type": "integer", "minimum": 1, "description": "Its line, in JSON Lines."},
        "status": {"enum": ["accepted", "duplicate", "conflict", "rejected", "spooled"]},
        "org_id": {"type": ["string", "null"]},
        "request_id": {"type": ["string", "null"]},
        "seq": {"type": ["integer", "null"], "description": "Its place in the org's gapless sequence, from 1."},
        "recorded_at": {"type": "string", "format": "date-time"},
        "cost_usd": {
            "type": ["string", "null"],
            "description": "What it cost us, exact; null when it is unpriced.",
        },
        "cost_status": {"enum": ["final", "partial", "estimated", "unpriced"]},
        "rate_version": {"type": "string"},
        "fingerprint": {"type": "string", "description": "Salted SHA-256 of the content, in hex."},
        "leaf": {
            "type": ["string", "null"],
            "description": "Hash of the stored entry, in hex: its leaf in the org's Merkle tree, at place seq.",
        },
        "stored_fingerprint": {"type": "string", "description": "For a conflict: of the content that is stored."},
        "reason": {"type": "string", "description": "Why it is unpriced, when it is."},
        "code": {"type": "string"},
        "field": {"type": ["string", "null"], "description": "The field at fault."},
        "detail": {"type": "string"},
        "next_step": {"type": "string"},
        "problems": {
            "type": "array",
            "items": {"type": "object"},
            "description": "Each fault, when there are several.",
        },
    },
}

EVENT_RESULTS: Schema = {
    "type": "object",
    "required": ["results", "accepted", "duplicate", "conflict", "rejected"],
    "properties": {
        "results": {"type": "array", "items": ref("EventResult"), "description": "One for each event, in order."},
        **{name: {"type": "integer", "minimum": 0} for name in ("accepted", "duplicate", "conflict", "rejected")},
        "spooled": {"type": "integer", "minimum": 0, "description": "Left out where there are none."},
    },
}

EVENT_SCHEMAS: dict[str, Schema] = {
    "UsageEvent": USAGE_EVENT,
    "CloudEvent": CLOUD_EVENT,
    "EventResult": EVENT_RESULT,
    "EventResults": EVENT_RESULTS,
}

_EXAMPLE = {
    "org_id": "acme", "request_id": "req-1", "time": "2026-10-01T12:00:00Z", "user_id": "u-17", "session_id": "s-4",
    "feature": "chat", "environment": "production", "provider": "openai", "model": "gpt-4o-mini",
    "meters": {"tokens_in": 1200, "tokens_out": 340}, "latency_ms": 820,
}  # fmt: skip


def events_operation(problem: Schema) -> Schema:
    """The operation object of `POST /v1/events`; `problem` is the response object of a problem document."""
    results = {"application/json": {"schema": ref("EventResults")}}
    lines = {"schema": {"type": "string", "description": "One UsageEvent a line."}}
    return {
        "tags": ["events"],
        "operationId": "post_events",
        "summary": "Record usage events",
        "description": "One event, or many. What is answered `accepted` is on disk. Each event stands for itself: "
        "a bad one harms no other, and sending the same body again is always safe. Content-Encoding: gzip is taken.",
        "requestBody": {
            "required": True,
            "content": {
                JSON_TYPE: {
                    "schema": {"oneOf": [ref("UsageEvent"), {"type": "array", "items": ref("UsageEvent")}]},
                    "example": _EXAMPLE,
                },
                **dict.fromkeys(JSON_LINES_TYPES, lines),
                CLOUDEVENT_TYPE: {"schema": ref("CloudEvent")},
                CLOUDEVENT_BATCH_TYPE: {"schema": {"type": "array", "items": ref("CloudEvent")}},
            },
        },
        "responses": {
            "200": {"description": "Every event is accepted, or a duplicate of one that was.", "content": results},
            "201": {"description": "The one event that was sent alone is accepted.", "content": results},
            "202": {
                "description": "Every event is taken; the ledger cannot be reached, and some wait for it on disk.",
                "content": results,
            },
            "207": {"description": "Some events of the batch were not taken; each says why.", "content": results},
            "400": {"description": "The body cannot be read; nothing was taken.", **problem},
            "409": {"description": "The one event sent alone conflicts with what is stored.", **problem},
            "413": {"description": "The body has too many bytes or events; nothing was taken.", **problem},
            "415": {"description": "The body's type or encoding is not taken.", **problem},
            "422": {"description": "The one event sent alone is rejected.", **problem},
            "429": {"description": "More comes in than is being written; see Retry-After.", **problem},
            "503": {"description": "Nothing was taken, or it is not known; sending it again is safe.", **problem},
        },
    }
