"""Forms taken apart as they arrive: wherever the pieces end, and as Falcon's own parser reads them."""

import gc
import io
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from falcon.media.multipart import MultipartForm, MultipartParseOptions
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import MalformedRequest
from streamer.protocol.multipart import HEAD_BYTES, FormParser, Head

BOUNDARY = b"----edge"
Part = tuple[Head, bytes]


def disposition(name: bytes = b"a") -> bytes:
    return b'Content-Disposition: form-data; name="%b"' % name


def form(*parts: tuple[bytes, bytes], boundary: bytes = BOUNDARY) -> bytes:
    """A form of heads and contents."""
    body = b"".join(b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary, head, content) for head, content in parts)
    return body + b"--%b--\r\n" % boundary


def parse(pieces: Iterable[bytes], boundary: bytes = BOUNDARY) -> list[Part]:
    """The parts of a form that comes in these pieces."""
    parser = FormParser(boundary)
    parts: list[tuple[Head, list[bytes]]] = []
    for piece in pieces:
        for found in parser.feed(piece):
            if isinstance(found, dict):
                parts.append((found, []))
            else:
                assert len(found), "nothing is not worth telling"
                parts[-1][1].append(bytes(found))
    parser.finish()
    return [(head, b"".join(content)) for head, content in parts]


def outcome(pieces: Iterable[bytes], boundary: bytes = BOUNDARY) -> list[Part] | str:
    """The parts, or why there are none."""
    try:
        return parse(pieces, boundary)
    except MalformedRequest as error:
        return f"{error.code}: {error}"


def contents(body: bytes, boundary: bytes = BOUNDARY) -> list[bytes]:
    return [content for _, content in parse([body], boundary)]


def cut(body: bytes, positions: Iterable[int]) -> Iterator[bytes]:
    """The body in pieces that end at these positions; some may be empty."""
    first = 0
    for position in sorted(positions):
        yield body[first:position]
        first = position
    yield body[first:]


# --- pieces

