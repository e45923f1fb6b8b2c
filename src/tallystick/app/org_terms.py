"""What has been said about an org besides its plan, as it stands: its standing, budgets and overrides."""

from __future__ import annotations

import msgspec

from tallystick.app.runtime import Runtime
from tallystick.journal.accounts import org_state_text
from tallystick.journal.database import Connection
from tallystick.ledger.org_account import OrgTerms

_decode = msgspec.json.Decoder(OrgTerms).decode


def org_terms(runtime: Runtime, org_id: str) -> OrgTerms:
    """The org's own terms; those of an org of which nothing was said are empty."""
    with runtime.database.org(org_id) as connection:
        return own_terms(connection, org_id)


def own_terms(connection: Connection, org_id: str) -> OrgTerms:
    """The same in a transaction that is under way."""
    text = org_state_text(connection, org_id)
    return OrgTerms() if text is None else _decode(text)
