"""nginx, Apache and lighttpd send the bytes: every answer is the one that the application gives by itself."""

import email
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.helpers import video_bytes
from tests.live.conftest import StartServer
from tests.live.fronts import Front, make_certificate, running
from tests.live.harness import Answer, Api, eventually, sha256, stream_path

SIZES = {"short": 3000, "long": 1_500_007}  # within and beyond the buffers of every front
# to shorter answers of the application lighttpd applies Range once more, and says 416 for ignoring it
SHORTEST_THROUGH = {"lighttpd": 300_000}
PAGE = "https://app.example.org"
MECHANISMS = {"nginx": "x-accel-redirect", "apache2": "x-sendfile", "lighttpd": "x-sendfile"}

CAPTIONS = b"WEBVTT\n\n" + b"".join(
    b"00:%02d:00.000 --> 00:%02d:30.000\nMinute %d\n\n" % (minute, minute, minute) for minute in range(60)
)

# what differs from answer to answer, or tells who has sent it
OWN = {"date", "server", "x-request-id", "connection", "keep-alive", "via"}


@dataclass(frozen=True)
class Trio:
    """The same videos three times: from the application, through a front, and sent by that front."""

    alone: Api
    through: Api
    offloaded: Api
    front: Front
    ids: dict[str, int]


@pytest.fixture(scope="module", params=sorted(MECHANISMS))
def trio(
    request: pytest.FixtureRequest, start_shared_server: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trio]:
    program, folder = request.param, tmp_path_factory.mktemp(request.param)
    certificate = make_certificate(folder)
    trusting = {"STREAMER_TRUSTED_PROXIES": "127.0.0.1", "STREAMER_CORS_ORIGINS": PAGE}
    plain = start_shared_server(**trusting)
    offloading = start_shared_server(plain.data, **trusting, STREAMER_SENDFILE=MECHANISMS[program])
    ids = {
        name: plain.api.upload(video_bytes(size, seed=size), f"?filename={name}%C3%A9.mp4")
        for name, size in (
            (name, max(size, SHORTEST_THROUGH.get(program, 0))) for name, size in SIZES.items()
        )
    }
    path = f"/api/videos/{ids['long']}/captions/en"
    assert plain.api.request("PUT", path, CAPTIONS, {"Content-Type": "text/vtt"}).status == 201
    with (
        running(program, folder / "through", plain, certificate) as through,
        running(program, folder / "offloaded", offloading, certificate) as offloaded,
    ):
        yield Trio(plain.api, through.api(), offloaded.api(), offloaded, ids)


def comparable(answer: Answer) -> tuple[int, dict[str, str], Any]:
    """Status, fields and body, without what is the front's own; of several parts what they hold."""
    assert not {"x-accel-redirect", "x-sendfile"} & set(answer.headers)
    fields = {name: value for name, value in answer.headers.items() if name not in OWN}
    body: Any = answer.body
    if fields.get("content-type", "").startswith("multipart/"):
        message = email.message_from_bytes(f"Content-Type: {fields['content-type']}\r\n\r\n".encode() + body)
        parts: Any = message.get_payload()
        body = [(part.items(), part.get_payload(decode=True)) for part in parts]
        fields["content-type"] = "multipart/byteranges"
    if fields.get("content-type") == "application/problem+json":
        fields.pop("content-length")
        body = body and {name: value for name, value in answer.json.items() if name != "request_id"}
    return answer.status, fields, body


