"""A group of operations in memory: each org's account as it was loaded, and what the group appends to it.

Everything here happens between reading and writing, under the locks of the heads, in the order in which operations
came. What an operation becomes is the state machine's (`ledger.org_machine`); here it is numbered, hashed and encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256

import msgspec

from tallystick.contract.model import Contract
from tallystick.journal.copy_rows import microseconds, row_head
from tallystick.journal.counters import OrgCounters, Progress
from tallystick.journal.heads import Head
from tallystick.journal.operation_rows import NO_TEXTS, Texts, operation_row
from tallystick.journal.operations_load import HoldRow, OrgRow, StoredOperation
from tallystick.journal.prepare import Row
from tallystick.ledger.encoding import SALT_BYTES, operation_fingerprint, personal_json
from tallystick.ledger.entry import instant_json, preimage
from tallystick.ledger.operation_body import encode_part, join_body
from tallystick.ledger.operation_transfers import transfers_of
from tallystick.ledger.operations import Authorize, Operation, Recorded
from tallystick.ledger.org_account import OrgAccount, Step
from tallystick.ledger.receipt import Receipt


class Who(msgspec.Struct, frozen=True, gc=False):
    """Whose doing an entry is: personal data, which may be erased."""

    user_id: str | None = None
    session_id: str | None = None
    attributes: Mapping[str, str] = {}


NOBODY = Who()

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_encode = msgspec.json.encode


class OrgWork:
    """One org in a group.

    Attributes:
        row: its terms, and what is saved with it; as it stands in the database.
        contract: the one in force; None where there is none.
        counters: what limits and budgets count; None where nothing is counted in this group.
        counted_through_seq: where the cursor is to stand after the group.
        holds: rows of the holds that are loaded, by sequence.
        known: the counters that the account has, those that are nothing among them.
        look_at: from when on there may be open holds whose life is over and which are not loaded.
        transfers: (seq, debit account, credit account, pico-credits), in order.
        settled: (its entry, the settlement) of usage that was stored before the settlement that names it.
        is_caught_up: whether counters were brought up to the cursor, so that it must be saved in any case.
        is_kept_up: whether what was over is ended already.
    """

    __slots__ = (
        "account", "contract", "counted_through_seq", "counters", "head", "holds", "is_caught_up", "is_kept_up",
        "known", "look_at", "org_id", "progress", "row", "settled", "transfers",
    )  # fmt: skip

    def __init__(self, row: OrgRow, head: Head, account: OrgAccount, progress: Progress) -> None:
        self.org_id = row.org_id
        self.row = row
        self.head = head
        self.account = account
        self.progress = progress
        self.contract: Contract | None = None
        self.counters: OrgCounters | None = None
        self.counted_through_seq = row.counted_through_seq or 0
        self.holds: dict[int, HoldRow] = {}
        self.known: set[tuple[str, datetime | None]] = set()
        self.look_at = _LONG_AGO
        self.transfers: list[tuple[int, str, str, int]] = []
        self.settled: list[tuple[int, int]] = []
        self.is_caught_up = False
        self.is_kept_up = False

    @property
    def has_entries(self) -> bool:
        """Whether anything was appended."""
        return self.head.seq >= self.head.first_seq

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to be saved."""
        return self.has_entries or self.is_caught_up

    @property
    def is_left_uncounted(self) -> bool:
        """Whether entries may be left for a later group to count, or for another process: that adds no entry."""
        return self.counters is None and self.contract is not None

    def update_row(self) -> OrgRow:
        """The row as it is to be saved, which it is from here on: what is not committed is thrown away."""
        row = self.row
        if self.account.terms_changed:
            row.state = _encode(self.account.terms).decode()
        if self.counters is not None:
            self.counted_through_seq = self.head.seq
        row.counted_through_seq = self.counted_through_seq
        row.progress = _encode(self.progress).decode()
        return row

    def forget_counters(self) -> None:
        """What counters say is to be read anew."""
        self.known.clear()
        self.account.used.clear()
        self.account.reserved.clear()

    def committed(self) -> None:
        """What was changed is saved, so that the next group can go on from here."""
        if self.account.terms_changed:
            self.counters = None  # budgets may have changed, and with them what is counted
        if self.counters is not None:
            self.counters.added.clear()
        self.account.committed()
        if len(self.holds) > len(self.account.holds):
            self.holds = {seq: row for seq, row in self.holds.items() if seq in self.account.holds}
        self.transfers = []
        self.settled = []
        self.is_caught_up = self.is_kept_up = False


