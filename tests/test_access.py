"""Nobody sees or changes what is not theirs, on any route, by any method.

The routes are taken from the router of the running application, so a new one is
walked as soon as it exists. Those that strangers may use are listed here.
"""

from collections.abc import Iterator

import falcon.inspect
import pytest
from itsdangerous import URLSafeTimedSerializer

from streamer import access
from streamer.app import Application
from streamer.config import Config
from streamer.errors import NotFound
from streamer.models import User
from tests.conftest import Clock, MakeApp
from tests.helpers import PASSWORD, Client, video_bytes
from tests.wsgi import call, database_of, stored_files

PUBLIC = {
    ("/", "GET"),
    ("/", "HEAD"),
    ("/health", "GET"),
    ("/health", "HEAD"),
    ("/openapi.json", "GET"),
    ("/openapi.json", "HEAD"),
    ("/api/auth/register", "POST"),
    ("/api/auth/login", "POST"),
    ("/api/auth/refresh", "POST"),
    ("/api/auth/logout", "POST"),
}
PUBLIC_PATHS = {path for path, _ in PUBLIC}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT")
UNKNOWN = "999"
VIDEO = video_bytes(3000)
JSON = {"Content-Type": "application/json"}

Said = tuple[int, dict[str, str], bytes]


def routes(app: Application) -> Iterator[tuple[str, str]]:
    """Every path template of the application with every method that it takes."""
    for route in falcon.inspect.inspect_routes(app._falcon_app):
        for method in route.methods:
            if not method.internal:
                yield route.path, method.method


def address(template: str, video_id: str) -> str:
    """One path of a route."""
    return template.replace("{video_id}", video_id).replace("{name}", "en")


def ask(
    app: Application, method: str, path: str, headers: dict[str, str], body: bytes = b"", address: str = ""
) -> Said:
    """What is answered, without the id of the request."""
    extra = {"REMOTE_ADDR": address} if address else {}
    answer = call(app, path, method, headers, body, extra)
    request_id = answer.fields.pop("x-request-id")
    return answer.status, answer.fields, answer.read().replace(request_id.encode(), b"")


@pytest.fixture
def owned(alice: Client) -> Client:
    """The owner of a video that has the id 1."""
    alice.upload(VIDEO, "film.mp4", title="Alice's film", status=201)
    return alice


def test_the_walk_sees_the_routes(app: Application) -> None:
    walked = set(routes(app))
    assert walked >= PUBLIC
    assert {
        ("/api/videos", "GET"),
        ("/api/videos", "POST"),
        ("/api/videos/{video_id}", "PATCH"),
        ("/api/videos/{video_id}", "DELETE"),
        ("/api/videos/{video_id}/stream", "GET"),
        ("/api/videos/{video_id}/poster", "PUT"),
        ("/api/videos/{video_id}/captions/{name}.vtt", "GET"),
        ("/api/auth/me", "DELETE"),
    } <= walked


# --- without a user


def tokens(owned: Client, config: Config) -> dict[str, str]:
    """What is no access token (any more) but may look like one."""
    good = owned.session["access_token"]
    secret = (config.data / "secret.key").read_text().strip()
    return {
        "garbage": "Bearer garbage",
        "empty": "Bearer ",
        "spaces": "Bearer    ",
        "cut": f"Bearer {good[:-1]}",
        "changed": f"Bearer {good[:-2]}{'AA' if good[-2:] != 'AA' else 'BB'}",
        "doubled": f"Bearer {good} {good}",
        "refresh": f"Bearer {owned.session['refresh_token']}",
        "other salt": f"Bearer {URLSafeTimedSerializer(secret, salt='other').dumps([1, 1])}",
        "not latin": "Bearer \xff\xfe",
        "huge": "Bearer " + "x" * 100_000,
    }


def refused(app: Application, headers: dict[str, str]) -> Iterator[tuple[str, str, Said]]:
    """What every route that is not public says to somebody, by each method, known or not."""
    for template in {path for path, _ in routes(app)} - PUBLIC_PATHS:
        for method in METHODS:
            said = [
                ask(app, method, address(template, video_id), headers | JSON, b"{}")
                for video_id in ("1", UNKNOWN, "nonsense")
            ]
            assert said[0] == said[1] == said[2]
            yield method, template, said[0]


