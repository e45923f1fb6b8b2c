r"""Who sells and who is billed: the seller's block of a contract, and the billing profile of an org, and their hashes.

    seller    SHA-256("tallystick seller v1\n" ‖ canonical JSON of the block's members)
    bill-to   SHA-256("tallystick billing profile v1\n" ‖ salt ‖ canonical JSON of the profile)

A profile may name a person, whose data can be erased: its hash is salted, so that nobody can find out by trying what
was erased. Members that are not there are left out.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

import msgspec

from tallystick.contract.model import Seller
from tallystick.core.errors import BadInput
from tallystick.core.struct_types import work_out
from tallystick.invoice.canonical import canonical_json
from tallystick.ledger.members import Members

PROFILE_MEMBERS: Final = (
    "request_id", "author", "name", "address", "tax_id", "email", "language", "purchase_order", "user_id",
)  # fmt: skip
ADDRESS_LINES_MAX: Final = 8
_LANGUAGE_CHARS_MAX: Final = 35


class Profile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who is billed.

    Attributes:
        name: of the business, or the person.
        address: line by line.
        language: a BCP 47 tag such as `de-DE`, for documents.
        purchase_order: what the customer wants named on its invoices.
        user_id: of a sole trader, the person that this is: erasing that user erases the profile.
    """

    name: str
    address: tuple[str, ...] = ()
    tax_id: str | None = None
    email: str | None = None
    language: str | None = None
    purchase_order: str | None = None
    user_id: str | None = None


work_out(Profile)


def read_profile(raw: object) -> tuple[Profile, str, str | None]:
    """A profile as it was sent, with its author and the request's id, if there is any.

    Args:
        raw: the decoded JSON value, with the members `PROFILE_MEMBERS`.

    Raises:
        BadInput: the one fault, `where` being the member.
        Problems: `invalid_request`, several of them.
    """
    members = Members(raw, PROFILE_MEMBERS, "a billing profile")
    language = members.text_or_none("language")
    if language is not None and not (
        language.isascii() and len(language) <= _LANGUAGE_CHARS_MAX and language.replace("-", "").isalnum()
    ):
        members.fault("invalid_language", "language", "it is no tag of a language", "send one such as de-DE")
    profile = Profile(
        name=members.text("name"),
        address=members.texts("address", ADDRESS_LINES_MAX),
        tax_id=members.text_or_none("tax_id"),
        email=members.text_or_none("email"),
        language=language,
        purchase_order=members.text_or_none("purchase_order"),
        user_id=members.text_or_none("user_id"),
    )
    author, request_id = members.text("author"), members.text_or_none("request_id")
    members.raise_faults()
    return profile, author, request_id


def profile_json(profile: Profile) -> bytes:
    """The canonical JSON of a profile."""
    return canonical_json(msgspec.to_builtins(profile))


def parse_profile(text: str) -> Profile:
    """The profile of that JSON.

    Raises:
        BadInput: `invalid_profile`.
    """
    try:
        return msgspec.json.decode(text, type=Profile)
    except ValueError as error:
        raise BadInput(
            "invalid_profile", f"it cannot be read as a billing profile: {error}", next_step="run `tally verify`"
        ) from None


def profile_sha256(salt: bytes, profile: bytes) -> bytes:
    """The salted hash of a profile's canonical JSON."""
    return sha256(b"tallystick billing profile v1\n" + salt + profile).digest()


def seller_members(seller: Seller) -> dict[str, Any]:
    """The seller as plain JSON members; those that are not there are left out."""
    members = {
        "name": seller.name,
        "address": list(seller.address),
        "tax_id": seller.tax_id,
        "registration": seller.registration,
        "email": seller.email,
        "website": seller.website,
        "how_to_pay": list(seller.how_to_pay),
        "number_prefix": seller.number_prefix,
    }
    return {name: value for name, value in members.items() if value}


def seller_sha256(seller: Seller | None) -> str | None:
    """The hash of the seller, in hex; None where there is none."""
    if seller is None:
        return None
    return sha256(b"tallystick seller v1\n" + canonical_json(seller_members(seller))).hexdigest()
