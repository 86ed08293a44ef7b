import string
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.protocol.conditional import (
    EntityTag,
    Outcome,
    Preconditions,
    Validators,
    evaluate,
    format_http_date,
    if_range_matches,
    parse_entity_tag,
    parse_entity_tags,
    parse_http_date,
)

PROCEED, NOT_MODIFIED, FAILED = Outcome.PROCEED, Outcome.NOT_MODIFIED, Outcome.PRECONDITION_FAILED

NOW = datetime(2026, 8, 15, 12, 0, 0, tzinfo=UTC)
MODIFIED = datetime(1994, 11, 6, 8, 49, 37, 999_999, tzinfo=UTC)
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
SAME = "Sun, 06 Nov 1994 08:49:37 GMT"
AFTER = "Sun, 06 Nov 1994 08:49:38 GMT"

STRONG = Validators(EntityTag("a"), MODIFIED)
WEAK = Validators(EntityTag("a", weak=True), MODIFIED)
NONE = Validators(None, None)


@pytest.mark.parametrize(
    ("one", "other", "strong", "weak"),
    [  # RFC 9110, section 8.8.3.2, table 3
        ('W/"1"', 'W/"1"', False, True),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', False, True),
        ('"1"', 'W/"1"', False, True),
        ('"1"', '"1"', True, True),
        ('"1"', '"2"', False, False),
        ('"a"', '"A"', False, False),
    ],
)
def test_entity_tags_compare_strongly_and_weakly(one: str, other: str, strong: bool, weak: bool) -> None:
    first, second = parse_entity_tag(one), parse_entity_tag(other)
    assert first is not None
    assert second is not None
    assert first.strong_match(second) is strong
    assert first.weak_match(second) is weak


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ('"xyzzy"', EntityTag("xyzzy")),
        ('W/"xyzzy"', EntityTag("xyzzy", weak=True)),
        ('""', EntityTag("")),
        ('"W/"', EntityTag("W/")),
        ('"a,b"', EntityTag("a,b")),
        ('"a\\"', EntityTag("a\\")),
        ('"!#~\x80\xff"', EntityTag("!#~\x80\xff")),
        (' \t"a" ', EntityTag("a")),
    ],
)
def test_an_entity_tag_is_read(text: str, tag: EntityTag) -> None:
    assert parse_entity_tag(text) == tag


MALFORMED_TAGS = [
    "a",
    "'a'",
    '"a',
    'a"',
    '"',
    '"a b"',
    '"a\tb"',
    '"a\x7f"',
    '"a\x1f"',
    '"\u0100"',
    '"a"b"',
    '"a"x',
    'x"a"',
    'w/"a"',
    'W"a"',
    'W /"a"',
    'W/ "a"',
    "W/a",
    "W/",
    '"a"\n',
    '\n"a"',
    '"a"\u00a0',
]


@pytest.mark.parametrize("text", ["", "*", '"a","b"', '"a",', *MALFORMED_TAGS])
def test_what_is_not_one_entity_tag_is_none(text: str) -> None:
    assert parse_entity_tag(text) is None


@pytest.mark.parametrize(
    ("field", "tags"),
    [
        ('"a"', ['"a"']),
        ('"a","b"', ['"a"', '"b"']),
        ('"a" \t,\t "b"', ['"a"', '"b"']),
        ('W/"a", "b", W/"c"', ['W/"a"', '"b"', 'W/"c"']),
        ('"a,b", "c"', ['"a,b"', '"c"']),
        ('",","W/"', ['","', '"W/"']),
        (',"a", ,, "b" ,', ['"a"', '"b"']),
        (' "a" ', ['"a"']),
        ("", []),
        (" , ,", []),
        ("*", []),
        ('*, "a"', []),
        ('"a", *', []),
        ('"a" "b"', []),
        ('"a""b"', []),
        ('"a";"b"', []),
        ('"a",\n"b"', []),
    ],
)
def test_a_list_of_entity_tags_is_read(field: str, tags: list[str]) -> None:
    assert [str(tag) for tag in parse_entity_tags(field)] == tags


