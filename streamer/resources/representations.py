"""The JSON representation of each thing, and how it is sent."""

import hashlib
import json
from datetime import datetime
from typing import Any
from urllib.parse import quote

import falcon

from streamer import clock, tokens, uploads
from streamer.accounts import Session
from streamer.config import Config
from streamer.errors import PreconditionFailed
from streamer.intake import PARTIAL
from streamer.models import Upload, User, Video
from streamer.protocol.conditional import EntityTag, Outcome, Preconditions, Validators, evaluate


def send_json(resp: falcon.Response, value: dict[str, Any], status: int = 200) -> None:
    """Answer with a JSON document."""
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = _encode(value) + b"\n"  # for those who read it in a terminal


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def entity_tag(value: dict[str, Any]) -> EntityTag:
    """The strong entity tag of a JSON document: equal bytes, equal tag."""
    return EntityTag(hashlib.sha256(_encode(value)).hexdigest()[:32])


def preconditions(req: falcon.Request) -> Preconditions:
    """The precondition fields of a request, raw."""
    field = req.env.get
    return Preconditions(
        if_match=field("HTTP_IF_MATCH"),
        if_none_match=field("HTTP_IF_NONE_MATCH"),
        if_modified_since=field("HTTP_IF_MODIFIED_SINCE"),
        if_unmodified_since=field("HTTP_IF_UNMODIFIED_SINCE"),
    )


def is_modified(req: falcon.Request, validators: Validators) -> bool:
    """Evaluate the preconditions of a request: False asks for a 304. Raises PreconditionFailed."""
    match evaluate(req.method, preconditions(req), validators, clock.now()):
        case Outcome.PRECONDITION_FAILED:
            raise PreconditionFailed("a precondition of the request does not hold for what is there now")
        case Outcome.NOT_MODIFIED:
            return False
    return True


def require_preconditions(req: falcon.Request, validators: Validators) -> None:
    """Raise PreconditionFailed unless the preconditions of a request that changes something hold."""
    is_modified(req, validators)


def base_url(req: falcon.Request, config: Config) -> str:
    """The URL of the application's root, without a slash at the end."""
    return root_url(config, req.scheme, req.netloc, req.root_path)


def root_url(config: Config, scheme: str, host: str, path: str) -> str:
    """That of an application that is reached in this way, unless it has a public one."""
    if config.public_url is not None:
        return config.public_url
    return f"{scheme}://{host}{quote(path.rstrip('/'), safe='/~')}"


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def user(row: User, config: Config) -> dict[str, Any]:
    """An account, as its owner sees it."""
    return {
        "id": row.id,
        "username": row.username,
        "created_at": timestamp(row.created_at),
        "video_count": row.video_count,
        "bytes_used": row.bytes_used,
        "quota_bytes": config.quota_bytes,
    }


def session(granted: Session, access_tokens: tokens.AccessTokens, config: Config) -> dict[str, Any]:
    """A session that has begun or goes on (RFC 6749, section 5.1)."""
    return {
        "access_token": access_tokens.issue(granted.user.id, granted.user.credential_version),
        "token_type": "Bearer",
        "expires_in": tokens.ACCESS_LIFETIME_SECONDS,
        "refresh_token": granted.refresh_token,
        "refresh_expires_in": tokens.REFRESH_LIFETIME_SECONDS,
        "user": user(granted.user, config),
    }


def video(row: Video, uploader: User, base: str) -> dict[str, Any]:
    """A video."""
    address = f"{base}/api/videos/{row.id}"
    return {
        "id": row.id,
        "title": row.title,
        "description": row.description,
        "filename": row.filename,
        "mime_type": row.mime_type,
        "size": row.size,
        "status": row.status,
        "created_at": timestamp(row.created_at),
        "updated_at": timestamp(row.updated_at),
        "uploader": {"id": uploader.id, "username": uploader.username},
        "links": {"self": address, "stream": f"{address}/stream"},
    }


def upload(row: Upload, base: str) -> dict[str, Any]:
    """An upload. ``received`` counts all bytes that have come, ``offset`` those that are on the disk."""
    received = uploads.received(row)
    bytes_per_second = round(uploads.bytes_per_second(row))
    left = None if row.length is None else row.length - received
    links = {"self": f"{base}/api/uploads/{row.id}"}
    if row.video_id is not None:
        links["video"] = f"{base}/api/videos/{row.video_id}"
    return {
        "id": row.id,
        "filename": row.filename,
        "is_partial": row.kind == PARTIAL,
        "offset": row.offset,
        "received": received,
        "length": row.length,
        "bytes_per_second": bytes_per_second,
        "seconds_left": -(-left // bytes_per_second) if left is not None and bytes_per_second else None,
        "created_at": timestamp(row.created_at),
        "updated_at": timestamp(row.updated_at),
        "expires_at": timestamp(row.expires_at),
        "video_id": row.video_id,
        "links": links,
    }


def send_new_video(resp: falcon.Response, row: Video, uploader: User, base: str) -> None:
    """Answer that a video has been made."""
    representation = video(row, uploader, base)
    resp.location = representation["links"]["self"]
    resp.set_header("ETag", str(video_tag(row, uploader)))
    send_json(resp, representation, 201)


def video_tag(row: Video, uploader: User) -> EntityTag:
    """The entity tag of a video's document, the same by whatever name the server is reached."""
    return entity_tag(video(row, uploader, base=""))
