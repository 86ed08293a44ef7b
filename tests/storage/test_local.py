"""Objects as files: complete, durable, and gone when nobody wants them."""

import errno
import itertools
import os
import re
import shutil
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from streamer.errors import InsufficientStorage, UploadGone, UploadLocked
from streamer.protocol.ranges import ByteRange
from streamer.storage import local, locks
from streamer.storage.local import LocalStorage, StagedFile, make_folder
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
    for folder in ("videos", "derived", "incoming", "scratch"):
        assert stat.S_IMODE((tmp_path / "data" / folder).stat().st_mode) == 0o700


def stage(storage: LocalStorage, data: bytes = DATA) -> str:
    """Write a file, and leave it for another time; tell its name."""
    with closing(storage.stage()) as staged:
        staged.write(data)
        return staged.name


def test_a_published_file_holds_what_was_written(storage: LocalStorage, tmp_path: Path) -> None:
    with closing(storage.stage()) as staged:
        for at in range(0, len(DATA), 1000):
            staged.write(DATA[at : at + 1000])
        staged.write(b"")
        assert staged.size == len(DATA)
        assert stored_files(tmp_path) == [f"incoming/{staged.name}"]
        staged.seal()
        staged.publish()
        assert stored_files(tmp_path) == [staged.file_path] == [f"videos/{staged.name}"]
    path = storage.path(staged.file_path)
    assert path.read_bytes() == DATA
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_files(tmp_path) == []


@pytest.mark.parametrize("last_step", ["stage", "write", "seal", "publish", "discard"])
def test_a_discarded_file_is_gone_wherever_it_was(
    storage: LocalStorage, tmp_path: Path, last_step: str
) -> None:
    with closing(storage.stage()) as staged:
        if last_step != "stage":
            staged.write(DATA)
        if last_step in {"seal", "publish", "discard"}:
            staged.seal()
        if last_step in {"publish", "discard"}:
            staged.publish()
        if last_step == "discard":
            staged.discard()
        staged.discard()
        assert stored_files(tmp_path) == []
    assert stored_files(tmp_path) == []
    assert open_files(tmp_path) == []


def test_a_file_that_is_only_closed_waits_for_its_next_bytes(storage: LocalStorage, tmp_path: Path) -> None:
    name = stage(storage)
    assert stored_files(tmp_path) == [f"incoming/{name}"]
    assert storage.path(f"incoming/{name}").read_bytes() == DATA
    assert open_files(tmp_path) == []


def test_closing_again_does_nothing(storage: LocalStorage, tmp_path: Path) -> None:
    staged = storage.stage()
    staged.close()
    with closing(storage.stage()) as other:  # which may have got the same descriptor
        staged.close()
        other.write(DATA)
    assert open_files(tmp_path) == []


def test_the_head_of_a_file_can_be_read_while_it_grows(storage: LocalStorage) -> None:
    with closing(storage.stage()) as staged:
        assert staged.read_at(10, 0) == b""
        staged.write(DATA[:5])
        assert staged.read_at(10, 0) == DATA[:5]
        staged.write(DATA[5:100])
        assert staged.read_at(10, 0) == DATA[:10]
        staged.write(DATA[100:])
        assert storage.path(f"incoming/{staged.name}").read_bytes() == DATA


def test_the_head_of_a_file_can_be_read_where_reading_moves(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pread")  # as on Windows
    test_the_head_of_a_file_can_be_read_while_it_grows(storage)


def test_names_are_random_and_say_nothing(storage: LocalStorage) -> None:
    names = set()
    for _ in range(20):
        with closing(storage.stage()) as staged:
            assert re.fullmatch("[0-9a-f]{32}", staged.name)
            assert staged.file_path == f"videos/{staged.name}"
            names.add(staged.name)
    assert len(names) == 20


def store(storage: LocalStorage, patch: pytest.MonkeyPatch, call: str, step: str, error: OSError) -> None:
    """Take all steps of storing a file; in one of them a call of the system fails."""

    def fail(*_: object) -> None:
        raise error

    with closing(storage.stage()) as staged, patch.context() as broken:
        for name, work in (
            ("write", lambda: staged.write(DATA)),
            ("seal", staged.seal),
            ("publish", staged.publish),
        ):
            if name == step:
                broken.setattr(os, call, fail)
            work()


def assert_one_file_is_left(storage: LocalStorage, tmp_path: Path, call: str, step: str) -> None:
    """What has failed is not lost, and not open."""
    folder = "videos" if (call, step) == ("fsync", "publish") else "incoming"
    [left] = stored_files(tmp_path)
    assert left.startswith(f"{folder}/")
    assert open_files(tmp_path) == []
    with closing(storage.resume(Path(left).name)) as staged:
        assert staged.size == (0 if call == "write" else len(DATA))
        staged.discard()
    assert stored_files(tmp_path) == []


FAILURES = [("write", "write"), ("fsync", "seal"), ("rename", "publish"), ("fsync", "publish")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(("call", "step"), FAILURES)
def test_a_full_disk_is_told_apart(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str, step: str
) -> None:
    with pytest.raises(InsufficientStorage):
        store(storage, monkeypatch, call, step, OSError(number, os.strerror(number)))
    assert_one_file_is_left(storage, tmp_path, call, step)


@pytest.mark.parametrize(("call", "step"), FAILURES)
def test_another_failure_of_the_disk_passes_as_it_is(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, step: str
) -> None:
    with pytest.raises(OSError, match="broken"):
        store(storage, monkeypatch, call, step, OSError(errno.EIO, "the disk is broken"))
    assert_one_file_is_left(storage, tmp_path, call, step)


def test_the_rest_is_written_when_the_system_takes_a_part(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:777]))
    with closing(storage.stage()) as staged:
        staged.write(DATA)
        staged.publish()
        assert storage.path(staged.file_path).read_bytes() == DATA
        assert staged.size == len(DATA)


