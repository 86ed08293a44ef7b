"""The captions of a video: ``/api/videos/{video_id}/captions`` and each of them.

Those of the file are named by a number, others by their language. All of them are WebVTT.
"""

import threading
from dataclasses import dataclass
from functools import cached_property, partial

import falcon

from streamer import access, cleanup, derived, inputs
from streamer.access import StoredObject
from streamer.admission import BodyRule, Head
from streamer.config import Config
from streamer.database import Database
from streamer.derived import Item
from streamer.errors import FieldError, InvalidInput, NotFound
from streamer.intake import Intake
from streamer.models import Derived
from streamer.protocol.captions import MAX_BYTES, language_tag, to_webvtt
from streamer.resources import media, representations
from streamer.resources.attachments import Attachment, AttachmentReception
from streamer.resources.media import VTT, Sender
from streamer.resources.receptions import received
from streamer.resources.representations import base_url, require_preconditions, send_json
from streamer.tokens import Claims

MEDIA_TYPES = (VTT, "application/x-subrip", "text/srt", "text/plain", "application/octet-stream")
QUERY = {"label": inputs.label}
MOST_CAPTIONS = 100  # of one video
_turn = threading.Lock()  # large ones take the processor for a second: one at a time leaves it to others

UPLOAD = "upload"
"""The source of captions that were given to a video."""


@dataclass(frozen=True)
class CaptionsList:
    """``/api/videos/{video_id}/captions``"""

    database: Database
    config: Config

    def on_get(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        video = access.video_for(self.database, req.context.user, inputs.identifier(video_id))
        made = derived.of(self.database, [video.id])[video.id]
        send_json(resp, {"data": representations.captions(made, _address(req, self.config, video.id))})

    on_head = on_get


@dataclass(frozen=True)
class CaptionsFile:
    """``/api/videos/{video_id}/captions/{name}.vtt``"""

    database: Database
    sender: Sender
    reads_by_claims = True

    def on_get(self, req: falcon.Request, resp: falcon.Response, video_id: str, name: str) -> None:
        number, stored_name = inputs.identifier(video_id), _stored_name(name)

        def look_up() -> StoredObject:
            return media.find(
                self.database, req, number, derived.CAPTIONS, stored_name, f".{stored_name}.vtt"
            )

        self.sender.send(req, resp, look_up)

    on_head = on_get


def _stored_name(name: str) -> str:
    """The name of captions as it is stored: languages have more than one way to be written."""
    try:
        return language_tag(name)
    except InvalidInput:  # those of the file, or none
        return name


class CaptionsReception(AttachmentReception):
    """Takes captions in one language."""

    def __init__(self, intake: Intake, head: Head, claims: Claims, video_id: str, name: str) -> None:
        super().__init__(intake, head, claims, video_id)
        self.language = language_tag(name)
        query = falcon.uri.parse_query_string(head.query, keep_blank=True)
        self.label: str | None = inputs.parse_fields(query, required={}, optional=QUERY).get("label")

    def finish(self) -> Item:
        """The captions are complete. Raises MalformedRequest."""
        with _turn:
            text = to_webvtt(self.file.read_at(self.file.size, 0))
        self.file.cut(0)
        self.file.write(text.encode())
        members = {"language": self.language, "label": self.label, "is_forced": False, "source": UPLOAD}
        return Item(kind=derived.CAPTIONS, name=self.language, mime_type=VTT, file=self.take(), facts=members)


@dataclass(frozen=True)
class CaptionsBody(Attachment):
    """The rule for a body with captions."""

    intake: Intake

    def begin(self, head: Head, claims: Claims, video_id: str, name: str) -> CaptionsReception:
        """What takes a body that was checked. Raises InvalidInput for the language and the query."""
        return CaptionsReception(self.intake, head, claims, video_id, name)


@dataclass(frozen=True)
class CaptionsItem:
    """``/api/videos/{video_id}/captions/{name}``"""

    intake: Intake

    @cached_property
    def _body(self) -> CaptionsBody:
        return CaptionsBody(MEDIA_TYPES, MAX_BYTES, self.intake)

    @property
    def bodies(self) -> dict[str, BodyRule]:
        return {"PUT": self._body}

    def on_put(self, req: falcon.Request, resp: falcon.Response, video_id: str, name: str) -> None:
        with received(req, partial(self._body.begin, video_id=video_id, name=name)) as reception:
            item = reception.finish()
        there: dict[str, Derived] = {}

        def look() -> None:
            there.update(self._captions_of(req, video_id))
            current = there.get(item.name)
            require_preconditions(req, media.validators_of(current) if current else None)
            if current is None and len(there) >= MOST_CAPTIONS:
                raise InvalidInput(FieldError("language", f"a video has at most {MOST_CAPTIONS} captions"))

        database, storage, number = self.intake.database, self.intake.storage, reception.video_id
        derived.publish(database, storage, number, [item], at_first=look)
        made = representations.caption(item.name, item.facts, _address(req, self.intake.config, number))
        if item.name not in there:
            resp.location = made["url"]
        send_json(resp, made, 200 if item.name in there else 201)

    def on_delete(self, req: falcon.Request, resp: falcon.Response, video_id: str, name: str) -> None:
        database, stored_name = self.intake.database, _stored_name(name)
        with database.atomic():
            row = self._captions_of(req, video_id).get(stored_name)
            if row is None:
                raise NotFound("the video has none of these")
            require_preconditions(req, media.validators_of(row))
            orphans = derived.remove(database, row.video_id, derived.CAPTIONS, stored_name)
        cleanup.remove_orphans(database, self.intake.storage, orphans)
        resp.status = 204

    def _captions_of(self, req: falcon.Request, video_id: str) -> dict[str, Derived]:
        """The captions of a video, by their names. Raises NotFound."""
        database = self.intake.database
        video = access.video_for(database, req.context.user, inputs.identifier(video_id))
        made = derived.of(database, [video.id])[video.id]
        return {row.name: row for row in made if row.kind == derived.CAPTIONS}


def _address(req: falcon.Request, config: Config, video_id: int) -> str:
    return f"{base_url(req, config)}/api/videos/{video_id}"
