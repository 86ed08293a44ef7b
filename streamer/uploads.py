"""Receiving the bytes of a video: into one file, once, never into memory."""

from collections.abc import Iterable

from streamer.containers.signatures import HEAD_BYTES, Container, recognise
from streamer.errors import BodyTooLarge, FieldError, InvalidInput, NotAVideo
from streamer.storage.local import StagedFile
from streamer.storage.space import Promise


def receive(staged: StagedFile, chunks: Iterable[bytes], promise: Promise, max_bytes: int) -> Container:
    """Write a video to a staged file; tell its container, which the first bytes show.

    Raises NotAVideo as soon as they show none, BodyTooLarge, InvalidInput for an
    empty file, InsufficientStorage, and whatever the chunks raise.
    """
    container = None
    head = b""
    for chunk in chunks:
        if staged.size + len(chunk) > max_bytes:
            raise BodyTooLarge(max_bytes)
        staged.write(chunk)
        promise.keep(len(chunk))
        if container is None:
            head += chunk[: HEAD_BYTES - len(head)]
            if len(head) == HEAD_BYTES:
                container = _require(head)
    if not staged.size:
        raise InvalidInput(FieldError("video", "is empty"))
    return container or _require(head)


def _require(head: bytes) -> Container:
    container = recognise(head)
    if container is None:
        raise NotAVideo("the file is not a video of a kind that is known here, whatever its name says")
    return container
