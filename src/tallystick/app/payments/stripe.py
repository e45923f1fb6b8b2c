"""Stripe, by its own library: signatures checked, events and what they tell of retrieved, nothing else done there.

The library is an extra (`pip install 'tallystick[stripe]'`), and imported only where Stripe is set up.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from tallystick.app.payments.adapter import invalid_callback, invalid_signature, unavailable
from tallystick.app.settings import Settings, is_loopback
from tallystick.billing.payment_fact import Movement, PaymentFact
from tallystick.billing.stripe_objects import (
    DISPUTED_TYPES,
    MOVING_TYPES,
    PAID_TYPES,
    Object,
    metadata_of,
    object_id,
    optional_id,
    paid_by_charge,
    paid_by_intent,
    returned_by_dispute,
    returned_by_refund,
    unverified,
)
from tallystick.core.errors import BadInput, TallyError, Unavailable
from tallystick.core.json_text import read_json

NAME: Final = "stripe"
TOLERANCE_SECONDS: Final = 300
"""How far a signature's time may be from ours: what was overheard cannot be sent again later."""
TIMEOUT_SECONDS: Final = 5
"""For each of at most four questions; a callback whose provider does not answer is to be sent again soon."""
REFUNDS_MAX: Final = 100
"""Most refunds of one charge that are looked at; each also has an event of its own."""

_SIGNATURE = "stripe-signature"
_TIME = re.compile(r"(?:^|,)t=([0-9]{1,12})(?:,|$)")
_EVENT_ID = re.compile(r"[A-Za-z0-9_]{1,255}")
_TEST_KEYS = ("sk_test_", "rk_test_")


