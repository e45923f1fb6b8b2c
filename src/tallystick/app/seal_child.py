"""A process of its own that seals, and lets old entries go, for a server that must not be slowed down.

    python -m tallystick.app.seal_child     settings come as one line of JSON on standard input, which stays open:
                                            when it ends the parent is gone, and so is this; standard output gets
                                            one line of JSON, what was done or why not

It gives way to everything else on the machine: the lowest priority but one for the processor. Being killed at any
point is safe; see `app.seal`.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from tallystick.app.settings import Settings
from tallystick.core.errors import TallyError

_NICENESS = 15


def main() -> None:
    """Read what to do, do it, say what was done."""
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    os.nice(_NICENESS)
    answer: dict[str, object]
    try:
        answer = _work(Settings(**asked["settings"]), retention=asked["retention"])
    except TallyError as error:
        answer = {"error": error.as_dict()}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _work(settings: Settings, *, retention: bool) -> dict[str, object]:
    from tallystick.app.acting import Actor, act_as
    from tallystick.app.retention import run_retention
    from tallystick.app.runtime import open_runtime
    from tallystick.app.seal import seal_once

    act_as(Actor("job", "seal", "serve"))
    with open_runtime(settings) as runtime:
        sealed = seal_once(runtime)
        answer: dict[str, object] = {
            "blocks": len(sealed.blocks),
            "entries": sealed.entries,
            "left": sealed.left,
            "tampered": [[one.org_id, one.seq] for one in sealed.tampered],
        }
        if retention:
            done = run_retention(runtime)
            answer |= {"forgotten": done.entries, "kept_back": [error.as_dict() for error in done.refused]}
    return answer


def _leave_with_parent() -> None:
    while sys.stdin.readline():
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
