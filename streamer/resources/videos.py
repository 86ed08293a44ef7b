"""The collection of a user's videos and each of them: ``/api/videos``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import falcon

from streamer import access, cleanup, inputs, videos
from streamer.admission import BodyRule
from streamer.config import Config
from streamer.database import Database
from streamer.models import Video
from streamer.protocol.conditional import Validators
from streamer.resources import representations
from streamer.resources.bodies import Json, read_json
from streamer.resources.receptions import DETAILS, VideoBody, received
from streamer.resources.representations import is_modified, require_preconditions, send_json
from streamer.storage.local import LocalStorage

QUERY = {
    "page": inputs.page,
    "limit": inputs.limit,
    "sort": inputs.one_of(*videos.SORTS),
    "q": inputs.search,
    "status": inputs.one_of(*videos.STATUSES),
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
        send_json(
            resp, {"data": [representations.video(row, user, base) for row in page.videos], "meta": meta}
        )

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        user = req.context.user
        with received(req, self.video_body.begin) as reception:
            video = reception.finish()
        representations.send_new_video(resp, video, user, representations.base_url(req, self.config))


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
        video = access.video_for(self.database, req.context.user, inputs.identifier(video_id))
        validators = self._validators(req, video)
        resp.set_header("ETag", str(validators.etag))
        resp.cache_control = ("private", "no-cache")
        if not is_modified(req, validators):
            resp.status = 304
            return
        send_json(resp, self._represent(req, video))

    on_head = on_get

    def on_patch(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        user = req.context.user
        access.video_for(self.database, user, inputs.identifier(video_id))  # before the body is judged
        changes = inputs.parse_fields(read_json(req), required={}, optional=DETAILS)
        with self.database.atomic():  # nobody changes it between the precondition and the change
            video = access.video_for(self.database, user, inputs.identifier(video_id))
            require_preconditions(req, self._validators(req, video))
            if changes:
                video = videos.change(self.database, video, changes.get("title"), changes.get("description"))
        resp.set_header("ETag", str(self._validators(req, video).etag))
        send_json(resp, self._represent(req, video))

    def on_delete(self, req: falcon.Request, resp: falcon.Response, video_id: str) -> None:
        user = req.context.user
        with self.database.atomic():
            video = access.video_for(self.database, user, inputs.identifier(video_id))
            require_preconditions(req, self._validators(req, video))
            videos.remove(self.database, user, video)
        cleanup.remove_orphans(self.database, self.storage, [video.file_path])
        resp.status = 204

    def _represent(self, req: falcon.Request, video: Video) -> dict[str, Any]:
        return representations.video(video, req.context.user, representations.base_url(req, self.config))

    def _validators(self, req: falcon.Request, video: Video) -> Validators:
        return Validators(etag=representations.video_tag(video, req.context.user), last_modified=None)
