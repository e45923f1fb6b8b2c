"""What an operator may set, from the environment: `TALLY_*` variables and `DATABASE_URL`."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tallystick.core.errors import BadInput, Problems

RETENTION_DAYS_MIN = 45
"""The shortest time for which a repeated event must be known as such."""


def default_data_dir() -> Path:
    """Where data belongs: /var/lib/tallystick as root, the platform's folder for user data otherwise.

    The embedded PostgreSQL runs under a user of its own when started by root, and must be able to reach
    its files; a home directory is not opened to it.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/tallystick")
    return Path(platformdirs.user_data_dir("tallystick"))


class Settings(BaseSettings):
    """Everything that can be set; each field's description is its documentation. A variable that is empty is not set.

    Raises:
        BadInput: `invalid_setting`, naming the variable.
        Problems: `invalid_setting`, several of them.
    """

    model_config = SettingsConfigDict(env_prefix="TALLY_", env_ignore_empty=True, extra="ignore", populate_by_name=True)

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            problems = [_invalid(f"TALLY_{fault['loc'][0]}".upper(), str(fault["msg"])) for fault in error.errors()]
            if len(problems) == 1:
                raise problems[0] from None
            raise Problems("invalid_setting", problems, next_step="mend each, or unset it") from None

    data_dir: Path = Field(default_factory=default_data_dir, description="Folder of everything that is stored.")
    database_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("database_url", "TALLY_DATABASE_URL", "DATABASE_URL"),
        description="A PostgreSQL 15+ server to use instead of the embedded one.",
    )
    database_role_logins: bool = Field(
        default=False,
        description="Connect to DATABASE_URL's server as each of the database's roles, not as a member of them.",
    )
    host: str = Field(default="127.0.0.1", description="Address that `tally serve` listens on.")
    require_keys: bool | None = Field(
        default=None,
        description="Whether callers must show keys [default: unless only this machine can reach the server].",
    )
    port: int = Field(default=8080, description="Port that `tally serve` listens on.", ge=0, le=65535)
    body_bytes_max: int = Field(default=64 * 1024 * 1024, description="Largest request body, in bytes.", gt=0)
    batch_events_max: int = Field(default=50_000, description="Most events in one request.", gt=0)
    workers: int = Field(default=1, description="Processes that serve requests.", ge=1, le=64)
    group_linger_ms: int = Field(
        default=2, description="How long a group of events waits for others at most, in ms.", ge=0, le=1000
    )
    group_events_max: int = Field(default=4000, description="Most events in one transaction.", gt=0, le=100_000)
    queue_events_max: int = Field(
        default=50_000, description="Most events waiting to be written; beyond it callers are told to wait.", gt=0
    )
    when_database_away: Literal["refuse", "spool"] = Field(
        default="refuse",
        description="What becomes of events while the database is away: refuse them, or keep them in a local spool.",
    )
    spool_events_max: int = Field(default=1_000_000, description="Most events in the spool.", gt=0)
    blocks_dir: Path | None = Field(default=None, description="Folder of the sealed blocks [default: DATA_DIR/blocks].")
    seal_seconds: int = Field(
        default=60, description="How often `tally serve` seals new entries, in seconds; 0: never.", ge=0
    )
    account_seconds: int = Field(
        default=5,
        description="How often `tally serve` ends holds and credits whose life is over, in seconds; 0: never.",
        ge=0,
    )
    jobs: bool = Field(
        default=True, description="Whether `tally serve` runs jobs itself; false where `tally worker` does."
    )
    verify_daily: bool = Field(
        default=True, description="Whether the whole ledger is checked once a day, as `tally verify` does."
    )
    block_entries_max: int = Field(
        default=500_000, description="Most entries in one block; making one takes about 2 KB of memory for each.", gt=0
    )
    retention_days: int | None = Field(
        default=None,
        description="Sealed entries older than this leave the database, and older events are refused; unset: kept.",
        ge=RETENTION_DAYS_MIN,
    )
    gateway_file: Path | None = Field(
        default=None,
        description="YAML file of the gateway's providers and tools [default: openai, anthropic and gemini].",
    )
    stripe_api_key: SecretStr | None = Field(
        default=None, description="Stripe's secret or restricted key, to ask about events with; reading is enough."
    )
    stripe_api_key_file: Path | None = Field(default=None, description="File that holds it, instead.")
    stripe_webhook_secret: SecretStr | None = Field(
        default=None, description="The endpoint's signing secret (whsec_…); several, with spaces between, to change it."
    )
    stripe_webhook_secret_file: Path | None = Field(default=None, description="File that holds them, instead.")
    stripe_account: str | None = Field(
        default=None, description="The connected account (acct_…) whose payments these are [default: the key's own]."
    )
    stripe_api_base: str | None = Field(default=None, description="Where Stripe's API is [default: Stripe's own].")
    webhook_seconds: int = Field(
        default=2, description="How often `tally serve` looks for webhooks to send, in seconds; 0: never.", ge=0
    )
    webhook_allow: str = Field(
        default="",
        description="Hosts and networks, with commas between, that webhooks may reach besides the public internet.",
    )
    webhook_ca_file: Path | None = Field(
        default=None, description="PEM file of authorities that webhooks trust besides the system's."
    )
    webhook_key_file: Path | None = Field(
        default=None, description="Key that webhooks' secrets are kept under [default: DATA_DIR/keys/webhooks.key]."
    )
    webhook_failing_days: int = Field(
        default=5, description="After how many days of nothing but failure an endpoint is disabled.", ge=1
    )
    webhook_log_days: int = Field(
        default=90, description="How long events for webhooks, and the log of sending them, are kept.", ge=7
    )
    log_origin: str = Field(
        default="tallystick.local/ledger", description="Name of this ledger in its signed checkpoints.", min_length=1
    )
    signing_key_file: Path | None = Field(
        default=None, description="Ed25519 key that signs checkpoints [default: DATA_DIR/keys/checkpoint.key]."
    )

    @property
    def keys_are_needed(self) -> bool:
        """Whether callers must show keys: as was set, or unless the address is one that only this machine reaches."""
        return not is_loopback(self.host) if self.require_keys is None else self.require_keys

    @property
    def stripe_key(self) -> str | None:
        """Stripe's key, from the variable or its file.

        Raises:
            BadInput: `invalid_setting`.
        """
        found = _secrets(self.stripe_api_key, self.stripe_api_key_file, "TALLY_STRIPE_API_KEY_FILE")
        return found[0] if found else None

    @property
    def stripe_secrets(self) -> tuple[str, ...]:
        """The signing secrets of Stripe's endpoint, from the variable or its file.

        Raises:
            BadInput: `invalid_setting`.
        """
        return _secrets(self.stripe_webhook_secret, self.stripe_webhook_secret_file, "TALLY_STRIPE_WEBHOOK_SECRET_FILE")


def _secrets(given: SecretStr | None, file: Path | None, name: str) -> tuple[str, ...]:
    if given is not None:
        text = given.get_secret_value()
    elif file is None:
        return ()
    else:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror or "").lower() if isinstance(error, OSError) else "it is no text"
            raise _invalid(name, f"{file} cannot be read: {why}") from None
    return tuple(text.replace(",", " ").split())


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address; of names, only `localhost` is taken for one."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _invalid(name: str, detail: str) -> BadInput:
    return BadInput("invalid_setting", detail, next_step="mend it, or unset it", where=name)
