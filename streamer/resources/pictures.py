"""The pictures of a video: its poster, which can be chosen, and its storyboard.

Below ``/api/videos/{video_id}``: ``/poster.jpg``, ``/poster.svg``, ``/poster``, ``/storyboard.jpg``
and ``/storyboard.vtt``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import falcon

from streamer import access, cleanup, derived, facts, inputs, jobs
from streamer.access import StoredObject
from streamer.admission import BodyRule, Head
from streamer.containers.media import Media, chosen
from streamer.containers.signatures import IMAGE_HEAD_BYTES, IMAGE_TYPES, image_type
from streamer.database import Database
from streamer.derived import Item
from streamer.errors import FfmpegMissing, NoPictures, NotAnImage
from streamer.ffmpeg.posters import WIDTHS
from streamer.intake import Intake
from streamer.models import Video
from streamer.protocol.conditional import Validators
from streamer.resources import media as stored_media
from streamer.resources import videos
from streamer.resources.attachments import Attachment, AttachmentReception
from streamer.resources.bodies import JSON, head_of, read_json
from streamer.resources.media import Sender
from streamer.resources.receptions import received
from streamer.resources.representations import (
    base_url,
    entity_tag_of,
    is_modified,
    require_preconditions,
    send_video,
)
from streamer.storage.local import StagedFile
from streamer.tokens import Claims

MAX_IMAGE_BYTES = 20 * 2**20

SVG = "image/svg+xml"
DEFAULT_SIZE = (16, 9)
QUERY = {"w": inputs.one_of(*map(str, WIDTHS))}


@dataclass(frozen=True)
class Poster:
    """``/api/videos/{video_id}/poster.jpg``"""

    database: Database
    sender: Sender
    reads_by_claims = True

    def on_get(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        number = inputs.identifier(video_id)
        wanted = {name: value for name, value in req.params.items() if name in QUERY}
        width = int(inputs.parse_fields(wanted, required={}, optional=QUERY).get("w", max(WIDTHS)))
        try:
            self.sender.send(req, resp, lambda: self._choose(req, number, width))
        except _NoPoster:
            media = Video.select(Video.media).where(Video.id == number).scalar(self.database)
            _send_placeholder(req, resp, media and facts.parse(media))

    on_head = on_get

    def _choose(self, req: falcon.Request, video_id: int | None, width: int) -> StoredObject:
        made = access.derived_objects(self.database, req.context.claims, video_id, derived.POSTER)
        req.context.username = made.username
        if not made.objects:
            raise _NoPoster
        return stored_media.renamed(made.objects[str(best_width(map(int, made.objects), width))], ".jpg")


class _NoPoster(Exception):
    """There is no poster to send."""


def best_width(widths: Iterable[int], wanted: int) -> int:
    """The smallest of some widths that is not less than the wanted one, else the largest."""
    return min(widths, key=lambda width: (width < wanted, abs(width - wanted)))


@dataclass(frozen=True)
class Placeholder:
    """``/api/videos/{video_id}/poster.svg``"""

    database: Database

    def on_get(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        video = access.video_for(self.database, req.context.user, inputs.identifier(video_id))
        _send_placeholder(req, resp, facts.of(video))

    on_head = on_get


def _send_placeholder(req: falcon.Request, resp: falcon.Response, media: Media | None) -> None:
    image = placeholder(media)
    validators = Validators(etag=entity_tag_of(image), last_modified=None)
    resp.set_headers(
        {
            "ETag": str(validators.etag),
            "Content-Security-Policy": "sandbox",
            "Cache-Control": "private, no-cache",
        }
    )
    if not is_modified(req, validators):
        resp.status = 304
        return
    resp.content_type = SVG
    resp.data = image


def placeholder(media: Media | None) -> bytes:
    """An image in place of a poster: a triangle on gray, as wide and as high as the video is shown."""
    track = chosen(media.video) if media else None
    width, height = (track.width, track.height) if track else DEFAULT_SIZE
    if width < 1 or height < 1:
        width, height = DEFAULT_SIZE
    scale = 1280 / max(width, height)
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    x, y, size = width / 2, height / 2, min(width, height) / 8
    triangle = f"M{x - size * 0.75:g} {y - size:g}v{2 * size:g}l{1.75 * size:g} {-size:g}z"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><path fill="#2b2d31" d="M0 0h{width}v{height}H0z"/>'
        f'<path fill="#80848c" d="{triangle}"/></svg>\n'
    ).encode()


@dataclass(frozen=True)
class Storyboard:
    """``/api/videos/{video_id}/storyboard.jpg`` and ``/storyboard.vtt``: one of them, by its kind."""

    database: Database
    sender: Sender
    kind: str
    name: str
    reads_by_claims = True

    def on_get(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        number, ending = inputs.identifier(video_id), f".{self.name}"

        def look_up() -> StoredObject:
            return stored_media.find(self.database, req, number, self.kind, self.name, ending)

        self.sender.send(req, resp, look_up)

    on_head = on_get


@dataclass(frozen=True)
class PosterBody:
    """The rule for a body that chooses a poster: an image, or JSON that names a time."""

    intake: Intake
    image = Attachment(("application/json", *IMAGE_TYPES), MAX_IMAGE_BYTES)

    def check(self, head: Head) -> None:
        """Raise FfmpegMissing, UnsupportedMediaType, LengthMissing or BodyTooLarge."""
        _require_ffmpeg(self.intake)
        (JSON if is_json(head) else self.image).check(head)

    def begin(self, head: Head, claims: Claims, video_id: str) -> "ImageReception | None":
        """What takes a body that was checked; None for JSON."""
        return None if is_json(head) else self.receive(head, claims, video_id)

    def receive(self, head: Head, claims: Claims, video_id: str) -> "ImageReception":
        """What takes an image that was checked."""
        return ImageReception(self.intake, head, claims, video_id)


def is_json(head: Head) -> bool:
    """Whether a body says that it is JSON."""
    return head.media_type == "application/json"


class ImageReception(AttachmentReception):
    """Takes an image."""

    def judge(self, video: Video) -> None:
        """Raise NoPictures."""
        pictures_of(video)

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Also raises NotAnImage."""
        super().feed(data)
        if self.file.size - len(data) < IMAGE_HEAD_BYTES <= self.file.size:
            media_type_of(self.file)


