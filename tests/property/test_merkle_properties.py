"""Trees and their proofs against the definitions of RFC 9162, written out naively here."""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from tallystick.ledger import merkle

leaves_of_a_tree = st.integers(1, 140).map(lambda size: [merkle.leaf_hash(str(n).encode()) for n in range(size)])


def mth(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162 §2.1.1, over leaf hashes."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162 §2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return [*path(m, leaves[:k]), mth(leaves[k:])] if m < k else [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 9162 §2.1.4.1."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def proof(spans: list[merkle.Span], leaves: list[bytes]) -> list[bytes]:
    return merkle.prove(spans, lambda span: merkle.span_hash(leaves, span))


@given(leaves_of_a_tree, st.lists(st.integers(0, 60)), st.booleans())
def test_a_frontier_grown_in_any_steps_has_the_tree_s_root(leaves: list[bytes], steps: list[int], stored: bool) -> None:
    tree, at = merkle.Frontier(), 0
    for step in [*steps, len(leaves)]:
        run = leaves[at : at + step]
        if len(run) == 1:
            tree.add(run[0])
        else:
            tree.extend(run)
        at += len(run)
        assert (tree.size, tree.root()) == (at, mth(leaves[:at]))
        if stored:
            tree = merkle.Frontier.from_bytes(tree.size, tree.to_bytes())


@given(leaves_of_a_tree)
def test_adding_one_by_one_is_extending(leaves: list[bytes]) -> None:
    one_by_one = merkle.Frontier()
    for leaf in leaves:
        one_by_one.add(leaf)
    assert one_by_one.to_bytes() == merkle.Frontier(leaves).to_bytes()


@given(leaves_of_a_tree, st.data())
def test_a_copy_grows_apart(leaves: list[bytes], data: st.DataObject) -> None:
    tree = merkle.Frontier(leaves)
    twin = tree.copy()
    twin.extend(data.draw(leaves_of_a_tree))
    assert tree.root() == mth(leaves)


@given(leaves_of_a_tree, st.data())
def test_inclusion_is_proved_and_nothing_else_is(leaves: list[bytes], data: st.DataObject) -> None:
    size = len(leaves)
    index = data.draw(st.integers(0, size - 1))
    made = proof(merkle.inclusion_spans(index, size), leaves)
    assert made == path(index, leaves)
    assert merkle.root_from_inclusion(leaves[index], index, size, made) == mth(leaves)
    other = data.draw(st.integers(0, size - 1).filter(lambda place: place != index)) if size > 1 else None
    if other is not None and len(made) == len(merkle.inclusion_spans(other, size)):
        assert merkle.root_from_inclusion(leaves[index], other, size, made) != mth(leaves)


@given(leaves_of_a_tree, st.data())
def test_consistency_is_proved_and_nothing_else_is(leaves: list[bytes], data: st.DataObject) -> None:
    size = len(leaves)
    before = data.draw(st.integers(0, size))
    made = proof(merkle.consistency_spans(before, size), leaves)
    if before:
        assert made == subproof(before, leaves, True)
    then, now = mth(leaves[:before]), mth(leaves)
    assert merkle.verify_consistency(before, size, then, now, made)
    assert not merkle.verify_consistency(before, size, sha256(then).digest(), now, made)
    assert before == 0 or not merkle.verify_consistency(before, size, then, sha256(now).digest(), made)
    assert not merkle.verify_consistency(before, size, then, now, [*made, now])
    if made:
        which = data.draw(st.integers(0, len(made) - 1))
        bent = [sha256(node).digest() if place == which else node for place, node in enumerate(made)]
        assert not merkle.verify_consistency(before, size, then, now, bent)


@given(leaves_of_a_tree, st.data())
def test_a_range_is_proved_whole_and_in_its_place(leaves: list[bytes], data: st.DataObject) -> None:
    size = len(leaves)
    begin = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(begin + 1, size))
    made = proof(merkle.range_spans(begin, end, size), leaves)
    assert len(made) <= 2 * size.bit_length()
    run = leaves[begin:end]
    assert merkle.root_from_range(run, begin, size, made) == mth(leaves)
    which = data.draw(st.integers(0, len(run) - 1))
    bent = [sha256(leaf).digest() if place == which else leaf for place, leaf in enumerate(run)]
    assert merkle.root_from_range(bent, begin, size, made) != mth(leaves)
    for shorter in (run[1:], run[:-1]):  # a range with its first or last leaf withheld
        for place in (begin, begin + 1):
            with suppress(ValueError):  # not even the number of hashes fits
                assert merkle.root_from_range(shorter, place, size, made) != mth(leaves)
