"""Untrusted text to values, as tables and with what hypothesis finds."""

import unicodedata
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer import inputs
from streamer.errors import FieldError, InvalidInput

PARSERS: dict[str, inputs.Parser] = {
    "text": inputs.text,
    "credential": inputs.credential,
    "username": inputs.username,
    "password": inputs.password,
    "title": inputs.title,
    "description": inputs.description,
    "filename": inputs.filename,
    "page": inputs.page,
    "limit": inputs.limit,
    "search": inputs.search,
    "sha256": inputs.sha256,
    "one_of": inputs.one_of("a", "b"),
}
NOT_STRINGS: list[object] = [None, True, 0, 1.5, [], ["text"], {}, {"a": 1}, b"text"]
ANY_TEXT = st.text(st.characters(categories=None))  # lone surrogates too
ANYTHING = st.one_of(
    ANY_TEXT, st.none(), st.booleans(), st.integers(), st.floats(), st.binary(), st.lists(st.text())
)
ANY_PARSER = st.sampled_from(list(PARSERS.values()))


def parsed(parser: inputs.Parser, value: object) -> Any:
    """The value, or None where it is refused."""
    try:
        return parser(value)
    except ValueError:
        return None


@given(ANY_PARSER, ANYTHING)
def test_parsers_raise_nothing_but_value_error_with_a_message(parser: inputs.Parser, value: object) -> None:
    try:
        parser(value)
    except ValueError as error:
        assert str(error).startswith("must ")  # noqa: PT017


@given(ANY_PARSER, ANY_TEXT)
def test_what_a_parser_gives_it_takes_again_and_leaves_as_it_is(parser: inputs.Parser, value: str) -> None:
    clean = parsed(parser, value)
    if isinstance(clean, str):
        assert parser(clean) == clean
        clean.encode()


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("value", NOT_STRINGS, ids=repr)
def test_no_parser_takes_what_is_no_string(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        PARSERS[name](value)


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("value", ["\ud800", "some\udfffname", "\udbffpassword"])
def test_no_parser_takes_lone_surrogates(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        PARSERS[name](value)


@pytest.mark.parametrize("value", ["\ud7ff", "\ue000", "🔑", "\U0010ffff", ""])
def test_text_takes_every_character(value: str) -> None:
    assert inputs.text(value) == value


# accounts


@pytest.mark.parametrize("value", ["abc", "A" * 32, "a.b", "_-_", "007", "Alice-B.C_9"])
def test_good_user_name_stays_as_it_is(value: str) -> None:
    assert inputs.username(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "ab",
        "a" * 33,
        "a b",
        " abc",
        "abc\n",
        "älice",
        "a@b",
        "a/b",
        "abc\0",
        "\u0661\u0662\u0663",
        "a\u200db",
    ],
)
def test_bad_user_name_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="3 to 32"):
        inputs.username(value)


@pytest.mark.parametrize(("value", "good"), [("x" * 7, 0), ("x" * 8, 1), ("é" * 128, 1), ("x" * 129, 0)])
def test_password_has_8_to_128_characters(value: str, good: bool) -> None:
    assert parsed(inputs.password, value) == (value if good else None)


@pytest.mark.parametrize(("value", "good"), [("", 1), ("x", 1), ("\0" * 1000, 1), ("x" * 1001, 0)])
def test_credential_is_bounded_only(value: str, good: bool) -> None:
    assert parsed(inputs.credential, value) == (value if good else None)


# videos


@pytest.mark.parametrize(
    ("value", "title"),
    [
        ("Holiday", "Holiday"),
        ("  Holiday  ", "Holiday"),
        ("\u00a0Holiday\u3000", "Holiday"),
        ("x" * 200, "x" * 200),
        ("cafe\u0301", "caf\u00e9"),
        ("\u1112\u1161\u11ab", "\ud55c"),
        ("e\u0301" * 200, "\u00e9" * 200),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("<b>&amp;", "<b>&amp;"),
        ("", None),
        ("   ", None),
        ("x" * 201, None),
        ("\u0958" * 101, None),  # its normal form has two characters
        ("two\nlines", None),
        ("tab\tstop", None),
        ("nul\0", None),
        ("esc\x1b[2J", None),
        ("del\x7f", None),
        ("c1\x85", None),
        ("line\u2028separator", None),
        ("paragraph\u2029separator", None),
    ],
)
def test_title(value: str, title: str | None) -> None:
    assert parsed(inputs.title, value) == title


