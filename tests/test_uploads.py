"""The bytes of an upload: counted, written, recognised."""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer import uploads
from streamer.app import Application
from streamer.config import Config
from streamer.containers.signatures import HEAD_BYTES, MP4, WEBM, Container
from streamer.errors import BodyTooLarge, InvalidInput, NotAVideo
from streamer.storage import locks
from streamer.storage.local import LocalStorage, StagedFile
from streamer.storage.space import Promise
from tests.helpers import Client, video_bytes
from tests.wsgi import open_files, stored_files

LIMIT = 100_000
TINY_WEBM = b"\x1aE\xdf\xa3\x87\x42\x82\x84webm"


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[StagedFile]:
    with LocalStorage(tmp_path).stage() as staged:
        yield staged


def receive(
    staged: StagedFile, chunks: Iterable[bytes], limit: int = LIMIT, promise: Promise | None = None
) -> Container:
    receiver = uploads.Receiver(staged, promise or Promise(LIMIT), limit)
    for chunk in chunks:
        receiver.feed(chunk)
    return receiver.finish()


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 50_000])
@pytest.mark.parametrize("length", [30, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 1, 9000])
def test_a_video_is_recognised_however_its_bytes_arrive(staged: StagedFile, size: int, length: int) -> None:
    data = video_bytes(length)
    assert receive(staged, cut(data, size)) is MP4
    assert staged.size == length
    assert staged.sha256 == hashlib.sha256(data).hexdigest()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.integers(0, 3000), max_size=8))
def test_the_digest_is_that_of_all_bytes(tmp_path: Path, sizes: list[int]) -> None:
    data = TINY_WEBM + bytes(sum(sizes))
    chunks, at = [], 0
    for size in [len(TINY_WEBM), *sizes]:
        chunks.append(data[at : at + size])
        at += size
    with LocalStorage(tmp_path).stage() as staged:
        assert receive(staged, chunks) is WEBM
        assert staged.size == len(data)
        assert staged.sha256 == hashlib.sha256(data).hexdigest()


def test_what_is_no_video_is_refused_as_soon_as_its_head_is_there(staged: StagedFile) -> None:
    chunks = iter(cut(bytes(HEAD_BYTES + 5000), 1000))
    with pytest.raises(NotAVideo):
        receive(staged, chunks)
    assert staged.size == 5000
    assert sum(map(len, chunks)) == HEAD_BYTES + 5000 - 5000


@pytest.mark.parametrize("data", [b"x", b"<html>", video_bytes(30)[:11], bytes(HEAD_BYTES - 1)])
def test_a_short_file_that_is_no_video_is_refused_at_its_end(staged: StagedFile, data: bytes) -> None:
    with pytest.raises(NotAVideo):
        receive(staged, [data])


@pytest.mark.parametrize("chunks", [[], [b""], [b"", b""]])
def test_an_empty_file_is_refused_by_name(staged: StagedFile, chunks: list[bytes]) -> None:
    with pytest.raises(InvalidInput) as caught:
        receive(staged, chunks)
    assert [(error.field, error.message) for error in caught.value.errors] == [("video", "is empty")]


@pytest.mark.parametrize("size", [1, 999, 5000, 10_000])
def test_the_limit_is_counted_before_bytes_are_written(staged: StagedFile, size: int) -> None:
    data = video_bytes(8001)
    with pytest.raises(BodyTooLarge) as caught:
        receive(staged, cut(data, size), limit=8000)
    assert caught.value.limit == 8000
    assert staged.size <= 8000


def test_a_file_as_large_as_the_limit_is_taken(staged: StagedFile) -> None:
    assert receive(staged, cut(video_bytes(8000), 999), limit=8000) is MP4


def test_the_promise_shrinks_as_bytes_are_written(staged: StagedFile) -> None:
    promise = Promise(9000)
    seen = []

    def chunks() -> Iterator[bytes]:
        for chunk in cut(video_bytes(9000), 3000):
            seen.append(promise.outstanding)
            yield chunk

    receive(staged, chunks(), promise=promise)
    assert seen == [9000, 6000, 3000]
    assert promise.outstanding == 0


def test_what_the_chunks_raise_passes(staged: StagedFile) -> None:
    def chunks() -> Iterator[bytes]:
        yield video_bytes(100)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        receive(staged, chunks())


def test_uploads_work_where_there_are_no_locks(
    app: Application, alice: Client, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "AVAILABLE", False)
    monkeypatch.setattr(locks, "try_lock", lambda descriptor: True)
    data = video_bytes(9000)
    alice.upload(data, status=201)
    alice.upload_raw(data, status=201)
    assert alice.upload(b"no video").status_int == 415
    assert alice.upload_raw(data, "?title=").status_int == 422
    assert alice.get("/api/videos/1/stream").body == data
    assert len(stored_files(config.data)) == 2
    alice.delete("/api/videos/1", status=204)
    assert len(stored_files(config.data)) == 1
    assert open_files(config.data) == []
