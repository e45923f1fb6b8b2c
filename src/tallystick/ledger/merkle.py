"""Merkle trees as of RFC 9162 §2.1 (SHA-256): roots, a compact tree that grows, and what proves parts of a tree.

A leaf here is always its *hash* (`leaf_hash` of the entry's bytes, 32 bytes); indexes count from 0, spans are
half-open. The proofs are made in two steps, so that nobody has to hold a tree: `…_spans` says which spans of leaves
a proof consists of, in its order, and `span_hash` (or a `Frontier` over each span's leaves) gives their hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256

HASH_BYTES = 32

EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves (RFC 9162 §2.1.1)."""

Span = tuple[int, int]


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf with these bytes. Its prefix differs from a node's, so that neither passes for the other."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node over its two children."""
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """A tree that only grows, in the least space: its full subtrees from the left, at most one of each height.

    It is all that is needed to add leaves and to know the root: 32 bytes × (the ones in `size` as a binary number).
    """

    __slots__ = ("_peaks", "size")

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self.size = 0
        self._peaks: list[
            bytes
        ] = []  # at height h: the hash of a full subtree of 2^h leaves, where bit h of size is set
        self.extend(leaves)

    def add(self, leaf: bytes) -> None:
        """Append a leaf."""
        height, carry = 0, self.size
        while carry & 1:
            leaf = sha256(b"\x01" + self._peaks[height] + leaf).digest()
            height += 1
            carry >>= 1
        if height == len(self._peaks):
            self._peaks.append(leaf)
        else:
            self._peaks[height] = leaf
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Append leaves in their order, whole levels at a time: three times as fast as `add` for each."""
        level = list(leaves)
        carry, self.size = self.size, self.size + len(level)
        height = 0
        while level:
            if carry & 1:
                level.insert(0, self._peaks[height])
            if height == len(self._peaks):
                self._peaks.append(b"")
            if len(level) & 1:
                self._peaks[height] = level.pop()
            halves = iter(level)
            level = [sha256(b"\x01" + left + right).digest() for left, right in zip(halves, halves, strict=True)]
            carry >>= 1
            height += 1

    def root(self) -> bytes:
        """The root over all leaves so far."""
        result = b""
        for height, peak in enumerate(self._peaks):
            if self.size >> height & 1:
                result = node_hash(peak, result) if result else peak
        return result or EMPTY_ROOT

    def to_bytes(self) -> bytes:
        """The full subtrees' hashes one after another, the largest first."""
        return b"".join(
            self._peaks[height] for height in reversed(range(self.size.bit_length())) if self.size >> height & 1
        )

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """The tree of `size` leaves that `to_bytes` gave.

        Raises:
            ValueError: this many bytes do not belong to a tree of this size.
        """
        if size < 0 or len(data) != HASH_BYTES * size.bit_count():
            raise ValueError(f"a tree of {size} leaves does not have a frontier of {len(data)} bytes")
        tree = cls()
        tree.size = size
        tree._peaks = [b""] * size.bit_length()
        at = 0
        for height in reversed(range(size.bit_length())):
            if size >> height & 1:
                tree._peaks[height] = data[at : at + HASH_BYTES]
                at += HASH_BYTES
        return tree

    def copy(self) -> Frontier:
        """The same tree, to be grown apart."""
        twin = Frontier()
        twin.size, twin._peaks = self.size, self._peaks.copy()
        return twin


def root(leaves: Iterable[bytes]) -> bytes:
    """The root of a tree over leaf hashes: MTH of RFC 9162 §2.1.1."""
    return Frontier(leaves).root()


def span_hash(leaves: Sequence[bytes], span: Span) -> bytes:
    """The root over leaves [begin, end) of a sequence: what a proof's span stands for."""
    return root(leaves[span[0] : span[1]])


# ── inclusion of one leaf ───────────────────────────────────────────────────────────────────────────────────────────


