"""The bytes of a video: ``/api/videos/{video_id}/stream``.

The only place that joins the range grammar to stored objects. Preconditions
come first, then If-Range, then Range (RFC 9110, section 13.2.2); the file is
opened last, and never for an answer that has no body.
"""

import base64
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import falcon

from streamer import access, clock, inputs
from streamer.access import StoredVideo
from streamer.database import Database
from streamer.protocol.conditional import EntityTag, Validators, format_http_date, if_range_matches
from streamer.protocol.disposition import content_disposition
from streamer.protocol.ranges import ByteRange, multipart_segments, segments_length, select_ranges
from streamer.protocol.sendfile import OFF, X_ACCEL_REDIRECT, handing_over, is_answered_alike
from streamer.resources.representations import is_modified, preconditions
from streamer.storage.local import LocalStorage

BLOCK_BYTES = 256 * 1024  # what the server's file wrapper asks for; Falcon's own is 8 KiB


class FileBody(Protocol):
    """What is handed to the server: a slice or a multipart body of a stored object."""

    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...
    def read(self, n: int | None = -1) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Stream:
    """``/api/videos/{video_id}/stream``"""

    database: Database
    storage: LocalStorage
    sendfile: str = OFF
    reads_by_claims = True  # one query for the user and the video

    def on_get(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        video = access.stored_video(self.database, req.context.claims, inputs.identifier(video_id))
        req.context.username = video.username
        validators = _validators(video)
        resp.set_headers(_validator_fields(video, validators))
        if not is_modified(req, validators):
            resp.status = 304
            return
        ranges = _requested_ranges(req, video, validators)
        resp.set_headers(_representation_fields(video, kind=_disposition_kind(req)))
        if self._is_for_front(req, validators, ranges):
            self._leave_to_front(req, resp, video)
        elif ranges is None:
            self._send_whole(req, resp, video)
        elif len(ranges) == 1:
            self._send_range(req, resp, video, ranges[0])
        else:
            self._send_ranges(req, resp, video, ranges)

    on_head = on_get

    def _is_for_front(
        self, req: falcon.Request, validators: Validators, ranges: list[ByteRange] | None
    ) -> bool:
        if self.sendfile == OFF or req.method != "GET":
            return False
        range_field, if_range = req.get_header("Range"), req.get_header("If-Range")
        return is_answered_alike(preconditions(req), range_field, if_range, validators, ranges)

    def _leave_to_front(self, req: falcon.Request, resp: falcon.Response, video: StoredVideo) -> None:
        """Answer 200 without a byte: the server in front makes a 206 of it where a range was asked for."""
        self._open(req, video, self.storage.open, 0, video.size).close()
        resp.set_header(*handing_over(self.sendfile, video.file_path, self.storage.path(video.file_path)))
        if self.sendfile == X_ACCEL_REDIRECT and req.get_header("Range") is None:
            resp.delete_header("Accept-Ranges")  # nginx adds its own to the whole, and none to a range
        resp.content_length = 0
        req.context.log_entry.is_sent_by_front = True

    def _send_whole(self, req: falcon.Request, resp: falcon.Response, video: StoredVideo) -> None:
        resp.content_length = video.size
        if req.method == "GET":
            self._send_slice(req, resp, video, 0, video.size)

    def _send_range(
        self, req: falcon.Request, resp: falcon.Response, video: StoredVideo, byte_range: ByteRange
    ) -> None:
        resp.status = 206
        resp.set_header("Content-Range", byte_range.content_range(video.size))
        resp.content_length = byte_range.length
        self._send_slice(req, resp, video, byte_range.first, byte_range.length)

    def _send_slice(
        self, req: falcon.Request, resp: falcon.Response, video: StoredVideo, first: int, length: int
    ) -> None:
        _hand_over(req, resp, self._open(req, video, self.storage.open, first, length))

    def _send_ranges(
        self, req: falcon.Request, resp: falcon.Response, video: StoredVideo, ranges: list[ByteRange]
    ) -> None:
        boundary = secrets.token_hex(16)
        segments = multipart_segments(ranges, video.size, video.mime_type, boundary)
        length = segments_length(segments)
        if length > video.size:  # the framing would cost more than the ranges save
            self._send_whole(req, resp, video)
            return
        resp.status = 206
        resp.content_type = f"multipart/byteranges; boundary={boundary}"
        resp.content_length = length
        _hand_over(req, resp, self._open(req, video, self.storage.open_segments, segments))

    def _open(
        self, req: falcon.Request, video: StoredVideo, opening: Callable[..., FileBody], *part: object
    ) -> FileBody:
        """Open a part of the stored object. Raises NotFound if the video is gone since it was looked up."""
        try:
            return opening(video.file_path, *part, req.context.log_entry.close)
        except FileNotFoundError:
            access.stored_video(self.database, req.context.claims, video.id)
            raise


def _validators(video: StoredVideo) -> Validators:
    # the stored object never changes and its name is never used again
    return Validators(etag=EntityTag(video.file_path.rpartition("/")[2]), last_modified=video.created_at)


def _validator_fields(video: StoredVideo, validators: Validators) -> dict[str, str]:
    return {
        "ETag": str(validators.etag),
        "Last-Modified": format_http_date(video.created_at),
        # a file that somebody uploaded must not run as a page of this origin; also on a 304,
        # whose fields replace those that a cache has stored (RFC 9111, section 3.2)
        "Content-Security-Policy": "sandbox",
        "Cache-Control": "private, no-cache",
    }


def _representation_fields(video: StoredVideo, kind: str) -> dict[str, str]:
    fields = {
        "Content-Type": video.mime_type,
        "Accept-Ranges": "bytes",
        "Content-Disposition": content_disposition(kind, video.filename),
    }
    if video.sha256:  # else it is still being computed
        digest = base64.b64encode(bytes.fromhex(video.sha256)).decode()
        fields["Repr-Digest"] = f"sha-256=:{digest}:"
    return fields


def _disposition_kind(req: falcon.Request) -> str:
    return "attachment" if req.params.get("download") == "1" else "inline"


def _requested_ranges(
    req: falcon.Request, video: StoredVideo, validators: Validators
) -> list[ByteRange] | None:
    """The ranges to send, or None for the whole. Raises RangeNotSatisfiable."""
    header = req.get_header("Range")
    if header is None or req.method != "GET":
        return None
    condition = req.get_header("If-Range")
    if condition is not None and not if_range_matches(condition, validators, clock.now()):
        return None
    return select_ranges(header, video.size)


class _Iterated:
    """A body without ``read``, which Falcon would wrap and read in blocks of 8 KiB."""

    def __init__(self, body: FileBody) -> None:
        self._body = body

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return next(self._body)

    def close(self) -> None:
        self._body.close()


def _hand_over(req: falcon.Request, resp: falcon.Response, body: FileBody) -> None:
    """Give a body to the server by its file wrapper, so that no worker thread waits for the viewer."""
    wrapper = req.env.get("wsgi.file_wrapper")
    if wrapper is None or "uwsgi.version" in req.env:
        # uWSGI's wrapper reads on to the end when the viewer has long gone
        resp.stream = _Iterated(body)
    else:
        resp.stream = wrapper(body, BLOCK_BYTES)
