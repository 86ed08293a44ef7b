"""Objects as files: complete, durable, and gone when nobody wants them."""

import errno
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from streamer.errors import InsufficientStorage
from streamer.protocol.ranges import ByteRange
from streamer.storage import locks
from streamer.storage.local import LocalStorage, make_folder
from tests.wsgi import open_files, stored_files

needs_locks = pytest.mark.skipif(not locks.AVAILABLE, reason="this system has no such locks")
DATA = bytes(range(256)) * 40


class DiskUsage(NamedTuple):
    """What ``shutil.disk_usage`` returns."""

    total: int
    used: int
    free: int


@pytest.fixture(params=["locks", "no locks"])
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LocalStorage:
    """The same promises hold where there are no locks."""
    if request.param == "no locks":
        monkeypatch.setattr(locks, "AVAILABLE", False)
        monkeypatch.setattr(locks, "try_lock", lambda descriptor: True)
    return LocalStorage(tmp_path)


def test_the_folders_are_made_for_their_owner_only(tmp_path: Path) -> None:
    LocalStorage(tmp_path / "data")
    LocalStorage(tmp_path / "data")
    for folder in ("videos", "incoming"):
        assert stat.S_IMODE((tmp_path / "data" / folder).stat().st_mode) == 0o700


def test_a_kept_file_holds_what_was_written(storage: LocalStorage, tmp_path: Path) -> None:
    with storage.stage() as staged:
        for at in range(0, len(DATA), 1000):
            staged.write(DATA[at : at + 1000])
        staged.write(b"")
        assert staged.size == len(DATA)
        assert staged.sha256 == hashlib.sha256(DATA).hexdigest()
        assert stored_files(tmp_path) == [f"incoming/{Path(staged.file_path).name}"]
        staged.seal()
        staged.publish()
        assert stored_files(tmp_path) == [staged.file_path]
        staged.keep()
    path = storage.path(staged.file_path)
    assert path.read_bytes() == DATA
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_files(tmp_path) == []


@pytest.mark.parametrize("last_step", ["write", "seal", "publish", "discard"])
def test_a_file_that_is_not_kept_is_gone(storage: LocalStorage, tmp_path: Path, last_step: str) -> None:
    with storage.stage() as staged:
        staged.write(DATA)
        if last_step in {"seal", "publish", "discard"}:
            staged.seal()
        if last_step in {"publish", "discard"}:
            staged.publish()
        if last_step == "discard":
            staged.discard()
            assert stored_files(tmp_path) == []
    assert stored_files(tmp_path) == []
    assert open_files(tmp_path) == []


def stage_and_leave(storage: LocalStorage) -> None:
    with storage.stage() as staged:
        staged.write(DATA)
        raise KeyboardInterrupt


def test_an_error_inside_takes_the_file_away(storage: LocalStorage, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        stage_and_leave(storage)
    assert stored_files(tmp_path) == []
    assert open_files(tmp_path) == []


def test_names_are_random_and_say_nothing(storage: LocalStorage) -> None:
    names = set()
    for _ in range(20):
        with storage.stage() as staged:
            assert re.fullmatch(r"videos/[0-9a-f]{32}", staged.file_path)
            names.add(staged.file_path)
    assert len(names) == 20


def store(storage: LocalStorage, patch: pytest.MonkeyPatch, call: str, step: str, error: OSError) -> None:
    """Take all steps of storing a file; in one of them a call of the system fails."""

    def fail(*_: object) -> None:
        raise error

    with storage.stage() as staged, patch.context() as broken:
        for name, work in (
            ("write", lambda: staged.write(DATA)),
            ("seal", staged.seal),
            ("publish", staged.publish),
        ):
            if name == step:
                broken.setattr(os, call, fail)
            work()


FAILURES = [("write", "write"), ("fsync", "seal"), ("rename", "publish"), ("fsync", "publish")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(("call", "step"), FAILURES)
def test_a_full_disk_is_told_apart(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str, step: str
) -> None:
    with pytest.raises(InsufficientStorage):
        store(storage, monkeypatch, call, step, OSError(number, os.strerror(number)))
    assert stored_files(tmp_path) == []
    assert open_files(tmp_path) == []


@pytest.mark.parametrize(("call", "step"), FAILURES)
def test_another_failure_of_the_disk_passes_as_it_is(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, step: str
) -> None:
    with pytest.raises(OSError, match="broken"):
        store(storage, monkeypatch, call, step, OSError(errno.EIO, "the disk is broken"))
    assert stored_files(tmp_path) == []
    assert open_files(tmp_path) == []


def test_the_rest_is_written_when_the_system_takes_a_part(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:777]))
    with storage.stage() as staged:
        staged.write(DATA)
        staged.publish()
        assert storage.path(staged.file_path).read_bytes() == DATA
        assert staged.size == len(DATA)
        assert staged.sha256 == hashlib.sha256(DATA).hexdigest()


def test_a_write_that_fails_half_way_counts_nothing(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = os.write, []

    def fill(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, data[:100])

    with storage.stage() as staged:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fill)
            with pytest.raises(InsufficientStorage):
                staged.write(DATA)
        assert staged.size == 0
        assert staged.sha256 == hashlib.sha256().hexdigest()