def test_a_write_that_fails_half_way_tells_how_much_it_took(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = os.write, []

    def fill(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, data[:100])

    with closing(storage.stage()) as staged:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fill)
            with pytest.raises(InsufficientStorage):
                staged.write(DATA)
        assert staged.size == 100
        staged.write(DATA[100:])
        assert storage.path(f"incoming/{staged.name}").read_bytes() == DATA


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
    with closing(storage.stage()) as staged:
        staged.write(DATA)
        staged.seal()
        staged.publish()
    assert done == ["file", "rename", "folder"]


def test_publishing_again_brings_the_folder_to_the_disk_again(
    storage: LocalStorage, tmp_path: Path, synced: list[Path]
) -> None:
    """The first time may have died between the rename and the disk."""
    with closing(storage.stage()) as staged:
        staged.write(DATA)
        staged.publish()
        staged.publish()
    assert synced == [tmp_path / "videos"] * 2
    assert stored_files(tmp_path) == [staged.file_path]


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
def test_a_file_is_locked_until_it_is_closed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with closing(storage.stage()) as staged:
        with storage.claim(f"incoming/{staged.name}") as claimed:
            assert claimed is False
        staged.publish()
        with storage.claim(staged.file_path) as claimed:
            assert claimed is False
    with storage.claim(staged.file_path) as claimed:
        assert claimed is True
        with storage.claim(staged.file_path) as again:
            assert again is False
    with storage.claim(staged.file_path) as claimed:
        assert claimed is True
    assert open_files(tmp_path) == []


def test_a_file_that_is_not_there_is_not_claimed(storage: LocalStorage, tmp_path: Path) -> None:
    with storage.claim("videos/nothing") as claimed:
        assert claimed is None
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
    with closing(storage.stage()) as staged:
        staged.write(DATA)
        staged.publish()
        assert storage.path(staged.file_path).read_bytes() == DATA
        staged.discard()
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


# --- files that grow in several requests


def test_a_resumed_file_grows_on(storage: LocalStorage, tmp_path: Path) -> None:
    name = stage(storage, DATA[:3000])
    with closing(storage.resume(name)) as staged:
        assert (staged.name, staged.size) == (name, 3000)
        staged.cut(3000)
        staged.write(DATA[3000:])
        assert staged.size == len(DATA)
        staged.seal()
        staged.publish()
    assert stored_files(tmp_path) == [f"videos/{name}"]
    assert storage.path(staged.file_path).read_bytes() == DATA
    assert open_files(tmp_path) == []


def test_a_cut_drops_what_comes_after_it(storage: LocalStorage, tmp_path: Path) -> None:
    name = stage(storage, DATA[:2000] + b"never counted")
    with closing(storage.resume(name)) as staged:
        staged.cut(2000)
        assert staged.size == storage.staged_size(name) == 2000
        staged.write(DATA[2000:])
        assert (tmp_path / "incoming" / name).read_bytes() == DATA
        staged.cut(0)
        staged.write(DATA[:10])
        assert (tmp_path / "incoming" / name).read_bytes() == DATA[:10]


def test_lost_bytes_are_not_made_up(storage: LocalStorage, tmp_path: Path) -> None:
    name = stage(storage, DATA[:100])
    with closing(storage.resume(name)) as staged, pytest.raises(UploadGone, match="have been lost"):
        staged.cut(101)
    assert storage.staged_size(name) == 100


def test_a_file_that_was_published_without_its_row_is_resumed_where_it_is(
    storage: LocalStorage, tmp_path: Path
) -> None:
    with closing(storage.stage()) as staged:
        staged.write(DATA)
        staged.publish()
    with closing(storage.resume(staged.name)) as resumed:
        assert (resumed.file_path, resumed.size) == (staged.file_path, len(DATA))
        resumed.publish()
        assert stored_files(tmp_path) == [staged.file_path]
        resumed.discard()
    assert stored_files(tmp_path) == []