class StripeAdapter:
    """Stripe, as the operator has set it up.

    Raises:
        Unavailable: `payment_library_missing`.
        BadInput: `invalid_setting`, of a file that cannot be read, or an address that a key is not sent to.
    """

    name = NAME

    def __init__(self, settings: Settings) -> None:
        try:
            import stripe
        except ModuleNotFoundError:
            raise Unavailable(
                "payment_library_missing",
                "Stripe is set up, and its library is not installed",
                next_step="install it: pip install 'tallystick[stripe]'",
                retry_after_seconds=60,
            ) from None
        base = (settings.stripe_api_base or "").rstrip("/")
        if base and not _is_safe(base):
            raise BadInput(
                "invalid_setting",
                "the key would be sent in the clear: TALLY_STRIPE_API_BASE is neither https nor on this machine",
                next_step="unset it: Stripe's own address is known",
                where="TALLY_STRIPE_API_BASE",
            )
        key, self._secrets = settings.stripe_key or "", settings.stripe_secrets
        self._livemode = not key.startswith(
            _TEST_KEYS
        )  # a key of a kind that we do not know never makes play money real
        self._account = settings.stripe_account
        self._stripe = stripe
        stripe.enable_telemetry = False  # what our server does is no business of theirs
        self._client = stripe.StripeClient(
            key,
            stripe_account=self._account,
            base_addresses={"api": base} if base else None,
            http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
            max_network_retries=0,  # the provider sends its callback again, and we wait for nobody meanwhile
        )

    def verify(self, headers: Mapping[str, str], body: bytes) -> str:
        """See `PaymentAdapter`."""
        header = headers.get(_SIGNATURE, "")
        if not header:
            raise invalid_signature("it has no Stripe-Signature")
        if not any(self._is_signed(body, header, secret) for secret in self._secrets):
            raise invalid_signature("no signature fits the body and a secret, or it was made too long ago")
        said = _TIME.search(header)
        if said is None or int(said[1]) > time.time() + TOLERANCE_SECONDS:
            raise invalid_signature("it was made later than now")
        try:
            event = read_json(body)
        except TallyError as error:
            raise invalid_callback(error.detail) from None
        if not isinstance(event, dict) or event.get("object") != "event":
            raise invalid_callback("it is no event of Stripe's version 1")
        event_id = event.get("id")
        if not isinstance(event_id, str) or _EVENT_ID.fullmatch(event_id) is None:
            raise invalid_callback("the event has no id")
        return event_id

    def _is_signed(self, body: bytes, header: str, secret: str) -> bool:
        try:
            self._stripe.WebhookSignature.verify_header(body, header, secret, TOLERANCE_SECONDS)
        except (self._stripe.SignatureVerificationError, ValueError, TypeError):  # bytes or a header of no kind
            return False
        return True

    def fetch(self, event_id: str) -> PaymentFact:
        """See `PaymentAdapter`."""
        event = self._ask(self._client.v1.events.retrieve, event_id)
        if event.get("id") != event_id:
            raise unverified("it has another id there")
        kind, livemode, account = event.get("type"), event.get("livemode"), event.get("account")
        if not isinstance(kind, str) or not isinstance(livemode, bool):
            raise unverified("it has no type there")
        if livemode is not self._livemode:
            raise _mismatch(livemode)
        if account is not None and account != self._account:
            raise BadInput(
                "payment_account_mismatch",
                "the event is of another account than the one that is set up here",
                next_step="nothing moved; send this endpoint events of its own account, or set TALLY_STRIPE_ACCOUNT",
            )
        if kind not in MOVING_TYPES:
            return PaymentFact(event_id=event_id, type=kind[:100], livemode=livemode, reason="its type moves no money")
        data = event.get("data")
        target = object_id(data.get("object") if isinstance(data, Mapping) else None)
        payment_id, movements, said = self._moved(kind, target, livemode)
        return PaymentFact(
            event_id=event_id,
            type=kind,
            livemode=livemode,
            payment_id=payment_id,
            movements=tuple(movements),
            reason=None if movements else f"as it stands at Stripe, {target} has moved no money",
            **said,
        )

    def _moved(self, kind: str, target: str, livemode: bool) -> tuple[str, list[Movement], dict[str, str]]:
        """The payment that an event is about, what has moved for it in order, and whose it is said to be."""
        services = self._client.v1
        if kind.startswith("payment_intent."):
            intent = self._same_mode(livemode, self._ask(services.payment_intents.retrieve, target))
            paid = paid_by_intent(intent)
            return object_id(intent), [paid] if paid else [], metadata_of(intent)
        if kind in PAID_TYPES or kind == "charge.refunded":
            charge = self._same_mode(livemode, self._ask(services.charges.retrieve, target))
            payment_id, moved, said = self._paid(charge, livemode)
            if kind == "charge.refunded":
                for refund in self._refunds(charge):
                    moved += _only(returned_by_refund(refund, payment_id))
            return payment_id, moved, said
        retrieve = services.disputes.retrieve if kind in DISPUTED_TYPES else services.refunds.retrieve
        read = returned_by_dispute if kind in DISPUTED_TYPES else returned_by_refund
        one = self._same_mode(livemode, self._ask(retrieve, target))
        payment_id, moved, said = self._paid(one, livemode)
        back = read(one, payment_id)
        return payment_id, [*moved, back] if back else [], said

    def _paid(self, one: Object, livemode: bool) -> tuple[str, list[Movement], dict[str, str]]:
        """The payment that a charge, a refund or a dispute belongs to."""
        services = self._client.v1
        intent_id, charge_id = optional_id(one.get("payment_intent")), optional_id(one.get("charge"))
        if intent_id is not None:
            intent = self._same_mode(livemode, self._ask(services.payment_intents.retrieve, intent_id))
            charge = one if one.get("object") == "charge" else None
            return intent_id, _only(paid_by_intent(intent, charge)), metadata_of(intent, one)
        charge = one
        if charge_id is not None:
            charge = self._same_mode(livemode, self._ask(services.charges.retrieve, charge_id))
            if charge.get("payment_intent") is not None:
                return self._paid(charge, livemode)
        elif one.get("object") != "charge":
            raise unverified("no payment belongs to it")
        return object_id(charge), _only(paid_by_charge(charge)), metadata_of(charge, one)

    def _refunds(self, charge: Object) -> list[Object]:
        """The refunds of a charge, the first one first."""
        found = charge.get("refunds")
        if not isinstance(found, Mapping) or found.get("has_more") or not isinstance(found.get("data"), list):
            found = self._ask(self._client.v1.refunds.list, {"charge": object_id(charge), "limit": REFUNDS_MAX})
        data = found.get("data")
        refunds = [one for one in data if isinstance(one, Mapping)] if isinstance(data, list) else []
        return sorted(refunds, key=lambda one: (str(one.get("created", "")), object_id(one)))

    def _same_mode(self, livemode: bool, one: dict[str, Any]) -> dict[str, Any]:
        if one.get("livemode", livemode) is not livemode:
            raise _mismatch(bool(one["livemode"]))
        return one

    def _ask(self, retrieve: Callable[..., Any], what: object) -> dict[str, Any]:
        """What Stripe answers, as plain JSON. No words of its errors are passed on: they may hold a part of a key."""
        try:
            answer: dict[str, Any] = retrieve(what).to_dict()
        except self._stripe.StripeError as error:
            if error.http_status == 404:
                raise unverified("there is no such thing in this account and mode") from None
            status = "" if error.http_status is None else f", status {error.http_status}"
            raise unavailable(NAME, f"{type(error).__name__}{status}") from None
        except (ValueError, TypeError, AttributeError, KeyError):
            raise unavailable(NAME, "its answer cannot be read") from None
        return answer


def _is_safe(base: str) -> bool:
    """Whether a key may be sent there."""
    try:
        parts = urlsplit(base)
        return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    except ValueError:
        return False


def _only(movement: Movement | None) -> list[Movement]:
    return [] if movement is None else [movement]


def _mismatch(livemode: bool) -> BadInput:
    is_, set_up = ("real money", "test") if livemode else ("a test", "live")
    return BadInput(
        "payment_mode_mismatch",
        f"the event is about {is_}, and the key that is set up here is a {set_up} key",
        next_step="nothing moved; send each mode's events to a server with a key of that mode",
    )