@pytest.mark.parametrize(
    ("value", "description"),
    [
        ("", ""),
        (" one\n\ttwo\r\nthree ", "one\n\ttwo\r\nthree"),
        ("x" * 5000, "x" * 5000),
        ("cafe\u0301", "caf\u00e9"),
        ("x" * 5001, None),
        ("nul\0", None),
        ("esc\x1b", None),
        ("vertical\vtab", None),
        ("line\u2028separator", None),
    ],
)
def test_description(value: str, description: str | None) -> None:
    assert parsed(inputs.description, value) == description


@pytest.mark.parametrize(
    ("value", "filename"),
    [
        ("clip.mp4", "clip.mp4"),
        ("/home/me/clip.mp4", "clip.mp4"),
        ("C:\\Users\\me\\clip.mp4", "clip.mp4"),
        ("C:\\mixed/clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("folder/", "folder"),
        ("  clip.mp4 ", "clip.mp4"),
        ("cafe\u0301.mp4", "caf\u00e9.mp4"),
        ("x" * 255, "x" * 255),
        ("/" + "long/" * 50 + "clip.mp4", "clip.mp4"),
        ("", None),
        ("/", None),
        (".", None),
        (" ", None),
        ("x" * 256, None),
        ("x/" * 2041, None),
        ("new\nline.mp4", None),
        ("nul\0.mp4", None),
        ("\u2028.mp4", None),
    ],
)
def test_filename_is_the_last_part_of_a_path(value: str, filename: str | None) -> None:
    assert parsed(inputs.filename, value) == filename


@pytest.mark.parametrize("name", ["title", "description", "filename", "search"])
@pytest.mark.parametrize("character", "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069", ids=ascii)
def test_characters_that_turn_the_direction_of_the_text_are_refused(name: str, character: str) -> None:
    for value in (f"clip{character}gpj.exe", character, f"{character}clip", f"clip{character}"):
        with pytest.raises(ValueError, match="direction of the text"):
            PARSERS[name](value)


@pytest.mark.parametrize("name", ["title", "description", "filename", "search"])
@pytest.mark.parametrize(
    "value", ["שלום עולם", "مرحبا.mp4", "שלום\u200f!", "\u2065", "\u206a", "\u202f\u00b0"]
)
def test_text_that_runs_from_right_to_left_is_taken(name: str, value: str) -> None:
    assert PARSERS[name](f"a{value}b") == f"a{value}b"


@given(ANY_TEXT)
def test_filename_never_has_a_separator_or_a_control_character(value: str) -> None:
    name = parsed(inputs.filename, value)
    if name is not None:
        assert 1 <= len(name) <= 255
        assert not set(name) & set("/\\\0\r\n")


@pytest.mark.parametrize(
    ("file_name", "title"),
    [
        ("clip.mp4", "clip"),
        ("clip.final.mp4", "clip.final"),
        ("clip", "clip"),
        (".mp4", ".mp4"),
        (" .mp4", " .mp4"),
        ("clip .mp4", "clip"),
        ("x" * 250 + ".mp4", "x" * 200),
        ("x" * 199 + " y.mp4", "x" * 199),
    ],
)
def test_title_of_a_file_is_its_name_without_the_ending(file_name: str, title: str) -> None:
    assert inputs.title_of(file_name) == title


@given(ANY_TEXT)
def test_title_of_a_file_is_a_good_title(value: str) -> None:
    name = parsed(inputs.filename, value)
    if name is not None:
        title = inputs.title_of(name)
        assert inputs.title(title) == title


@given(ANY_TEXT)
def test_titles_are_in_normal_form_c(value: str) -> None:
    title = parsed(inputs.title, value)
    assert title is None or unicodedata.is_normalized("NFC", title)


# numbers


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("1", 1),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("9" * 19, None),
        (str(10**30), None),
        ("9" * 100_000, None),
        ("0", None),
        ("01", None),
        ("-1", None),
        ("+1", None),
        ("1_0", None),
        ("1.0", None),
        (" 1", None),
        ("1\n", None),
        ("\u0661", None),
        ("²", None),
        ("", None),
        ("abc", None),
    ],
)
def test_identifier(value: str, number: int | None) -> None:
    assert inputs.identifier(value) == number


