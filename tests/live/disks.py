"""Small disks that a test can fill."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.live.conftest import Template
from tests.live.harness import require

NEEDED = "needs root (or sudo without a password) and the right to mount a tmpfs"


def _mount(*command: str) -> bool:
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    with suppress(FileNotFoundError):
        return subprocess.run([*prefix, *command], capture_output=True, check=False).returncode == 0
    return False


@contextmanager
def data_on_disk(mount_point: Path, size: int, template: Template) -> Iterator[Path]:
    """A data folder on a disk of its own of so many bytes, with an account in it."""
    with small_disk(mount_point, size):
        shutil.copytree(template.data, mount_point / "data")
        yield mount_point / "data"


@contextmanager
def small_disk(mount_point: Path, size: int) -> Iterator[None]:
    """A disk of so many bytes."""
    mount_point.mkdir()
    options = f"size={size},mode=700,uid={os.geteuid()}"
    mounted = _mount("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mount_point))
    require(mounted, NEEDED)
    try:
        yield
    finally:
        assert _mount("umount", "--lazy", str(mount_point))


def free_bytes(folder: Path) -> int:
    """What the disk has left."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
