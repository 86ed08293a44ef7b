"""What is handed to a WSGI server gives exactly its bytes, however the server asks."""

import errno
import gc
import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waitress.buffers import ReadOnlyFileBasedBuffer

from streamer.storage.slices import BLOCK_BYTES, FileSlice, Segment, SegmentedBody

FILE_BYTES = 700_001
FIRST, LENGTH = 1_003, 3 * BLOCK_BYTES + 77
SEGMENTS: list[Segment] = [
    b"--limit\r\n\r\n",
    (5, 40_000),
    b"",
    b"\r\n--limit\r\n\r\n",
    (FILE_BYTES - 300_000, 300_000),
    (17, 0),
    (0, 1),
    b"\r\n--limit--\r\n",
]

Body = FileSlice | SegmentedBody


class Case(NamedTuple):
    """How to open a body, which bytes it has, and the position of the first of them."""

    open: Callable[..., Body]
    content: bytes
    origin: int


@pytest.fixture(scope="module", params=["pread", "lseek"], autouse=True)
def reading(request: pytest.FixtureRequest) -> Iterator[str]:
    """Everything is tested with os.pread and as on systems that have none."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "lseek":
            patch.delattr(os, "pread", raising=False)
        elif not hasattr(os, "pread"):
            pytest.skip("this system has no os.pread")
        yield request.param


@pytest.fixture(scope="module")
def data() -> bytes:
    return b"".join(number.to_bytes(4) for number in range(FILE_BYTES // 4 + 1))[:FILE_BYTES]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> Path:
    path = tmp_path_factory.mktemp("slices") / "video"
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module", params=["slice", "slice to the end", "empty slice", "segments"])
def case(request: pytest.FixtureRequest, path: Path, data: bytes) -> Case:
    if request.param == "segments":
        content = b"".join(s if isinstance(s, bytes) else data[s[0] : s[0] + s[1]] for s in SEGMENTS)
        return Case(lambda *rest: SegmentedBody(path, SEGMENTS, *rest), content, 0)
    first, length = {
        "slice": (FIRST, LENGTH),
        "slice to the end": (FILE_BYTES - 300_000, 300_000),
        "empty slice": (FIRST, 0),
    }[request.param]
    return Case(lambda *rest: FileSlice(path, first, length, *rest), data[first : first + length], first)


def descriptors_of(path: Path) -> int:
    """How many descriptors of this process are open on the file."""
    wanted = path.stat()
    table = Path("/proc/self/fd")
    numbers = [int(entry.name) for entry in table.iterdir()] if table.exists() else range(1024)
    return sum(_is_open_on(number, wanted) for number in numbers)


def _is_open_on(descriptor: int, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), wanted)
    except OSError:
        return False


def clamped(position: int, case: Case) -> int:
    return min(max(position, case.origin), case.origin + len(case.content))


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.none() | st.integers(-3, 2 * BLOCK_BYTES) | st.integers(0, 60)),
        st.tuples(st.just("next"), st.none()),
        st.tuples(st.just("seek"), st.integers(-50, FILE_BYTES)),
        st.tuples(st.just("move"), st.integers(-200_000, 200_000) | st.integers(-60, 60)),
        st.tuples(st.just("end"), st.integers(-FILE_BYTES, 50) | st.integers(-60, 0)),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(operations=OPERATIONS)
def test_reads_what_slicing_bytes_would(case: Case, operations: list[tuple[str, Any]]) -> None:
    body, position, end = case.open(), case.origin, case.origin + len(case.content)
    for kind, value in operations:
        if kind in ("read", "next"):
            size = BLOCK_BYTES if kind == "next" else value
            stop = end if size is None or size < 0 else min(position + min(size, BLOCK_BYTES), end)
            expected = case.content[position - case.origin : stop - case.origin]
            assert (next(body, b"") if kind == "next" else body.read(value)) == expected
            position = stop
        else:
            base, whence = {"seek": (0, 0), "move": (position, 1), "end": (end, 2)}[kind]
            position = clamped(base + value, case)
            assert body.seek(value, whence) == position
        assert body.tell() == position
    body.close()


@settings(deadline=None)
@given(sent=st.lists(st.integers(0, 300_000), max_size=40), asked=st.sampled_from([1_000, 65_536, 4_000_000]))
def test_waitress_sends_exactly_the_body(case: Case, sent: list[int], asked: int) -> None:
    delivered: list[int] = []
    buffer = ReadOnlyFileBasedBuffer(case.open(delivered.append), 262_144)
    received = b""

    assert buffer.prepare(len(case.content)) == len(case.content)
    for count in sent:
        chunk = buffer.get(asked)
        assert len(chunk) == min(asked, BLOCK_BYTES, len(buffer))
        buffer.skip(min(count, len(chunk)), True)
        received += chunk[:count]
    buffer.close()

    assert received == case.content[: len(received)]
    assert delivered == [len(received)]


def test_waitress_sends_all_and_knows_when_it_is_done(case: Case) -> None:
    buffer = ReadOnlyFileBasedBuffer(case.open())
    buffer.prepare()
    received = b""
    while len(buffer):
        chunk = buffer.get(2_600_000)
        buffer.skip(len(chunk) // 2 + 1)
        received += chunk[: len(chunk) // 2 + 1]
    buffer.close()
    assert received == case.content


def test_is_seekable_for_waitress_to_free_its_thread(case: Case) -> None:
    body = case.open()
    assert body.seekable() is True
    body.close()


def test_iterates_in_blocks_and_from_where_it_is(case: Case) -> None:
    body = case.open()
    body.seek(10, os.SEEK_CUR)
    blocks = list(body)
    body.close()

    assert iter(body) is body
    assert b"".join(blocks) == case.content[10:]
    assert all(len(block) == BLOCK_BYTES for block in blocks[:-1])


def test_a_read_holds_little_memory_whatever_is_asked(case: Case) -> None:
    body = case.open()
    assert len(body.read(1 << 40)) == min(131_072, len(case.content))
    body.close()


@pytest.mark.parametrize("everything", [-1, -7, None])
def test_a_negative_size_reads_all_that_is_left(case: Case, everything: int | None) -> None:
    body = case.open()
    skipped = len(body.read(5))
    assert body.read(everything) == case.content[skipped:]
    body.close()


def test_reads_on_when_the_system_reads_short(
    case: Case, reading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, read = ("pread", os.pread) if reading == "pread" else ("read", os.read)
    monkeypatch.setattr(os, name, lambda descriptor, n, *rest: read(descriptor, min(n, 10_000), *rest))
    body = case.open()
    assert body.read() == case.content
    body.close()


@pytest.mark.parametrize("whence", [-1, 3])
def test_an_unknown_whence_is_refused(case: Case, whence: int) -> None:
    body = case.open()
    body.read(20)
    position = body.tell()
    with pytest.raises(ValueError, match=f"whence is {whence}, want 0, 1 or 2"):
        body.seek(0, whence)
    assert body.tell() == position
    body.close()


def test_shows_no_descriptor_and_no_length(case: Case) -> None:
    body = case.open()
    assert not hasattr(body, "fileno")
    assert not hasattr(body, "__len__")
    body.close()


def test_one_descriptor_for_one_body(case: Case, path: Path) -> None:
    body = case.open()
    assert descriptors_of(path) == 1
    body.close()
    assert descriptors_of(path) == 0


def test_the_descriptor_is_not_inherited(case: Case) -> None:
    body = case.open()
    assert os.get_inheritable(body._descriptor) is False
    body.close()


@pytest.mark.parametrize("name", ["O_BINARY", "O_CLOEXEC"])
def test_flags_that_some_systems_lack_are_used_where_they_exist(
    case: Case, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen: list[int] = []
    flag = 1 << 30
    monkeypatch.setattr(os, name, flag, raising=False)
    opened = os.open

    def spy(path: Path, flags: int) -> int:
        seen.append(flags)
        return opened(path, flags & ~flag)

    monkeypatch.setattr(os, "open", spy)
    case.open().close()
    assert [flags & flag for flags in seen] == [flag]


@pytest.mark.parametrize("name", ["O_BINARY", "O_CLOEXEC"])
def test_opens_where_a_flag_does_not_exist(case: Case, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(os, name, raising=False)
    body = case.open()
    assert body.read(9) == case.content[:9]
    body.close()


def test_closing_again_spares_the_next_owner_of_the_number(case: Case, path: Path) -> None:
    body = case.open()
    number = body._descriptor
    body.close()
    successor = os.open(path, os.O_RDONLY)
    try:
        assert successor == number, "the system is expected to use the lowest free number"
        body.close()
        del body
        assert os.fstat(successor).st_size == FILE_BYTES
    finally:
        os.close(successor)


def test_reads_nothing_after_close(case: Case) -> None:
    body = case.open()
    body.read(3)
    position = body.tell()
    body.close()
    assert body.read() == b""
    assert body.read(10) == b""
    assert list(body) == []
    assert body.tell() == position


def test_is_closed_when_forgotten(case: Case, path: Path) -> None:
    delivered: list[int] = []
    body = case.open(delivered.append)
    body.read(4)
    position = body.tell() - case.origin
    del body
    gc.collect()
    assert descriptors_of(path) == 0
    assert delivered == [position]


def test_reports_once_how_far_the_reader_came(case: Case) -> None:
    delivered: list[int] = []
    body = case.open(delivered.append)
    body.read(50)
    body.seek(-20, os.SEEK_CUR)
    reached = body.tell() - case.origin
    body.close()
    body.close()
    del body
    gc.collect()
    assert delivered == [reached]


def test_the_file_is_closed_before_the_report(case: Case, path: Path) -> None:
    open_at_report: list[int] = []
    case.open(lambda _: open_at_report.append(descriptors_of(path))).close()
    assert open_at_report == [0]


def test_a_failing_report_is_logged_and_closes_all_the_same(
    case: Case, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(delivered: int) -> None:
        raise LookupError(f"{delivered} bytes")

    body = case.open(fail)
    with caplog.at_level(logging.ERROR, "streamer.storage.slices"):
        body.close()
        body.close()
    assert descriptors_of(path) == 0
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["0 bytes"]


def test_without_a_report_nothing_is_logged(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    case.open().close()
    assert caplog.records == []


def test_a_failing_close_still_reports(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered: list[int] = []
    body = case.open(delivered.append)
    close = os.close

    def fail(descriptor: int) -> None:
        close(descriptor)
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail)
        with pytest.raises(OSError, match="the disk is gone"):
            body.close()
    body.close()
    assert delivered == [0]


OPENINGS: list[Callable[[Path, Callable[[int], None]], Body]] = [
    lambda path, on_close: FileSlice(path, 0, 10, on_close),
    lambda path, on_close: SegmentedBody(path, [b"a", (0, 10)], on_close),
]


@pytest.mark.parametrize("open_body", OPENINGS)
def test_a_failed_open_is_raised_and_reports_nothing(
    tmp_path: Path, open_body: Callable[[Path, Callable[[int], None]], Body]
) -> None:
    delivered: list[int] = []
    with pytest.raises(FileNotFoundError):
        open_body(tmp_path / "missing", delivered.append)
    gc.collect()
    assert delivered == []


@pytest.mark.parametrize("kind", [FileSlice, SegmentedBody])
def test_an_object_that_was_never_built_is_collected_quietly(
    kind: type[Body], monkeypatch: pytest.MonkeyPatch
) -> None:
    complaints: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", complaints.append)
    body = kind.__new__(kind)
    del body
    gc.collect()
    assert complaints == []


def test_segments_that_make_no_sense_open_nothing(path: Path) -> None:
    with pytest.raises(TypeError):
        SegmentedBody(path, [3])  # type: ignore[list-item]
    assert descriptors_of(path) == 0


def test_a_body_without_segments_is_empty(path: Path) -> None:
    body = SegmentedBody(path, [])
    assert (body.read(), body.seek(0, os.SEEK_END)) == (b"", 0)
    body.close()


def test_later_changes_to_the_list_of_segments_do_not_matter(path: Path) -> None:
    segments: list[Segment] = [b"abc"]
    body = SegmentedBody(path, segments)
    segments[0] = b"xyz"
    assert body.read() == b"abc"
    body.close()


def test_a_file_that_is_too_short_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"0123456789")
    closed: list[int] = []
    before = len(os.listdir("/proc/self/fd"))
    for make in (
        lambda: FileSlice(path, 5, 6, closed.append),
        lambda: FileSlice(path, 11, 0, closed.append),
        lambda: SegmentedBody(path, [b"head", (0, 2), (8, 3), (1, 1), b"end"], closed.append),
    ):
        with pytest.raises(OSError, match="too short") as caught:
            make()
        assert caught.value.errno == errno.EIO
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert closed == [], "a body that was never made has no end"
    with closing(FileSlice(path, 5, 5, closed.append)) as whole:
        assert whole.read() == b"56789"


@pytest.mark.parametrize("size", [-1, 60])
def test_a_file_that_became_shorter_is_not_padded(tmp_path: Path, size: int) -> None:
    path = tmp_path / "video"
    path.write_bytes(bytes(range(100)))
    body = FileSlice(path, 10, 60)
    os.truncate(path, 30)

    assert body.read(size) == bytes(range(10, 30))
    assert body.read(size) == b""
    assert body.tell() == 30
    body.close()


@pytest.mark.parametrize("size", [-1, 60])
def test_nothing_moves_up_behind_a_part_that_became_shorter(tmp_path: Path, size: int) -> None:
    path = tmp_path / "video"
    path.write_bytes(bytes(range(100)))
    body = SegmentedBody(path, [b"head", (10, 60), b"tail", (0, 5)])
    os.truncate(path, 30)

    assert body.read(size) == b"head" + bytes(range(10, 30))
    assert body.read(size) == b""
    assert body.tell() == 24
    body.seek(64)
    assert body.read() == b"tail" + bytes(range(5))
    body.close()


@pytest.mark.parametrize("open_body", OPENINGS)
def test_a_failed_read_loses_nothing(
    path: Path,
    data: bytes,
    reading: str,
    monkeypatch: pytest.MonkeyPatch,
    open_body: Callable[[Path, Callable[[int], None]], Body],
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError("bad sector")

    body = open_body(path, lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread" if reading == "pread" else "read", fail)
        with pytest.raises(OSError, match="bad sector"):
            body.read(100)
    assert body.tell() == 0
    assert body.read(100).endswith(data[:10])
    body.close()


def test_two_windows_of_one_file_do_not_disturb_each_other(path: Path, data: bytes) -> None:
    one, other = FileSlice(path, 0, 1_000), FileSlice(path, 500, 1_000)
    received = io.BytesIO(), io.BytesIO()
    for _ in range(10):
        received[0].write(one.read(100))
        received[1].write(other.read(100))
    one.close()
    other.close()
    assert [part.getvalue() for part in received] == [data[:1_000], data[500:1_500]]
