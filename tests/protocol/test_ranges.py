import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.errors import RangeNotSatisfiable
from streamer.protocol.ranges import (
    MAX_PARTS,
    ByteRange,
    multipart_segments,
    segments_length,
    select_ranges,
)

HUGE = "9" * 5000  # int() refuses more than 4300 digits


def select(header: str, complete_length: int = 10) -> list[tuple[int, int]] | None:
    ranges = select_ranges(header, complete_length)
    if ranges is None:
        return None
    return [(byte_range.first, byte_range.last) for byte_range in ranges]


@pytest.mark.parametrize(
    ("header", "selected"),
    [
        ("bytes=0-0", [(0, 0)]),
        ("bytes=9-", [(9, 9)]),
        ("bytes=0-", [(0, 9)]),
        ("bytes=2-5", [(2, 5)]),
        ("bytes=9-9", [(9, 9)]),
        ("bytes=-1", [(9, 9)]),
        ("bytes=-3", [(7, 9)]),
        ("bytes=-10", [(0, 9)]),
        ("bytes=-20", [(0, 9)]),
        ("bytes=0-9", [(0, 9)]),
        ("bytes=0-10", [(0, 9)]),
        ("bytes=0-99", [(0, 9)]),
        ("BYTES=0-1", [(0, 1)]),
        ("Bytes=0-1", [(0, 1)]),
        ("bytes=0-0,2-3", [(0, 0), (2, 3)]),
        ("bytes=007-008", [(7, 8)]),
        ("bytes=1-01", [(1, 1)]),
        ("bytes=9-10", [(9, 9)]),
        ("bytes=-03", [(7, 9)]),
    ],
)
def test_satisfiable_ranges_are_selected(header: str, selected: list[tuple[int, int]]) -> None:
    assert select(header) == selected


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes= , ,",
        "bytes=-",
        "bytes=--1",
        "bytes=0--1",
        "bytes=0",
        "bytes=5-2",
        "bytes=20-15",
        "bytes=10-9",
        "bytes=abc",
        "bytes=+1-2",
        "bytes=1-+2",
        "bytes=1_0-",
        "bytes=0x1-2",
        "bytes=1.0-2",
        "bytes=0-1-2",
        "bytes=0-1;2-3",
        "bytes=0 -1",
        "bytes=0- 1",
        "bytes=- 1",
        "bytes= 0-1",
        "bytes =0-1",
        "bytes = 0-1",
        "bytes:0-1",
        "bytes==0-1",
        "bytes=bytes=0-1",
        "0-1",
        "=0-1",
        "items=0-1",
        "byte=0-1",
        "kbytes=0-1",
        "byte\u017f=0-1",
        "bytes=\u0661-\u0662",
        "bytes=\u00b2-",
        "bytes=0-1\n",
        "bytes=0-1\x0b",
        "bytes=0-1\u00a0",
        "bytes=0-1,\n2-3",
        "bytes=0-1,\u00a03-4",
        "bytes=0-1 3-4",
        "bytes=0-1,abc",
        "bytes=abc,0-1",
        "bytes=0-1,5-2",
        "bytes=20-,5-2",
        "bytes=0-1,items=3-4",
    ],
)
def test_an_invalid_field_is_ignored(header: str) -> None:
    assert select_ranges(header, 10) is None


@pytest.mark.parametrize(
    "header", ["bytes=10-", "bytes=10-10", "bytes=-0", "bytes=-00", "bytes=10-,-0,99-100"]
)
def test_a_field_without_a_satisfiable_range_is_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        select_ranges(header, 10)
    assert caught.value.complete_length == 10


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=5-"])
def test_an_empty_representation_has_no_ranges(header: str) -> None:
    assert select_ranges(header, 0) is None


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-0", "bytes=0-5", "bytes=-1", "bytes=-9"])
def test_a_representation_of_one_byte_has_one_range(header: str) -> None:
    assert select(header, 1) == [(0, 0)]


@pytest.mark.parametrize(
    ("header", "selected"),
    [
        ("bytes=10-,0-0", [(0, 0)]),
        ("bytes=0-0,-0", [(0, 0)]),
        ("bytes=0-0,99-,2-2", [(0, 0), (2, 2)]),
    ],
)
def test_unsatisfiable_members_are_dropped(header: str, selected: list[tuple[int, int]]) -> None:
    assert select(header) == selected


@pytest.mark.parametrize(
    "header",
    [
        "bytes=0-0,2-3",
        "bytes=0-0 ,2-3",
        "bytes=0-0, \t2-3",
        "bytes=0-0 \t , \t 2-3",
        "bytes=,0-0,2-3",
        "bytes= ,0-0,2-3",
        "bytes=0-0,,2-3",
        "bytes=0-0, , ,2-3",
        "bytes=0-0,2-3,",
        "bytes=0-0,2-3 , ",
        " \tbytes=0-0,2-3\t ",
    ],
)
def test_whitespace_and_empty_elements_between_commas_are_nothing(header: str) -> None:
    assert select(header) == [(0, 0), (2, 3)]


