"""Small files that are given to a video: taken as they come, into a file that becomes a derived object."""

import time
from dataclasses import dataclass

from streamer import access, accounts, derived, inputs
from streamer.admission import Head
from streamer.errors import BodyTooLarge, InsufficientStorage, QuotaExceeded
from streamer.intake import Intake, room
from streamer.models import Video
from streamer.resources import bodies
from streamer.storage.local import DERIVED, StagedFile
from streamer.tokens import Claims


@dataclass(frozen=True)
class Attachment:
    """The rule for such a body: its media types, and the most bytes that it may have."""

    media_types: tuple[str, ...]
    most_bytes: int

    def check(self, head: Head) -> None:
        """Raise UnsupportedMediaType, LengthMissing or BodyTooLarge."""
        bodies.require_media_type(head, *self.media_types)
        if head.content_length is None:
            raise bodies.no_length()
        if head.content_length > self.most_bytes:
            raise BodyTooLarge(self.most_bytes)


class AttachmentReception:
    """Takes a body that was checked."""

    def __init__(self, intake: Intake, head: Head, claims: Claims, video_id: str) -> None:
        self._intake = intake
        self._size = head.content_length or 0
        self._claims = claims
        self.video_id = inputs.identifier(video_id) or 0
        self._file: StagedFile | None = None
        self.began = time.monotonic()

    def open(self) -> None:
        """Make room.

        Raises NotAuthenticated, NotFound, QuotaExceeded, InsufficientStorage, or as ``judge`` does.
        """
        user = accounts.user_of(self._intake.database, self._claims)
        self.judge(access.video_for(self._intake.database, user, self.video_id))
        self._require_room(user.id)
        self._file = self._intake.storage.stage(DERIVED)

    def _require_room(self, user_id: int) -> None:
        """Raise QuotaExceeded or InsufficientStorage."""
        left, quota = room(self._intake, user_id), self._intake.config.quota_bytes
        if quota is not None:
            used = left.quota_used + derived.given_bytes(self._intake.database, user_id)
            if used + self._size > quota:
                raise QuotaExceeded(quota, used)
        if self._size > left.disk:
            raise InsufficientStorage(left.disk)

    def judge(self, video: Video) -> None:
        """Raise StreamerError if it is not for this video."""

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises InsufficientStorage."""
        self.file.write(data)

    @property
    def file(self) -> StagedFile:
        """Where the bytes are."""
        assert self._file is not None
        return self._file

    def take(self) -> StagedFile:
        """Where all the bytes are; from now on the caller has to discard or to publish it."""
        file, self._file = self.file, None
        return file

    def close(self) -> None:
        """Remove what nobody has taken."""
        if self._file is not None:
            file = self.take()
            file.discard()
            file.close()
