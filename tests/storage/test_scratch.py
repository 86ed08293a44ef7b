"""Folders to work in: they live as long as whoever works there, and not a sweep longer."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest

from streamer.storage import locks
from streamer.storage.local import LocalStorage, Scratch
from tests.concurrency import at_once

pytestmark = pytest.mark.skipif(not locks.AVAILABLE, reason="this system has no such locks, and no ffmpeg")

HOLDER = """
import pathlib, sys
from streamer.storage.local import LocalStorage
scratch = LocalStorage(pathlib.Path(sys.argv[1])).scratch()
(scratch.path / "web.mp4").write_bytes(bytes(1000))
print(scratch.name, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def entries(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "scratch"))


@contextmanager
def held_by_another_process(tmp_path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The name of a folder in which another process works, and what kills that."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None

        def kill() -> None:
            holder.kill()
            holder.wait()

        try:
            yield holder.stdout.readline().decode().strip(), kill
        finally:
            kill()


def test_folder_is_empty_private_and_locked(storage: LocalStorage, tmp_path: Path) -> None:
    with closing(storage.scratch()) as scratch:
        assert list(scratch.path.iterdir()) == []
        assert stat.S_IMODE(scratch.path.stat().st_mode) == 0o700
        assert scratch.path == tmp_path / "scratch" / scratch.name
        assert storage.is_worked_in(scratch.name)
        assert entries(tmp_path) == [scratch.name, f"{scratch.name}.lock"]


def test_closed_folder_is_gone_with_all_that_was_in_it(storage: LocalStorage, tmp_path: Path) -> None:
    scratch = storage.scratch()
    (scratch.path / "deep" / "er").mkdir(parents=True)
    (scratch.path / "deep" / "er" / "file").write_bytes(b"1")
    scratch.close()
    assert entries(tmp_path) == []
    assert not storage.is_worked_in(scratch.name)
    with closing(storage.scratch()) as other:  # which may have got the same descriptor
        scratch.close()
        assert storage.is_worked_in(other.name)


def test_folder_that_never_was_is_not_worked_in(storage: LocalStorage) -> None:
    assert not storage.is_worked_in("0" * 32)


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_folder_that_cannot_be_made_leaves_nothing(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fill(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    before = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fill)
        with pytest.raises(OSError, match="No space"):
            storage.scratch()
    assert os.listdir("/proc/self/fd") == before
    assert entries(tmp_path) == []


def test_sweep_removes_what_a_killed_process_has_left_and_nothing_before(
    storage: LocalStorage, tmp_path: Path
) -> None:
    with closing(storage.scratch()) as mine, held_by_another_process(tmp_path) as (theirs, kill):
        alive = entries(tmp_path)
        assert len(alive) == 4
        storage.sweep_scratch()
        assert entries(tmp_path) == alive
        assert storage.is_worked_in(theirs)
        kill()
        assert not storage.is_worked_in(theirs)
        storage.sweep_scratch()
        assert entries(tmp_path) == [mine.name, f"{mine.name}.lock"]


@pytest.mark.parametrize("left", [["0" * 32], [f"{'0' * 32}.lock"], ["0" * 32, f"{'0' * 32}.lock"]])
def test_sweep_removes_what_a_crash_left_half_made(
    storage: LocalStorage, tmp_path: Path, left: list[str]
) -> None:
    for name in left:
        if name.endswith(".lock"):
            (tmp_path / "scratch" / name).touch()
        else:
            (tmp_path / "scratch" / name).mkdir()
            (tmp_path / "scratch" / name / "file").touch()
    storage.sweep_scratch()
    assert entries(tmp_path) == []


def test_sweep_leaves_what_others_have_put_there(storage: LocalStorage, tmp_path: Path) -> None:
    foreign = ["@eaDir", ".DS_Store", "0" * 31, "0" * 33, "G" * 32, "notes.lock", f"{'0' * 32}.lock.lock"]
    for name in foreign:
        (tmp_path / "scratch" / name).touch()
    storage.sweep_scratch()
    assert entries(tmp_path) == sorted(foreign)


def test_sweep_follows_no_link_out_of_the_folder(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "scratch" / ("0" * 32)).mkdir()
    (tmp_path / "scratch" / ("0" * 32) / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "scratch" / ("1" * 32)).symlink_to(tmp_path / "precious")
    storage.sweep_scratch()
    assert (tmp_path / "precious" / "file").exists()


def test_sweeps_and_new_folders_at_once_do_not_disturb_each_other(
    storage: LocalStorage, tmp_path: Path
) -> None:
    is_over = threading.Event()

    def sweep() -> None:
        other = LocalStorage(tmp_path)
        while not is_over.is_set():
            other.sweep_scratch()

    def work() -> None:
        try:
            for number in range(100):
                with closing(storage.scratch()) as scratch:
                    path = scratch.path / "file"
                    path.write_bytes(bytes(number))
                    assert path.stat().st_size == number
                    assert storage.is_worked_in(scratch.name)
        finally:
            is_over.set()

    assert at_once(sweep, work, sweep, work) == [None] * 4
    storage.sweep_scratch()
    assert entries(tmp_path) == []


def test_size_is_that_of_all_files(storage: LocalStorage) -> None:
    with closing(storage.scratch()) as scratch:
        assert storage.scratch_size(scratch.name) == 0
        for size in (100, 0, 20):
            (scratch.path / str(size)).write_bytes(bytes(size))
        assert storage.scratch_size(scratch.name) == 120
    assert storage.scratch_size(scratch.name) == 0


def test_file_that_goes_while_it_is_measured_counts_nothing(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(storage.scratch()) as scratch:
        for name in ("goes", "stays"):
            (scratch.path / name).write_bytes(bytes(100))
        scan = os.scandir

        def going(path: Path) -> object:
            with scan(path) as found:
                entries = list(found)
            (scratch.path / "goes").unlink()
            return nullcontext(entries)

        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", going)
            assert storage.scratch_size(scratch.name) == 100


# --- from a scratch folder to a derived object


@pytest.fixture
def scratch(storage: LocalStorage) -> Iterator[Scratch]:
    with closing(storage.scratch()) as made:
        yield made


def test_made_file_becomes_an_object(storage: LocalStorage, scratch: Scratch, tmp_path: Path) -> None:
    path = scratch.path / "web.mp4"
    path.write_bytes(b"a film")
    path.chmod(0o644)
    with closing(storage.adopt(path)) as file:
        assert (file.size, file.file_path) == (6, f"derived/{file.name}")
        assert len(file.name) == 32
        file.seal()
        file.publish()
        assert not path.exists()
        with storage.claim(file.file_path) as claimed:
            assert not claimed, "it is locked until its row is there"
    with storage.claim(file.file_path) as claimed:
        assert claimed
    final = tmp_path / file.file_path
    assert final.read_bytes() == b"a film"
    assert stat.S_IMODE(final.stat().st_mode) == 0o600


def test_made_file_can_be_read_by_the_group_where_that_is_wanted(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, group_reads=True)
    assert stat.S_IMODE((tmp_path / "derived").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "scratch").stat().st_mode) == 0o700
    with closing(storage.scratch()) as scratch:
        (scratch.path / "file").touch(mode=0o600)
        with closing(storage.adopt(scratch.path / "file")) as file:
            file.publish()
    assert stat.S_IMODE((tmp_path / file.file_path).stat().st_mode) == 0o640


@pytest.mark.parametrize("is_published", [False, True])
def test_discarded_file_is_gone(
    storage: LocalStorage, scratch: Scratch, tmp_path: Path, is_published: bool
) -> None:
    (scratch.path / "file").write_bytes(b"1")
    with closing(storage.adopt(scratch.path / "file")) as file:
        if is_published:
            file.publish()
        file.discard()
    assert list(scratch.path.iterdir()) == list((tmp_path / "derived").iterdir()) == []


def test_link_that_a_program_has_left_is_not_taken_for_a_file(
    storage: LocalStorage, scratch: Scratch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (scratch.path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        storage.adopt(scratch.path / "link")


def test_given_file_grows_where_uploads_do_and_becomes_a_derived_object(
    storage: LocalStorage, tmp_path: Path
) -> None:
    with closing(storage.stage("derived")) as file:
        file.write(b"WEBVTT")
        assert (tmp_path / "incoming" / file.name).exists()
        file.publish()
    assert file.file_path == f"derived/{file.name}"
    assert (tmp_path / file.file_path).read_bytes() == b"WEBVTT"
