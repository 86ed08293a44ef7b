"""Captions of two kinds to WebVTT, language tags, and any bytes."""

import contextlib
import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamer.errors import BodyTooLarge, InvalidInput, MalformedRequest
from streamer.protocol.captions import MAX_BYTES, MAX_CUES, MAX_DEPTH, language_tag, to_webvtt

TIMES = "00:00:01.000 --> 00:00:02.000"
LATER = "00:00:03.000 --> 00:00:04.000"


def vtt(*cues: str) -> str:
    """A WebVTT file of these cues; those without times of their own are at TIMES."""
    return "WEBVTT\n" + "".join(f"\n{cue}\n" if "-->" in cue else f"\n{TIMES}\n{cue}\n" for cue in cues)


def text_of(data: str) -> str:
    """The text of the only cue."""
    head, text = to_webvtt(data.encode()).split(f"{TIMES}\n")
    assert head == "WEBVTT\n\n"
    return text.removesuffix("\n")


SUBRIP = """1
00:00:01,000 --> 00:00:02,000
Hello,
world

2
00:00:02,500 --> 00:01:00,000
Again
"""


def test_subrip_becomes_webvtt() -> None:
    assert to_webvtt(SUBRIP.encode()) == vtt(
        f"{TIMES}\nHello,\nworld", "00:00:02.500 --> 00:01:00.000\nAgain"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("\n\n", "\n  \t\n"),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: text.replace("\n\n", "\n\n\n\n"),
        lambda text: text.replace(",0", ".0").replace(",5", ".5"),
        lambda text: text.replace(" --> ", "-->"),
        lambda text: text.replace(" --> ", "\t -->   "),
        lambda text: text.replace("00:00:0", "0:0:0"),
        lambda text: re.sub("(?m)^00:", "", text),
        lambda text: re.sub("(?m)^[12]\n", "", text),
        lambda text: text.replace("0\nAgain", "0  X1:201 X2:516 Y1:397 Y2:423\nAgain"),
        lambda text: text.replace("0\nAgain", "0 garbage\nAgain"),
        lambda text: "\ufeff" + text,
        lambda text: "\n\n" + text + "\n\n3\n",
        lambda text: text + "\x1a",
        lambda text: "\n\n".join(reversed(text.split("\n\n"))),
    ],
)
def test_subrip_is_read_as_it_is_written_in_the_wild(change: object) -> None:
    assert callable(change)
    assert to_webvtt(change(SUBRIP).encode()) == to_webvtt(SUBRIP.encode())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<i>a</i> <b>b</b> <u>c</u>", "<i>a</i> <b>b</b> <u>c</u>"),
        ("<I>a</I>", "<i>a</i>"),
        ('<font color="#ff0000">red</font>', "red"),
        ("<s>gone</s>", "gone"),
        ("a < b && c > d", "a &lt; b &amp;&amp; c &gt; d"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("I <3 you", "I &lt;3 you"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("<v Bob>hi", "&lt;v Bob&gt;hi"),
        ("go --> there", "go --&gt; there"),
        ("{\\i1}soft{\\i0}", "soft"),
        ("{not markup}", "{not markup}"),
        ("<b>never closed", "<b>never closed</b>"),
        ("closed</b> only", "closed only"),
        ("<b><i>crossed</b></i>", "<b><i>crossed</i></b>"),
        ("<b>\n<font>\n</font>x", "<b>\nx</b>"),
    ],
)
def test_markup_of_subrip_is_kept_where_it_means_the_same(text: str, wanted: str) -> None:
    assert text_of(f"1\n00:00:01,000 --> 00:00:02,000\n{text}\n") == wanted


@pytest.mark.parametrize(
    ("cue", "wanted"),
    [
        ("Line one\n\nLine two", "Line one\nLine two"),
        ("Line one\n \t\n\nLine two\n", "Line one\nLine two"),
        ("\nLate", "Late"),
        ("One\n\n1984\n", "One\n1984"),
        ("A --> B", "A --&gt; B"),
        ("Line one\nA --> B\nLine three", "Line one\nA --&gt; B\nLine three"),
        ("Line one\n\nA --> B", "Line one\nA --&gt; B"),
        ("10:30 --> 11:00, or so", "10:30 --&gt; 11:00, or so"),
    ],
)
@pytest.mark.parametrize("following", ["\n2\n", "2\n", "\n", ""])
def test_cue_of_subrip_ends_where_the_next_one_begins(cue: str, wanted: str, following: str) -> None:
    given = f"1\n{TIMES}\n{cue}\n{following}{LATER}\nNext\n\nand last\n\n"
    assert to_webvtt(given.encode()) == vtt(wanted, f"{LATER}\nNext\nand last")


