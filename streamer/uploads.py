"""Receiving the bytes of a video: into one file, once, never into memory."""

from streamer.containers.signatures import HEAD_BYTES, Container, recognise
from streamer.errors import BodyTooLarge, FieldError, InvalidInput, NotAVideo
from streamer.storage.local import StagedFile
from streamer.storage.space import Promise


class Receiver:
    """Writes a video to a staged file as its bytes come, and looks at the first of them."""

    def __init__(self, staged: StagedFile, promise: Promise, max_bytes: int) -> None:
        self._staged = staged
        self._promise = promise
        self._max_bytes = max_bytes
        self._head = b""
        self._container: Container | None = None

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises NotAVideo as soon as the first bytes show none, BodyTooLarge and InsufficientStorage.
        """
        if self._staged.size + len(data) > self._max_bytes:
            raise BodyTooLarge(self._max_bytes)
        self._staged.write(data)
        self._promise.keep(len(data))
        if self._container is None:
            self._head += data[: HEAD_BYTES - len(self._head)]
            if len(self._head) == HEAD_BYTES:
                self._container = _require(self._head)

    def finish(self) -> Container:
        """All bytes have come; tell their container. Raises InvalidInput for an empty file, or NotAVideo."""
        if not self._staged.size:
            raise InvalidInput(FieldError("video", "is empty"))
        return self._container or _require(self._head)


def _require(head: bytes) -> Container:
    container = recognise(head)
    if container is None:
        raise NotAVideo("the file is not a video of a kind that is known here, whatever its name says")
    return container
