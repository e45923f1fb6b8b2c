"""What the OpenAPI document says of the bodies with which decisions, settlements, releases and refunds are asked for.

No model of the framework reads them: `ledger.request_checks` does, and tells every fault in one pass.
"""

from __future__ import annotations

from typing import Any

from tallystick.api.event_schema import TEXTS, USAGE_EVENT, Schema, ref, text
from tallystick.ledger.request_checks import FROM_HOLD, SETTLE_EVENTS_MAX

_EVENT_MEMBERS = USAGE_EVENT["properties"]
_ORG_ID = text("The customer.")
_HOLD_ID = {
    "type": "string",
    "pattern": "^h[1-9][0-9]{0,18}$",
    "description": "As authorize gave it.",
    "examples": ["h42"],
}
_CREDITS = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,12})?$"}
_ACTOR = "As in POST /v1/events; left out or null where there is none."


def _or_none(name: str) -> Schema:
    return {**text(_ACTOR), "type": ["string", "null"]} if name != "payer" else {"enum": ["seller", "customer", None]}


AUTHORIZE_REQUEST: Schema = {
    "type": "object",
    "description": "What somebody is about to do. Its identity is (org_id, request_id): the same content again is the "
    "same hold. Members that are not listed here are refused.",
    "additionalProperties": False,
    "required": ["org_id", "request_id", "user_id", "session_id", "feature", "environment"],
    "properties": {
        **{
            name: _EVENT_MEMBERS[name]
            for name in ("org_id", "request_id", "user_id", "session_id", "feature", "environment")
        },
        **{name: _or_none(name) for name in ("action", "model", "provider", "api_key_id")},
        "work_key": text(
            "What the action is done to, such as a document's id: doing it again may be free.", type=["string", "null"]
        ),
        "meters": {
            **_EVENT_MEMBERS["meters"],
            "type": ["object", "null"],
            "description": "The most of each meter that it may take: limits and budgets hold it, and an action "
            "priced by its cost is quoted and held by it.",
        },
        "payer": {
            "enum": ["seller", "customer", None],
            "description": "Who pays the provider; left out: whom the plan says.",
        },
        "attributes": {**TEXTS, "type": ["object", "null"], "description": "Whatever else you want to find again."},
    },
}

SETTLE_EVENT: Schema = {
    **USAGE_EVENT,
    "description": "A usage event as POST /v1/events takes it. What is left out of "
    + ", ".join(("org_id", *FROM_HOLD))
    + " is the hold's.",
    "required": [name for name in USAGE_EVENT["required"] if name not in ("org_id", *FROM_HOLD)],
}

SETTLE_REQUEST: Schema = {
    "type": "object",
    "description": "The end of a hold's work.",
    "additionalProperties": False,
    "required": ["org_id", "hold_id", "outcome"],
    "properties": {
        "org_id": _ORG_ID,
        "hold_id": _HOLD_ID,
        "outcome": {
            "enum": ["success", "empty", "failure"],
            "description": "What became of the work; the contract says which of them are charged.",
        },
        "events": {
            "type": "array",
            "maxItems": SETTLE_EVENTS_MAX,
            "items": ref("SettleEvent"),
            "description": "Its usage: stored, and priced, as POST /v1/events does.",
        },
        "charge_credits": {
            **_CREDITS,
            "type": ["string", "null"],
            "description": "What to charge, where it is not for the contract to say; never more than was held.",
        },
    },
}

RELEASE_REQUEST: Schema = {
    "type": "object",
    "description": "The end of a hold whose work was not done.",
    "additionalProperties": False,
    "required": ["org_id", "hold_id"],
    "properties": {
        "org_id": _ORG_ID,
        "hold_id": _HOLD_ID,
        "reason": text("Why, for whoever looks at it later.", type=["string", "null"]),
    },
}

REFUND_REQUEST: Schema = {
    "type": "object",
    "description": "Charged credits to be given back.",
    "additionalProperties": False,
    "required": ["org_id", "request_id", "settlement_id", "author", "reason"],
    "properties": {
        "org_id": _ORG_ID,
        "request_id": text("Your id of the refund; a retry sends the same one."),
        "settlement_id": {"type": "string", "pattern": "^s[1-9][0-9]{0,18}$", "examples": ["s43"]},
        "credits": {
            **_CREDITS,
            "type": ["string", "null"],
            "description": "How many; left out: all that have not been given back yet.",
        },
        "author": text("Who says so."),
        "reason": text("Why."),
    },
}

DENIAL: Schema = {
    "description": "Why a request is denied, as a problem document, and the whole decision. With the code "
    "`journal_busy` there is none: more comes in than is being decided.",
    "allOf": [
        ref("Problem"),
        {
            "type": "object",
            "properties": {
                "org_id": {"type": "string"},
                "decision": ref("Decision"),
                "wallet": ref("WalletChange"),
                "versions": ref("DecisionVersions"),
                "entry": ref("EntryPlace"),
            },
        },
    ],
}

DECISION_SCHEMAS: dict[str, Schema] = {
    "AuthorizeRequest": AUTHORIZE_REQUEST,
    "SettleEvent": SETTLE_EVENT,
    "SettleRequest": SETTLE_REQUEST,
    "ReleaseRequest": RELEASE_REQUEST,
    "RefundRequest": REFUND_REQUEST,
    "Denial": DENIAL,
}

_EXAMPLES: dict[str, Schema] = {
    "AuthorizeRequest": {
        "org_id": "acme", "request_id": "brief-17", "user_id": "u-17", "session_id": "s-4", "feature": "briefs",
        "environment": "production", "action": "brief_generated", "model": "gpt-4o-mini", "provider": "openai",
        "meters": {"tokens_in": 2000, "tokens_out": 800},
    },
    "SettleRequest": {
        "org_id": "acme", "hold_id": "h42", "outcome": "success",
        "events": [
            {
                "request_id": "brief-17-call-1", "time": "2026-10-01T12:00:00Z", "model": "gpt-4o-mini",
                "provider": "openai", "meters": {"tokens_in": 1200, "tokens_out": 340},
            }
        ],
    },
    "ReleaseRequest": {"org_id": "acme", "hold_id": "h42", "reason": "the user has cancelled it"},
    "RefundRequest": {
        "org_id": "acme", "request_id": "refund-9", "settlement_id": "s43", "author": "dana", "reason": "wrong file",
    },
}  # fmt: skip


def asked_as(name: str) -> dict[str, Any]:
    """The `openapi_extra` of a route whose body is the schema of that name."""
    content = {"application/json": {"schema": ref(name), "example": _EXAMPLES[name]}}
    return {"requestBody": {"required": True, "content": content}}
