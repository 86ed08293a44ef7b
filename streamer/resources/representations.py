"""The JSON representation of each thing, and how it is sent."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import falcon

from streamer import clock, derived, facts, jobs, playability, tokens, uploads
from streamer.accounts import Session
from streamer.config import Config
from streamer.containers.media import Media, chosen
from streamer.database import Database
from streamer.errors import PreconditionFailed
from streamer.intake import PARTIAL
from streamer.models import Derived, Job, Upload, User, Video
from streamer.protocol.conditional import EntityTag, Outcome, Preconditions, Validators, evaluate


def send_json(resp: falcon.Response, value: dict[str, Any], status: int = 200) -> None:
    """Answer with a JSON document."""
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = _encode(value) + b"\n"  # for those who read it in a terminal


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def entity_tag(value: dict[str, Any]) -> EntityTag:
    """The strong entity tag of a JSON document."""
    return entity_tag_of(_encode(value))


def entity_tag_of(data: bytes) -> EntityTag:
    """A strong entity tag: equal bytes, equal tag."""
    return EntityTag(hashlib.sha256(data).hexdigest()[:32])


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


def require_preconditions(req: falcon.Request, validators: Validators | None) -> None:
    """Raise PreconditionFailed unless the preconditions of a request that changes something hold.

    The validators are None where there is nothing yet, which no If-Match wants (RFC 9110, section 13.1.1).
    """
    if validators is not None:
        is_modified(req, validators)
    elif preconditions(req).if_match is not None:
        raise PreconditionFailed("a precondition of the request wants something to be there, and nothing is")


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


class Shown(NamedTuple):
    """A video, with all that is told of it."""

    row: Video
    uploader: User
    made: list[Derived]
    work: list[Job]


def look_up(database: Database, uploader: User, rows: Sequence[Video]) -> list[Shown]:
    """What is told of some videos of one user, in two queries."""
    ids = [row.id for row in rows]
    made, work = derived.of(database, ids), jobs.of(database, ids)
    return [Shown(row, uploader, made[row.id], work[row.id]) for row in rows]


def videos(database: Database, uploader: User, rows: Sequence[Video], base: str) -> list[dict[str, Any]]:
    """Some videos of one user."""
    return [video(shown, base) for shown in look_up(database, uploader, rows)]


def video(shown: Shown, base: str) -> dict[str, Any]:
    """A video."""
    row, uploader, made, work = shown
    address = f"{base}/api/videos/{row.id}"
    media = facts.of(row)
    verdict = playability.judge(row.mime_type, media)
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
        "media": media and _media(media),
        "playable": verdict and asdict(verdict),
        "processing": _processing(work),
        "error": _error(work),
        "captions": captions(made, address),
        "links": _links(made, address, plays_itself=verdict is not None and verdict.direct),
    }


def _media(media: Media) -> dict[str, Any]:
    """The facts of a file, by the tracks that players begin with."""
    picture, sound = chosen(media.video), chosen(media.audio)
    codecs = [track.codec for track in (picture, sound) if track]
    return {
        "duration": _rounded(media.duration),
        "width": picture and picture.width,
        "height": picture and picture.height,
        "video_codec": picture and picture.name,
        "audio_codec": sound and sound.name,
        "codecs": ", ".join(map(str, codecs)) if codecs and all(codecs) else None,
        "bit_rate": media.bit_rate,
        "frame_rate": picture and _rounded(picture.frame_rate),
        "rotation": picture and picture.rotation,
        "faststart": media.faststart,
        "bit_depth": picture and picture.bit_depth,
        "dynamic_range": picture and picture.dynamic_range,
        "truncated": media.is_truncated,
    }


def _rounded(number: float | None, digits: int = 3) -> float | None:
    return None if number is None else round(number, digits)


def _processing(work: Sequence[Job]) -> dict[str, Any] | None:
    """What is being done, else what will be done next."""
    for state in (jobs.RUNNING, jobs.QUEUED):
        for job in work:
            if job.state == state:
                return {"step": job.step, "percent": _rounded(job.percent, 1), "eta": _rounded(job.eta, 1)}
    return None


def _error(work: Sequence[Job]) -> dict[str, Any] | None:
    """Why the first step that failed did."""
    for job in work:
        if job.state == jobs.FAILED:
            return {"step": job.step, "code": job.error_code, "detail": job.error_detail or ""}
    return None


def captions(made: Sequence[Derived], address: str) -> list[dict[str, Any]]:
    """The captions of a video at this address: those of the file, then others."""
    found = [row for row in made if row.kind == derived.CAPTIONS]
    # the tracks of the file are named by their number
    found.sort(key=lambda row: (not row.name.isdigit(), len(row.name) * row.name.isdigit(), row.name))
    return [caption(row.name, json.loads(row.facts), address) for row in found]


def caption(name: str, members: Mapping[str, Any], address: str) -> dict[str, Any]:
    """One of them, by its facts."""
    return {
        "name": name,
        "language": members["language"],
        "label": members["label"],
        "is_forced": members["is_forced"],
        "source": members["source"],
        "url": f"{address}/captions/{name}.vtt",
    }


def _links(made: Sequence[Derived], address: str, *, plays_itself: bool) -> dict[str, str]:
    """Where to go from a video at this address; what is not there has no link."""
    kinds = {row.kind for row in made}
    links = {"self": address, "stream": f"{address}/stream"}
    if derived.VARIANT in kinds:
        links["play"] = f"{address}/stream?variant={derived.WEB}"
    elif plays_itself:
        links["play"] = f"{address}/stream"
    links["poster"] = f"{address}/poster.{'jpg' if derived.POSTER in kinds else 'svg'}"
    if derived.STORYBOARD in kinds:
        links["storyboard"] = f"{address}/storyboard.vtt"
    return links


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


def send_new_video(resp: falcon.Response, database: Database, row: Video, uploader: User, base: str) -> None:
    """Answer that a video has been made."""
    [shown] = look_up(database, uploader, [row])
    resp.location = f"{base}/api/videos/{row.id}"
    send_video(resp, shown, base, 201)


def send_video(resp: falcon.Response, shown: Shown, base: str, status: int = 200) -> None:
    """Answer with a video."""
    resp.set_header("ETag", str(video_tag(shown)))
    send_json(resp, video(shown, base), status)


def video_tag(shown: Shown) -> EntityTag:
    """The entity tag of a video's document, the same by whatever name the server is reached."""
    return entity_tag(video(shown, base=""))