@pytest.mark.parametrize("malformed", MALFORMED_TAGS)
@pytest.mark.parametrize("field", ["{}", '{}, "z"', '"z", {}', '"y",{},"z"'])
def test_one_malformed_member_empties_the_list(field: str, malformed: str) -> None:
    assert parse_entity_tags(field.format(malformed)) == []


@pytest.mark.parametrize(
    "field",
    [
        '"a"' + " " * 400_000 + "x",
        '"a",' + " " * 400_000 + "x",
        '"a",' * 100_000 + "x",
        '"' * 400_001,
        "W/" * 200_000,
        '"' + "a" * 400_000,
    ],
    ids=["spaces", "spaces after comma", "late error", "quotes", "weakness", "unclosed"],
)
def test_hostile_lists_take_no_longer_than_their_length_warrants(field: str) -> None:
    started = time.process_time()
    assert parse_entity_tags(field) == []
    assert time.process_time() - started < 2  # quadratic time would be minutes


ETAGC = "!" + "".join(map(chr, [*range(0x23, 0x7F), *range(0x80, 0x100)]))
entity_tags = st.builds(EntityTag, st.text(ETAGC), st.booleans())


@given(entity_tags)
def test_an_entity_tag_survives_the_wire(tag: EntityTag) -> None:
    assert parse_entity_tag(str(tag)) == tag


@given(st.lists(st.tuples(entity_tags, st.sampled_from([",", ", ", " ,\t", ",,", " , ,"]))))
def test_a_list_of_entity_tags_survives_the_wire(members: list[tuple[EntityTag, str]]) -> None:
    field = "".join(f"{tag}{comma}" for tag, comma in members)
    assert parse_entity_tags(field) == [tag for tag, _ in members]


@given(st.text(), st.text('aW/", *\t'))
def test_no_text_is_an_error(one: str, other: str) -> None:
    for field in (one, other):
        preconditions = Preconditions(field, field, field, field)
        assert evaluate("GET", preconditions, STRONG, NOW) in Outcome
        assert if_range_matches(field, STRONG, NOW) is (field.strip(" \t") == '"a"')


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("validators", [STRONG, WEAK, NONE])
def test_a_request_without_preconditions_proceeds(method: str, validators: Validators) -> None:
    assert evaluate(method, Preconditions(), validators, NOW) is PROCEED


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("field", "validators", "outcome"),
    [
        ('"a"', STRONG, PROCEED),
        ('"b", "a"', STRONG, PROCEED),
        ("*", STRONG, PROCEED),
        ("* ", STRONG, PROCEED),
        ("*", NONE, PROCEED),
        ('"b"', STRONG, FAILED),
        ('W/"a"', STRONG, FAILED),
        ('"a"', WEAK, FAILED),
        ('W/"a"', WEAK, FAILED),
        ('"a"', NONE, FAILED),
        ('"a", b', STRONG, FAILED),
        ('"a", *', STRONG, FAILED),
        ("", STRONG, FAILED),
    ],
)
def test_if_match_compares_strongly(
    method: str, field: str, validators: Validators, outcome: Outcome
) -> None:
    assert evaluate(method, Preconditions(if_match=field), validators, NOW) is outcome


