"""Space is promised once, and a part of the disk is never promised."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from streamer.errors import InsufficientStorage
from streamer.storage.space import Space
from tests.concurrency import at_once

GIB = 2**30


class Usage(NamedTuple):
    """What ``shutil.disk_usage`` tells."""

    total: int
    used: int
    free: int


SetDisk = Callable[[int, int], None]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SetDisk:
    """Sets the size of the disk and what is free of it."""

    def set_disk(total: int, free: int) -> None:
        def usage(path: Path) -> Usage:
            assert path == tmp_path
            return Usage(total, total - free, free)

        monkeypatch.setattr(shutil, "disk_usage", usage)

    return set_disk


def available(space: Space) -> int:
    """What could be promised now."""
    with pytest.raises(InsufficientStorage) as caught, space.promise(2**62):
        pass
    return caught.value.available


@pytest.mark.parametrize(
    ("total", "reserve"),
    [(10 * GIB, GIB // 2), (40 * GIB, 2 * GIB), (41 * GIB, 2 * GIB), (1000 * GIB, 2 * GIB), (200, 10)],
)
def test_the_reserve_is_five_percent_and_at_most_two_gib(
    disk: SetDisk, tmp_path: Path, total: int, reserve: int
) -> None:
    disk(total, total)
    assert available(Space(tmp_path, None)) == total - reserve


@pytest.mark.parametrize(("min_free", "expected"), [(0, 1000), (1, 999), (1000, 0), (5000, 0)])
def test_the_reserve_can_be_set(disk: SetDisk, tmp_path: Path, min_free: int, expected: int) -> None:
    disk(100_000, 1000)
    assert available(Space(tmp_path, min_free)) == expected


def test_all_that_is_left_can_be_promised_and_no_byte_more(disk: SetDisk, tmp_path: Path) -> None:
    disk(100_000, 1000)
    space = Space(tmp_path, 400)
    with space.promise(600):
        assert available(space) == 0
    with pytest.raises(InsufficientStorage) as caught, space.promise(601):
        pass
    assert caught.value.available == 600


def test_a_promise_ends_with_its_upload_also_when_it_fails(disk: SetDisk, tmp_path: Path) -> None:
    disk(100_000, 1000)
    space = Space(tmp_path, 0)
    with pytest.raises(RuntimeError), space.promise(1000):
        raise RuntimeError
    assert available(space) == 1000


def test_bytes_on_the_disk_are_not_counted_twice(disk: SetDisk, tmp_path: Path) -> None:
    disk(100_000, 1000)
    space = Space(tmp_path, 0)
    with space.promise(800) as promise:
        assert promise.outstanding == 800
        assert available(space) == 200
        promise.keep(300)
        disk(100_000, 700)
        assert promise.outstanding == 500
        assert available(space) == 200


def test_an_upload_that_writes_more_than_promised_gives_no_space_to_others(
    disk: SetDisk, tmp_path: Path
) -> None:
    disk(100_000, 1000)
    space = Space(tmp_path, 0)
    with space.promise(100) as promise:
        promise.keep(150)
        assert promise.outstanding == 0
        assert available(space) == 1000


def test_a_disk_fuller_than_its_promises_has_nothing_left(disk: SetDisk, tmp_path: Path) -> None:
    disk(100_000, 1000)
    space = Space(tmp_path, 0)
    with space.promise(900):
        disk(100_000, 500)
        assert available(space) == 0


def test_an_empty_upload_is_always_promised_its_space(disk: SetDisk, tmp_path: Path) -> None:
    disk(100, 0)
    with Space(tmp_path, 0).promise(0) as promise:
        assert promise.outstanding == 0


def test_uploads_at_once_are_not_promised_the_same_space(disk: SetDisk, tmp_path: Path) -> None:
    disk(100_000, 1000)
    space = Space(tmp_path, 0)
    all_have_asked = threading.Barrier(8)

    def ask() -> bool:
        try:
            with space.promise(300):
                all_have_asked.wait(timeout=20)
                return True
        except InsufficientStorage:
            all_have_asked.wait(timeout=20)
            return False

    assert at_once(*[ask] * 8).count(True) == 3
    assert available(space) == 1000


def test_the_real_disk_is_asked(tmp_path: Path) -> None:
    space = Space(tmp_path, 0)
    with space.promise(1):
        assert 0 < available(space) <= shutil.disk_usage(tmp_path).total
