"""A part of the disk is never used for videos."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from streamer.storage.space import free_bytes

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


@pytest.mark.parametrize(
    ("total", "reserve"),
    [(10 * GIB, GIB // 2), (40 * GIB, 2 * GIB), (41 * GIB, 2 * GIB), (1000 * GIB, 2 * GIB), (200, 10)],
)
def test_the_reserve_is_five_percent_and_at_most_two_gib(
    disk: SetDisk, tmp_path: Path, total: int, reserve: int
) -> None:
    disk(total, total)
    assert free_bytes(tmp_path, None) == total - reserve


@pytest.mark.parametrize(("min_free", "expected"), [(0, 1000), (1, 999), (1000, 0), (5000, -4000)])
def test_the_reserve_can_be_set(disk: SetDisk, tmp_path: Path, min_free: int, expected: int) -> None:
    disk(100_000, 1000)
    assert free_bytes(tmp_path, min_free) == expected


def test_the_real_disk_is_asked(tmp_path: Path) -> None:
    assert 0 < free_bytes(tmp_path, 0) <= shutil.disk_usage(tmp_path).total
