"""What a key must be for, at each address, and which orgs it may be about. What is not listed needs `admin`.

scope     what the key must be for; an admin's is for everything
about     ORG        the org in the address: a key of an org is for that org alone
BODY       the org that the body names: the route itself asks (`require_org`)
INVOICE    the org whose invoice it is; of others there is none
QUERY      the org that is asked for; a key of an org asks for its own
NOBODY     no org: prices, checkpoints
OPERATOR   every org, or what a customer has no business to know: what requests cost us
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple

import anyio.to_thread
from fastapi import Depends
from starlette.requests import Request

from tallystick.api.auth import KEY
from tallystick.app.acting import Actor, ActorKind, act_as
from tallystick.app.invoices import find_invoice, unknown_invoice
from tallystick.app.keys import Key
from tallystick.core.errors import Forbidden
from tallystick.ledger.api_key import key_missing

ORG, BODY, INVOICE, QUERY, NOBODY, OPERATOR = "org", "body", "invoice", "query", "nobody", "operator"


class Rule(NamedTuple):
    """What an address asks of a key; see the module."""

    scope: str | None
    about: str


_ADMIN: Final = Rule("admin", OPERATOR)

# fmt: off
_ADDRESSES: Final[tuple[tuple[Rule, str], ...]] = (
    (Rule(None, NOBODY), "get_health get_readiness take_payment_callback"),
    (Rule("events", BODY), "post_events"),
    (Rule("authorize", BODY), "authorize settle release"),
    (Rule("authorize", ORG), "redeem_promo"),
    (Rule("read", ORG), "show_usage list_usage_requests "
                        "show_org show_wallet list_wallet_entries list_holds show_limits list_actions list_budgets "
                        "list_overrides list_org_invoices preview_invoice preview_subscription "
                        "show_billing_profile list_invoice_credits show_test_clock show_sla show_alert_preferences"),
    (Rule("read", QUERY), "list_invoices list_invoice_states list_due list_alerts show_alert"),
    (Rule("read", INVOICE), "show_invoice explain_invoice export_invoice render_document show_invoice_life"),
    (Rule("read", NOBODY), "show_latest_checkpoint show_checkpoint list_rate_versions show_rates price_answer"),
    (Rule("webhooks", QUERY), "list_webhooks"),
    (Rule("read", QUERY), "list_disputes show_dispute"),
    (Rule("disputes", QUERY), "open_dispute withdraw_dispute dispute_bundle"),
    # Of these the routes let a key of an org see and change its own alone.
    (Rule("webhooks", NOBODY), "create_webhook list_webhook_types show_webhook change_webhook remove_webhook "
                               "rotate_webhook_secret ping_webhook replay_webhook list_webhook_deliveries "
                               "show_webhook_delivery"),
    (Rule("read", OPERATOR), "get_metrics list_incidents list_acts show_act list_jobs list_job_runs show_rollups "
                             "list_orgs list_org_events show_entry find list_requests_behind_line invoice_proof "
                             "replay_invoice list_contracts show_contract check_contract quote get_versions "
                             "list_payment_events list_alert_silences show_own_alert_preferences"),
    (_ADMIN, "record_incident withdraw_incident "
             "grant_credits refund set_budget remove_budget add_override set_standing set_subscription leave "
             "assign_payment_event retry_payment_event "
             "silence_alert silence_alerts end_alert_silence set_alert_preferences set_own_alert_preferences "
             "apply_contract close_month finalize_invoices record_payment credit_invoice void_invoice "
             "review_dispute uphold_dispute reject_dispute "
             "give_invoice_credit create_promo end_promo list_promos show_promo "
             "set_billing_profile make_test_org advance_test_clock"),
)
# fmt: on
RULES: Final[Mapping[str, Rule]] = {name: rule for rule, names in _ADDRESSES for name in names.split()}
"""By the operation's id in the OpenAPI document."""

EVENTS_SCOPE: Final = "events"
"""The scope of `POST /v1/events`, a plain route that asks for it itself."""


def key_of(request: Request) -> Key | None:
    """The key that the request has shown; None where none is needed, and none was."""
    key: Key | None = request.scope.get(KEY)
    return key


def require_scope(request: Request, scope: str) -> Key | None:
    """The key that the request has shown, which is for that; None where none is needed, and none was shown.

    Raises:
        Unauthorized: `key_missing`. Whoever comes here without a key has come past `Authentication`.
        Forbidden: `scope_missing`.
    """
    key = key_of(request)
    if key is not None:
        key.require(scope)
    elif request.app.state.runtime.settings.keys_are_needed:
        raise key_missing()
    return key


def require_org(request: Request, org_id: object) -> None:
    """Refuse a request of a key that is another org's.

    Raises:
        Forbidden: `wrong_org`.
    """
    key = key_of(request)
    if key is not None:
        key.require_org(org_id)


def own_org(request: Request) -> str | None:
    """The one org that the caller may know of; None for operators, and where no key is needed."""
    key = key_of(request)
    return None if key is None else key.org_id


OwnOrg = Annotated[str | None, Depends(own_org)]


async def allow(request: Request) -> None:
    """Whether the key that was shown is for this address; the route has been found.

    Raises:
        Forbidden: `scope_missing`, `wrong_org`, `operators_only`.
        NotFound: `unknown_invoice`: to a key of an org, an invoice of another one is none.
        Unavailable: the database cannot be reached.
    """
    operation_id = getattr(request.scope["route"], "operation_id", "")
    rule = RULES.get(operation_id, _ADMIN)
    key = None if rule.scope is None else require_scope(request, rule.scope)
    kind: ActorKind = "anyone" if key is None else "key"
    name = "" if key is None else key.key_id
    act_as(Actor(kind, name, f"api {operation_id}", request.scope.get("request_id")))
    if rule.scope is None:
        return
    if key is None or key.org_id is None:
        return
    match rule.about:
        case "org":
            key.require_org(request.path_params["org_id"])
        case "query":
            key.require_org(request.query_params.get("org_id", key.org_id))
        case "invoice":
            runtime, invoice_id = request.app.state.runtime, request.path_params["invoice_id"]
            row = (await anyio.to_thread.run_sync(find_invoice, runtime, invoice_id)).row
            if row.org_id != key.org_id:
                raise unknown_invoice(invoice_id)
        case "operator":
            raise Forbidden(
                "operators_only",
                f"{key.key_id} is a key of one org; this is about all of them, or tells what requests have cost",
                next_step="use an operator's key",
            )
