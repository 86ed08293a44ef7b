"""The collection of a user's videos and each of them: ``/api/videos``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import falcon

from streamer import access, cleanup, inputs, jobs, videos
from streamer.admission import BodyRule
from streamer.config import Config
from streamer.database import Database
from streamer.errors import FfmpegMissing, NothingFailed
from streamer.intake import Intake
from streamer.protocol.conditional import Validators
from streamer.resources import representations
from streamer.resources.bodies import Json, read_json
from streamer.resources.receptions import DETAILS, VideoBody, received
from streamer.resources.representations import Shown, is_modified, require_preconditions, send_json
from streamer.storage.local import LocalStorage

QUERY = {
    "page": inputs.page,
    "limit": inputs.limit,
    "sort": inputs.one_of(*videos.SORTS),
    "q": inputs.search,
    "status": inputs.one_of(*jobs.STATUSES),
}
CHANGES = Json(others=("application/merge-patch+json",))


@dataclass(frozen=True)
class Videos:
    """``/api/videos``"""

    database: Database
    config: Config
    video_body: VideoBody

    @property
    def bodies(self) -> dict[str, BodyRule]:
        return {"POST": self.video_body}

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        query = videos.Listing(**inputs.parse_fields(req.params, required={}, optional=QUERY))
        user = req.context.user
        page = videos.listing(self.database, user, query)
        base = representations.base_url(req, self.config)
        total_pages = -(-page.total // query.limit)
        meta = {"page": query.page, "limit": query.limit, "total": page.total, "total_pages": total_pages}
        resp.set_header("Link", _page_links(f"{base}/api/videos", req.params, query.page, total_pages))
        data = representations.videos(self.database, user, page.videos, base)
        send_json(resp, {"data": data, "meta": meta})

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        user = req.context.user
        with received(req, self.video_body.begin) as reception:
            video = reception.finish()
        base = representations.base_url(req, self.config)
        representations.send_new_video(resp, self.database, video, user, base)


def _page_links(address: str, params: Mapping[str, Any], page: int, total_pages: int) -> str:
    """The Link header field of one page of a list (RFC 8288)."""
    last = max(total_pages, 1)
    targets = {"first": 1, "last": last}
    if page > 1:
        targets["prev"] = min(page - 1, last)
    if page < last:
        targets["next"] = page + 1
    return ", ".join(
        f'<{address}?{urlencode({**params, "page": number})}>; rel="{relation}"'
        for relation, number in targets.items()
    )


@dataclass(frozen=True)
class VideoItem:
    """``/api/videos/{video_id}``"""

    database: Database
    config: Config
    storage: LocalStorage
    bodies = {"PATCH": CHANGES}

    def on_get(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        shown = find(self.database, req, video_id)
        validators = validators_of(shown)
        resp.set_header("ETag", str(validators.etag))
        resp.cache_control = ("private", "no-cache")
        if not is_modified(req, validators):
            resp.status = 304
            return
        send_json(resp, representations.video(shown, representations.base_url(req, self.config)))

    on_head = on_get

    def on_patch(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        user = req.context.user
        access.video_for(self.database, user, inputs.identifier(video_id))  # before the body is judged
        changes = inputs.parse_fields(read_json(req), required={}, optional=DETAILS)
        with self.database.atomic():  # nobody changes it between the precondition and the change
            shown = find(self.database, req, video_id)
            require_preconditions(req, validators_of(shown))
            if changes:
                videos.change(self.database, shown.row, changes.get("title"), changes.get("description"))
        representations.send_video(resp, shown, representations.base_url(req, self.config))

    def on_delete(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        with self.database.atomic():
            shown = find(self.database, req, video_id)
            require_preconditions(req, validators_of(shown))
            orphans = videos.remove(self.database, req.context.user, shown.row)
        cleanup.remove_orphans(self.database, self.storage, orphans)
        resp.status = 204


@dataclass(frozen=True)
class VideoRetry:
    """``/api/videos/{video_id}/retry``"""

    intake: Intake

    def on_post(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        database = self.intake.database
        with database.atomic():
            shown = find(database, req, video_id)
            require_preconditions(req, validators_of(shown))
            if not jobs.retry(database, shown.row.id):
                raise NothingFailed("nothing has failed that could be tried again")
            if self.intake.tools is None:
                raise FfmpegMissing
            shown = find(database, req, video_id)
        representations.send_video(resp, shown, representations.base_url(req, self.intake.config), 202)


def find(database: Database, req: falcon.Request, video_id: str) -> Shown:
    """A video of the user who asks. Raises NotFound."""
    user = req.context.user
    row = access.video_for(database, user, inputs.identifier(video_id))
    [shown] = representations.look_up(database, user, [row])
    return shown


def validators_of(shown: Shown) -> Validators:
    """The validators of a video's document."""
    return Validators(etag=representations.video_tag(shown), last_modified=None)
