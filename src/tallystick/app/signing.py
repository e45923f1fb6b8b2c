"""The key that signs checkpoints: made once, kept in a file that nobody else may read, known to the database.

The database holds the public half of every key that was ever used. A private key that is not among them signs
nothing: a restored data directory, a second machine or a mistaken path would otherwise begin another history.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tallystick.app.audit import Act, record_act
from tallystick.app.runtime import Runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.journal.checkpoints import (
    StoredCheckpoint,
    add_signing_key,
    checkpoint_of_size,
    latest_checkpoint,
    list_signing_keys,
    lock_signing_keys,
)
from tallystick.ledger.notes import PublicKey, SigningKey, is_key_name, parse_signing_key

_SEED_BYTES = 32


def signing_key_path(settings: Settings) -> Path:
    """Where the private key is."""
    return settings.signing_key_file or settings.data_dir / "keys" / "checkpoint.key"


def open_signing_key(runtime: Runtime) -> SigningKey:
    """The key that signs this ledger's checkpoints; made now when the ledger has none yet.

    Safe between processes: of several that begin at once, one makes the key and all have it.

    Raises:
        BadInput: `invalid_setting`: the log's name cannot be a key's; `invalid_key`: the file does not hold a key;
            `signing_key_exposed`: others may read the file.
        NotFound: `signing_key_missing`: checkpoints were signed before, and the file is not here.
        Conflict: `signing_key_unknown`: it is the key of another ledger; `log_origin_changed`: it has another name.
        Unavailable: `database_unreachable`.
    """
    path = signing_key_path(runtime.settings)
    origin = _checked_origin(runtime.settings)
    with runtime.database.operator() as connection:
        lock_signing_keys(connection)
        known = list_signing_keys(connection)
        if not path.exists():
            if known:
                raise _missing(path, known)
            _store_new(path, SigningKey(origin, os.urandom(_SEED_BYTES)), replace=False)
        key = read_signing_key(path)
        if key.name != origin:
            raise Conflict(
                "log_origin_changed",
                f"the ledger's checkpoints are signed as {key.name}, and TALLY_LOG_ORIGIN is {origin}",
                next_step=f"set TALLY_LOG_ORIGIN={key.name}: a log keeps its name",
                where="TALLY_LOG_ORIGIN",
            )
        if not known:
            add_signing_key(connection, key.public, runtime.clock())
            record_act(connection, _act("signing_key.make", key, [], runtime))
        elif key.public not in known:
            raise Conflict(
                "signing_key_unknown",
                f"the key in {path} never signed for this ledger; it knows {_names(known)}",
                next_step="restore the ledger's own key file; if it is lost, make a new key deliberately: "
                f"move {path} away and run `tally checkpoint rotate-key`",
                where=str(path),
            )
    return key


def rotate_signing_key(runtime: Runtime) -> SigningKey:
    """Make a new key and sign with it from now on; the old private key is destroyed, its public half stays known.

    The file is replaced last: a crash before that leaves a public key that never signs, and the old key in use.

    Raises:
        BadInput: `invalid_setting`.
        Conflict: `log_origin_changed`.
        Unavailable: `database_unreachable`.
    """
    path = signing_key_path(runtime.settings)
    key = SigningKey(_checked_origin(runtime.settings), os.urandom(_SEED_BYTES))
    with runtime.database.operator() as connection:
        lock_signing_keys(connection)
        known = list_signing_keys(connection)
        for other in known:
            if other.name != key.name:
                raise Conflict(
                    "log_origin_changed",
                    f"the ledger's checkpoints are signed as {other.name}, and TALLY_LOG_ORIGIN is {key.name}",
                    next_step=f"set TALLY_LOG_ORIGIN={other.name}: a log keeps its name",
                    where="TALLY_LOG_ORIGIN",
                )
        add_signing_key(connection, key.public, runtime.clock())
        record_act(connection, _act("signing_key.rotate", key, known, runtime))
    _store_new(path, key, replace=True)
    return key


def known_keys(runtime: Runtime) -> list[PublicKey]:
    """The public halves of every key that signed for this ledger, the oldest first; perhaps none yet."""
    with runtime.database.operator() as connection:
        return list_signing_keys(connection)


def find_checkpoint(runtime: Runtime, size: int | None = None) -> StoredCheckpoint:
    """The newest checkpoint, or the one over exactly so many blocks.

    Raises:
        NotFound: `unknown_checkpoint`.
        Unavailable: `database_unreachable`.
    """
    found = None
    with runtime.database.operator() as connection:
        if size is None:
            found = latest_checkpoint(connection)
        elif 0 < size < 2**63:
            found = checkpoint_of_size(connection, size)
    if found is not None:
        return found
    if size is None:
        raise NotFound(
            "unknown_checkpoint",
            "nothing has been sealed yet, so there is no checkpoint",
            next_step="seal what there is: tally seal --all",
            where="checkpoint",
        )
    raise NotFound(
        "unknown_checkpoint",
        f"no checkpoint was signed over exactly {size} blocks",
        next_step="see the newest one: tally checkpoint show",
        where="checkpoint",
    )


def _act(act: str, key: SigningKey, known: list[PublicKey], runtime: Runtime) -> Act:
    before = {"key_id": known[-1].key_id.hex()} if known else None
    after = {"key_id": key.public.key_id.hex(), "origin": key.name}
    return Act(act, key.public.key_id.hex(), runtime.clock(), before=before, after=after)


def _checked_origin(settings: Settings) -> str:
    if is_key_name(settings.log_origin):
        return settings.log_origin
    raise BadInput(
        "invalid_setting",
        f"{settings.log_origin!r} cannot name a log: no spaces, plus signs or control characters",
        next_step="use a name such as billing.example.com/ledger",
        where="TALLY_LOG_ORIGIN",
    )


def read_signing_key(path: Path) -> SigningKey:
    """The key in a file that nobody else may read.

    Raises:
        BadInput: `signing_key_exposed`, `invalid_key`.
    """
    with path.open(encoding="ascii", errors="replace") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise BadInput(
                "signing_key_exposed",
                f"others may read the private key {path}: its mode is {stat.S_IMODE(mode):04o}",
                next_step=f"chmod 600 {path}; if others have read it, run `tally checkpoint rotate-key` as well",
                where=str(path),
            )
        return parse_signing_key(file.read(4096))


def _store_new(path: Path, key: SigningKey, *, replace: bool) -> None:
    """Write the key file whole or not at all, on the disk before it has its name."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _temporary(path, key.secret_text() + "\n") as written:
        if replace:
            written.replace(path)
        else:
            with suppress(FileExistsError):  # another process was first; its key is the one
                os.link(written, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _temporary(path: Path, text: str) -> Iterator[Path]:
    name = path.with_name(f".{path.name}.{os.getpid()}.new")
    name.unlink(missing_ok=True)
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield name
    finally:
        name.unlink(missing_ok=True)


def _missing(path: Path, known: list[PublicKey]) -> NotFound:
    return NotFound(
        "signing_key_missing",
        f"checkpoints are signed with {_names(known)}, and the private key is not in {path}",
        next_step="restore the file, or set TALLY_SIGNING_KEY_FILE to it; if it is lost, make a new one deliberately: "
        "tally checkpoint rotate-key",
        where=str(path),
    )


def _names(keys: list[PublicKey]) -> str:
    return ", ".join(f"{key.name}+{key.key_id.hex()}" for key in keys)