@pytest.mark.parametrize(
    ("field", "validators", "is_known"),
    [
        ('"a"', STRONG, True),
        ('"b", "a"', STRONG, True),
        ('W/"a"', STRONG, True),
        ('"a"', WEAK, True),
        ('W/"a"', WEAK, True),
        ("*", STRONG, True),
        ("\t*", STRONG, True),
        ("*", NONE, True),
        ('"b"', STRONG, False),
        ('"A"', STRONG, False),
        ('"a"', NONE, False),
        ('"a", b', STRONG, False),
        ("", STRONG, False),
    ],
)
def test_if_none_match_compares_weakly(field: str, validators: Validators, is_known: bool) -> None:
    preconditions = Preconditions(if_none_match=field)
    for method in ("GET", "HEAD"):
        assert evaluate(method, preconditions, validators, NOW) is (NOT_MODIFIED if is_known else PROCEED)
    for method in ("PUT", "PATCH", "DELETE", "POST", "get"):
        assert evaluate(method, preconditions, validators, NOW) is (FAILED if is_known else PROCEED)


@pytest.mark.parametrize(
    ("field", "validators", "outcome"),
    [
        (BEFORE, STRONG, PROCEED),
        (SAME, STRONG, NOT_MODIFIED),
        (AFTER, STRONG, NOT_MODIFIED),
        ("Sunday, 06-Nov-94 08:49:37 GMT", STRONG, NOT_MODIFIED),
        ("Sun Nov  6 08:49:37 1994", STRONG, NOT_MODIFIED),
        (AFTER, NONE, PROCEED),
        ("tomorrow", STRONG, PROCEED),
        (f"{AFTER}, {AFTER}", STRONG, PROCEED),
        ("", STRONG, PROCEED),
    ],
)
def test_if_modified_since_is_for_reads(field: str, validators: Validators, outcome: Outcome) -> None:
    preconditions = Preconditions(if_modified_since=field)
    assert evaluate("GET", preconditions, validators, NOW) is outcome
    assert evaluate("HEAD", preconditions, validators, NOW) is outcome
    assert evaluate("DELETE", preconditions, validators, NOW) is PROCEED


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize(
    ("field", "validators", "outcome"),
    [
        (BEFORE, STRONG, FAILED),
        (SAME, STRONG, PROCEED),
        (AFTER, STRONG, PROCEED),
        ("Sun Nov  6 08:49:36 1994", STRONG, FAILED),
        (BEFORE, NONE, PROCEED),
        ("yesterday", STRONG, PROCEED),
        (f"{BEFORE}, {BEFORE}", STRONG, PROCEED),
        ("", STRONG, PROCEED),
    ],
)
def test_if_unmodified_since_is_for_every_method(
    method: str, field: str, validators: Validators, outcome: Outcome
) -> None:
    assert evaluate(method, Preconditions(if_unmodified_since=field), validators, NOW) is outcome


@pytest.mark.parametrize(
    ("preconditions", "on_read", "on_write"),
    [
        # If-Unmodified-Since is ignored beside If-Match.
        (Preconditions(if_match='"a"', if_unmodified_since=BEFORE), PROCEED, PROCEED),
        (Preconditions(if_match='"b"', if_unmodified_since=AFTER), FAILED, FAILED),
        (Preconditions(if_match="", if_unmodified_since=AFTER), FAILED, FAILED),
        # If-Modified-Since is ignored beside If-None-Match.
        (Preconditions(if_none_match='"b"', if_modified_since=AFTER), PROCEED, PROCEED),
        (Preconditions(if_none_match='"a"', if_modified_since=BEFORE), NOT_MODIFIED, FAILED),
        (Preconditions(if_none_match="malformed", if_modified_since=AFTER), PROCEED, PROCEED),
        # What guards against lost updates is asked first, and both must hold.
        (Preconditions(if_match='"b"', if_none_match='"a"'), FAILED, FAILED),
        (Preconditions(if_match='"a"', if_none_match='"a"'), NOT_MODIFIED, FAILED),
        (Preconditions(if_match='"a"', if_none_match='"b"'), PROCEED, PROCEED),
        (Preconditions(if_match='"b"', if_modified_since=AFTER), FAILED, FAILED),
        (Preconditions(if_match='"a"', if_modified_since=AFTER), NOT_MODIFIED, PROCEED),
        (Preconditions(if_unmodified_since=BEFORE, if_none_match='"a"'), FAILED, FAILED),
        (Preconditions(if_unmodified_since=AFTER, if_none_match='"a"'), NOT_MODIFIED, FAILED),
        (Preconditions(if_unmodified_since=BEFORE, if_modified_since=AFTER), FAILED, FAILED),
        (Preconditions(if_unmodified_since=SAME, if_modified_since=SAME), NOT_MODIFIED, PROCEED),
    ],
)
def test_preconditions_are_evaluated_in_the_order_of_the_standard(
    preconditions: Preconditions, on_read: Outcome, on_write: Outcome
) -> None:
    assert evaluate("GET", preconditions, STRONG, NOW) is on_read
    assert evaluate("PATCH", preconditions, STRONG, NOW) is on_write


