"""Advisory locks on open files: the kernel's, which drops them when a process dies, where it has them."""

import os
import threading

try:
    import fcntl
except ImportError:  # Windows
    AVAILABLE = False
else:
    AVAILABLE = True

_held: set[tuple[int, int]] = set()
_guard = threading.Lock()


def try_lock(descriptor: int) -> bool:
    """Lock a file until ``unlock``. False when another descriptor has it locked."""
    if not AVAILABLE:
        return _try_lock_here(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Let others lock a file that is about to be closed."""
    if AVAILABLE:  # closing is not enough: a child between fork and exec has the descriptor too
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        return
    with _guard:
        _held.discard(_identity(descriptor))


def _try_lock_here(descriptor: int) -> bool:
    """Among the threads of this process; a folder has only one process on such systems."""
    with _guard:
        if _identity(descriptor) in _held:
            return False
        _held.add(_identity(descriptor))
        return True


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