@pytest.mark.parametrize(
    ("header", "selected"),
    [
        ("bytes=0-3,2-5", [(0, 5)]),
        ("bytes=0-3,4-5", [(0, 5)]),
        ("bytes=4-5,0-3", [(0, 5)]),
        ("bytes=0-3,5-6", [(0, 3), (5, 6)]),
        ("bytes=0-9,2-3", [(0, 9)]),
        ("bytes=2-3,0-9", [(0, 9)]),
        ("bytes=1-1,1-1", [(1, 1)]),
        ("bytes=-2,0-0", [(8, 9), (0, 0)]),
        ("bytes=8-9,0-1,4-5", [(8, 9), (0, 1), (4, 5)]),
        ("bytes=4-4,0-0,3-3", [(3, 4), (0, 0)]),
        ("bytes=3-3,0-0,4-4", [(3, 4), (0, 0)]),
        ("bytes=8-8,0-0,4-4,1-3", [(8, 8), (0, 4)]),
        ("bytes=0-0,4-4,2-2,1-3", [(0, 4)]),
    ],
)
def test_overlapping_and_adjacent_ranges_become_one_where_the_first_stood(
    header: str, selected: list[tuple[int, int]]
) -> None:
    assert select(header) == selected


def every_other_byte(count: int) -> str:
    return "bytes=" + ",".join(f"{2 * place}-{2 * place}" for place in range(count))


def test_as_many_ranges_as_allowed_are_selected() -> None:
    assert select(every_other_byte(MAX_PARTS), 100) == [(2 * place, 2 * place) for place in range(16)]


def test_more_ranges_than_allowed_are_ignored() -> None:
    assert select(every_other_byte(MAX_PARTS + 1), 100) is None


def test_ranges_are_counted_after_coalescing_and_dropping() -> None:
    assert select(every_other_byte(50) + ",0-99,200-", 100) == [(0, 99)]


@pytest.mark.parametrize(
    ("header", "selected"),
    [
        (f"bytes=0-{HUGE}", [(0, 9)]),
        (f"bytes=-{HUGE}", [(0, 9)]),
        (f"bytes=0-0,{HUGE}-", [(0, 0)]),
        (f"bytes={'0' * 5000}1-{'0' * 6000}2", [(1, 2)]),
        (f"bytes=-{'0' * 5000}2", [(8, 9)]),
        (f"bytes=0-0,-{'0' * 5000}", [(0, 0)]),
        (f"bytes=0-0,{HUGE}-{HUGE}0", [(0, 0)]),
        (f"bytes=0-0,1{HUGE}-{HUGE}", None),
        (f"bytes=0-0,{HUGE}-{HUGE[:-1]}8", None),
    ],
)
def test_numbers_may_have_thousands_of_digits(header: str, selected: list[tuple[int, int]] | None) -> None:
    assert select(header) == selected


def test_a_huge_first_position_is_not_satisfiable() -> None:
    with pytest.raises(RangeNotSatisfiable):
        select_ranges(f"bytes={HUGE}-", 10)


@pytest.mark.parametrize(
    "header",
    [
        "bytes=0-" + "9" * 400_000,
        "bytes=0-0" + " " * 400_000 + "x",
        "bytes=0-0," + " " * 400_000 + "x",
        "bytes=0-0," + " ," * 200_000 + "x",
        "bytes=" + "1" * 400_000,
        "bytes=" + "0-1," * 100_000 + "x",
        "bytes=" + ",".join(f"{place}-" for place in range(60_000, 0, -1)),
    ],
    ids=["digits", "spaces", "spaces after comma", "empty elements", "no hyphen", "late error", "overlaps"],
)
def test_hostile_fields_take_no_longer_than_their_length_warrants(header: str) -> None:
    started = time.process_time()
    select_ranges(header, 100_000)
    assert time.process_time() - started < 2  # quadratic time would be minutes


def requested_positions(header: str, complete_length: int) -> list[set[int]] | None:
    """The oracle: the set of positions of each member, None for an invalid field."""
    unit, _, members = header.strip(" \t").partition("=")
    if unit.lower() != "bytes" or (members[:1] in set(" \t") and members.split(",")[0].strip(" \t")):
        return None
    requested = []
    for member in filter(None, (member.strip(" \t") for member in members.split(","))):
        first, hyphen, last = member.partition("-")
        if not hyphen or not first + last or not set(first + last) <= set("0123456789"):
            return None
        if first and last and int(first) > int(last):
            return None
        start = int(first) if first else max(complete_length - int(last), 0)
        stop = int(last) + 1 if first and last else complete_length
        requested.append(set(range(complete_length)[start:stop]))
    return requested or None


