"""What the disk has left for uploads."""

import shutil
from pathlib import Path

RESERVE_FRACTION = 20  # a twentieth of the disk, that is 5 %
RESERVE_MOST = 2 * 2**30  # bytes


def free_bytes(folder: Path, min_free_bytes: int | None) -> int:
    """How many bytes the disk below a folder takes before only the reserve is left; negative beyond that."""
    disk = shutil.disk_usage(folder)
    if min_free_bytes is None:
        min_free_bytes = min(disk.total // RESERVE_FRACTION, RESERVE_MOST)
    return disk.free - min_free_bytes