TRICKY = form(
    (disposition(b"title"), b"one\r\ntwo\r\n"),
    (disposition(b"empty"), b""),
    (
        disposition(b"video") + b"\r\nContent-Type: video/mp4",
        b"\r\n--\r\n----\r\n----edg\r\r\n\r\n----edgar ----edge\n----edge-- \r\n----Edge--\r\n",
    ),
)
BODIES = {
    "tricky": TRICKY,
    "preamble and epilogue": b"to whom it may concern\r\n" + TRICKY + b"\r\n----edge\r\nbye",
    "padding": TRICKY.replace(b"----edge\r\n", b"----edge \t \r\n"),
    "no end": TRICKY[:-12],
    "nonsense behind a boundary": form((disposition(), b"x\r\n----edgar")),
    "no disposition": form((b"X: 1", b"x")),
    "no parts": b"------edge--",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_it_does_not_matter_where_one_piece_ends(body: bytes) -> None:
    whole = outcome([body])
    for position in range(len(body) + 1):
        assert outcome(cut(body, [position])) == whole, position


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("size", [1, 2, 3, 7, 13])
def test_it_does_not_matter_how_small_the_pieces_are(body: bytes, size: int) -> None:
    assert outcome(cut(body, range(size, len(body), size))) == outcome([body])


# what is made of these is full of delimiters that are none
crumbs = st.lists(
    st.sampled_from(
        [b"\r", b"\n", b"-", b"--", b"\r\n", b"\r\n--", b"\r\n-----", b"----edge", b"edge", b" ", b"x", b":"]
    ),
    max_size=30,
).map(b"".join)


@given(crumbs | st.binary(max_size=50), st.data())
def test_whatever_comes_is_the_same_in_any_pieces(middle: bytes, data: st.DataObject) -> None:
    body = b"------edge\r\n" + disposition() + b"\r\n\r\n" + middle + b"\r\n------edge--"
    body = data.draw(st.sampled_from([body, middle, middle + body, body[:-2]]))
    positions = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    assert outcome(cut(body, positions)) == outcome([body])


# --- an oracle

names = st.text("abcü€ '", min_size=1, max_size=8).map(str.encode)
well_formed = st.lists(
    st.tuples(
        names.map(disposition),
        (crumbs | st.binary(max_size=100)).filter(lambda content: BOUNDARY not in content),
    ),
    max_size=5,
)


def falcon_reads(body: bytes, boundary: bytes = BOUNDARY) -> list[tuple[str | None, bytes]]:
    options = MultipartParseOptions()
    options.max_body_part_count = 0
    parts = MultipartForm(io.BytesIO(body), boundary, len(body), options)
    return [(part.name, part.stream.read()) for part in parts]


@given(well_formed, st.sampled_from([b"", b"\r\n", b"\r\nepilogue\r\n"]), st.data())
def test_falcon_reads_the_same_form(
    parts: list[tuple[bytes, bytes]], epilogue: bytes, data: st.DataObject
) -> None:
    body = form(*parts) + epilogue
    positions = data.draw(st.lists(st.integers(0, len(body)), max_size=4))
    found = parse(cut(body, positions))
    assert [content for _, content in found] == [content for _, content in parts]
    if parts:  # Falcon wants one
        named = [(head[b"content-disposition"], content) for head, content in found]
        expected = [(disposition(name.encode()), content) for name, content in falcon_reads(body) if name]
        assert [(b"Content-Disposition: " + head, content) for head, content in named] == expected


# --- the grammar


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"--",
        b"\r\n--",
        b"\r",
        BOUNDARY,
        b"--" + BOUNDARY,
        b"\n--" + BOUNDARY,
        b"\r--" + BOUNDARY,
        b"\r\n-" + BOUNDARY[1:],
        b"\r\n--" + BOUNDARY[:-1],
        b"\r\n--" + BOUNDARY[:-1] + b"\r\n--",
        b"\r\n--" + BOUNDARY.upper(),
        b"\r\n\r\n--\r\n--" + BOUNDARY[:-1],
        bytes(range(256)) * 3,
    ],
)
def test_content_that_looks_like_a_delimiter_is_content(content: bytes) -> None:
    body = form((disposition(), content), (disposition(b"b"), content))
    assert contents(body) == [content, content]
    assert outcome(cut(body, range(1, len(body)))) == outcome([body])


@pytest.mark.parametrize("boundary", [b"x", b"-", b"--", b"b" * 70, b"a b'()+_,-./:=?"])
def test_a_boundary_has_1_to_70_characters_of_any_kind(boundary: bytes) -> None:
    content = b"\r\n--\r\n-x\r\n- -\r\n--c" + boundary
    body = form((disposition(), content), boundary=boundary)
    assert contents(body, boundary) == [content]
    assert outcome(cut(body, range(1, len(body))), boundary) == outcome([body], boundary)


@pytest.mark.parametrize(
    "body", [b"------edge--", b"------edge--\r\n", b"\r\n------edge--", b"hello\r\n------edge--x"]
)
def test_a_form_of_nothing_but_its_end_has_no_parts(body: bytes) -> None:
    assert parse([body]) == []
    assert parse(cut(body, range(1, len(body)))) == []


def test_preamble_and_epilogue_are_no_content() -> None:
    body = (
        b"hello\r\n--\r\nx------edge\r\n" + form((disposition(), b"x")) + b"bye" + form((disposition(), b"y"))
    )
    assert contents(body) == [b"x"]