RANGES = [
    None,
    "bytes=0-0",
    "bytes=0-99",
    "bytes=100-199",
    "bytes=-100",
    "bytes=-999999999",
    "bytes=0-",
    "bytes=1-",
    "bytes=2999-",
    "bytes=2990-99999999",
    "bytes=0-999999999999999999",
    "bytes=0-99999999999999999999999999",
    "bytes=00000000000000000000000000000000-99",
    # not satisfiable
    "bytes=1500007-",
    "bytes=99999999-999999999",
    "bytes=999999999999999999-",
    "bytes=99999999999999999999999-",
    "bytes=-0",
    "bytes=99999999-,-0",
    # ignored
    "bytes=5-2",
    "bytes=abc",
    "bytes=",
    "bytes=-",
    "bytes=0-1-2",
    "bytes=+1-2",
    "bytes=0x1-2",
    "bytes 0-1",
    "items=0-1",
    "0-1",
    "bytes=0-1;2-3",
    # of lists and white space
    "BYTES=0-1",
    "bytes= 0-1",
    "bytes=0 - 1",
    "bytes=,0-1",
    "bytes=0-1,",
    "bytes=0-1,2-3",
    "bytes=0-9,100-109",
    "bytes=100-109,0-9",
    "bytes=0-9, 5-19, -5",
    "bytes=0-9,99999999-",
    "bytes=0-9,5-2",
    "bytes=0-2000,1000-",
    "bytes=0-,0-,0-",
    "bytes=0-1400,1402-2999",  # in parts, more than the whole of the short one
    "bytes=0-9,100-109,5-2",
    "bytes=5-2,0-9",
    "bytes=0-9,abc",
    "bytes=" + ",".join(f"{at}-{at}" for at in range(0, 34, 2)),  # more parts than we send
]
CONDITIONS: list[dict[str, str]] = [
    {"If-Range": "{etag}"},
    {"If-Range": "W/{etag}"},
    {"If-Range": '"other"'},
    {"If-Range": "{modified}"},
    {"If-Range": "Mon, 01 Jan 2001 00:00:00 GMT"},
    {"If-Range": "nonsense"},
    {"If-Match": "{etag}"},
    {"If-Match": "*"},
    {"If-Match": '"other"'},
    {"If-Unmodified-Since": "{modified}"},
    {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"},
    {"If-None-Match": "{etag}"},
    {"If-None-Match": "W/{etag}"},
    {"If-None-Match": "*"},
    {"If-None-Match": '"other"'},
    {"If-Modified-Since": "{modified}"},
    {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"},
    {"If-None-Match": '"other"', "If-Modified-Since": "{modified}"},
    {"If-Match": "{etag}", "If-Range": "{etag}"},
]
CASES: list[dict[str, str]] = [
    *({} if field is None else {"Range": field} for field in RANGES),
    *(condition | extra for condition in CONDITIONS for extra in ({}, {"Range": "bytes=10-19"})),
    {"If-Range": '"other"', "Range": "bytes=99999999-"},
    {"If-Range": "{etag}", "Range": "bytes=99999999-"},
    {"If-Range": "{etag}", "Range": "bytes=0-9,100-109"},
    {"If-Range": "{etag}", "Range": "bytes=abc"},
    {"Request-Range": "bytes=0-9"},
    {"Accept-Encoding": "gzip, br"},
    {"Origin": PAGE},
    {"Origin": PAGE, "Range": "bytes=10-19"},
    {"Origin": "https://evil.example.org", "Range": "bytes=10-19"},
    {"X-Sendfile": "/etc/passwd", "X-Accel-Redirect": "/_streamer/videos/"},
]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("headers", CASES, ids=lambda headers: " ".join(map(": ".join, headers.items())))
def test_an_answer_is_the_same_whoever_sends_it(
    trio: Trio, headers: dict[str, str], size: str, method: str
) -> None:
    path = stream_path(trio.ids[size]) + "?download=1"
    current = trio.alone.request("HEAD", path).headers
    headers = {
        k: v.format(etag=current["etag"], modified=current["last-modified"]) for k, v in headers.items()
    }
    alone, through, offloaded = (
        comparable(api.request(method, path, None, headers))
        for api in (trio.alone, trio.through, trio.offloaded)
    )
    assert offloaded == through
    assert offloaded == alone


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=10-19"}], ids=["whole", "range"])
def test_what_belongs_to_a_video_goes_the_same_way(trio: Trio, headers: dict[str, str], method: str) -> None:
    path = f"/api/videos/{trio.ids['long']}/captions/en.vtt"
    alone, through, offloaded = (
        comparable(api.request(method, path, None, headers))
        for api in (trio.alone, trio.through, trio.offloaded)
    )
    assert alone[0] == (206 if headers and method == "GET" else 200)
    assert offloaded == through
    assert offloaded == alone


def sent_by_front(trio: Trio, headers: dict[str, str]) -> bool:
    """Stream, and tell from the log whether the application has left the bytes to the front."""
    server = trio.front.upstream
    path = stream_path(trio.ids["long"])
    etag = trio.alone.request("HEAD", path).headers["etag"]
    headers = {name: value.format(etag=etag) for name, value in headers.items()}
    before = server.log
    assert trio.offloaded.get(path, headers).status in {200, 206}
    eventually(lambda: len(server.log) > len(before), "there is a line in the log")
    [line] = server.log.removeprefix(before).splitlines()
    return " bytes=- " in line


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Range": "bytes=0-"},
        {"Range": "bytes=5-9"},
        {"Range": "bytes=-5"},
        {"Range": "bytes=0-1", "If-Range": "{etag}"},
    ],
)
def test_what_players_ask_for_is_sent_by_the_front(trio: Trio, headers: dict[str, str]) -> None:
    assert sent_by_front(trio, headers)


def test_what_a_front_may_get_wrong_is_sent_by_the_application(trio: Trio) -> None:
    assert not sent_by_front(trio, {"Range": "bytes=0-9,100-109"})


def test_a_film_arrives_as_it_was(trio: Trio, film: bytes) -> None:
    video_id = trio.offloaded.upload(film)
    assert sha256(trio.offloaded.download(video_id)) == sha256(film)
    assert trio.offloaded.delete(video_id).status == 204


def test_nobody_reaches_the_files_from_outside(trio: Trio) -> None:
    for path in trio.front.upstream.stored():
        assert trio.offloaded.get(f"/_streamer/{path}").status == 404


def test_a_video_of_somebody_else_is_not_there(trio: Trio) -> None:
    stranger = trio.front.api("").sign_up("stranger")
    stranger.get(stream_path(trio.ids["short"])).assert_problem(404, "not_found")