def test_last_cue_of_subrip_has_no_number_behind_it() -> None:
    assert to_webvtt(f"{TIMES}\nIn\n1984\n\n".encode()) == vtt("In\n1984")
    assert to_webvtt(f"{TIMES}\nIn\n1984\n\n2\n\n".encode()) == vtt("In\n1984")


@pytest.mark.parametrize("code", ["{\\an8}", "{\\an7}", "{\\an9}"])
def test_subrip_at_the_top_stays_there(code: str) -> None:
    assert to_webvtt(f"{TIMES}\n{code}Up".encode()) == vtt(f"{TIMES} line:0\nUp")


@pytest.mark.parametrize("code", ["{\\an2}", "{\\an88}", "{\\pos(1,2)}"])
def test_subrip_elsewhere_is_at_the_bottom(code: str) -> None:
    assert to_webvtt(f"{TIMES}\n{code}Down".encode()) == vtt("Down")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain", "plain"),
        ("<v Mary>Hi</v>", "<v Mary>Hi</v>"),
        ("<v.loud.first Mary Ann >Hi", "<v.loud.first Mary Ann>Hi</v>"),
        ("<v Tom &amp; Jerry>Hi", "<v Tom &amp; Jerry>Hi</v>"),
        ("<v>Hi</v>", "Hi"),
        ("<v &#45;&#45;>Hi</v>", "Hi"),
        ("<c.yellow.bg_blue>Hi</c>", "<c.yellow.bg_blue>Hi</c>"),
        ("<c..x.>Hi</c>", "<c.x>Hi</c>"),
        ("<i ignored>Hi</i>", "<i>Hi</i>"),
        ("<lang en-GB>Hi</lang>", "<lang en-GB>Hi</lang>"),
        ("<lang !>Hi</lang>", "Hi"),
        ("<ruby>a<rt>b</rt></ruby>", "<ruby>a<rt>b</rt></ruby>"),
        ("<ruby>a<rt>b</ruby>c", "<ruby>a<rt>b</rt></ruby>c"),
        ("a<rt>b</rt>", "ab"),
        ("<I>none</I>", "none"),
        ("<script src=x>alert(1)</script>", "alert(1)"),
        ("<b><i>crossed</b></i>", "<b><i>crossed</i></b>"),
        ("a<00:00:01.500>b<00:01.700>c", "a<00:00:01.500>b<00:00:01.700>c"),
        ("a<00:00:01.000>b<00:00:02.000>c", "abc"),
        ("a<00:00:01.500>b<00:00:01.500>c", "a<00:00:01.500>bc"),
        ("a < b &amp; c > d", "a &lt; b &amp; c &gt; d"),
        ("R&D &copy; &eacute; &#233; &#xe9; &nonsense;", "R&amp;D © é é é &amp;nonsense;"),
        ("&lt;b&gt;", "&lt;b&gt;"),
        ("a&#10;&#10;b", "a  b"),
        ("a&zwnj;b&lrm;&nbsp;", "a\u200cb\u200e\u00a0"),
        ("a\n \nb", "a\nb"),
        ("&#" + "1" * 5000 + ";", "&amp;#" + "1" * 5000 + ";"),
    ],
)
def test_text_of_webvtt_is_well_formed(text: str, wanted: str) -> None:
    assert text_of(vtt(text)) == wanted


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ("align:start position:10%,line-left size:35.5% line:-1,end vertical:rl", None),
        ("line:100% size:100.0%", None),
        ("line:101% size:100.1% position:x align:middle vertical:up", ""),
        ("region:fred weird:1 align align: :start", ""),
        ("line:1 line:2", "line:2"),
        ("line:٣", ""),
        ("--> line:0", "line:0"),
    ],
)
def test_valid_settings_are_kept(settings: str, wanted: str | None) -> None:
    wanted = settings if wanted is None else wanted
    assert to_webvtt(f"WEBVTT\n\n{TIMES} {settings}\nx".encode()) == vtt(
        f"{TIMES}{' ' if wanted else ''}{wanted}\nx"
    )


def test_only_cues_of_webvtt_are_kept() -> None:
    given = (
        "WEBVTT - A title\nKind: captions\n\nNOTE\nof no interest\n\nSTYLE\n::cue { color: red }\n\n"
        f"REGION\nid:fred\n\nintro\n{TIMES} region:fred\nHello\n{TIMES}\nno blank line\n\nNOTE the end"
    )
    assert to_webvtt(given.encode()) == vtt("Hello", "no blank line")


