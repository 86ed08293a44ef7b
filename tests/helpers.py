"""What tests share: a client of the API and bytes that pass for a video."""

import json
import random
from typing import Any, Self

import webtest

from streamer.app import Application
from tests.contract import checked

PASSWORD = "correct horse battery"


def video_bytes(size: int = 1000, seed: int = 0) -> bytes:
    """A file of exactly ``size`` bytes that begins like an MP4; equal seeds give equal bytes."""
    file_type = b"\x00\x00\x00\x14ftypisom\x00\x00\x02\x00isom"
    media_data = (size - len(file_type)).to_bytes(4, "big") + b"mdat"
    head = file_type + media_data
    return (head + random.Random(seed).randbytes(max(0, size - len(head))))[:size]


class Ticks:
    """A monotonic clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time


class Client:
    """A small REST client: every call returns the answer, whatever its status."""

    def __init__(self, app: Application, address: str = "192.0.2.1") -> None:
        self.http = webtest.TestApp(checked(app), extra_environ={"REMOTE_ADDR": address})
        self.session: dict[str, Any] = {}

    def sign_up(self, username: str, password: str = PASSWORD) -> Self:
        """Make an account and begin a session."""
        self.post("/api/auth/register", {"username": username, "password": password}, status=201)
        return self.sign_in(username, password)

    def sign_in(self, username: str, password: str = PASSWORD) -> Self:
        """Begin a session."""
        credentials = {"username": username, "password": password}
        self.session = self.post("/api/auth/login", credentials, status=200).json
        return self

    @property
    def headers(self) -> dict[str, str]:
        """What shows who it is that asks."""
        token = self.session.get("access_token")
        return {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, url: str, headers: dict[str, str] | None = None, **options: Any) -> webtest.TestResponse:
        return self._request("GET", url, headers, **options)

    def head(self, url: str, headers: dict[str, str] | None = None, **options: Any) -> webtest.TestResponse:
        return self._request("HEAD", url, headers, **options)

    def post(self, url: str, body: object = None, **options: Any) -> webtest.TestResponse:
        return self._send_json("POST", url, body, **options)

    def patch(self, url: str, body: object = None, **options: Any) -> webtest.TestResponse:
        return self._send_json("PATCH", url, body, **options)

    def delete(self, url: str, body: object = None, **options: Any) -> webtest.TestResponse:
        return self._send_json("DELETE", url, body, **options)

    def upload(
        self,
        data: bytes,
        filename: str = "clip.mp4",
        headers: dict[str, str] | None = None,
        status: int | str = "*",
        **fields: str,
    ) -> webtest.TestResponse:
        """Send a video as a form."""
        return self.http.post(
            "/api/videos",
            params=fields,
            upload_files=[("video", filename, data)],
            headers=self.headers | (headers or {}),
            status=status,
        )

    def upload_raw(
        self, data: bytes, query: str = "", content_type: str = "video/mp4", **options: Any
    ) -> webtest.TestResponse:
        """Send a video as the body of a request."""
        return self._request(
            "POST", f"/api/videos{query}", {"Content-Type": content_type}, body=data, **options
        )

    def _send_json(
        self, method: str, url: str, body: object, headers: dict[str, str] | None = None, **options: Any
    ) -> webtest.TestResponse:
        if body is None:
            return self._request(method, url, headers, **options)
        data = json.dumps(body).encode()
        return self._request(
            method, url, {"Content-Type": "application/json", **(headers or {})}, body=data, **options
        )

    def _request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        status: int | str = "*",
    ) -> webtest.TestResponse:
        answer = self.http.request(
            url,
            method=method,
            headers=self.headers | (headers or {}),
            body=body,
            expect_errors=True,  # of which webtest looks at no status
        )
        assert status in ("*", answer.status_int), (method, url, answer.status, answer.text[:500])
        return answer
