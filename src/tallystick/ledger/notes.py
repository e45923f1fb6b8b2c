"""Signed notes (C2SP signed-note): a text, an empty line, and signature lines under it; with Ed25519 keys.

    — <key name> <base64 of: key id, 4 bytes, then the signature over the text, 64 bytes>

The key id is the first 4 bytes of SHA-256(name, line feed, 0x01, public key). Keys travel as one line of text, in
the form of Go's `note` package: `NAME+KEYID+BASE64` for a public key, `PRIVATE+KEY+NAME+KEYID+BASE64` for a private.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tallystick.core.errors import BadInput

ED25519 = b"\x01"
"""The byte that says which kind of signature it is, in key ids and in keys."""

NOTE_CHARACTERS_MAX = 64 * 1024
SIGNATURES_MAX = 100

_SIGNATURE_LINE = re.compile(r"— (\S+) ([A-Za-z0-9+/]+=*)")
_NEXT_STEP = "use the note as it was published, whole and unchanged"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a key that signs notes: its name and 32 bytes."""

    name: str
    raw: bytes

    @property
    def key_id(self) -> bytes:
        """4 bytes; with the name, it says which key a signature is of."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.raw).digest()[:4]

    def __str__(self) -> str:
        """The key as one line, for people to hand on: a "vkey"."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(ED25519 + self.raw).decode()}"

    def accepts(self, text: str, signature: bytes) -> bool:
        """Is this the key's signature of the text?"""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs notes: its name and the 32 random bytes that are its secret (never shown by `repr`)."""

    name: str
    seed: bytes = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The half to hand on."""
        return PublicKey(self.name, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())

    def secret_text(self) -> str:
        """The private key as one line, for its file alone."""
        return f"PRIVATE+KEY+{self.name}+{self.public.key_id.hex()}+{b64encode(ED25519 + self.seed).decode()}"

    def sign(self, text: str) -> str:
        """The text as a signed note. Ed25519 is deterministic: the same text gives the same note.

        Raises:
            ValueError: the text cannot be a note's: it does not end in a line feed, or holds control characters.
        """
        if not text.endswith("\n") or len(text) < 2 or not _is_note_text(text):
            raise ValueError("a note's text ends in a line feed and has no other control characters")
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        return f"{text}\n— {self.name} {b64encode(self.public.key_id + signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class OpenedNote:
    """A note with at least one good signature: its text, and the known keys that signed it."""

    text: str
    signers: tuple[PublicKey, ...]


def is_key_name(name: str) -> bool:
    """May a key be called this? Not empty, and without white space, plus signs and control characters."""
    return bool(name) and name.isprintable() and "+" not in name and not re.search(r"\s", name)


def parse_public_key(text: str) -> PublicKey:
    """A public key from its line.

    Raises:
        BadInput: `invalid_key`: it is not of the form, or its id is not that of its name and bytes.
    """
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    raw = _exact_base64(encoded)
    if is_key_name(name) and raw is not None and len(raw) == 33 and raw[:1] == ED25519:
        key = PublicKey(name, raw[1:])
        if key.key_id.hex() == key_id:
            return key
    raise BadInput(
        "invalid_key",
        "this is not a public Ed25519 key of the form NAME+KEYID+BASE64, or a character of it is wrong",
        next_step="copy it again from whoever runs the ledger: tally checkpoint show",
    )


def parse_signing_key(text: str) -> SigningKey:
    """A private key from the line that `secret_text` gave.

    Raises:
        BadInput: `invalid_key`; the text is never repeated in the error.
    """
    head, _, rest = text.strip().partition("+KEY+")
    name, _, rest = rest.partition("+")
    key_id, _, encoded = rest.partition("+")
    raw = _exact_base64(encoded)
    if head == "PRIVATE" and is_key_name(name) and raw is not None and len(raw) == 33 and raw[:1] == ED25519:
        key = SigningKey(name, raw[1:])
        if key.public.key_id.hex() == key_id:
            return key
    raise BadInput(
        "invalid_key",
        "the private key's file does not hold one line of the form PRIVATE+KEY+NAME+KEYID+BASE64",
        next_step="restore the file from a backup, or make a new key with `tally checkpoint rotate-key`",
    )


def note_text(note: str) -> str:
    """The text of a note, its last line feed included; nothing is said of its signatures.

    Raises:
        BadInput: `invalid_note`.
    """
    return _split(note)[0]


def open_note(note: str, keys: Sequence[PublicKey]) -> OpenedNote:
    """The text of a note that at least one of these keys has signed. Signatures of other keys are passed over.

    Raises:
        BadInput: `invalid_note`: it is no signed note; `bad_signature`: a signature in the name of one of the keys is
            not its; `unknown_signer`: none of the keys has signed it.
    """
    text, lines = _split(note)
    signers = []
    for name, key_id, signature in lines:
        for key in keys:
            if (key.name, key.key_id) == (name, key_id):
                if not key.accepts(text, signature):
                    raise BadInput(
                        "bad_signature",
                        f"the signature of {name} is not one of this text: either was changed",
                        next_step=_NEXT_STEP,
                    )
                signers.append(key)
    if not signers:
        by = ", ".join(f"{name}+{key_id.hex()}" for name, key_id, _ in lines)
        raise BadInput(
            "unknown_signer",
            f"the note is signed by {by}, and by none of the keys that are trusted here",
            next_step="trust another key only if you had it from whoever runs the ledger",
        )
    return OpenedNote(text, tuple(signers))


def _split(note: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The text, and name, key id and signature of each signature line."""
    head, gap, tail = note.rpartition("\n\n")
    if len(note) > NOTE_CHARACTERS_MAX or not gap or not head or not tail.endswith("\n") or not _is_note_text(note):
        raise _no_note("a text, an empty line and signature lines are due")
    lines = tail[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise _no_note(f"it has more than {SIGNATURES_MAX} signatures")
    found = []
    for line in lines:
        match = _SIGNATURE_LINE.fullmatch(line)
        raw = _exact_base64(match[2]) if match else None
        if match is None or raw is None or not is_key_name(match[1]) or len(raw) < 5:
            raise _no_note("a line below the empty one is not a signature")
        found.append((match[1], raw[:4], raw[4:]))
    return head + "\n", found


def _is_note_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return not re.search(r"[\x00-\x09\x0b-\x1f]", text)


def _exact_base64(text: str) -> bytes | None:
    """The bytes, if this is the one way to write them; base64 would let spare bits differ."""
    try:
        raw = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if b64encode(raw).decode() == text else None


def _no_note(why: str) -> BadInput:
    return BadInput("invalid_note", f"this is not a signed note: {why}", next_step=_NEXT_STEP)
