"""Who acts: named where somebody comes in, and written down with what they do (see `app.audit`)."""

from __future__ import annotations

from tallystick.journal.acting import act_as, acting, current_actor, login_name
from tallystick.ledger.acts import Actor, ActorKind

__all__ = ["Actor", "ActorKind", "act_as", "acting", "current_actor", "login_name"]