def test_no_user_is_asked_to_sign_in_on_every_route(app: Application, owned: Client) -> None:
    walked = 0
    for method, template, (status, fields, body) in refused(app, {}):
        assert status == 401, (method, template)
        assert fields["www-authenticate"] == 'Bearer realm="streamer"'
        assert fields["content-type"] == "application/problem+json"
        assert (b'"not_authenticated"' in body) == (method != "HEAD")
        walked += 1
    assert walked >= 4 * len(METHODS)
    assert owned.get("/api/videos/1", status=200).json["title"] == "Alice's film"


@pytest.mark.parametrize(
    "kind",
    ["garbage", "empty", "spaces", "cut", "changed", "doubled", "refresh", "other salt", "not latin", "huge"],
)
def test_a_bad_token_is_refused_on_every_route(
    app: Application, owned: Client, config: Config, kind: str
) -> None:
    for method, template, (status, fields, _) in refused(app, {"Authorization": tokens(owned, config)[kind]}):
        assert status == 401, (method, template)
        assert fields["www-authenticate"].startswith('Bearer realm="streamer", error="invalid_token"')


@pytest.mark.parametrize("scheme", ["Basic", "Digest", "Bearer1", "Token", ""])
def test_another_scheme_is_no_token(app: Application, owned: Client, scheme: str) -> None:
    header = f"{scheme} {owned.session['access_token']}".strip()
    status, fields, _ = ask(app, "GET", "/api/videos/1", {"Authorization": header})
    assert status == 401
    assert "error=" not in fields["www-authenticate"]


def test_the_name_of_the_scheme_ignores_case(app: Application, owned: Client) -> None:
    header = f"bEARER  {owned.session['access_token']}"
    assert ask(app, "GET", "/api/videos/1", {"Authorization": header})[0] == 200


def test_an_expired_token_is_refused_on_every_route(app: Application, owned: Client, frozen: Clock) -> None:
    owned.sign_in("alice")
    frozen.forward(seconds=3600)
    assert owned.get("/api/videos/1").status_int == 200
    frozen.forward(seconds=1)
    for method, template, (status, fields, _) in refused(app, owned.headers):
        assert status == 401, (method, template)
        assert 'error="invalid_token"' in fields["www-authenticate"]


def test_a_token_of_a_deleted_account_is_refused_on_every_route(app: Application, owned: Client) -> None:
    headers = owned.headers
    owned.delete("/api/auth/me", {"password": PASSWORD}, status=204)
    for method, template, (status, _, _) in refused(app, headers):
        assert status == 401, (method, template)


def test_a_token_of_another_installation_is_refused(
    app: Application, owned: Client, make_app: MakeApp
) -> None:
    stranger = Client(make_app()).sign_up("alice")
    assert ask(app, "GET", "/api/videos/1", stranger.headers)[0] == 401


def test_strangers_use_the_public_routes(app: Application, anonymous: Client) -> None:
    for path, method in PUBLIC:
        for headers in ({}, {"Authorization": "Bearer garbage"}):
            assert ask(app, method, path, headers | JSON, b"[]")[0] in {200, 422}, (method, path)


def test_a_stranger_learns_which_methods_there_are_and_no_more(app: Application, owned: Client) -> None:
    for template in {path for path, _ in routes(app)}:
        known, unknown = (ask(app, "OPTIONS", address(template, video_id), {}) for video_id in ("1", UNKNOWN))
        assert known == unknown
        assert known[0] in {200, 204}
        assert known[2] == b""


# --- with another user