@pytest.mark.parametrize(
    ("value", "validators", "matches"),
    [
        ('"a"', STRONG, True),
        (' "a" ', STRONG, True),
        ('"b"', STRONG, False),
        ('W/"a"', STRONG, False),
        ('"a"', WEAK, False),
        ('W/"a"', WEAK, False),
        ('"a"', NONE, False),
        ('"a", "b"', STRONG, False),
        ("*", STRONG, False),
        ("a", STRONG, False),
        ("", STRONG, False),
        ("", NONE, False),
        (SAME, STRONG, True),
        (SAME, WEAK, True),
        ("Sunday, 06-Nov-94 08:49:37 GMT", STRONG, True),
        ("Sun Nov  6 08:49:37 1994", STRONG, True),
        (BEFORE, STRONG, False),
        (AFTER, STRONG, False),
        (SAME, NONE, False),
        (f'"{SAME}"', STRONG, False),
    ],
)
def test_if_range_wants_an_exact_match(value: str, validators: Validators, matches: bool) -> None:
    assert if_range_matches(value, validators, NOW) is matches


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37)),
        ("Sun Nov  6 08:49:37 1994", datetime(1994, 11, 6, 8, 49, 37)),
        ("Sun Nov 06 08:49:37 1994", datetime(1994, 11, 6, 8, 49, 37)),
        ("Wed Nov 16 08:49:37 1994", datetime(1994, 11, 16, 8, 49, 37)),
        (" \tSun, 06 Nov 1994 08:49:37 GMT ", datetime(1994, 11, 6, 8, 49, 37)),
        ("Mon, 06 Nov 1994 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37)),
        ("Thu, 29 Feb 2024 00:00:00 GMT", datetime(2024, 2, 29)),
        ("Thu, 31 Dec 1998 23:59:60 GMT", datetime(1998, 12, 31, 23, 59, 59)),
        ("Fri, 31 Dec 9999 23:59:60 GMT", datetime(9999, 12, 31, 23, 59, 59)),
        ("Mon, 01 Jan 0001 00:00:00 GMT", datetime(1, 1, 1)),
    ],
)
def test_three_formats_of_dates_are_read(text: str, moment: datetime) -> None:
    assert parse_http_date(text, NOW) == moment.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "784111777",
        "1994-11-06T08:49:37Z",
        "sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 06 NOV 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 gmt",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37",
        "06 Nov 1994 08:49:37 GMT",
        "Xyz, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun,  6 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov 1994 08:49:37 GMT",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 19944 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, 06 Nov 1994 08:49:37 GMT; length=3",
        "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:\u0663\u0667 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Wed, 29 Feb 2023 00:00:00 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 08:49:99 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 6-Nov-94 08:49:37 GMT",
        "Sunday, 06 Nov 94 08:49:37 GMT",
        "Tuesday, 31-Feb-94 08:49:37 GMT",
        "Sunday Nov  6 08:49:37 1994",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sun Nov  6 08:49:37 94",
        "Sun Nov  0 08:49:37 1994",
    ],
)
def test_anything_else_is_not_a_date(text: str) -> None:
    assert parse_http_date(text, NOW) is None


