"""What is true of the application wherever it runs: one suite for every server and every host."""

import email
import random
import socket
from collections.abc import Mapping
from contextlib import ExitStack

import pytest

from tests.helpers import video_bytes
from tests.live.harness import MIB, TIMEOUT_SECONDS, Answer, Wire, eventually, stream_path
from tests.servers.running import Running
from tests.servers.setups import ALL

FILM = stream_path(1)
SMALL_BUFFER = 128 * 1024
VIEWERS = 40
PATIENCE = 60  # seconds: hypercorn reads on to the end for viewers that have left
CLIP_BYTES = 3 * MIB
FORM = "multipart/form-data; boundary=edge"
RAW = "video/mp4"
TUS = {"Tus-Resumable": "1.0.0"}


def _form(data: bytes) -> bytes:
    head = (
        '--edge\r\nContent-Disposition: form-data; name="title"\r\n\r\nSüß\r\n'
        '--edge\r\nContent-Disposition: form-data; name="video"; filename="Köln.mp4"\r\n'
        "Content-Type: video/mp4\r\n\r\n"
    )
    return head.encode() + data + b"\r\n--edge--\r\n"


def _upload(kind: str, data: bytes) -> tuple[str, bytes, Mapping[str, str]]:
    """Where an upload goes, its body, its header fields."""
    body = _form(data) if kind == "form" else data
    path = "/api/videos" if kind == "form" else "/api/videos?title=S%C3%BC%C3%9F&filename=K%C3%B6ln.mp4"
    return path, body, {"Content-Type": FORM if kind == "form" else RAW, "Content-Length": str(len(body))}