class Appender:
    """Makes entries: their numbers, bodies, fingerprints, leaves and rows.

    Attributes:
        now: when all of them are recorded.
        rows: of `ledger_entries`, as COPY takes them; of each org in the order of its sequence.
        stored: what was written here, by org, kind and request id; what resolved a hold, by the hold's id.
    """

    def __init__(self, now: datetime, rate_version: str, random_bytes: Callable[[int], bytes]) -> None:
        self.now = now
        self.rows: list[bytes] = []
        self.stored: dict[tuple[str, str, str], tuple[StoredOperation, Recorded]] = {}
        self.usage: dict[tuple[str, str], tuple[Row, Receipt]] = {}
        self._rate_version = rate_version
        self._random_bytes = random_bytes
        self._now_us = microseconds(now)
        self._now_json = instant_json(now)

    def add_usage(self, org: OrgWork, request_id: str, row: Row) -> Receipt:
        """An event becomes the org's next entry."""
        head = org.head
        head.seq += 1
        if row.time_us > head.time_max_us:
            head.time_max_us, head.time_max_json = row.time_us, row.time_json
        leaf = sha256(b"\x00" + preimage(row.entry_json, head.seq, head.time_max_json)).digest()
        self.rows += (row_head(head.seq, head.time_max_us, leaf), row.tail)
        head.amount_pico += row.our_cost_pico
        head.recorded_at = self.now
        receipt = Receipt(
            status="accepted",
            org_id=org.org_id,
            request_id=request_id,
            fingerprint=row.fingerprint.hex(),
            seq=head.seq,
            recorded_at=row.recorded_at,
            leaf=leaf.hex(),
            cost_pico=row.cost_pico,
            cost_status=row.status,
            rate_version=row.rate_version,
            reason=row.reason,
        )
        self.usage[org.org_id, request_id] = (row, receipt)
        return receipt

    def add_steps(
        self,
        org: OrgWork,
        steps: list[Step],
        operation: Operation | None,
        who: Who = NOBODY,
        hold: Authorize | None = None,
    ) -> Recorded:
        """What the state machine made of an operation becomes the org's next entries; the first one's answer.

        Args:
            operation: None for what follows by itself.
            who: whose doing the first one is.
            hold: what was asked for when the hold was made that the first one resolves.
        """
        first = self._add(org, steps[0], operation, who, hold)
        for step in steps[1:]:
            self._add(org, step, None, NOBODY, None)
        return first

    def _add(self, org: OrgWork, step: Step, operation: Operation | None, who: Who, hold: Authorize | None) -> Recorded:
        head, org_id, kind = org.head, org.org_id, step.kind
        head.seq += 1
        if step.seq != head.seq:
            raise RuntimeError(f"the machine numbered {step.seq} what is {org_id}'s entry {head.seq}")
        if self._now_us > head.time_max_us:
            head.time_max_us, head.time_max_json = self._now_us, self._now_json
        head.recorded_at = self.now
        org.account.wallet.reach(self.now)
        org.progress.at = org.account.wallet.latest
        request = encode_part(step.request)
        body = join_body(request, encode_part(step.result))
        salt = self._random_bytes(SALT_BYTES) if operation is None else operation.salt
        request_id = step.request_id or (operation.request_id if operation is not None else "")
        personal = personal_json(who.session_id, who.user_id, who.attributes)
        fingerprint = operation_fingerprint(salt, kind, org_id, request_id, request, personal)
        asked = step.request if isinstance(step.request, Authorize) else hold
        row, leaf = operation_row(
            org_id,
            kind,
            request_id,
            body,
            texts=NO_TEXTS if asked is None else _texts(asked),
            user_id=who.user_id,
            session_id=who.session_id,
            attributes=who.attributes,
            salt=salt,
            fingerprint=fingerprint,
            refers_to_seq=step.refers_to_seq,
            seq=head.seq,
            time_max_us=head.time_max_us,
            time_max_json=head.time_max_json,
            recorded_us=self._now_us,
            recorded_json=self._now_json,
            rate_version=self._rate_version,
        )
        self.rows.append(row)
        org.transfers += [(head.seq, *transfer) for transfer in transfers_of(kind, step.request, step.result)]
        recorded = Recorded(
            org_id=org_id,
            kind=kind,
            seq=head.seq,
            request_id=request_id,
            recorded_at=self.now,
            request=step.request,
            result=step.result,
            fingerprint=fingerprint.hex(),
            leaf=leaf.hex(),
            rate_version=self._rate_version,
            refers_to_seq=step.refers_to_seq,
        )
        if kind != "denial":
            stored = StoredOperation(
                head.seq,
                kind,
                request_id,
                self.now,
                who.user_id,
                who.session_id,
                who.attributes,
                salt,
                fingerprint,
                leaf,
                self._rate_version,
                step.refers_to_seq,
                "",
            )
            self.stored[org_id, kind, request_id] = (stored, recorded)
        return recorded


def _texts(asked: Authorize) -> Texts:
    return asked.feature, asked.environment, asked.provider, asked.model, asked.api_key_id, asked.action