def test_cues_come_in_the_order_of_time() -> None:
    late, early, same = "00:00:09.000 --> 00:00:10.000\nlate", f"{TIMES}\nearly", f"{TIMES}\nsame"
    assert to_webvtt(vtt(late, early, same).encode()) == vtt(early, same, late)


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ("00:01.000 --> 00:02.000", TIMES),
        ("100:00:00.000 --> 123456:59:59.999", "100:00:00.000 --> 123456:59:59.999"),
        ("59:59.999-->1:00:00,000", "00:59:59.999 --> 01:00:00.000"),
        ("00:00:01,5 --> 00:00:02,50", "00:00:01.500 --> 00:00:02.500"),
        ("00:00:01 --> 00:00:02", TIMES),
        ("0:1-->0:2", TIMES),
        ("00:00:01:000 --> 00:00:02:000", TIMES),
        ("00:01:050 --> 00:02:000", "00:00:01.050 --> 00:00:02.000"),
        ("00:00:01, 000 --> 00:00:02, 000", TIMES),
    ],
)
def test_times_are_normalised(times: str, wanted: str) -> None:
    for head in ("WEBVTT\n\n", "1\n"):
        assert to_webvtt(f"{head}{times}\nx".encode()) == vtt(f"{wanted}\nx")


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ("-00:00:01,000 --> 00:00:02,000", ["00:00:00.000 --> 00:00:02.000\nx"]),
        ("  -0:01 -->00:00:02,000 X1:-201", ["00:00:00.000 --> 00:00:02.000\nx"]),
        ("-00:00:02,000 --> -00:00:01,000", []),
        ("-00:00:02,000-->-00:00:01,000", []),
        ("-00:00:02,000 --> 00:00:00,000", []),
        ("00:00:02,000 --> -00:00:01,000", []),
    ],
)
def test_subrip_that_was_shifted_begins_at_0(times: str, wanted: list[str]) -> None:
    given = f"1\n{times}\nx\n\n2\n{LATER}\n-00:01 ago\n"
    assert to_webvtt(given.encode()) == vtt(*wanted, f"{LATER}\n-00:01 ago")


@pytest.mark.parametrize("note", ["NOTE a --> b", "NOTE\ta --> b\n0:1 --> b", "NOTE\n-->"])
def test_arrow_in_a_note_of_webvtt_is_of_no_interest(note: str) -> None:
    assert to_webvtt(f"WEBVTT\n\n{note}\n\n{TIMES}\nx\n\n{note}".encode()) == vtt("x")


def test_arrow_in_the_text_of_webvtt_is_text() -> None:
    assert text_of(f"WEBVTT\n\n{TIMES}\none\nA --> B\nthree") == "one\nA --&gt; B\nthree"


def test_cues_that_are_never_seen_are_dropped() -> None:
    given = vtt(
        "00:00:02.000 --> 00:00:01.000\nbackwards", "00:00:01.000 --> 00:00:01.000\nno time", "<b>", "x"
    )
    given += f"\n{TIMES}\n\n{TIMES}\n<x>\n"
    assert to_webvtt(given.encode()) == vtt("<b></b>", "x")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("text", [vtt("œuf, 2 €"), f"{TIMES}\nœuf, 2 €"])