class Suite:
    """The tests. The fixture ``server`` comes from the module that takes the suite over."""

    def test_the_whole_film_arrives_byte_for_byte(self, server: Running, film: bytes) -> None:
        with server.wire() as wire:
            answer = server.request(wire, "GET", FILM)
        assert (answer.status, answer.headers["content-type"]) == (200, "video/mp4")
        assert answer.body == film, "other bytes"

    def test_a_hundred_ranges_are_exact(self, server: Running, film: bytes) -> None:
        chance = random.Random(100)
        with ExitStack() as wires:
            wire = wires.enter_context(server.wire())
            for _ in range(100):
                first = chance.randrange(len(film))
                last = min(first + chance.choice([0, 1, 4095, 131072, 262145, MIB]), len(film) - 1)
                answer = server.request(wire, "GET", FILM, {"Range": f"bytes={first}-{last}"})
                assert answer.status == 206
                assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(film)}"
                assert answer.body == film[first : last + 1], f"other bytes for {first}-{last}"
                if "range" in server.setup.closes_after:
                    wire.close()
                    wire = wires.enter_context(server.wire())

    def test_several_ranges_arrive_as_multipart(self, server: Running, film: bytes) -> None:
        parts = [(5, 99), (9_000_000, 12_000_000), (len(film) - 5, len(film) - 1)]
        wanted = ",".join(f"{first}-{last}" for first, last in parts)
        with server.wire() as wire:
            answer = server.request(wire, "GET", FILM, {"Range": f"bytes={wanted}"})
        assert answer.status == 206
        head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
        sent = list(email.message_from_bytes(head + answer.body).walk())[1:]
        ranges = [f"bytes {first}-{last}/{len(film)}" for first, last in parts]
        assert [part["Content-Range"] for part in sent] == ranges
        for part, (first, last) in zip(sent, parts, strict=True):
            assert part.get_payload(decode=True) == film[first : last + 1], f"other bytes for {first}-{last}"

    @pytest.mark.parametrize("kind", sorted(ALL))
    def test_the_connection_goes_on_or_ends_as_the_table_says(
        self, server: Running, film: bytes, kind: str
    ) -> None:
        video_id = server.api.upload(video_bytes()) if kind == "delete" else 0
        etag = server.api.get(FILM, {"Range": "bytes=0-0"}).headers["etag"]
        with server.wire() as wire:
            answer = self._ask(server, wire, kind, etag, video_id)
            self._check(answer, kind, film)
            if kind in server.setup.closes_after:
                assert self._is_over(server, wire), "by design there is one answer and nothing else"
            else:
                again = server.request(wire, "GET", FILM, {"Range": "bytes=7-9"})
                assert (again.status, again.body) == (206, film[7:10])

    def _ask(self, server: Running, wire: Wire, kind: str, etag: str, video_id: int) -> Answer:
        match kind:
            case "range":
                return server.request(wire, "GET", FILM, {"Range": "bytes=1000000-1999999"})
            case "head":
                return server.request(wire, "HEAD", FILM, {"Range": "bytes=0-9"})
            case "not modified":
                return server.request(wire, "GET", FILM, {"If-None-Match": etag})
            case "not satisfiable":
                return server.request(wire, "GET", FILM, {"Range": "bytes=99999999-"})
            case "upload":
                path, body, fields = _upload("raw", video_bytes())
                wire.request("POST", server.setup.prefix + path, server.api.headers | dict(fields))
                wire.send(body)
                return wire.answer("POST")
            case "delete":
                return server.request(wire, "DELETE", f"/api/videos/{video_id}")
        return server.request(wire, "GET", FILM)

    def _check(self, answer: Answer, kind: str, film: bytes) -> None:
        match kind:
            case "whole":
                assert (answer.status, len(answer.body)) == (200, len(film))
            case "range":
                assert (answer.status, answer.body) == (206, film[1000000:2000000])
            case "head":
                assert (answer.status, answer.headers["content-length"]) == (200, str(len(film)))
                assert answer.headers["accept-ranges"] == "bytes"
            case "not modified":
                assert answer.status == 304
                assert "etag" in answer.headers
            case "not satisfiable":
                answer.assert_problem(416, "range_not_satisfiable")
                assert answer.headers["content-range"] == f"bytes */{len(film)}"
            case "upload":
                assert answer.status == 201
            case "delete":
                assert answer.status == 204

    def _is_over(self, server: Running, wire: Wire) -> bool:
        wire.socket.settimeout(0.5)
        try:
            return wire.is_closed_by_server()
        except TimeoutError:  # werkzeug listens on, but to nothing that is said
            wire.request("GET", server.setup.prefix + FILM, server.api.headers)
            wire.socket.shutdown(socket.SHUT_WR)
            wire.socket.settimeout(TIMEOUT_SECONDS)
            return wire.is_closed_by_server()

    @pytest.mark.parametrize("kind", ["raw", "form"])
    def test_an_upload_arrives_byte_for_byte(self, server: Running, kind: str) -> None:
        data = video_bytes(CLIP_BYTES, seed=3)
        path, body, fields = _upload(kind, data)
        answer = server.api.request("POST", path, body, fields)
        assert answer.status == 201, answer
        video = answer.json
        assert (video["title"], video["filename"], video["size"]) == ("Süß", "Köln.mp4", CLIP_BYTES)
        assert server.api.download(video["id"]) == data, "other bytes"
        assert server.api.delete(video["id"]).status == 204

    def test_addresses_lead_to_where_the_application_is(self, server: Running) -> None:
        root = f"http://127.0.0.1:{server.port}{server.setup.prefix}"
        path, body, fields = _upload("raw", video_bytes())
        made = server.api.request("POST", path, body, fields)
        address = f"{root}/api/videos/{made.json['id']}"
        assert made.headers["location"] == address
        links = {"self": "", "stream": "/stream", "poster": "/poster.svg"}
        assert made.json["links"] == {name: address + path for name, path in links.items()}
        page = server.api.get("/api/videos?limit=1")
        assert f'<{root}/api/videos?limit=1&page=2>; rel="next"' in page.headers["link"]
        assert server.api.delete(made.json["id"]).status == 204

    @pytest.mark.parametrize("how", ["closed", "reset"])
    @pytest.mark.parametrize("kind", ["raw", "form"])
    def test_an_upload_that_is_cut_off_stores_nothing(self, server: Running, kind: str, how: str) -> None:
        before, stored = server.api.video_ids(), server.stored()
        eventually(lambda: server.connections() == 0, "nobody is connected")
        path, body, fields = _upload(kind, video_bytes(CLIP_BYTES))
        for sent in (100_000, CLIP_BYTES // 2, len(body) - 1):
            with server.wire() as wire:
                wire.request("POST", server.setup.prefix + path, server.api.headers | dict(fields))
                wire.send(body[:sent])
                if how == "reset":
                    wire.reset()
        eventually(lambda: server.connections() == 0, "it has seen that they left", PATIENCE)
        eventually(lambda: server.incoming() == [], "nothing is left in incoming/")
        assert server.api.video_ids() == before
        assert server.stored() == stored

    def test_an_upload_goes_on_after_its_client_was_cut(self, server: Running) -> None:
        data = video_bytes(CLIP_BYTES, seed=4)
        made = server.api.request("POST", "/api/uploads", b"", {**TUS, "Upload-Length": str(len(data))})
        assert made.status == 201, made
        root = f"http://127.0.0.1:{server.port}{server.setup.prefix}"
        assert made.headers["location"].startswith(f"{root}/api/uploads/")
        path = made.headers["location"].removeprefix(root)
        fields = {**TUS, "Content-Type": "application/offset+octet-stream"}
        first = server.api.request("PATCH", path, data[:MIB], {**fields, "Upload-Offset": "0"})
        assert (first.status, first.headers["upload-offset"]) == (204, str(MIB)), first
        with server.wire() as wire:
            rest = {"Upload-Offset": str(MIB), "Content-Length": str(len(data) - MIB)}
            wire.request("PATCH", server.setup.prefix + path, server.api.headers | fields | rest)
            wire.send(data[MIB : 2 * MIB])
        eventually(lambda: server.connections() == 0, "it has seen that it left", PATIENCE)
        answers: list[Answer] = []

        def goes_on() -> bool:
            """What of the cut piece counts depends on whether the server has handed it over."""
            offset = int(server.api.request("HEAD", path, None, TUS).headers["upload-offset"])
            assert MIB <= offset <= 2 * MIB
            field = {"Upload-Offset": str(offset)}
            answers.append(server.api.request("PATCH", path, data[offset:], fields | field))
            return answers[-1].status not in {409, 423}

        eventually(goes_on, "nobody holds the upload")
        assert answers[-1].status == 204, answers[-1]
        video_id = int(answers[-1].headers["video-location"].rpartition("/")[2])
        assert server.api.download(video_id) == data, "other bytes"
        assert server.api.delete(video_id).status == 204

    def test_viewers_that_leave_cost_no_descriptor(self, server: Running, film: bytes) -> None:
        chance = random.Random(VIEWERS)
        eventually(lambda: not server.open_media(), "the viewers of other tests are gone")
        eventually(lambda: server.connections() == 0, "nobody is connected")
        before = server.countable()
        for number in range(VIEWERS):
            first = chance.randrange(len(film) // 2)
            several = f"bytes={first}-{first + 4 * MIB},{first + 5 * MIB}-"
            fields = chance.choice([{}, {"Range": f"bytes={first}-"}, {"Range": several}])
            with server.wire(receive_buffer=chance.choice([0, SMALL_BUFFER])) as viewer:
                viewer.request("GET", server.setup.prefix + FILM, server.api.headers | fields)
                if number % 4:  # else it leaves before it could get an answer
                    assert viewer.head().status in {200, 206}
                if number % 4 == 2:
                    viewer.read(chance.randrange(2 * MIB))
                if number % 4 != 3:
                    viewer.reset()
        eventually(lambda: not server.open_media(), "no part of the film is open", PATIENCE)
        eventually(lambda: server.connections() == 0, "no connection is left", PATIENCE)
        eventually(lambda: len(server.countable()) <= len(before), f"as few descriptors as before: {before}")
        with server.wire() as wire:
            answer = server.request(wire, "GET", FILM, {"Range": "bytes=5-9"})
        assert (answer.status, answer.body) == (206, film[5:10])

    def test_it_stops_cleanly(self, server: Running, film: bytes) -> None:
        server.finish()
        server.assert_consistent()
        # hypercorn asks the application about an upload when its client has long been gone
        sizes = {size for (size,) in server.query("SELECT size FROM video")}
        assert sizes <= {len(film), len(video_bytes())}, "an upload that was cut off was stored later"
