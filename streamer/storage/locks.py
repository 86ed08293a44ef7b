"""Advisory locks on open files, dropped by the kernel when their process dies."""

try:
    import fcntl
except ImportError:  # Windows, which refuses to remove an open file: that is lock enough
    AVAILABLE = False

    def try_lock(descriptor: int) -> bool:
        """There are no such locks on this system: whoever asks may go on."""
        return True

else:
    AVAILABLE = True

    def try_lock(descriptor: int) -> bool:
        """Lock a file for as long as it is open. False when another descriptor has it locked."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