def check_against_oracle(header: str, complete_length: int) -> None:
    requested = requested_positions(header, complete_length)
    if requested is None or complete_length == 0:
        assert select_ranges(header, complete_length) is None
        return
    wanted = set().union(*requested)
    if not wanted:
        with pytest.raises(RangeNotSatisfiable):
            select_ranges(header, complete_length)
        return
    ranges = select_ranges(header, complete_length)
    if sum(position - 1 not in wanted for position in wanted) > MAX_PARTS:
        assert ranges is None
        return
    assert ranges is not None
    selected = [set(range(byte_range.first, byte_range.last + 1)) for byte_range in ranges]
    assert set().union(*selected) == wanted
    in_file_order = sorted(ranges, key=lambda byte_range: byte_range.first)
    assert all(before.last + 1 < after.first for before, after in pairwise(in_file_order))
    places = [
        next(place for place, positions in enumerate(requested) if positions & part) for part in selected
    ]
    assert places == sorted(places)


@st.composite
def valid_fields(draw: st.DrawFn) -> str:
    positions = st.integers(0, 70)
    pairs = st.tuples(positions, positions).map(sorted)
    spec = st.one_of(
        pairs.map(lambda pair: f"{pair[0]}-{pair[1]}"),
        positions.map(lambda first: f"{first:03}-{first}"),
        positions.map(lambda first: f"{first}-"),
        positions.map(lambda suffix_length: f"-{suffix_length}"),
    )
    comma = st.sampled_from([",", ", ", " ,", "\t, ,"])
    members = draw(st.lists(st.tuples(spec, comma), min_size=1, max_size=40))
    range_set = "".join(member + separator for member, separator in members)
    return draw(st.sampled_from(["bytes=", "BYTES=", " bytes=", "bytes=,"])) + range_set


@st.composite
def mutated_fields(draw: st.DrawFn) -> str:
    text = draw(valid_fields())
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(start + 2, len(text))))
        text = text[:start] + draw(st.text("0123456789-,= \tbB+_x\u0661", max_size=2)) + text[stop:]
    return text


@given(valid_fields(), st.integers(0, 60))
@example(every_other_byte(17), 60)
def test_valid_fields_select_what_the_oracle_says(header: str, complete_length: int) -> None:
    assert requested_positions(header, complete_length) is not None
    check_against_oracle(header, complete_length)


@given(mutated_fields(), st.integers(0, 60))
@example("bytes= 0-1", 10)
@example("bytes= ,0-1", 10)
def test_damaged_fields_select_what_the_oracle_says(header: str, complete_length: int) -> None:
    check_against_oracle(header, complete_length)


@given(st.one_of(st.text(), st.text("0123456789-, \t").map("bytes=".__add__)), st.integers(0, 100))
def test_no_text_causes_any_other_error(header: str, complete_length: int) -> None:
    try:
        ranges = select_ranges(header, complete_length)
    except RangeNotSatisfiable:
        return
    assert ranges is None or 1 <= len(ranges) <= MAX_PARTS


@pytest.mark.parametrize(
    ("byte_range", "length", "content_range"),
    [
        (ByteRange(0, 0), 1, "bytes 0-0/10"),
        (ByteRange(7, 9), 3, "bytes 7-9/10"),
        (ByteRange(0, 9), 10, "bytes 0-9/10"),
    ],
)
def test_a_range_knows_its_length_and_its_field(
    byte_range: ByteRange, length: int, content_range: str
) -> None:
    assert byte_range.length == length
    assert byte_range.content_range(10) == content_range


def test_a_multipart_body_frames_each_range() -> None:
    segments = multipart_segments([ByteRange(7, 9), ByteRange(0, 1)], 10, "video/mp4", "frontier")
    assert segments == [
        b"--frontier\r\nContent-Type: video/mp4\r\nContent-Range: bytes 7-9/10\r\n\r\n",
        ByteRange(7, 9),
        b"\r\n--frontier\r\nContent-Type: video/mp4\r\nContent-Range: bytes 0-1/10\r\n\r\n",
        ByteRange(0, 1),
        b"\r\n--frontier--\r\n",
    ]


def test_the_length_of_a_multipart_body_counts_framing_and_ranges() -> None:
    assert segments_length([b"abc", ByteRange(10, 19), b"de", ByteRange(0, 0), b"f"]) == 17


def test_a_part_header_cannot_leave_ascii() -> None:
    with pytest.raises(UnicodeEncodeError):
        multipart_segments([ByteRange(0, 1)], 10, "video/mp\u2074", "frontier")
