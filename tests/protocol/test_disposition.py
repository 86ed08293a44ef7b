import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.protocol.disposition import content_disposition

# RFC 6266, section 4.1, narrowed to what we mean to write; RFC 8187, section 3.2.1.
VALUE = re.compile(
    r'(?P<kind>inline|attachment); filename="(?P<plain>[ !#$&-.0-\[\]-~]+)"'
    r"(?:; filename\*=UTF-8''(?P<encoded>(?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*))?"
)


@pytest.mark.parametrize("kind", ["inline", "attachment"])
def test_the_kind_comes_first(kind: str) -> None:
    assert content_disposition(kind, "film.mp4") == f'{kind}; filename="film.mp4"'


@pytest.mark.parametrize(
    "filename", ["film.mp4", "My film (2024), part 1; ~'it's'.mp4", "a.b.c", "film", "a=b"]
)
def test_a_plain_name_needs_no_second_form(filename: str) -> None:
    assert content_disposition("inline", filename) == f'inline; filename="{filename}"'


@pytest.mark.parametrize(
    ("filename", "plain", "encoded"),
    [
        ("\u00e9t\u00e9.mp4", "ete.mp4", "%C3%A9t%C3%A9.mp4"),
        ("e\u0301.mp4", "e.mp4", "e%CC%81.mp4"),
        ("\u20ac rates.mp4", "_ rates.mp4", "%E2%82%AC%20rates.mp4"),
        ("\u732b.mp4", "_.mp4", "%E7%8C%AB.mp4"),
        ("\U0001f3ac.mp4", "_.mp4", "%F0%9F%8E%AC.mp4"),
        ("\ufb01lm.mp4", "film.mp4", "%EF%AC%81lm.mp4"),
        ('say "hi".mp4', "say _hi_.mp4", "say%20%22hi%22.mp4"),
        ("a\\b.mp4", "a_b.mp4", "a%5Cb.mp4"),
        ("100%41.mp4", "100_41.mp4", "100%2541.mp4"),
        ("a/b.mp4", "a_b.mp4", "a%2Fb.mp4"),
        ("\u2100.mp4", "a_c.mp4", "%E2%84%80.mp4"),
        ("\uff02\uff3c\uff05.mp4", "___.mp4", "%EF%BC%82%EF%BC%BC%EF%BC%85.mp4"),
        ("a\r\nX: y.mp4", "a__X: y.mp4", "a%0D%0AX%3A%20y.mp4"),
        ("a\0\x7f\x1f.mp4", "a___.mp4", "a%00%7F%1F.mp4"),
        ("\ud800.mp4", "_.mp4", "%EF%BF%BD.mp4"),
        ("*'().\u00e9", "*'().e", "%2A%27%28%29.%C3%A9"),
        ("!#$&+-.^_`|~\u00e9", "!#$&+-.^_`|~e", "!#$&+-.^_`|~%C3%A9"),
        ("", "video", ""),
        (" ", "video", "%20"),
        ("..", "video", ".."),
        (".mp4", "video.mp4", ".mp4"),
        (" .mp4", "video.mp4", "%20.mp4"),
        ("\u0301.mp4", "video.mp4", "%CC%81.mp4"),
        ("film.", "film", "film."),
        (" film. ", "film", "%20film.%20"),
    ],
)
def test_other_names_come_in_two_forms(filename: str, plain: str, encoded: str) -> None:
    value = content_disposition("attachment", filename)
    assert value == f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


@given(st.text(st.characters()))
def test_any_name_gives_a_value_of_the_grammar(filename: str) -> None:
    value = content_disposition("attachment", filename)
    assert value.isascii()
    assert value.isprintable()
    match = VALUE.fullmatch(value)
    assert match is not None
    assert not match["plain"].startswith((".", " "))


@given(st.text())
def test_any_name_can_be_read_back(filename: str) -> None:
    match = VALUE.fullmatch(content_disposition("inline", filename))
    assert match is not None
    name = match["plain"] if match["encoded"] is None else unquote(match["encoded"], errors="strict")
    assert name == filename
