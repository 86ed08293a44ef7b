"""What is about the server itself: the index, health, the contract."""

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import falcon
import peewee

import streamer
from streamer.config import Config
from streamer.database import Database
from streamer.ffmpeg.tools import Tools
from streamer.models import User
from streamer.protocol.conditional import Validators
from streamer.resources.representations import base_url, entity_tag, is_modified, send_json
from streamer.storage.local import LocalStorage


@dataclass(frozen=True)
class Index:
    """``/``"""

    config: Config
    public = True

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        base = base_url(req, self.config)
        links = {
            "register": f"{base}/api/auth/register",
            "login": f"{base}/api/auth/login",
            "videos": f"{base}/api/videos",
            "uploads": f"{base}/api/uploads",
            "health": f"{base}/health",
            "openapi": f"{base}/openapi.json",
        }
        send_json(resp, {"name": "streamer", "version": streamer.__version__, "links": links})

    on_head = on_get


@dataclass(frozen=True)
class Health:
    """``/health``"""

    database: Database
    storage: LocalStorage
    tools: Tools | None
    public = True

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        checks = {"database": self._database_answers(), "storage": self.storage.is_writable()}
        healthy = all(checks.values())
        send_json(
            resp,
            {
                "status": "ok" if healthy else "failed",
                "checks": {name: "ok" if passed else "failed" for name, passed in checks.items()},
                "ffmpeg": self.tools and _abilities(self.tools),
            },
            200 if healthy else 503,
        )
        if not healthy:
            resp.set_header("Retry-After", "10")

    on_head = on_get

    def _database_answers(self) -> bool:
        try:
            User.select(User.id).limit(1).scalar(self.database)
        except peewee.DatabaseError:
            return False
        return True


def _abilities(tools: Tools) -> dict[str, Any]:
    """What can be made here."""
    return {
        "version": tools.version,
        "h264": "libx264" in tools.encoders,
        "hdr": {"zscale", "tonemap"} <= tools.filters,
        "ffprobe": tools.ffprobe is not None,
    }


class OpenApi:
    """``/openapi.json``"""

    public = True

    def __init__(self) -> None:
        self._contract = json.loads(files(streamer).joinpath("openapi.json").read_text(encoding="utf-8"))
        self._validators = Validators(etag=entity_tag(self._contract), last_modified=None)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.set_header("ETag", str(self._validators.etag))
        resp.cache_control = ("no-cache",)
        if not is_modified(req, self._validators):
            resp.status = 304
            return
        send_json(resp, self._contract)

    on_head = on_get
