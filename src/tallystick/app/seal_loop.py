"""Sealing beside a running server: looked at every `seal_seconds`, done by a process of its own, visible to `/readyz`.

Whether anything is due is asked by a thread and costs one query; sealing itself runs in `app.seal_child`, so that it
takes neither the server's interpreter nor, being nice, the processor that requests need. What came of the last run is
kept in a small file in the data directory, from which every process that serves can tell it.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from tallystick.app.health import Check
from tallystick.app.jobs import Recorder, sentence_of
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_is_due
from tallystick.app.settings import Settings
from tallystick.core.errors import TallyError
from tallystick.core.instants import format_instant
from tallystick.core.struct_types import work_out

RETENTION_SECONDS = 3600
"""How often entries that are old enough are let go, when retention is set."""
WAIT_SECONDS_MAX = 3600
"""The longest wait after runs that failed; it doubles with each."""
_STOP_SECONDS = 5
_log = logging.getLogger("tallystick.seal")


class SealState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of the last run of sealing.

    Attributes:
        at: when it ended.
        error: why it failed, or what it found; None when all is well.
        entries: how many entries it sealed.
        last_sealed_at: when a run last sealed any.
    """

    at: datetime
    error: str | None = None
    entries: int = 0
    last_sealed_at: datetime | None = None


work_out(SealState)


def read_seal_state(settings: Settings) -> SealState | None:
    """What came of the last run; None when there was none."""
    try:
        return msgspec.json.decode(_state_path(settings).read_bytes(), type=SealState)
    except (OSError, msgspec.DecodeError):
        return None


def check_sealing(settings: Settings) -> Check:
    """Sealing as one of the things that readiness tells: it may degrade the service, and never stops it."""
    if not settings.seal_seconds:
        return Check("sealing", True, "it is switched off here: `tally seal` does it by hand")
    state = read_seal_state(settings)
    if state is None:
        return Check("sealing", True, "nothing was due to be sealed yet")
    sealed_at = None if state.last_sealed_at is None else format_instant(state.last_sealed_at)
    figures = {"last_run_at": format_instant(state.at), "last_sealed_at": sealed_at, "entries": state.entries}
    if state.error is not None:
        return Check("sealing", False, state.error, figures)
    return Check("sealing", True, f"the last run sealed {state.entries:,} entries", figures)


class SealLoop:
    """A thread that has entries sealed, from `start()` to `stop()`; one for all the processes that serve is enough."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._guard = threading.Lock()
        self._recorder = Recorder(runtime, "seal")
        self._retention_due = 0.0  # by the clock that only goes forward
        self._thread = threading.Thread(target=self._run, name="tally-seal", daemon=True)

    def __enter__(self) -> SealLoop:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin, unless sealing is switched off."""
        if self._settings.seal_seconds:
            self._thread.start()

    def stop(self) -> None:
        """End; a run that is under way is killed, which is safe, and done again by the next server."""
        self._stopping.set()
        with self._guard:
            if self._child is not None:
                self._child.kill()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.wait(min(self._settings.seal_seconds * 2**failures, WAIT_SECONDS_MAX)):
            started_at = self._runtime.clock()
            try:
                failed = self._look(started_at)
            except TallyError as error:  # the database is away; it is told elsewhere
                _log.warning("sealing could not look at the database: %s", error.detail)
                self._recorder.note(started_at, 0, "", sentence_of(error))
                failed = True
            except Exception as error:
                _log.exception("sealing failed")
                self._recorder.note(started_at, 0, "", sentence_of(error))
                failed = True
            failures = min(failures + 1, 10) if failed else 0

    def _look(self, started_at: datetime) -> bool:
        """Have sealed what is due; whether it failed."""
        retention = self._settings.retention_days is not None and time.monotonic() >= self._retention_due
        if not retention and not seal_is_due(self._runtime):
            self._recorder.note(started_at, 0, "nothing was due to be sealed")
            return False
        answer = self._have_done(retention=retention)
        if self._stopping.is_set():
            return False
        error = _error_of(answer)
        if error is None and retention:
            self._retention_due = time.monotonic() + RETENTION_SECONDS
        now, entries = self._runtime.clock(), int(answer.get("entries", 0))
        before = read_seal_state(self._settings)
        sealed_at = now if entries else None if before is None else before.last_sealed_at
        _write_state(self._settings, SealState(now, error, entries, sealed_at))
        self._recorder.note(started_at, entries, f"{entries:,} entries were sealed", error)
        if error is not None:
            _log.error("sealing: %s", error)
        elif entries or answer.get("forgotten"):
            _log.info("sealed %s entries; %s left the database", entries, answer.get("forgotten", 0))
        return error is not None

    def _have_done(self, *, retention: bool) -> dict[str, Any]:
        asked = {"settings": self._settings.model_dump(mode="json"), "retention": retention}
        with self._guard:
            if self._stopping.is_set():
                return {}
            child = self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", "tallystick.app.seal_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the server, who ends this
            )
        assert child.stdin is not None  # noqa: S101 - it was asked for
        assert child.stdout is not None  # noqa: S101 - it was asked for
        try:
            child.stdin.write(json.dumps(asked).encode() + b"\n")
            child.stdin.flush()
            said = child.stdout.readline()
        except BrokenPipeError:
            said = b""
        complaint = child.communicate()[1]
        with self._guard:
            self._child = None
        if said:
            answer: dict[str, Any] = json.loads(said)
            return answer
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        return {"error": {"detail": f"the sealing process ended with code {child.returncode}: {last}"}}


def _error_of(answer: dict[str, Any]) -> str | None:
    if "error" in answer:
        return str(answer["error"]["detail"])
    if answer.get("tampered"):
        org, seq = answer["tampered"][0]
        return f"entry {seq} of {org} is not the one that was written; it is not sealed: run `tally verify`"
    if answer.get("kept_back"):
        return str(answer["kept_back"][0]["detail"])
    return None


def _state_path(settings: Settings) -> Path:
    return settings.data_dir / "sealing.json"


def _write_state(settings: Settings, state: SealState) -> None:
    path = _state_path(settings)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(msgspec.json.encode(state))
        temporary.replace(path)
    except OSError as error:
        _log.warning("what came of sealing could not be noted: %s", error)
