"""Accounts and sessions: ``/api/auth``."""

from dataclasses import dataclass

import falcon

from streamer import accounts, appends, cleanup, inputs, videos
from streamer.config import Config
from streamer.database import Database
from streamer.errors import RegistrationClosed
from streamer.resources import representations
from streamer.resources.bodies import JSON, read_json
from streamer.resources.representations import send_json
from streamer.storage.local import LocalStorage
from streamer.tokens import AccessTokens


@dataclass(frozen=True)
class Register:
    """``/api/auth/register``"""

    database: Database
    config: Config
    public = True
    bodies = {"POST": JSON}

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        if not self.config.registration:
            raise RegistrationClosed("accounts are made by the administrator of this server")
        body = inputs.parse_fields(
            read_json(req), required={"username": inputs.username, "password": inputs.password}, optional={}
        )
        user = accounts.register(self.database, body["username"], body["password"], req.remote_addr)
        resp.location = representations.base_url(req, self.config) + "/api/auth/me"
        send_json(resp, representations.user(user, self.config), 201)


@dataclass(frozen=True)
class Login:
    """``/api/auth/login``"""

    database: Database
    config: Config
    access_tokens: AccessTokens
    public = True
    bodies = {"POST": JSON}

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = inputs.parse_fields(
            read_json(req),
            required={"username": inputs.credential, "password": inputs.credential},
            optional={},
        )
        session = accounts.log_in(self.database, body["username"], body["password"], req.remote_addr)
        send_json(resp, representations.session(session, self.access_tokens, self.config))


def _read_refresh_token(req: falcon.Request) -> str:
    body = inputs.parse_fields(read_json(req), required={"refresh_token": inputs.credential}, optional={})
    return str(body["refresh_token"])


@dataclass(frozen=True)
class Refresh:
    """``/api/auth/refresh``"""

    database: Database
    config: Config
    access_tokens: AccessTokens
    public = True
    bodies = {"POST": JSON}

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        session = accounts.refresh(self.database, _read_refresh_token(req))
        send_json(resp, representations.session(session, self.access_tokens, self.config))


@dataclass(frozen=True)
class Logout:
    """``/api/auth/logout``"""

    database: Database
    public = True
    bodies = {"POST": JSON}

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        accounts.log_out(self.database, _read_refresh_token(req))
        resp.status = 204


@dataclass(frozen=True)
class Me:
    """``/api/auth/me``"""

    database: Database
    config: Config
    access_tokens: AccessTokens
    storage: LocalStorage
    bodies = {"PATCH": JSON, "DELETE": JSON}

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        send_json(resp, representations.user(req.context.user, self.config))

    on_head = on_get

    def on_patch(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = inputs.parse_fields(
            read_json(req),
            required={"current_password": inputs.credential, "password": inputs.password},
            optional={},
        )
        session = accounts.change_password(
            self.database, req.context.user, body["current_password"], body["password"], req.remote_addr
        )
        send_json(resp, representations.session(session, self.access_tokens, self.config))

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = inputs.parse_fields(read_json(req), required={"password": inputs.credential}, optional={})
        user = req.context.user
        accounts.confirm_password(self.database, user, body["password"], req.remote_addr)
        file_paths = videos.remove_account(self.database, user)
        appends.abandon_all(user.id)
        cleanup.remove_orphans(self.database, self.storage, file_paths)
        cleanup.remove_strays(self.database, self.storage)
        resp.status = 204
