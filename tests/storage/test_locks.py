"""A lock belongs to one open file and dies with it."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.storage import locks

needs_locks = pytest.mark.skipif(not locks.AVAILABLE, reason="this system has no such locks")

HOLDER = """
import sys, os
from streamer.storage import locks
descriptor = os.open(sys.argv[1], os.O_RDWR)
print(locks.try_lock(descriptor), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch()
    return path


@pytest.fixture
def descriptors(path: Path) -> Iterator[tuple[int, int]]:
    """The same file, opened twice."""
    first, second = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    yield first, second
    for descriptor in (first, second):
        try:
            os.close(descriptor)
        except OSError:
            continue


@needs_locks
def test_a_lock_is_given_once(descriptors: tuple[int, int]) -> None:
    first, second = descriptors
    assert locks.try_lock(first) is True
    assert locks.try_lock(second) is False
    assert locks.try_lock(first) is True


@needs_locks
def test_closing_gives_the_lock_back(descriptors: tuple[int, int]) -> None:
    first, second = descriptors
    assert locks.try_lock(first)
    os.close(first)
    assert locks.try_lock(second)


@needs_locks
def test_a_process_that_is_killed_gives_the_lock_back(path: Path, descriptors: tuple[int, int]) -> None:
    first, _ = descriptors
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        assert locks.try_lock(first) is False
        holder.kill()
        holder.wait()
        assert locks.try_lock(first) is True


@needs_locks
def test_an_error_that_is_no_refusal_passes(descriptors: tuple[int, int]) -> None:
    os.close(descriptors[0])
    with pytest.raises(OSError, match="Bad file descriptor"):
        locks.try_lock(descriptors[0])


@pytest.fixture
def without_fcntl(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module as on a system without such locks."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fcntl", None)
        importlib.reload(locks)
        yield
    importlib.reload(locks)


def test_without_fcntl_a_file_is_locked_among_threads(
    without_fcntl: None, descriptors: tuple[int, int]
) -> None:
    first, second = descriptors
    assert locks.AVAILABLE is False
    assert locks.try_lock(first)
    assert not locks.try_lock(second)
    locks.unlock(first)
    assert locks.try_lock(second)
    locks.unlock(second)
