"""The secrets that webhooks are signed with: drawn, shown once, and kept encrypted under a key beside the database.

The key is 32 random bytes in a file that nobody else may read, made with the first secret. Whoever has the database, or
a copy of it, has no secret; every machine that sends webhooks needs the file. Each secret is sealed with AES-256-GCM,
bound to its endpoint and place, so that one cannot be put in the place of another.
"""

from __future__ import annotations

import base64
import os
import secrets
import stat
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from standardwebhooks.webhooks import Webhook

from tallystick.app.settings import Settings
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.journal.database import Connection
from tallystick.journal.webhook_endpoints import SealedSecret, is_any_secret

_SECRET_BYTES = 32
_KEY_BYTES = 32
_NONCE_BYTES = 12
_KEY_PREFIX = "tallystick-webhooks-key:"


def new_secret() -> str:
    """A secret, as its receiver is shown it: `whsec_` and base64."""
    # Never from the runtime's source of random bytes: a demonstration's is the same each time.
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


class SecretBox:
    """Seals and opens secrets under one key.

    Attributes:
        key_id: by which the key is known; nothing of the key follows from it.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self.key_id = sha256(b"tallystick webhooks key v1\n" + key).hexdigest()[:16]

    def seal(self, secret: str, endpoint_id: str, ordinal: int) -> bytes:
        """A secret as it is stored."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), _place(endpoint_id, ordinal))

    def open(self, sealed: SealedSecret) -> str:
        """The secret.

        Raises:
            Conflict: `webhook_key_unknown`: it was sealed under another key, or changed since.
        """
        try:
            nonce, text = sealed.sealed[:_NONCE_BYTES], sealed.sealed[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, text, _place(sealed.endpoint_id, sealed.ordinal)).decode()
        except (InvalidTag, ValueError):
            raise Conflict(
                "webhook_key_unknown",
                f"secret {sealed.ordinal} of {sealed.endpoint_id} does not open with the key that is here",
                next_step="restore the key file it was sealed under; if that is lost, give the endpoint another: "
                f"tally webhooks rotate {sealed.endpoint_id} --overlap 0s",
                where=sealed.endpoint_id,
            ) from None


def sign(box: SecretBox, kept: Sequence[SealedSecret], now: datetime, *, event_id: str, body: bytes) -> dict[str, str]:
    """The headers of a delivery by Standard Webhooks, with a signature by each secret that signs at this instant.

    Args:
        kept: the endpoint's secrets, the newest first.

    Raises:
        Conflict: `webhook_key_unknown`, of the newest.
    """
    signatures = []
    for place, sealed in enumerate(kept):
        if sealed.signs_until is not None and sealed.signs_until <= now:
            continue
        try:
            secret = box.open(sealed)
        except Conflict:
            if place == 0:
                raise
            continue  # what the lost key had sealed signs no more
        signatures.append(Webhook(secret).sign(event_id, now.astimezone(UTC), body.decode()))
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def open_box(settings: Settings, connection: Connection) -> SecretBox:
    """The key of this installation; made now where no secret was ever sealed. An operator's or a writer's transaction.

    Raises:
        BadInput: `invalid_key`, `webhook_key_exposed`.
        NotFound: `webhook_key_missing`: secrets are sealed, and the file is not here.
    """
    path = webhook_key_path(settings)
    if not path.exists():
        if is_any_secret(connection):
            raise NotFound(
                "webhook_key_missing",
                f"secrets of webhooks are sealed under a key that is not in {path}",
                next_step="restore the file, or set TALLY_WEBHOOK_KEY_FILE to it; if it is lost: tally webhooks "
                "new-key, and give each endpoint another secret (tally webhooks rotate)",
                where=str(path),
            )
        _store(path)
    return SecretBox(_read(path))


def read_key(settings: Settings) -> SecretBox | None:
    """The key of this installation, where it is here; none is made.

    Raises:
        BadInput: `invalid_key`, `webhook_key_exposed`.
    """
    path = webhook_key_path(settings)
    return SecretBox(_read(path)) if path.exists() else None


def make_key(settings: Settings) -> Path:
    """Make a key file where there is none, in the place of one that is lost; where it is.

    Raises:
        Conflict: `webhook_key_there`.
    """
    path = webhook_key_path(settings)
    if path.exists():
        raise Conflict(
            "webhook_key_there",
            f"there is a key in {path}",
            next_step="nothing is to be done; move it away first if it must not be used any more",
            where=str(path),
        )
    _store(path)
    return path


def webhook_key_path(settings: Settings) -> Path:
    """Where the key is that secrets are sealed under."""
    return settings.webhook_key_file or settings.data_dir / "keys" / "webhooks.key"


def _place(endpoint_id: str, ordinal: int) -> bytes:
    return f"tallystick webhook secret v1\n{endpoint_id}\n{ordinal}".encode()


def _read(path: Path) -> bytes:
    with path.open(encoding="ascii", errors="replace") as file:
        mode = os.fstat(file.fileno()).st_mode
        text = file.read(1024).strip()
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadInput(
            "webhook_key_exposed",
            f"others may read the key {path}: its mode is {stat.S_IMODE(mode):04o}",
            next_step=f"chmod 600 {path}",
            where=str(path),
        )
    with suppress(ValueError):
        key = bytes.fromhex(text.removeprefix(_KEY_PREFIX))
        if text.startswith(_KEY_PREFIX) and len(key) == _KEY_BYTES:
            return key
    raise BadInput(
        "invalid_key", f"{path} does not hold a key for webhooks", next_step="restore the file", where=str(path)
    )


def _store(path: Path) -> None:
    """Write a new key whole or not at all; of several that begin at once, one is first, and its key is the one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.new")
    try:
        descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(_KEY_PREFIX + secrets.token_hex(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(written, path)
    finally:
        written.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
