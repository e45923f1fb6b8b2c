"""A card file that is not right is refused, with every line that is wrong."""

from __future__ import annotations

import pytest

from tallystick.core.errors import BadInput, Problems
from tallystick.rates.cardfile import parse_card_file
from tallystick.rates.source import decode_source, read_release

HEADER = (
    b'{"row":"card","format":1,"version":"v","known_at":"2026-01-01T00:00:00Z","source":"s",'
    b'"source_sha256":null,"previous":null}\n'
)
RATE = '{"row":"rate","provider":"p","model":"m","meter":"tokens_in","per":1000000,"price_pico":1%s}\n'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"{}",
        b"[1]",
        b"\xff\xfe",
        HEADER.replace(b'"format":1', b'"format":2'),
        HEADER.replace(b"00:00:00Z", b"00:00:00"),
        HEADER.replace(b'"version":"v"', b'"version":" "'),
        HEADER.replace(b'"previous":null', b'"previous":"abc"'),
        HEADER.replace(b'"source":"s"', b'"source":"s","more":1'),
    ],
)
def test_a_bad_header_is_refused(content: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        parse_card_file(content, name="x.jsonl")
    assert (refused.value.code, refused.value.where) == ("invalid_card_header", "x.jsonl:1")


@pytest.mark.parametrize(
    "more",
    [
        ',"per":0',
        ',"per":-1',
        ',"price_pico":-1',
        ',"price_pico":1.5',
        ',"meter":"tokens"',
        ',"window":"25:00-01:00"',
        ',"tiers":[[5,1],[5,2]]',
        ',"tiers":[[-5,1]]',
        ',"price_pico":null,"tiers":[[5,1]]',
        ',"valid_from":"2026-01-01T00:00:00"',
        ',"valid_from":"2026-01-01T00:00:00Z","valid_to":"2026-01-01T00:00:00Z"',
        ',"quantity_min":-1',
        ',"colour":"red"',
    ],
)
def test_a_bad_row_is_refused_with_its_line(more: str) -> None:
    content = HEADER + (RATE % "").encode() + (RATE % more).encode()
    with pytest.raises(Problems) as refused:
        parse_card_file(content, name="x.jsonl")
    assert [problem.where for problem in refused.value.problems] == ["x.jsonl:3"]


@pytest.mark.parametrize(
    "match", ["{}", '{"regex":"("}', '{"smells":"m"}', '{"or":[{"equals":""}]}', '{"or":[],"and":[]}']
)
def test_a_name_that_cannot_match_is_refused(match: str) -> None:
    with pytest.raises(Problems) as refused:
        parse_card_file(HEADER + f'{{"row":"model","provider":"p","model":"m","match":{match}}}\n'.encode())
    assert refused.value.problems[0].where == "card:2"


def test_every_bad_line_is_reported_at_once() -> None:
    content = HEADER + b"nonsense\n" + (RATE % "").encode() + b'{"row":"elephant"}\n\xff\n'
    with pytest.raises(Problems) as refused:
        parse_card_file(content, name="x.jsonl")
    assert [problem.where for problem in refused.value.problems] == ["x.jsonl:2", "x.jsonl:4", "x.jsonl:5"]


def test_a_price_of_nothing_is_a_row() -> None:
    version = parse_card_file(HEADER + (RATE % ',"price_pico":null').encode())
    assert version.rates[0].price_pico is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"7",
        b"\xff",
        b'[{"id":"p"}]',
        b'[{"id":"p","models":[{"id":"m"}]}]',
        b'[{"id":"p","models":[{"id":"m","match":{"equals":"m"},"prices":{"input_mtok":"dear"}}]}]',
        b"[]",
        b'[{"id":"p","models":[{"id":"m","match":{"equals":"m"},"prices":{"input_mtok":-1}}]}]',
        b'[{"id":"p","models":[{"id":"m","match":{"regex":"("},"prices":{"input_mtok":1}}]}]',
        b'[{"id":"p","models":[{"id":"m","match":{"equals":"m"},"prices":[{"constraint":{"start_date":"soon"},"prices":{}}]}]}]',
        b"[" * 100_000,
    ],
)
def test_a_source_of_another_shape_is_refused(content: bytes) -> None:
    with pytest.raises(BadInput) as refused:
        read_release(decode_source(content))
    assert refused.value.code == "invalid_price_source"


def test_a_price_that_no_meter_counts_is_named() -> None:
    raw = decode_source(
        b'[{"id":"p","models":[{"id":"m","match":{"equals":"m"},"prices":{"smell_mtok":1,"input_mtok":0.1}}]}]'
    )
    release = read_release(raw)
    assert release.not_taken == ("p/m: smell_mtok",)
    assert len(release.prices) == 1
