"""Pages of other origins: those that are listed may call the API, in every way that it has."""

import pytest

from streamer.config import Config
from streamer.errors import ConfigurationError
from tests.conftest import MakeApp
from tests.helpers import Client, video_bytes
from tests.resumable import VERSION, append, create, path_of

PAGE = "https://app.example.org"
TUS_REQUEST = {"upload-length", "upload-offset", "upload-metadata", "upload-concat", "upload-defer-length"}
TUS_ANSWER = {
    "upload-offset",
    "upload-length",
    "location",
    "upload-expires",
    "upload-metadata",
    "tus-version",
}


def listed(field: str) -> set[str]:
    return {name.strip().lower() for name in field.split(",")}


@pytest.fixture
def client(make_app: MakeApp) -> Client:
    return Client(make_app(cors_origins=(PAGE, "http://localhost:3000"))).sign_up("alice")


@pytest.mark.parametrize(
    "path", ["/api/uploads", "/api/uploads/" + "0" * 32, "/api/videos", "/api/auth/login"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "HEAD"])
def test_a_preflight_lets_a_listed_page_do_all(client: Client, path: str, method: str) -> None:
    headers = {
        "Origin": PAGE,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,tus-resumable",
    }
    client.session = {}  # browsers send no credentials with it
    answer = client._request("OPTIONS", path, headers)
    assert answer.status_int in {200, 204}
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert method in answer.headers["Access-Control-Allow-Methods"]
    allowed = listed(answer.headers["Access-Control-Allow-Headers"])
    assert allowed >= TUS_REQUEST | {"authorization", "content-type", "tus-resumable", "range", "if-match"}
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    assert "Origin" in answer.headers["Vary"]


def test_a_listed_page_reads_every_field_that_it_needs(client: Client) -> None:
    data = video_bytes(5000)
    answer = create(client, 5000, headers={"Origin": PAGE}, status=201)
    exposed = listed(answer.headers["Access-Control-Expose-Headers"])
    assert exposed >= TUS_ANSWER | {"video-location", "etag", "content-range", "accept-ranges", "retry-after"}
    answer = append(client, path_of(answer), 0, data, {"Origin": PAGE}, status=204)
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    answer = client.get("/api/videos/1/stream", {"Origin": PAGE, "Range": "bytes=0-1"}, status=206)
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Origin" in answer.headers["Vary"]


@pytest.mark.parametrize("status", [401, 404, 412])
def test_a_listed_page_reads_failures_too(client: Client, status: int) -> None:
    headers = {"Origin": PAGE}
    if status == 401:
        client.session = {}
    answer = {
        401: lambda: client.get("/api/videos", headers),
        404: lambda: client.get("/nowhere", headers),
        412: lambda: client._request("POST", "/api/uploads", headers),
    }[status]()
    assert answer.status_int == status
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example.org", "null", "https://app.example.org.evil.org", "HTTPS://APP.EXAMPLE.ORG", ""],
)
def test_no_other_page_is_told_anything(client: Client, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        answer = client._request(method, "/api/videos", headers)
        assert [name for name in answer.headers if name.lower().startswith("access-control")] == []
        assert "Origin" in answer.headers["Vary"]


def test_without_the_setting_there_is_nothing_of_it(alice: Client) -> None:
    answer = alice.get("/api/videos", {"Origin": PAGE})
    assert [name for name in answer.headers if name.lower().startswith("access-control")] == []
    assert "Vary" not in answer.headers


def test_every_page_may_call_but_none_with_credentials(make_app: MakeApp) -> None:
    client = Client(make_app(cors_origins=("*",))).sign_up("alice")
    answer = client.get("/api/videos", {"Origin": PAGE})
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Vary" not in answer.headers
    assert "Access-Control-Allow-Origin" not in client.get("/api/videos").headers


@pytest.mark.parametrize(
    "text",
    [
        "app.example.org",
        "https://app.example.org/",
        "https://*.example.org",
        "*,https://a.b",
        "https://A.B",
        ",",
    ],
)
def test_what_is_no_origin_is_refused_at_start(text: str) -> None:
    with pytest.raises(ConfigurationError, match="CORS_ORIGINS"):
        Config.from_environ({"STREAMER_CORS_ORIGINS": text})


def test_a_token_is_needed_all_the_same(client: Client) -> None:
    client.session = {}
    assert client.get("/api/videos", {"Origin": PAGE}, status=401)
    assert client._request("POST", "/api/uploads", {"Origin": PAGE, **VERSION}, status=401)