def test_encoding_is_found(text: str, encoding: str) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    assert to_webvtt(mark + text.encode(encoding)) == vtt("œuf, 2 €")


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"", "no cue"),
        (b"WEBVTT\n", "no cue"),
        (b"WEBVTTX\n\nnothing", "no cue"),
        (b"[Script Info]\nDialogue: 0,0:00:01.00,0:00:02.00,x", "no cue"),
        (vtt("00:00:02.000 --> 00:00:01.000\nx").encode(), "no cue"),
        (b"\0\0\0\x20ftypisom", "NUL"),
        (vtt("a\0b").encode(), "NUL"),
        ("x".encode("utf-32"), "NUL"),
        (vtt("\x81").encode("latin-1"), "not text"),
        (b"\xff\xfea", "not text"),
        ("\ufeff".encode() + vtt("\xe9").encode("cp1252"), "not text"),
        (b"WEBVTT\n\n00:01.000 --> 00\nx", "line 3 is not like"),
        (b"WEBVTT\n\n00:01.000 --> 00:02:\nx", "line 3 is not like"),
        (b"WEBVTT\n\nNOTES\n00:01 --> b", "line 4 is not like"),
        (b"WEBVTT\n\nNOTE\n\n00:01 --> b", "line 5 is not like"),
        (b"1\n00:00:01,000 --> 00:00:02,000\nx\n\n2\n00:00:03,x --> 00:00:04,000\ny", "line 6 is not like"),
        (b"1\n00:00:01,000 --> 00:00:02,000\nx\n\n00:00:03,000 --> then\ny", "line 5 is not like"),
        (b"1\nthen --> 00:00:02,000\nx", "line 2 is not like"),
        (b"WEBVTT\n\n00:01.000 --> 00:61.000\nx", "line 3 is not like"),
        (b"WEBVTT\n\n00:01.000 --> 99:01.000\nx", "line 3 is not like"),
        (b"WEBVTT\n\n00:01.0000 --> 00:02.000\nx", "line 3 is not like"),
        (b"WEBVTT\n\n00:01.000 --> 00:02.0001\nx", "line 3 is not like"),
        (vtt("an --> arrow").encode(), "line 3 is not like"),
        (b"WEBVTT -->\n\n", "line 1 is not like"),
        (b"WEBVTT\n\n-00:01.000 --> 00:02.000\nx", "line 3 is not like"),
        (b"1\n-00:00:02,000 --> -00:00:01,000\nx", "no cue has been found"),
        (b"1\n--00:00:01,000 --> 00:00:02,000\nx", "line 2 is not like"),
        (b"1\n-then --> 00:00:02,000\nx", "line 2 is not like"),
        ("1\n00:00:0\u0661,000 --> 00:00:02,000\nx".encode(), "line 2 is not like"),
    ],
)
def test_what_holds_no_captions_is_refused(data: bytes, detail: str) -> None:
    with pytest.raises(MalformedRequest, match=detail) as refusal:
        to_webvtt(data)
    assert refusal.value.code == "malformed_captions"


def test_size_is_bounded() -> None:
    longest = vtt("x").encode()
    assert to_webvtt(longest + b"\n" * (MAX_BYTES - len(longest)))
    with pytest.raises(BodyTooLarge):
        to_webvtt(b"\n" * (MAX_BYTES + 1))


def test_number_of_cues_is_bounded() -> None:
    cue = "0:1-->0:2\nx\n\n"
    assert to_webvtt((cue * MAX_CUES).encode()).count("-->") == MAX_CUES
    with pytest.raises(MalformedRequest, match=str(MAX_CUES)):
        to_webvtt((cue * (MAX_CUES + 1)).encode())


def test_depth_of_tags_is_bounded() -> None:
    deepest = "<i>" * MAX_DEPTH + "x" + "</i>" * MAX_DEPTH
    assert text_of(vtt("<i>" * 5000 + "x")) == deepest
    assert text_of(vtt(deepest)) == deepest


