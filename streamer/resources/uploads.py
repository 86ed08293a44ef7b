"""Uploads that can be resumed: ``/api/uploads``, in two dialects.

tus 1.0.0 is spoken by requests with Tus-Resumable, the IETF's draft by those with
Upload-Complete or Upload-Draft-Interop-Version. Both mean the same uploads: one that
was begun in one dialect can go on in the other. GET is for people and programs that
want to know how far an upload is; it needs neither.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import falcon

from streamer import access, clock, inputs, uploads, videos
from streamer.admission import BodyRule
from streamer.appends import IDLE_SECONDS, running
from streamer.config import Config
from streamer.intake import FINAL, Intake, room
from streamer.models import Upload, User
from streamer.protocol import draft, tus
from streamer.protocol.conditional import Validators, format_http_date
from streamer.resources import bodies, representations
from streamer.resources.bodies import JSON, read_json
from streamer.resources.receptions import received
from streamer.resources.representations import entity_tag, is_modified, send_json
from streamer.resources.upload_bodies import AdditionBody, CreationBody, is_draft

CHUNK_BYTES = 64 * 2**20  # of one request; hosts that limit them mostly allow 100 MB
POLL_SECONDS = 1  # while bytes are coming
POLL_PAUSED_SECONDS = 10

_FIELDS = (("Tus-Resumable", tus.VERSION),)


def _options(resp: falcon.Response, config: Config, allow: str) -> None:
    resp.status = 204
    resp.set_headers(
        {
            "Allow": allow,
            "Tus-Version": tus.VERSION,
            "Tus-Extension": ",".join(tus.EXTENSIONS),
            "Tus-Max-Size": str(config.max_upload_bytes),
            "Tus-Checksum-Algorithm": ",".join(tus.ALGORITHMS),
            "Upload-Limit": draft.format_limits(config.max_upload_bytes, config.upload_ttl),
        }
    )


def _state(upload: Upload, base: str, config: Config) -> dict[str, str]:
    """The header fields that tell how far an upload is."""
    left = max(0, math.ceil((upload.expires_at - clock.now()).total_seconds()))
    fields = {
        "Upload-Complete": draft.format_complete(upload.video_id is not None),
        "Upload-Limit": draft.format_limits(config.max_upload_bytes, left),
    }
    if upload.kind != FINAL or upload.video_id is not None:
        fields["Upload-Offset"] = str(upload.offset)
    if upload.length is None:
        fields["Upload-Defer-Length"] = "1"
    else:
        fields["Upload-Length"] = str(upload.length)
    if upload.metadata:
        fields["Upload-Metadata"] = upload.metadata
    if upload.concat:
        fields["Upload-Concat"] = upload.concat
    return fields | _outcome(upload, base)


def _outcome(upload: Upload, base: str) -> dict[str, str]:
    """Where the video is, or how long the upload waits for the rest."""
    if upload.video_id is not None:
        return {"Video-Location": f"{base}/api/videos/{upload.video_id}"}
    return {"Upload-Expires": format_http_date(upload.expires_at)}


def _send_video(req: falcon.Request, resp: falcon.Response, intake: Intake, upload: Upload) -> None:
    """What ``POST /api/videos`` would have answered, had the bytes come there."""
    user: User = req.context.user
    video = access.video_for(intake.database, user, upload.video_id)
    base = representations.base_url(req, intake.config)
    representations.send_new_video(resp, intake.database, video, user, base)


@dataclass(frozen=True)
class Uploads:
    """``/api/uploads``"""

    intake: Intake
    fields = _FIELDS

    @cached_property
    def _creation(self) -> CreationBody:
        return CreationBody(self.intake)

    @property
    def bodies(self) -> Mapping[str, BodyRule]:
        return {"POST": self._creation}

    def on_options(self, req: falcon.Request, resp: falcon.Response) -> None:
        _options(resp, self.intake.config, "GET, HEAD, POST, OPTIONS")

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        inputs.parse_fields(req.params, required={}, optional={})
        base = representations.base_url(req, self.intake.config)
        found = uploads.unfinished(self.intake, req.context.user.id)
        send_json(
            resp,
            {"data": [representations.upload(upload, base) for upload in found]},
        )

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        head = bodies.head_of(req)
        with received(req, self._creation.begin) as reception:
            upload = reception.finish()
        config = self.intake.config
        base = representations.base_url(req, config)
        resp.set_headers(_state(upload, base, config))
        if is_draft(head):
            is_final = reception.is_last and upload.video_id is not None
            resp.set_header("Upload-Complete", draft.format_complete(is_final))
            if is_final:
                _send_video(req, resp, self.intake, upload)
                return
        resp.location = f"{base}/api/uploads/{upload.id}"
        send_json(resp, representations.upload(upload, base), 201)


@dataclass(frozen=True)
class UploadItem:
    """``/api/uploads/{upload_id}``"""

    intake: Intake
    fields = _FIELDS

    @cached_property
    def _addition(self) -> AdditionBody:
        return AdditionBody(self.intake)

    @property
    def bodies(self) -> Mapping[str, BodyRule]:
        return {"PATCH": self._addition}

    def on_options(self, req: falcon.Request, resp: falcon.Response, upload_id: str) -> None:
        _options(resp, self.intake.config, "GET, HEAD, PATCH, DELETE, OPTIONS")

    def on_get(self, req: falcon.Request, resp: falcon.Response, upload_id: str) -> None:
        config = self.intake.config
        base = representations.base_url(req, config)
        upload = uploads.find(self.intake, req.context.user.id, upload_id)
        representation = representations.upload(upload, base)
        etag = entity_tag(representation)
        resp.set_header("ETag", str(etag))
        resp.cache_control = ("private", "no-cache")
        is_finished = upload.video_id is not None
        if not is_finished:
            resp.set_header("Retry-After", str(POLL_SECONDS if running(upload.id) else POLL_PAUSED_SECONDS))
        if not is_modified(req, Validators(etag=etag, last_modified=None)):
            resp.status = 304
            return
        resp.set_headers(_state(upload, base, config))
        send_json(resp, representation)

    def on_head(self, req: falcon.Request, resp: falcon.Response, upload_id: str) -> None:
        # by the draft nobody asks while bytes are on their way, and what is answered has to be true next
        idle_seconds = 0 if is_draft(bodies.head_of(req)) else IDLE_SECONDS
        config = self.intake.config
        base = representations.base_url(req, config)
        upload = uploads.look(self.intake, req.context.user.id, upload_id, idle_seconds)
        resp.set_headers(_state(upload, base, config))
        resp.cache_control = ("no-store",)
        send_json(resp, representations.upload(upload, base))  # of which the server sends the length alone

    def on_patch(self, req: falcon.Request, resp: falcon.Response, upload_id: str) -> None:
        with received(req, partial(self._addition.begin, upload_id=upload_id)) as reception:
            upload = reception.finish()
        config = self.intake.config
        base = representations.base_url(req, config)
        is_by_draft = is_draft(bodies.head_of(req))
        # a client of the draft says when it is the end, and gets the video then
        is_final = upload.video_id is not None and (reception.is_last or not is_by_draft)
        resp.set_headers(
            {
                "Upload-Offset": str(upload.offset),
                "Upload-Complete": draft.format_complete(is_final),
                **_outcome(upload, base),
            }
        )
        if is_by_draft and is_final:
            _send_video(req, resp, self.intake, upload)
        else:
            resp.status = 204

    def on_delete(self, req: falcon.Request, resp: falcon.Response, upload_id: str) -> None:
        is_draft(bodies.head_of(req))
        uploads.remove(self.intake, uploads.find(self.intake, req.context.user.id, upload_id))
        resp.status = 204


@dataclass(frozen=True)
class UploadCheck:
    """``/api/uploads/check``"""

    intake: Intake
    bodies = {"POST": JSON}

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = inputs.parse_fields(
            read_json(req),
            required={"size": inputs.byte_count, "filename": inputs.filename},
            optional={"sha256": inputs.sha256},
        )
        user, config, size = req.context.user, self.intake.config, body["size"]
        left = room(self.intake, user.id)
        quota_left = None if config.quota_bytes is None else max(0, config.quota_bytes - left.quota_used)
        reason = None
        if size > config.max_upload_bytes:
            reason = "body_too_large"
        elif quota_left is not None and size > quota_left:
            reason = "quota_exceeded"
        elif size > left.disk:
            reason = "insufficient_storage"
        base = representations.base_url(req, config)
        same = videos.same_content(self.intake.database, user, body["sha256"]) if "sha256" in body else None
        send_json(
            resp,
            {
                "accepted": reason is None,
                "reason": reason,
                "max_size": config.max_upload_bytes,
                "chunk_size": CHUNK_BYTES,
                "quota_left": quota_left,
                "duplicate_of": same and representations.videos(self.intake.database, user, [same], base)[0],
            },
        )
