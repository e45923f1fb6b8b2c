"""Signed notes and checkpoints: published examples open, and anything that was touched does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput
from tallystick.ledger.checkpoint import Checkpoint, note_sha256, read_checkpoint, sign_checkpoint
from tallystick.ledger.merkle import leaf_hash
from tallystick.ledger.notes import PublicKey, SigningKey, open_note, parse_public_key, parse_signing_key

# The example of Go's package golang.org/x/mod/sumdb/note.
GO_PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_NOTE = (
    GO_TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)

# An example of another implementation of the C2SP form, in Elixir.
OTHER_PUBLIC = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
OTHER_NOTE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)

KEY = SigningKey("example.com/ledger", bytes(range(32)))
CHECKPOINT = Checkpoint("example.com/ledger", 42, leaf_hash(b"root"), leaf_hash(b"previous"))
NOTE = sign_checkpoint(CHECKPOINT, KEY)


def code(note: str, *keys: PublicKey) -> str | None:
    try:
        open_note(note, keys)
    except BadInput as error:
        return error.code
    return None


def test_the_example_of_go_is_signed_as_go_signs_it() -> None:
    key = parse_signing_key(GO_PRIVATE)
    assert (str(key.public), key.secret_text()) == (GO_PUBLIC, GO_PRIVATE)
    assert key.sign(GO_TEXT) == GO_NOTE


@pytest.mark.parametrize(("vkey", "note"), [(GO_PUBLIC, GO_NOTE), (OTHER_PUBLIC, OTHER_NOTE)])
def test_notes_of_other_programs_open(vkey: str, note: str) -> None:
    key = parse_public_key(vkey)
    opened = open_note(note, [key])
    assert opened.text == note.rpartition("\n\n")[0] + "\n"
    assert opened.signers == (key,)


def test_a_note_may_have_more_signatures_of_which_one_is_known() -> None:
    witness = SigningKey("witness.example", bytes(32))
    note = GO_NOTE + witness.sign(GO_TEXT).rpartition("\n\n")[2]
    assert open_note(note, [parse_public_key(GO_PUBLIC)]).signers == (parse_public_key(GO_PUBLIC),)
    assert len(open_note(note, [parse_public_key(GO_PUBLIC), witness.public]).signers) == 2


def test_a_bad_signature_of_a_known_key_spoils_the_note_though_another_is_good() -> None:
    witness = SigningKey("witness.example", bytes(32))
    note = GO_NOTE + witness.sign("other\n").rpartition("\n\n")[2]
    assert code(note, parse_public_key(GO_PUBLIC), witness.public) == "bad_signature"


def test_a_key_of_the_same_name_is_another_key() -> None:
    assert code(NOTE, SigningKey(KEY.name, bytes(32)).public) == "unknown_signer"
    assert code(NOTE) == "unknown_signer"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        "text\n\n",
        GO_NOTE[:-1],
        GO_NOTE.replace("\n\n", "\n"),
        GO_NOTE.replace("— ", "- "),
        GO_NOTE.replace("\n", "\r\n"),
        GO_NOTE.replace("nAM=", "nAN="),  # the same bytes, written otherwise
        GO_NOTE.replace("— PeterNeumann", "—  PeterNeumann"),
        GO_NOTE.replace("PeterNeumann", "Peter+Neumann"),
        GO_NOTE + "\n",
        "\ud800" + GO_NOTE,
        GO_NOTE + GO_NOTE.rpartition("\n\n")[2] * 100,
        "x" * 70_000 + GO_NOTE,
    ],
)
def test_what_is_no_note_is_named_so(note: str) -> None:
    assert code(note, parse_public_key(GO_PUBLIC)) == "invalid_note"


@pytest.mark.parametrize("text", ["", "\n", "no line feed", "a\x00b\n", "tab\there\n"])
def test_nothing_is_signed_that_could_not_be_opened(text: str) -> None:
    with pytest.raises(ValueError, match="line feed"):
        KEY.sign(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PeterNeumann",
        GO_PUBLIC.replace("c74f20a3", "c74f20a4"),
        GO_PUBLIC.replace("TW", "TX"),
        GO_PUBLIC.replace("PeterNeumann", "Peter Neumann"),
        GO_PUBLIC.replace("+AR", "+AQ"),
        GO_PUBLIC.replace("+ARpc", "+Bhpc"),
        GO_PRIVATE,
    ],
)
def test_a_public_key_with_a_wrong_character_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_public_key(text)
    assert caught.value.code == "invalid_key"


def test_a_broken_private_key_is_refused_without_repeating_it() -> None:
    with pytest.raises(BadInput) as caught:
        parse_signing_key(GO_PRIVATE.replace("c74f20a3", "c74f20a4"))
    assert "AYEKFALVFGyN" not in str(caught.value.as_dict())
    assert "seed" not in repr(KEY)


def test_a_checkpoint_is_read_as_it_was_signed() -> None:
    assert read_checkpoint(NOTE, [KEY.public]) == (CHECKPOINT, (KEY.public,))
    assert read_checkpoint(NOTE, None) == (CHECKPOINT, ())
    assert NOTE.startswith("example.com/ledger\n42\n")
    assert note_sha256(NOTE) != note_sha256(NOTE + "x")


@pytest.mark.parametrize(
    "text",
    [
        CHECKPOINT.text().replace("42", "042"),
        CHECKPOINT.text().replace("42", "0"),
        CHECKPOINT.text().replace("42", "-1"),
        CHECKPOINT.text() + "more\n",
        CHECKPOINT.text().replace("previous ", "before "),
        CHECKPOINT.text().partition("previous")[0],
        "\n" + CHECKPOINT.text(),
    ],
)
def test_a_signed_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_checkpoint(KEY.sign(text), [KEY.public])
    assert caught.value.code == "invalid_checkpoint"


def test_a_key_signs_for_its_own_log_only() -> None:
    with pytest.raises(ValueError, match="does not sign for"):
        sign_checkpoint(Checkpoint("example.com/other", 1, bytes(32)), KEY)


@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(1, 255))
def test_any_byte_of_a_checkpoint_that_changes_is_noticed(place: int, change: int) -> None:
    data = bytearray(NOTE.encode())
    data[place] ^= change
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    with pytest.raises(BadInput):
        read_checkpoint(text, [KEY.public])


def test_the_example_in_the_documentation_is_a_checkpoint() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "proofs.md").read_text(encoding="utf-8")
    note = next(block for block in text.split("```\n") if "previous " in block and "\n— " in block)
    (key,) = re.findall(r"signed with the key `([^`]+)`", text)
    checkpoint, _ = read_checkpoint(note, [parse_public_key(key)])
    assert (checkpoint.origin, checkpoint.size) == ("tallystick.local/ledger", 2)
