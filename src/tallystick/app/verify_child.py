"""A process of its own that checks the ledger, for a server or worker that must not be slowed down.

    python -m tallystick.app.verify_child     settings come as one line of JSON on standard input, which stays open:
                                              when it ends the parent is gone, and so is this; standard output gets
                                              one line of JSON, what was found or why nothing was

It gives way to everything else on the machine, and changes nothing: it may be killed at any point.
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
    """Read what to check, check it, say what was found."""
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    os.nice(_NICENESS)
    try:
        answer = _work(Settings(**asked["settings"]))
    except TallyError as error:
        answer = {"error": error.as_dict()}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _work(settings: Settings) -> dict[str, object]:
    from tallystick.app.verify import open_ledger, verify_ledger

    with open_ledger(settings) as ledger:
        report = verify_ledger(ledger, processes=1)
    first = report.findings.kept[0].sentence() if report.findings.kept else None
    return {"entries": report.entries, "orgs": report.orgs, "findings": report.findings.count, "first": first}


def _leave_with_parent() -> None:
    while sys.stdin.readline():
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