@pytest.mark.parametrize(
    ("now", "text", "year"),
    [
        (NOW, "Saturday, 15-Aug-26 12:00:00 GMT", 2026),
        (NOW, "Saturday, 15-Aug-00 12:00:00 GMT", 2000),
        (NOW, "Saturday, 15-Aug-75 12:00:00 GMT", 2075),
        (NOW, "Saturday, 15-Aug-76 11:59:59 GMT", 2076),
        (NOW, "Saturday, 15-Aug-76 12:00:00 GMT", 2076),
        (NOW, "Saturday, 15-Aug-76 12:00:01 GMT", 1976),
        (NOW, "Saturday, 15-Aug-76 12:01:00 GMT", 1976),
        (NOW, "Saturday, 14-Aug-76 23:59:59 GMT", 2076),
        (NOW, "Saturday, 16-Aug-76 00:00:00 GMT", 1976),
        (NOW, "Saturday, 31-Jul-76 23:59:59 GMT", 2076),
        (NOW, "Saturday, 01-Sep-76 00:00:00 GMT", 1976),
        (NOW, "Saturday, 01-Jan-77 00:00:00 GMT", 1977),
        (NOW, "Saturday, 01-Jan-99 00:00:00 GMT", 1999),
        (datetime(2024, 2, 29, tzinfo=UTC), "Monday, 28-Feb-74 00:00:00 GMT", 2074),
        (datetime(2024, 2, 29, tzinfo=UTC), "Monday, 01-Mar-74 00:00:00 GMT", 1974),
        (datetime(2050, 1, 1, tzinfo=UTC), "Monday, 01-Jan-00 00:00:00 GMT", 2100),
        (datetime(2090, 1, 1, tzinfo=UTC), "Monday, 01-Jan-10 00:00:00 GMT", 2110),
        (datetime(2090, 1, 1, tzinfo=UTC), "Monday, 01-Jan-41 00:00:00 GMT", 2041),
    ],
)
def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(now: datetime, text: str, year: int) -> None:
    moment = parse_http_date(text, now)
    assert moment is not None
    assert moment.year == year


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC), "Sun, 06 Nov 1994 08:49:37 GMT"),
        (MODIFIED, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (datetime(800, 1, 2, tzinfo=UTC), "Sun, 02 Jan 0800 00:00:00 GMT"),
    ],
)
def test_a_date_is_written_as_imf_fixdate(moment: datetime, text: str) -> None:
    assert format_http_date(moment) == text


@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=2))])
def test_a_date_in_another_zone_is_not_written(zone: timezone | None) -> None:
    with pytest.raises(ValueError, match="UTC"):
        format_http_date(datetime(1994, 11, 6, tzinfo=zone))


DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

moments = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0))
near_moments = st.datetimes(
    datetime(1976, 8, 15, 12, 0, 1), datetime(2076, 8, 15, 12), timezones=st.just(UTC)
).map(lambda moment: moment.replace(microsecond=0))


@given(moments)
def test_a_date_survives_the_wire(moment: datetime) -> None:
    text = format_http_date(moment)
    assert set(text) <= set(string.printable)
    assert parse_http_date(text, NOW) == moment


@given(moments)
def test_a_date_survives_asctime(moment: datetime) -> None:
    day, month = DAYS[moment.weekday()][:3], MONTHS[moment.month - 1]
    text = f"{day} {month} {moment.day:2} {moment:%H:%M:%S} {moment.year:04}"
    assert parse_http_date(text, NOW) == moment


@given(near_moments)
def test_a_date_within_fifty_years_survives_rfc850(moment: datetime) -> None:
    day, month = DAYS[moment.weekday()], MONTHS[moment.month - 1]
    text = f"{day}, {moment.day:02}-{month}-{moment.year % 100:02} {moment:%H:%M:%S} GMT"
    assert parse_http_date(text, NOW) == moment
