"""``create_app(config)`` assembles the application; the whole route table is here."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import falcon

from streamer import cleanup, derived
from streamer.admission import Admission
from streamer.config import Config
from streamer.database import open_database
from streamer.ffmpeg.tools import find_tools
from streamer.housekeeping import Housekeeping
from streamer.intake import Intake
from streamer.middleware import AccessLog, Admitted, CrossOrigin, MethodOverride, SafeHeaders, ValidHost
from streamer.protocol import forwarded
from streamer.protocol.sendfile import OFF
from streamer.resources import auth, captions, errors, media, pictures, system, uploads, videos
from streamer.resources.receptions import VideoBody
from streamer.resources.representations import root_url
from streamer.storage.local import LocalStorage, make_folder
from streamer.tokens import AccessTokens, load_secret

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

DATABASE = "streamer.db"


def create_app(config: Config) -> "Application":
    """Make the WSGI application of one data folder, ready to serve.

    Brings the database up to date and removes what a crash left behind. Raises
    StreamerError or OSError where the data folder cannot be used.
    """
    make_folder(config.data)
    database = open_database(config.data / DATABASE)
    access_tokens = AccessTokens(config.secret_key or load_secret(config.data / "secret.key"))
    # brings the entries of the folder to the disk
    storage = open_storage(config)
    intake = Intake(database, storage, config, find_tools(config.ffmpeg, config.data))
    try:
        cleanup.sweep(intake)
    finally:
        database.close()  # a server that forks now must not share the connection
    return Application(config, _routes(intake, access_tokens), intake, access_tokens)


def open_storage(config: Config) -> LocalStorage:
    """The data folder of the configuration."""
    return LocalStorage(config.data, group_reads=config.sendfile != OFF)


def _routes(intake: Intake, access_tokens: AccessTokens) -> dict[str, object]:
    config, database, storage = intake.config, intake.database, intake.storage
    sender = media.Sender(storage, config.sendfile)
    return {
        "/": system.Index(config),
        "/health": system.Health(database, storage, intake.tools),
        "/openapi.json": system.OpenApi(),
        "/api/auth/register": auth.Register(database, config),
        "/api/auth/login": auth.Login(database, config, access_tokens),
        "/api/auth/refresh": auth.Refresh(database, config, access_tokens),
        "/api/auth/logout": auth.Logout(database),
        "/api/auth/me": auth.Me(database, config, access_tokens, storage),
        "/api/videos": videos.Videos(database, config, VideoBody(intake)),
        "/api/videos/{video_id}": videos.VideoItem(database, config, storage),
        "/api/videos/{video_id}/stream": media.Stream(database, sender),
        "/api/videos/{video_id}/poster": pictures.PosterChoice(intake),
        "/api/videos/{video_id}/poster.jpg": pictures.Poster(database, sender),
        "/api/videos/{video_id}/poster.svg": pictures.Placeholder(database),
        "/api/videos/{video_id}/storyboard.jpg": pictures.Storyboard(database, sender, derived.TILES, "jpg"),
        "/api/videos/{video_id}/storyboard.vtt": pictures.Storyboard(
            database, sender, derived.STORYBOARD, "vtt"
        ),
        "/api/videos/{video_id}/captions": captions.CaptionsList(database, config),
        "/api/videos/{video_id}/captions/{name}.vtt": captions.CaptionsFile(database, sender),
        "/api/videos/{video_id}/captions/{name}": captions.CaptionsItem(intake),
        "/api/videos/{video_id}/retry": videos.VideoRetry(intake),
        "/api/uploads": uploads.Uploads(intake),
        "/api/uploads/check": uploads.UploadCheck(intake),
        "/api/uploads/{upload_id}": uploads.UploadItem(intake),
    }


class Application:
    """The WSGI callable: a Falcon application behind what concerns every WSGI server."""

    def __init__(
        self, config: Config, routes: dict[str, object], intake: Intake, access_tokens: AccessTokens
    ) -> None:
        self.config = config
        self.intake = intake
        self.housekeeping = Housekeeping(intake)
        self.routes = routes
        router = falcon.routing.DefaultRouter()
        self.admission = Admission(router, access_tokens)
        middleware: list[Any] = [
            AccessLog(),
            SafeHeaders(),
            CrossOrigin(config.cors_origins),
            ValidHost(),
            MethodOverride(),
            Admitted(self.admission, intake.database),
        ]
        self._falcon_app = falcon.App(middleware=middleware, router=router)
        errors.install(self._falcon_app)
        for template, resource in routes.items():
            self._falcon_app.add_route(template, resource)

    def base_url(self, scheme: str, host: str) -> str | None:
        """The root of the application for a client without a proxy; None if its Host is none."""
        return root_url(self.config, scheme, host, "") if forwarded.HOST.fullmatch(host) else None

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        self.housekeeping.tick()
        environ = dict(environ)  # the host's own must not change under it
        forwarded.resolve(environ, self.config.trusted_proxies)
        body: Any = self._falcon_app(environ, start_response)
        # hypercorn sends the header fields with the first chunk, even an empty one, and never without
        return [b""] if body == [] else body