@pytest.mark.parametrize("padding", [b" ", b"\t", b" \t \t", b" " * 1000])
def test_the_line_of_a_boundary_may_end_in_blanks(padding: bytes) -> None:
    body = form((disposition(), b"x"), (disposition(b"b"), b"y"))
    assert contents(body.replace(b"----edge\r\n", b"----edge" + padding + b"\r\n")) == [b"x", b"y"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "ends before its last delimiter"),
        (b"hello", "ends before its last delimiter"),
        (b"------edge", "ends before its last delimiter"),
        (b"------edge-", "ends before its last delimiter"),
        (b"------edge\r\n", "ends before its last delimiter"),
        (form((disposition(), b"x"))[:-4], "ends before its last delimiter"),
        (b"x------edge--", "ends before its last delimiter"),
        (b"------edge \t ", "ends before its last delimiter"),
        (b"------edgex\r\n", "something else than the end of its line"),
        (b"------edge\n\n", "something else than the end of its line"),
        (b"------edge\rx", "something else than the end of its line"),
        (b"------edge -- ", "something else than the end of its line"),
        (b"------edge" + b" " * 2**14, "something else than the end of its line"),
        (b"------edge\r\n\r\nx\r\n------edge--", "no header field"),
        (form((b"no colon", b"x")), "no header field"),
        (form((b": no name", b"x")), "no header field"),
        (form((disposition() + b"\r\n continued", b"x")), "no header field"),
        (form((b"Content-Type: video/mp4", b"x")), "no Content-Disposition"),
        (form((b"Content-Disposition: attachment; name=a", b"x")), "no Content-Disposition"),
        (form((b"Content-Disposition:", b"x")), "no Content-Disposition"),
        (form((disposition() + b"\r\nX: " + b"x" * HEAD_BYTES, b"x")), f"more than {HEAD_BYTES} bytes"),
        (b"------edge\r\nX: " + b"x" * HEAD_BYTES, f"more than {HEAD_BYTES} bytes"),
    ],
)
def test_what_is_broken_is_told(body: bytes, reason: str) -> None:
    for pieces in ([body], cut(body, range(1, len(body), max(1, len(body) // 500)))):
        told = outcome(pieces)
        assert isinstance(told, str)
        assert told.startswith("malformed_multipart: ")
        assert reason in told


def test_the_longest_head_is_read_whatever_its_pieces() -> None:
    room = HEAD_BYTES - len(b"\r\n" + disposition() + b"\r\nX: " + b"\r\n\r\n")
    body = form((disposition() + b"\r\nX: " + b"x" * room, b"x"))
    assert contents(body) == [b"x"]
    assert outcome(cut(body, range(1, len(body), 100))) == outcome([body])
    longer = body.replace(b"X: ", b"X: x")
    assert isinstance(outcome([longer]), str)
    assert outcome(cut(longer, range(1, len(longer), 100))) == outcome([longer])


def test_names_of_fields_are_lower_case_and_values_as_they_were() -> None:
    head = b'CONTENT-Disposition :  FORM-DATA; name="\xff\xc3\xa9"  \r\nX-Other:\xe9:\xe9'
    [(found, _)] = parse([form((head, b"x"))])
    assert found == {b"content-disposition": b'FORM-DATA; name="\xff\xc3\xa9"', b"x-other": b"\xe9:\xe9"}


# --- memory


def test_nothing_of_a_large_content_is_kept() -> None:
    parser = FormParser(BOUNDARY)
    list(parser.feed(b"------edge\r\n" + disposition() + b"\r\n\r\n"))
    piece = b"\r\n-----" * 2**13
    taken = 0
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(200):
            taken += sum(len(found) for found in parser.feed(piece))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 200 * len(piece) - taken < len(BOUNDARY) + 4
    assert peak < 4 * len(piece)


@pytest.mark.parametrize("begin", [b"", form((disposition(), b"x"))], ids=["preamble", "epilogue"])
def test_nothing_of_what_is_around_the_form_is_kept(begin: bytes) -> None:
    parser = FormParser(BOUNDARY)
    list(parser.feed(begin))
    piece = bytes(2**16)
    tracemalloc.start()
    try:
        for _ in range(200):
            assert list(parser.feed(piece)) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2**16


def test_what_was_given_out_stays_as_it_is() -> None:
    parser = FormParser(BOUNDARY)
    list(parser.feed(b"------edge\r\n" + disposition() + b"\r\n\r\n"))
    [first] = parser.feed(b"a" * 1000)
    list(parser.feed(b"b" * 1000))
    assert set(bytes(first)) == {ord("a")}  # type: ignore[arg-type]
