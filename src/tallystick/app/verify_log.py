"""Checking the log of blocks: every checkpoint's signature, its place in the chain, its root, and its note's file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tallystick.app.verify_report import Findings, VerifyReport
from tallystick.archive.paths import CHECKPOINTS, note_path, note_size
from tallystick.core.errors import BadInput
from tallystick.journal.checkpoints import latest_checkpoint
from tallystick.journal.database import Connection, Database
from tallystick.journal.sealing import Block, be_sealer, checkpoint_sizes
from tallystick.journal.verify_rows import ask
from tallystick.ledger.checkpoint import NO_PREVIOUS, Checkpoint, note_sha256, read_checkpoint
from tallystick.ledger.merkle import Frontier, leaf_hash
from tallystick.ledger.notes import PublicKey

SEALER_SECONDS_MAX = 60.0
"""How long a sealer that is at work is waited for, to see whether it makes what is not there yet."""


def check_log(
    database: Database,
    connection: Connection,
    blocks: Sequence[Block],
    folder: Path,
    report: VerifyReport,
    keys: Sequence[PublicKey],
    kept: Checkpoint | None,
) -> None:
    """Check the log and its checkpoints.

    Args:
        database: to see what a sealer that is at work has done since.
        connection: the snapshot in which all is read.
        blocks: every block, in order.
        folder: of the blocks.
        report: where to note what is found.
        keys: public keys that are trusted; none: those that the database has.
        kept: a checkpoint that was kept elsewhere; the log must have grown out of it.
    """
    findings = report.findings
    known = _known_keys(connection, findings)
    report.keys = [str(key) for key in known]
    notes = [(size, note) for size, note in ask(connection, "checkpoints")]
    roots = _roots(blocks, findings)
    previous = NO_PREVIOUS
    for size, note in notes:
        name = note_path(size)
        try:
            checkpoint, _ = read_checkpoint(note, list(keys) or known)
        except BadInput as error:
            findings.add("checkpoint", f"checkpoint {size}: {error.detail}", file=name)
        else:
            _expect_checkpoint(checkpoint, size, previous, roots, known, findings)
        previous = note_sha256(note)
        _expect_file(database, folder, name, note, size, findings)
    _expect_no_others(database, folder, findings)
    report.blocks, report.checkpoints = len(blocks), len(notes)
    report.checkpoint = notes[-1][0] if notes else None
    last = blocks[-1].block if blocks else 0
    if last > (notes[-1][0] if notes else 0) and not _is_made(database, folder, last):
        findings.add("checkpoint", f"no checkpoint covers block {last}; seal again: it is made up for")
    if kept is not None:
        _expect_grown(kept, roots, known, findings)
        report.kept_checkpoint = kept.size


def _known_keys(connection: Connection, findings: Findings) -> list[PublicKey]:
    keys = []
    for key_id, name, raw in ask(connection, "keys"):
        key = PublicKey(name, bytes(raw))
        keys.append(key)
        if key.key_id.hex() != key_id:
            findings.add("signing_key", f"the signing key {key_id} is not the key that has this id")
    return keys


def _roots(blocks: Sequence[Block], findings: Findings) -> list[bytes]:
    """The root of the log of the first n blocks, at place n."""
    log = Frontier()
    roots = [log.root()]
    for number, block in enumerate(blocks, start=1):
        if block.block != number:
            findings.add(
                "block_statement", f"block {number} is missing: {block.block} comes in its place", file=block.path
            )
        log.add(leaf_hash(block.statement.encode()))
        roots.append(log.root())
    return roots


def _expect_checkpoint(
    checkpoint: Checkpoint,
    size: int,
    previous: bytes,
    roots: Sequence[bytes],
    known: Sequence[PublicKey],
    findings: Findings,
) -> None:
    name = note_path(size)
    if checkpoint.size != size:
        findings.add("checkpoint", f"checkpoint {size} is signed for a log of {checkpoint.size} blocks", file=name)
    elif size >= len(roots):
        findings.add("checkpoint", f"checkpoint {size} covers more blocks than there are", file=name)
    elif checkpoint.root != roots[size]:
        what = f"checkpoint {size}: the statements of its blocks do not give the root that was signed"
        findings.add("checkpoint", what, file=name)
    if checkpoint.previous != previous:
        what = f"checkpoint {size} does not name the one before it: one is missing, or was replaced"
        findings.add("checkpoint", what, file=name)
    if known and checkpoint.origin != known[0].name:
        findings.add("checkpoint", f"checkpoint {size} is of another log: {checkpoint.origin}", file=name)


def _is_made(database: Database, folder: Path, size: int) -> bool:
    """Whether a checkpoint over so many blocks or more is there with its file, now or once the sealer is done.

    A block, its checkpoint and the file of that are written one after another: in between, nothing is wrong.
    """
    until = time.monotonic() + SEALER_SECONDS_MAX
    while True:
        with database.operator() as connection:
            idle = be_sealer(connection, wait=False)
            newest = latest_checkpoint(connection)
        if newest is not None and newest.size >= size and (folder / note_path(newest.size)).exists():
            return True
        if idle or time.monotonic() > until:
            return False
        time.sleep(0.05)


def _expect_file(database: Database, folder: Path, name: str, note: str, size: int, findings: Findings) -> None:
    path = folder / name
    try:
        if not path.exists():
            _is_made(database, folder, size)
        same = path.read_bytes() == note.encode()
    except FileNotFoundError:
        findings.add(
            "note_file", f"the note of checkpoint {size} is not there; seal again: it is made up for", file=name
        )
    except OSError as error:
        findings.add("note_file", f"the note of checkpoint {size} cannot be read: {error.strerror}", file=name)
    else:
        if not same:
            findings.add("note_file", f"the note of checkpoint {size} is not the one that was signed", file=name)


def _expect_no_others(database: Database, folder: Path, findings: Findings) -> None:
    found = sorted((folder / CHECKPOINTS).glob("*.note"))
    with database.operator() as connection:  # read after the files: a note is recorded before it has one
        known = checkpoint_sizes(connection)
    for path in found:
        if note_size(path) not in known:
            findings.add("note_file", "a note that the database does not know", file=f"{CHECKPOINTS}/{path.name}")


def _expect_grown(kept: Checkpoint, roots: Sequence[bytes], known: Sequence[PublicKey], findings: Findings) -> None:
    if known and kept.origin != known[0].name:
        findings.add("kept_checkpoint", f"the checkpoint that was kept is of another log: {kept.origin}")
    elif kept.size >= len(roots):
        what = (
            f"the checkpoint that was kept covers {kept.size} blocks, and there are {len(roots) - 1}: some were removed"
        )
        findings.add("kept_checkpoint", what)
    elif kept.root != roots[kept.size]:
        what = f"the log was rewritten: its first {kept.size} blocks are not those of the checkpoint that was kept"
        findings.add("kept_checkpoint", what)