def inclusion_spans(index: int, size: int) -> list[Span]:
    """The spans of PATH(index, D[size]), from the leaf up (RFC 9162 §2.1.3.1)."""
    _expect(0 <= index < size, f"a tree of {size} leaves has no leaf {index}")
    spans = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((begin, middle))
            begin = middle
    return spans[::-1]


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that follows from a leaf, its place and its path (RFC 9162 §2.1.3.2): compare it with the one you trust.

    Raises:
        ValueError: the path does not have the length of a path to this place.
    """
    _expect(0 <= index < size, f"a tree of {size} leaves has no leaf {index}")
    _expect(len(path) == len(inclusion_spans(index, size)), "the path has another length than the tree's")
    result, place, last = leaf, index, size - 1
    for sibling in path:
        if place & 1 or place == last:
            result = node_hash(sibling, result)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        place, last = place >> 1, last >> 1
    return result


# ── consistency of a tree with an earlier one ───────────────────────────────────────────────────────────────────────


def consistency_spans(size_before: int, size: int) -> list[Span]:
    """The spans of PROOF(size_before, D[size]) (RFC 9162 §2.1.4.1); none when the sizes are equal or the first is 0."""
    _expect(0 <= size_before <= size, f"a tree of {size} leaves does not continue one of {size_before}")
    if size_before in (0, size):
        return []
    spans = []
    begin, end = 0, size
    while size_before != end:
        middle = begin + _split(end - begin)
        if size_before <= middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((begin, middle))
            begin = middle
    if begin:  # an inner subtree of the earlier tree; the whole of it needs no telling: its root is known
        spans.append((begin, end))
    return spans[::-1]


def verify_consistency(
    size_before: int, size: int, root_before: bytes, root_now: bytes, proof: Sequence[bytes]
) -> bool:
    """Does the tree of `size` leaves begin with all leaves of the earlier one (RFC 9162 §2.1.4.2)?"""
    if not 0 <= size_before <= size or len(proof) != len(consistency_spans(size_before, size)):
        return False
    if size_before == size:
        return root_before == root_now
    if size_before == 0:
        return root_before == EMPTY_ROOT
    path = list(proof)
    if size_before & (size_before - 1) == 0:
        path.insert(0, root_before)
    place, last = size_before - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = now = path[0]
    for sibling in path[1:]:
        if place & 1 or place == last:
            before, now = node_hash(sibling, before), node_hash(sibling, now)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            now = node_hash(now, sibling)
        place, last = place >> 1, last >> 1
    return before == root_before and now == root_now


# ── a run of leaves ─────────────────────────────────────────────────────────────────────────────────────────────────


def range_spans(begin: int, end: int, size: int) -> list[Span]:
    """The spans left and right of leaves [begin, end), in the leaves' order: at most 2 × log2(size) of them.

    They are the largest subtrees that hold none of the leaves; with the leaves they make up the tree.
    """
    _expect(0 <= begin < end <= size, f"a tree of {size} leaves has no leaves {begin} to {end}")
    return [span for span, inside in _cover(begin, end, 0, size) if not inside]


def root_from_range(leaves: Sequence[bytes], begin: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that follows from the leaves [begin, begin + len(leaves)) and the hashes of `range_spans`.

    Raises:
        ValueError: there are no leaves, too many, or not as many hashes as the range has.
    """
    end = begin + len(leaves)
    _expect(0 <= begin < end <= size, f"a tree of {size} leaves has no leaves {begin} to {end}")
    hashes = iter(proof)

    def combine(low: int, high: int) -> bytes:
        if high <= begin or end <= low:
            return next(hashes, b"")
        if begin <= low and high <= end:
            return root(leaves[low - begin : high - begin])
        middle = low + _split(high - low)
        return node_hash(combine(low, middle), combine(middle, high))

    _expect(len(proof) == len(range_spans(begin, end, size)), "the range proof has another length than the tree's")
    return combine(0, size)


def prove(spans: Iterable[Span], hash_of: Callable[[Span], bytes]) -> list[bytes]:
    """The hashes of a proof's spans, in its order."""
    return [hash_of(span) for span in spans]


def _cover(begin: int, end: int, low: int, high: int) -> Iterator[tuple[Span, bool]]:
    """The largest subtrees of [low, high) that lie wholly outside or inside of [begin, end), from the left."""
    if high <= begin or end <= low:
        yield (low, high), False
    elif begin <= low and high <= end:
        yield (low, high), True
    else:
        middle = low + _split(high - low)
        yield from _cover(begin, end, low, middle)
        yield from _cover(begin, end, middle, high)


def _split(size: int) -> int:
    """The largest power of two below the size: where a tree divides."""
    return 1 << (size - 1).bit_length() - 1


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
