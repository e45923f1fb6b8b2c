"""Checkpoints of the log of sealed blocks (C2SP tlog-checkpoint): its size and root at a moment, signed.

    example.com/ledger                              the log's name: its origin
    42                                              how many blocks it has
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=    the root of the tree over their statements, base64
    previous 5f0c…                                  SHA-256 of the whole note before this one; zeros in the first

The last line is an extension of ours: it chains the notes, so that one that was signed and then withheld leaves a hole.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from tallystick.core.errors import BadInput
from tallystick.ledger.merkle import HASH_BYTES
from tallystick.ledger.notes import OpenedNote, PublicKey, SigningKey, note_text, open_note

NO_PREVIOUS = bytes(HASH_BYTES)
"""What the first checkpoint names as the one before it."""

_TEXT = re.compile(r"([^\n]+)\n([1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\nprevious ([0-9a-f]{64})\n")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Signed: the first `size` blocks of the log `origin` have this root. `previous`: the last note's hash."""

    origin: str
    size: int
    root: bytes
    previous: bytes = NO_PREVIOUS

    def text(self) -> str:
        """The note's text."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\nprevious {self.previous.hex()}\n"


def sign_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The checkpoint as a signed note.

    Raises:
        ValueError: the origin is not the key's name.
    """
    if checkpoint.origin != key.name:
        raise ValueError(f"the key {key.name} does not sign for {checkpoint.origin}")
    return key.sign(checkpoint.text())


def note_sha256(note: str) -> bytes:
    """What the next checkpoint names as `previous`: the hash of the whole note, signatures included."""
    return sha256(note.encode()).digest()


def read_checkpoint(note: str, keys: Sequence[PublicKey] | None) -> tuple[Checkpoint, tuple[PublicKey, ...]]:
    """A checkpoint from its note, and which of the keys signed it.

    Args:
        note: the whole note.
        keys: those whose signature counts; None: read it without asking who signed it.

    Raises:
        BadInput: `invalid_note`, `bad_signature`, `unknown_signer` (see `notes.open_note`); `invalid_checkpoint`: the
            text is not a checkpoint's.
    """
    opened = OpenedNote(note_text(note), ()) if keys is None else open_note(note, keys)
    match = _TEXT.fullmatch(opened.text)
    root = b64decode(match[3]) if match else b""
    if match is None or b64encode(root).decode() != match[3]:
        raise BadInput(
            "invalid_checkpoint",
            "the note's text is not a checkpoint: origin, size, root and the line `previous` are due",
            next_step="use a checkpoint as `tally checkpoint show` prints it",
        )
    if any(key.name != match[1] for key in opened.signers):
        raise BadInput(
            "invalid_checkpoint",
            f"the checkpoint is of the log {match[1]}, and signed by {opened.signers[0].name}: a log signs for itself",
            next_step="use a checkpoint as `tally checkpoint show` prints it",
        )
    return Checkpoint(match[1], int(match[2]), root, bytes.fromhex(match[4])), opened.signers