def media_type_of(file: StagedFile) -> str:
    """The media type of an image, by its first bytes. Raises NotAnImage."""
    media_type = image_type(file.read_at(IMAGE_HEAD_BYTES, 0))
    if media_type is None:
        raise NotAnImage("the file is not recognised as JPEG, PNG or WebP by its first bytes")
    return media_type


@dataclass(frozen=True)
class PosterChoice:
    """``/api/videos/{video_id}/poster``"""

    intake: Intake

    @cached_property
    def _body(self) -> PosterBody:
        return PosterBody(self.intake)

    @property
    def bodies(self) -> dict[str, BodyRule]:
        return {"PUT": self._body}

    def on_put(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        if is_json(head_of(req)):
            self._choose_time(req, video_id)
        else:
            self._take_image(req, video_id)
        self._accept(req, resp, video_id)

    def on_delete(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        _require_ffmpeg(self.intake)
        self._choose(req, video_id, {})
        self._accept(req, resp, video_id)

    def _choose_time(self, req: falcon.Request, video_id: str) -> None:
        row = videos.find(self.intake.database, req, video_id).row  # before the body is judged
        time = partial(inputs.seconds, most=pictures_of(row).duration or 0)
        self._choose(req, video_id, inputs.parse_fields(read_json(req), required={"time": time}, optional={}))

    def _choose(self, req: falcon.Request, video_id: str, options: Mapping[str, Any]) -> None:
        """Let the poster be made of the video."""
        database = self.intake.database
        with database.atomic():
            row = self._unchanged(req, video_id)
            pictures_of(row)
            orphans = derived.remove(database, row.id, derived.PICTURE, derived.OWN)
            self._enqueue(row.id, options)
        cleanup.remove_orphans(database, self.intake.storage, orphans)

    def _take_image(self, req: falcon.Request, video_id: str) -> None:
        """Let the poster be made of an image."""
        with received(req, partial(self._body.receive, video_id=video_id)) as reception:
            media_type, file = media_type_of(reception.file), reception.take()
        derived.publish(
            self.intake.database,
            self.intake.storage,
            reception.video_id,
            [Item(kind=derived.PICTURE, name=derived.OWN, mime_type=media_type, file=file)],
            at_first=lambda: self._unchanged(req, video_id),
            in_the_end=lambda: self._enqueue(reception.video_id, {"picture": True}),
        )

    def _unchanged(self, req: falcon.Request, video_id: str) -> Video:
        """The video, as the preconditions of the request want it. Raises NotFound or PreconditionFailed."""
        shown = videos.find(self.intake.database, req, video_id)
        require_preconditions(req, videos.validators_of(shown))
        return shown.row

    def _enqueue(self, video_id: int, options: Mapping[str, Any]) -> None:
        jobs.enqueue(self.intake.database, video_id, jobs.POSTER, options)
        jobs.settle(self.intake.database, video_id)

    def _accept(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        shown = videos.find(self.intake.database, req, video_id)
        send_video(resp, shown, base_url(req, self.intake.config), 202)


def _require_ffmpeg(intake: Intake) -> None:
    if intake.tools is None:
        raise FfmpegMissing


def pictures_of(video: Video) -> Media:
    """What is in a video that has pictures which can be looked at. Raises NoPictures."""
    media = facts.of(video)
    if media is None or not media.video or media.is_encrypted or media.has_external_data:
        raise NoPictures("there are no pictures in this video, or none that can be looked at")
    return media