def test_a_file_that_is_gone_cannot_be_resumed(storage: LocalStorage, tmp_path: Path) -> None:
    with pytest.raises(UploadGone, match="begin it anew"):
        storage.resume("0" * 32)
    assert stored_files(tmp_path) == []
    assert storage.staged_size("0" * 32) == 0


@needs_locks
def test_a_file_that_somebody_has_cannot_be_resumed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with closing(storage.stage()) as staged:
        with pytest.raises(UploadLocked):
            storage.resume(staged.name)
        staged.publish()
        with pytest.raises(UploadLocked):
            storage.resume(staged.name)
        assert open_files(tmp_path) == [str(storage.path(staged.file_path))]
    storage.resume(staged.name).close()


# --- copies


def no_such_call(*_: object) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def other_file_system(*_: object) -> int:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


@pytest.fixture(params=["in the kernel", "no such call", "other file system", "half way", "no function"])
def copying(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ways in which bytes get from one file to another."""
    copy, calls = getattr(os, "copy_file_range", no_such_call), []

    def half_way(source: int, target: int, size: int, position: int) -> int:
        calls.append(size)
        return copy(source, target, min(size, 700), position) if len(calls) < 3 else no_such_call()

    if request.param == "no function":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    elif request.param != "in the kernel":
        ways = {"no such call": no_such_call, "other file system": other_file_system, "half way": half_way}
        monkeypatch.setattr(os, "copy_file_range", ways[request.param], raising=False)
    return str(request.param)


def joined(storage: LocalStorage, parts: list[bytes]) -> StagedFile:
    """A new file of these parts, each of which is a file as well."""
    whole = storage.stage()
    for data in parts:
        with closing(storage.resume(stage(storage, data))) as part:
            whole.copy(part)
            part.discard()
    return whole


@pytest.mark.parametrize("cuts", [[], [0], [1], [5000], [100, 100, 9000]])
def test_parts_are_copied_one_after_the_other(
    storage: LocalStorage, tmp_path: Path, copying: str, cuts: list[int]
) -> None:
    edges = [0, *cuts, len(DATA)]
    parts = [DATA[first:stop] for first, stop in itertools.pairwise(edges)]
    with closing(joined(storage, parts)) as whole:
        assert whole.size == len(DATA)
        whole.write(b"more")
        whole.seal()
        assert (tmp_path / "incoming" / whole.name).read_bytes() == DATA + b"more"
        whole.discard()
    assert stored_files(tmp_path) == []
    assert open_files(tmp_path) == []


def test_a_copy_is_made_in_pieces(
    storage: LocalStorage, tmp_path: Path, copying: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "COPY_BYTES", 999)
    monkeypatch.setattr(local, "BLOCK_BYTES", 998)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:333]))
    with closing(joined(storage, [DATA, DATA])) as whole:
        assert (tmp_path / "incoming" / whole.name).read_bytes() == DATA * 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["copy_file_range", "write"])
def test_a_disk_that_becomes_full_in_a_copy_is_told(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    name = stage(storage)

    def fill(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    def refuse(*_: object) -> int:
        raise AssertionError("a full disk is no reason to try it in another way")

    with closing(storage.stage()) as whole, closing(storage.resume(name)) as part:
        monkeypatch.setattr(os, "copy_file_range", fill if call != "write" else no_such_call, raising=False)
        monkeypatch.setattr(os, "write", fill if call == "write" else refuse)
        with pytest.raises(InsufficientStorage):
            whole.copy(part)
        assert whole.size == 0


def test_a_part_that_has_become_shorter_is_not_copied(storage: LocalStorage, copying: str) -> None:
    name = stage(storage)
    with closing(storage.stage()) as whole, closing(storage.resume(name)) as part:
        os.truncate(storage.path(f"incoming/{name}"), 10)
        with pytest.raises(OSError, match="too short"):
            whole.copy(part)
        assert whole.size == 0


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
    with closing(storage.stage()) as staged:
        staged.write(DATA)
        assert storage.incoming() == [staged.name]
        assert storage.staged_size(staged.name) == len(DATA)
        staged.publish()
        assert storage.incoming() == []
        assert storage.staged_size(staged.name) == len(DATA)


def test_only_names_of_uploads_are_incoming(storage: LocalStorage, tmp_path: Path) -> None:
    for name in ("@eaDir", ".DS_Store", "0" * 31, "0" * 33, "G" * 32, "0" * 32):
        (tmp_path / "incoming" / name).touch()
    assert storage.incoming() == ["0" * 32]


def test_it_is_writable_while_all_folders_are_and_the_disk_has_room(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert storage.is_writable()
    for folder in ("videos", "derived", "incoming", "scratch"):
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