ATTEMPTS: list[tuple[dict[str, str], bytes]] = [
    ({}, b""),
    (JSON, b'{"title": "mine now"}'),
    (JSON, b'{"colour": "red"}'),
    (JSON, b"{"),
    ({"Content-Type": "text/plain"}, b"text"),
    ({"Content-Type": "video/mp4"}, VIDEO),
    (JSON | {"If-Match": "*"}, b'{"title": "mine now"}'),
    (JSON | {"If-Match": '"x"'}, b'{"title": "mine now"}'),
    ({"If-None-Match": "*"}, b""),
    ({"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, b""),
    ({"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}, b""),
    ({"Range": "bytes=0-9"}, b""),
    ({"Range": "bytes=999999-"}, b""),
]


def judged(method: str, template: str, headers: dict[str, str]) -> int | None:
    """The status that the head of a request gets before anything is looked up."""
    if template.endswith("/poster"):
        return 501  # there is no ffmpeg
    wanted = {"PATCH": "application/json", "PUT": "text/plain"}.get(method)
    return 415 if wanted not in {None, headers.get("Content-Type")} else None


@pytest.mark.parametrize(("headers", "body"), ATTEMPTS)
def test_the_id_of_another_answers_as_an_unknown_one(
    app: Application, owned: Client, bob: Client, config: Config, headers: dict[str, str], body: bytes
) -> None:
    before = owned.get("/api/videos/1").json
    walked, known = 0, set(routes(app))
    for template in {path for path, _ in known if "{video_id}" in path}:
        for method in (*METHODS, "OPTIONS"):
            theirs, unknown = (
                ask(app, method, address(template, video_id), bob.headers | headers, body)
                for video_id in ("1", UNKNOWN)
            )
            assert theirs == unknown, (method, template)
            if (template, method) in known:
                assert theirs[0] == (judged(method, template, headers) or 404), (method, template)
                walked += 1
    assert walked >= 20
    assert owned.get("/api/videos/1").json == before
    assert len(stored_files(config.data)) == 1
    assert owned.get("/api/videos/1/stream").body == VIDEO


def test_each_user_lists_only_their_own(owned: Client, bob: Client) -> None:
    bob.upload(video_bytes(50), title="Bob's film", status=201)
    for query in ("", "?q=film", "?status=ready", "?sort=title&q=film&status=ready"):
        assert [v["title"] for v in bob.get(f"/api/videos{query}").json["data"]] == ["Bob's film"]
        assert bob.get(f"/api/videos{query}").json["meta"]["total"] == 1
        assert [v["title"] for v in owned.get(f"/api/videos{query}").json["data"]] == ["Alice's film"]


WEIRD_IDS = [
    "0",
    "-1",
    "-0",
    "+1",
    "01",
    "00000000000000000001",
    "1.0",
    "1e0",
    "0x1",
    "1_0",
    "1 ",
    " 1",
    "1\n",
    "1\0",
    "1;",
    "1,1",
    "%31",
    "%2e%2e",
    "..",
    "*",
    "null",
    "me",
    "\u0661",
    "\uff11",
    "\xb9",
    "\udcff",
    str(2**63 - 1),
    str(2**63),
    str(2**64 + 1),
    str(10**30),
    "1" * 6000,
    "1' OR '1'='1",
]


@pytest.mark.parametrize("video_id", WEIRD_IDS)
@pytest.mark.parametrize("tail", ["", "/stream", "/poster.jpg", "/captions/en.vtt"])
def test_what_is_no_id_answers_as_an_unknown_one(
    app: Application, owned: Client, video_id: str, tail: str
) -> None:
    # as WSGI has it: the bytes of the path, each as one character
    path = f"/api/videos/{video_id}{tail}".encode("utf-8", "surrogateescape").decode("latin-1")
    for method in ("GET", "HEAD") if tail else ("GET", "HEAD", "PATCH", "DELETE"):
        arguments = (owned.headers | JSON, b'{"title": "x"}')
        asked = ask(app, method, path, *arguments)
        assert asked == ask(app, method, f"/api/videos/{UNKNOWN}{tail}", *arguments)
        assert asked[0] == 404


def test_an_empty_id_is_no_route(app: Application, owned: Client) -> None:
    for path in ("/api/videos/", "/api/videos//stream", "/api/videos/1/", "/api/videos/1/stream/"):
        assert ask(app, "GET", path, owned.headers)[0] == 404


# --- the rule itself


def test_the_owner_and_nobody_else_gets_the_video(app: Application, owned: Client, bob: Client) -> None:
    database = database_of(app)
    alice, robert = User.select().order_by(User.id).execute(database)
    assert access.video_for(database, alice, 1).title == "Alice's film"
    messages = []
    for user, video_id in ((robert, 1), (robert, 2), (alice, 2), (alice, None), (robert, None)):
        with pytest.raises(NotFound) as caught:
            access.video_for(database, user, video_id)
        messages.append(str(caught.value))
    database.close()
    assert len(set(messages)) == 1