@pytest.mark.parametrize(
    "piece",
    [
        "1\n-->\n", "\n-->\n", "\n1\n-->\n", "0:0",
        "<", "<a", "<a.", "<c.x ", "<v ", "</", "<font ", "<00:", "&", "&#", "&a", "{\\", "{\\an", "-->", "-",
        " ", "\t", "0", "0:", "1\n", "\n", "<i>", "<i></i>", "\r", "NOTE\n", f"{TIMES} ", "align:start ", "é",
    ],
)  # fmt: skip
@pytest.mark.parametrize("head", [f"{TIMES}\n", f"WEBVTT\n\n{TIMES}\n", f"WEBVTT\n\n{TIMES} "])
def test_time_is_in_proportion_to_the_size(head: str, piece: str) -> None:
    data = (head + piece * (2**17 // len(piece))).encode()
    began = time.process_time()
    with contextlib.suppress(MalformedRequest):
        to_webvtt(data)
    assert time.process_time() - began < 10


def is_valid(text: str) -> bool:
    """Whether this is WebVTT by the syntax of section 4, of which only cues are expected."""
    number = "[0-9]{2,}:[0-5][0-9]:[0-5][0-9]\\.[0-9]{3}"
    header, *blocks = text.removesuffix("\n").split("\n\n")
    starts = []
    for block in blocks:
        times, *lines = block.split("\n")
        found = re.fullmatch(
            f"({number}) --> ({number})( (vertical|line|position|size|align):[^ >]+)*", times
        )
        if not found or not lines or "-->" in "".join(lines) or not all(lines):
            return False
        starts.append([int(part) for part in re.split("[:.]", found[1])])
        left = re.sub(
            f"</?(c|i|b|u|ruby|rt|v|lang)(\\.[^ <>&]+)*( [^<>]+)?>|<{number}>|&(amp|lt|gt);",
            "",
            block[len(times) :],
        )
        if re.search("[<>&\0\r]", left):
            return False
    return header == "WEBVTT" and bool(blocks) and starts == sorted(starts)


PIECES = st.sampled_from(
    [
        "WEBVTT",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        " ",
        "1\n",
        TIMES + "\n",
        "0:1,000-->0:3,500",
        "-->",
        "--",
        ">",
        "<",
        "&",
        ";",
        "/",
        "<b>",
        "</b>",
        "<i>",
        "</i>",
        "<v ",
        "<v Bob>",
        "</v>",
        "<c.a",
        ".b",
        "<lang en>",
        "<ruby>",
        "<rt>",
        "</ruby>",
        "<00:00:01.500>",
        "{\\an8}",
        "}",
        "<font x>",
        "&amp;",
        "&#10;",
        "&#45;",
        "&lt",
        "amp;",
        " line:1",
        " align:end",
        "é",
        "\ufeff",
        "\u2028",
        "\x85",
        "\xa0",
        "\f",
        "NOTE",
        "x",
        "42",
    ]
)


@given(
    st.binary()
    | st.lists(PIECES).map(lambda pieces: "".join(pieces).encode())
    | st.lists(PIECES).map(lambda pieces: f"{TIMES}\n{''.join(pieces)}".encode())
    | st.lists(PIECES).map(lambda pieces: f"WEBVTT\n\n{TIMES}\n{''.join(pieces)}".encode())
    | st.text().map(lambda text: f"WEBVTT\n\n{TIMES}\n{text}".encode())
    | st.text().map(lambda text: f"{TIMES}\n{text}".encode("utf-16"))
)
@example(f"WEBVTT\n\n{TIMES}\n<c.a&#45;-\n>x".encode())
@example(f"WEBVTT\n\n{TIMES}\n<c.a-- x>x".encode())
def test_any_bytes_are_refused_or_become_valid_webvtt_that_stays_as_it_is(data: bytes) -> None:
    try:
        text = to_webvtt(data)
    except MalformedRequest:
        return
    assert is_valid(text)
    assert to_webvtt(text.encode()) == text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("en", "en"),
        ("EN-us", "en-US"),
        ("ZH-hANT-tw", "zh-Hant-TW"),
        ("zh-cmn-Hans-CN", "zh-cmn-Hans-CN"),
        ("sr-Latn-RS", "sr-Latn-RS"),
        ("de-CH-1901", "de-CH-1901"),
        ("sl-ROZAJ-biske-1994", "sl-rozaj-biske-1994"),
        ("es-419", "es-419"),
        ("de-DE-u-CO-PHONEBK", "de-DE-u-co-phonebk"),
        ("en-a-myExt-b-another", "en-a-myext-b-another"),
        ("AZ-latn-X-LATN", "az-Latn-x-latn"),
        ("X-WHATEVER-us", "x-whatever-us"),
        ("eng", "en"),
        ("ENG-us", "en-US"),
        ("ger", "de"),
        ("deu", "de"),
        ("fre", "fr"),
        ("chi", "zh"),
        ("und", "und"),
        ("mul", "mul"),
        ("gsw", "gsw"),
        ("x-" + "-".join(["abcdefgh"] * 3) + "-abcde", "x-abcdefgh-abcdefgh-abcdefgh-abcde"),
    ],
)
def test_language_tag_is_put_in_its_canonical_form(text: str, wanted: str) -> None:
    assert language_tag(text) == wanted
    assert language_tag(wanted) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "", "e", "en_US", "en-", "-en", "en--US", "en-US-", "419", "de-419-DE", "a-DE", "ar-a-", "x", "x-",
        "en-x", "en-a", "abcdefghi", "en-abcdefghi", "en-US\n", " en", "e\u0144", "\u212ao", "en\0",
        "i-klingon", "../x", "en-" + "a" * 5000, "x-" + "-".join(["abcdefgh"] * 3) + "-abcdefg",
    ],
)  # fmt: skip
def test_what_is_no_language_tag_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="language"):
        language_tag(text)


@given(st.text() | st.text("abxAB12-", max_size=40))
def test_any_text_is_refused_or_a_tag_that_stays_as_it_is(text: str) -> None:
    try:
        tag = language_tag(text)
    except InvalidInput:
        return
    assert language_tag(tag) == tag
    assert len(tag) <= 35