def test_publishing_brings_the_folder_to_the_disk_after_the_rename(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def record_fsync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def record_rename(source: Path, target: Path) -> None:
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    with storage.stage() as staged:
        staged.write(DATA)
        staged.seal()
        staged.publish()
    assert done == ["file", "rename", "folder"]


def test_where_folders_cannot_be_opened_they_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    folder = tmp_path / "deep" / "data"
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        patch.setattr(os, "fsync", opened.append)
        patch.setattr(os, "open", lambda path, *arguments: opened.append(path))
        make_folder(folder)
    assert folder.is_dir()
    assert opened == []


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are brought to the disk, in order."""
    done: list[Path] = []
    opened: dict[int, Path] = {}
    open_, fsync = os.open, os.fsync

    def record_open(path: Path, *arguments: int) -> int:
        descriptor = open_(path, *arguments)
        opened[descriptor] = path
        return descriptor

    def record_fsync(descriptor: int) -> None:
        done.append(opened[descriptor])
        fsync(descriptor)

    monkeypatch.setattr(os, "open", record_open)
    monkeypatch.setattr(os, "fsync", record_fsync)
    return done


def test_the_entry_of_each_folder_that_is_made_is_brought_to_the_disk(
    tmp_path: Path, synced: list[Path]
) -> None:
    make_folder(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    make_folder(tmp_path / "a" / "b" / "d")
    assert synced[3:] == [tmp_path / "a" / "b"]
    make_folder(tmp_path / "a" / "b")
    assert len(synced) == 4, "a folder that is there is not made"


def test_a_storage_brings_its_folders_to_the_disk_after_making_them(
    tmp_path: Path, synced: list[Path]
) -> None:
    LocalStorage(tmp_path / "data")
    assert synced[0] == tmp_path
    assert synced[-1] == tmp_path / "data"


# --- locks


@needs_locks
def test_a_file_is_locked_until_its_context_ends(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with storage.stage() as staged:
        with storage.claim(f"incoming/{Path(staged.file_path).name}") as claimed:
            assert claimed is False
        staged.publish()
        with storage.claim(staged.file_path) as claimed:
            assert claimed is False
        staged.keep()
    with storage.claim(staged.file_path) as claimed:
        assert claimed is True
        with storage.claim(staged.file_path) as again:
            assert again is False
    with storage.claim(staged.file_path) as claimed:
        assert claimed is True
    assert open_files(tmp_path) == []


def test_a_file_that_is_not_there_can_be_claimed(storage: LocalStorage, tmp_path: Path) -> None:
    with storage.claim("videos/nothing") as claimed:
        assert claimed is True
    assert stored_files(tmp_path) == []


def test_a_claim_ends_with_an_error_too(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "videos" / "one").touch()
    with pytest.raises(RuntimeError), storage.claim("videos/one"):
        raise RuntimeError
    assert open_files(tmp_path) == []


def interfered(
    storage: LocalStorage, interfere: Callable[[int, int], bool], patch: pytest.MonkeyPatch
) -> int:
    """Stage a file while another process interferes between its opening and its lock; count the attempts."""
    attempts: list[int] = []
    try_lock = locks.try_lock

    def lock(descriptor: int) -> bool:
        attempts.append(descriptor)
        return interfere(len(attempts), descriptor) and try_lock(descriptor)

    patch.setattr(locks, "try_lock", lock)
    with storage.stage() as staged:
        staged.write(DATA)
        staged.publish()
        assert storage.path(staged.file_path).read_bytes() == DATA
    return len(attempts)


@needs_locks
def test_a_new_file_that_a_starting_process_has_locked_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    assert interfered(storage, lambda attempt, _: attempt > 2, monkeypatch) == 3
    assert open_files(tmp_path) == []


@needs_locks
def test_a_new_file_that_a_starting_process_has_removed_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)

    def remove(attempt: int, descriptor: int) -> bool:
        if attempt == 1:
            for path in (tmp_path / "incoming").iterdir():
                path.unlink()
        return True

    assert interfered(storage, remove, monkeypatch) == 2
    assert stored_files(tmp_path) == []
    assert open_files(tmp_path) == []


# --- finished objects


@pytest.fixture
def stored(storage: LocalStorage) -> str:
    (storage.path("videos/one")).write_bytes(DATA)
    return "videos/one"


def test_a_part_of_an_object_is_opened(storage: LocalStorage, stored: str, tmp_path: Path) -> None:
    sent: list[int] = []
    body = storage.open(stored, 10, 300, sent.append)
    assert body.read() == DATA[10:310]
    body.close()
    assert sent == [300]
    assert open_files(tmp_path) == []


def test_bytes_and_ranges_are_opened_as_one(storage: LocalStorage, stored: str) -> None:
    sent: list[int] = []
    body = storage.open_segments(stored, [b"<", ByteRange(5, 9), b"|", ByteRange(0, 0), b">"], sent.append)
    assert body.read() == b"<" + DATA[5:10] + b"|" + DATA[:1] + b">"
    body.close()
    assert sent == [9]


def test_a_deleted_object_can_be_deleted_again(storage: LocalStorage, stored: str, tmp_path: Path) -> None:
    storage.delete(stored)
    storage.delete(stored)
    assert stored_files(tmp_path) == []


def test_what_is_staged_is_told_from_what_is_published(storage: LocalStorage) -> None:
    with storage.stage() as staged:
        assert storage.is_staged(staged.file_path)
        assert storage.incoming() == [f"incoming/{Path(staged.file_path).name}"]
        staged.publish()
        assert not storage.is_staged(staged.file_path)
        assert storage.incoming() == []


def test_it_is_writable_while_both_folders_are_and_the_disk_has_room(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert storage.is_writable()
    for folder in ("videos", "incoming"):
        (tmp_path / folder).rename(tmp_path / "away")
        assert not storage.is_writable()
        (tmp_path / "away").rename(tmp_path / folder)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: DiskUsage(total=100, used=100, free=0))
        assert not storage.is_writable()
        patch.setattr(shutil, "disk_usage", lambda path: DiskUsage(total=100, used=99, free=1))
        assert storage.is_writable()
    # root may write everywhere, so the system is asked in its place
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "incoming")
    assert not storage.is_writable()