@given(ANY_TEXT)
def test_identifier_raises_nothing(value: str) -> None:
    assert inputs.identifier(value) is None or value.isdecimal()


@given(st.integers(min_value=0, max_value=10**30))
def test_identifier_is_every_row_id_of_sqlite_and_no_more(number: int) -> None:
    assert inputs.identifier(str(number)) == (number if 1 <= number < 2**63 else None)


@pytest.mark.parametrize("parser", [inputs.page, inputs.limit])
@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "000",
        "-1",
        "+1",
        "1_0",
        "1.0",
        "1e1",
        " 1",
        "1 ",
        "1\n",
        "\u0661",
        "²",
        "0x1",
        "9" * 50,
        "one",
    ],
)
def test_what_is_no_positive_number_is_refused(parser: inputs.Parser, value: str) -> None:
    with pytest.raises(ValueError, match="whole number from 1 to"):
        parser(value)


@pytest.mark.parametrize("parser", [inputs.page, inputs.limit])
@pytest.mark.parametrize(("value", "number"), [("1", 1), ("100", 100), ("007", 7), ("0" * 1000 + "1", 1)])
def test_number_may_have_zeros_before_it(parser: inputs.Parser, value: str, number: int) -> None:
    assert parser(value) == number


def test_limit_is_at_most_100() -> None:
    with pytest.raises(ValueError, match="from 1 to 100"):
        inputs.limit("101")


def test_page_is_at_most_a_thousand_million() -> None:
    assert inputs.page("1000000000") == inputs.MAX_PAGE == 10**9
    with pytest.raises(ValueError, match="one whole number from 1 to 1000000000"):
        inputs.page("1000000001")


def test_last_row_of_the_last_page_has_a_number_that_sqlite_knows() -> None:
    assert inputs.page(str(inputs.MAX_PAGE)) * inputs.limit("100") <= 2**63 - 1


# choices and searches


@pytest.mark.parametrize("value", [1, 2**63, 10**30])
def test_a_size_is_a_number_of_bytes(value: int) -> None:
    assert inputs.byte_count(value) == value


@pytest.mark.parametrize("value", [0, -1, True, False, 1.0, "1", None, [], {}])
def test_what_is_no_number_of_bytes_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="must be a whole number of bytes from 1 on"):
        inputs.byte_count(value)


def test_a_sha256_has_64_hexadecimal_digits_in_lower_case() -> None:
    assert inputs.sha256("0123456789abcdefABCDEF" + "0" * 42) == "0123456789abcdefabcdef" + "0" * 42


@pytest.mark.parametrize(
    "value", ["", "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n", "\u0660" * 64, "0x" + "0" * 62]
)
def test_what_is_no_sha256_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="must be 64 hexadecimal digits"):
        inputs.sha256(value)


def test_one_of_takes_its_words_only() -> None:
    parser = inputs.one_of("title", "-title")
    assert parser("title") == "title"
    assert parser("-title") == "-title"
    for value in ("Title", "title ", "", "size", ["title"]):
        with pytest.raises(ValueError, match="must be one of: title, -title"):
            parser(value)


@pytest.mark.parametrize(
    ("value", "search"),
    [
        ("", ""),
        (" a%_b ", "a%_b"),
        ("cafe\u0301", "caf\u00e9"),
        ("x" * 201, None),
        ("a\nb", None),
        ("\0", None),
    ],
)
def test_search(value: str, search: str | None) -> None:
    assert parsed(inputs.search, value) == search


# whole inputs


def parse(values: Mapping[str, object]) -> dict[str, Any]:
    return inputs.parse_fields(values, {"name": inputs.username}, {"title": inputs.title})


def test_fields_are_parsed_and_those_not_sent_left_out() -> None:
    assert parse({"name": "alice", "title": " x "}) == {"name": "alice", "title": "x"}
    assert parse({"name": "alice"}) == {"name": "alice"}


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse({"title": "", "other": 1})
    assert caught.value.errors == (
        FieldError("name", "is required"),
        FieldError("title", "must not be empty"),
        FieldError("other", "is not a field of this request"),
    )
    assert str(caught.value) == (
        "name: is required; title: must not be empty; other: is not a field of this request"
    )


def test_null_is_a_value_and_a_wrong_one() -> None:
    with pytest.raises(InvalidInput, match="name: must be a single string"):
        parse({"name": None})
