"""HTTP/1.1 to the letter, as raw bytes: what is taken, what is refused, and what stays open."""

import json
import random
import socket
import time
from collections.abc import Iterator

import pytest

from tests.helpers import video_bytes
from tests.live.conftest import StartServer
from tests.live.harness import MIB, PROBLEM, Answer, Server, Wire, eventually, stream_path

HEALTH = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
REFRESH = b"POST /api/auth/refresh HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
TOKEN = b'{"refresh_token": "of nobody"}'


@pytest.fixture(scope="module")
def server(start_shared_server: StartServer) -> Server:
    return start_shared_server(STREAMER_THREADS="4")


@pytest.fixture(scope="module")
def path(server: Server, film: bytes) -> str:
    return stream_path(server.api.upload(film))


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with server.wire() as connection:
        yield connection


def _head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _get(server: Server, path: str, **fields: str) -> bytes:
    given = server.api.headers | {"Host": "a"} | fields
    return _head(f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()))


HOST = "Host: a"
LENGTH = "Content-Length: 5"
CHUNKED = "Transfer-Encoding: chunked"
REFUSED = {
    "no host": (_head("GET /health HTTP/1.1"), 400),
    "two hosts": (_head("GET /health HTTP/1.1", HOST, "Host: b"), 400),
    "the same host twice": (_head("GET /health HTTP/1.1", HOST, HOST), 400),
    "an absolute target without host": (_head("GET http://a/health HTTP/1.1"), 400),
    "length and coding": (_head("POST /api/auth/login HTTP/1.1", HOST, LENGTH, CHUNKED) + b"0\r\n\r\n", 400),
    "coding and length": (_head("POST /api/auth/login HTTP/1.1", HOST, CHUNKED, LENGTH) + b"0\r\n\r\n", 400),
    "an empty coding": (_head("POST /api/auth/login HTTP/1.1", HOST, "Transfer-Encoding: ,"), 400),
    "length and an empty coding": (
        _head("POST /api/auth/login HTTP/1.1", HOST, LENGTH, "Transfer-Encoding:") + b"hello",
        400,
    ),
    "chunked twice": (_head("POST /api/auth/login HTTP/1.1", HOST, CHUNKED, CHUNKED) + b"0\r\n\r\n", 400),
    "a coding of HTTP/1.0": (_head("POST /api/auth/login HTTP/1.0", HOST, CHUNKED) + b"0\r\n\r\n", 400),
    "another coding": (_head("POST /api/auth/login HTTP/1.1", HOST, "Transfer-Encoding: gzip, chunked"), 501),
    "two equal lengths": (_head("POST /api/auth/login HTTP/1.1", HOST, LENGTH, LENGTH) + b"hello", 400),
    "a signed length": (_head("POST /api/auth/login HTTP/1.1", HOST, "Content-Length: +5") + b"hello", 400),
    "an empty length": (_head("POST /api/auth/login HTTP/1.1", HOST, "Content-Length:"), 400),
    "a huge length for nothing": (
        _head("POST /nowhere HTTP/1.1", HOST, f"Content-Length: {'9' * 20}"),
        404,
    ),
    "a huge length without host": (_head("POST /health HTTP/1.1", f"Content-Length: {'9' * 20}"), 400),
    "no version": (_head("GET /health"), 400),
    "HTTP/2.0": (_head("GET /health HTTP/2.0", HOST), 505),
    "HTTP/0.9": (_head("GET /health HTTP/0.9", HOST), 505),
    "HTTP/2.0 with a body": (_head("POST /health HTTP/2.0", HOST, LENGTH) + b"hello", 505),
    "HTTP/11": (_head("GET /health HTTP/11", HOST), 400),
    "lower case http": (_head("GET /health http/1.1", HOST), 400),
    "two blanks": (_head("GET  /health HTTP/1.1", HOST), 400),
    "a blank before the colon": (_head("GET /health HTTP/1.1", "Host : a"), 400),
    "a field without a name": (_head("GET /health HTTP/1.1", HOST, ": a"), 400),
    "a fold before all fields": (_head("GET /health HTTP/1.1", " folded: a", HOST), 400),
    "a null byte": (_head("GET /health HTTP/1.1", HOST, "X: a\0b"), 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "a huge field": (_head("GET /health HTTP/1.1", HOST, "X: " + "x" * 40_000), 431),
    "many fields": (_head("GET /health HTTP/1.1", HOST, *(f"X-{n}: {n}" for n in range(5000))), 431),
    "a huge target": (_head("GET /" + "x" * 40_000 + " HTTP/1.1", HOST), 431),
    "a head without end": (b"GET /health HTTP/1.1\r\nX: " + b"x" * 40_000, 431),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_is_a_problem_document_and_the_end(server: Server, wire: Wire, kind: str) -> None:
    request, status = REFUSED[kind]
    wire.send(request + HEALTH)  # what follows is nothing that anybody has asked
    answer = wire.answer()
    assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM), answer
    assert answer.json["status"] == status
    assert answer.headers["connection"] == "close"
    assert wire.is_closed_by_server()


def test_the_refusal_of_a_head_request_has_no_body(wire: Wire) -> None:
    wire.send(_head("HEAD /health HTTP/1.1"))
    answer = wire.answer("HEAD")
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert int(answer.headers["content-length"]) > 0
    assert wire.is_closed_by_server()


@pytest.mark.parametrize("kind", ["no host", "a head without end", "HTTP/2.0"])
def test_who_goes_on_sending_can_read_the_refusal(server: Server, kind: str) -> None:
    """No reset overtakes it: the server reads on for a while."""
    request, status = REFUSED[kind]
    for _ in range(5):
        with server.wire() as wire:
            wire.send(request)
            for _ in range(32):
                wire.send(bytes(128 * 1024))
            assert wire.answer().status == status
            assert wire.is_closed_by_server()


def test_who_sends_too_much_after_a_refusal_is_cut(server: Server, wire: Wire) -> None:
    wire.send(REFUSED["no host"][0])
    with pytest.raises(ConnectionError):
        wire.send(bytes(256 * MIB))
    assert server.api.get("/health").status == 200


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_target_in_absolute_form_overrides_the_host(wire: Wire, version: str) -> None:
    wire.send(_head(f"GET http://me@video.example:81/ HTTP/{version}", "Host: other.example"))
    assert wire.answer().json["links"]["health"] == "http://video.example:81/health"


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (_head("GET /health HTTP/1.1", "X: folded", "\tvalue", HOST), 200),
        (_head("GET /health HTTP/1.1", "Host:", "  a"), 200),
        (b"\r\n\r\n" + HEALTH, 200),
        (_head("GET //health HTTP/1.1", HOST), 200),
        (_head("GET /health HTTP/1.1", "Host:"), 200),
        (_head("OPTIONS * HTTP/1.1", HOST), 404),
        (_head("GET /health HTTP/1.1", "Host: a b"), 400),
        (_head("BREW /health HTTP/1.1", HOST), 405),
        (_head("GET /health HTTP/1.1", HOST, "Expect: 100-continue"), 200),
        (_head("GET /health HTTP/1.1", HOST, "Expect: 100-continue", "Content-Length: 0"), 200),
        (_head("GET /health HTTP/1.1", HOST, "Expect: the unexpected"), 200),
        (_head("HEAD /nowhere HTTP/1.1", HOST), 404),
        (_head("HEAD /health HTTP/1.1", HOST), 200),
        (_head("HEAD / HTTP/1.1", HOST), 200),
        (_head("GET /nowhere HTTP/1.1", HOST), 404),
        (_head("GET /nowhere HTTP/1.1", HOST, LENGTH) + b"hello", 404),
        (_head("PUT /health HTTP/1.1", HOST), 405),
        (REFRESH + b"Content-Length: %d\r\n\r\n" % len(TOKEN) + TOKEN, 401),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_the_connection_stays_open_after(wire: Wire, request_head: bytes, status: int) -> None:
    for _ in range(3):
        wire.send(request_head)
        answer = wire.answer(request_head.split()[0].decode())
        assert answer.status == status, answer
        assert "connection" not in answer.headers
    wire.send(HEALTH)
    assert wire.answer().status == 200


def test_the_connection_stays_open_after_204_304_206_and_416(server: Server, wire: Wire, path: str) -> None:
    wire.send(_get(server, path, Range="bytes=0-0"))
    partial = wire.answer()
    requests = {
        _get(server, path, **{"If-None-Match": partial.headers["etag"]}): 304,
        _get(server, path, Range="bytes=5-9"): 206,
        _get(server, path, Range="bytes=5-9,20-29"): 206,
        _get(server, path, Range="bytes=99999999999-"): 416,
    }
    for request, status in requests.items():
        wire.send(request)
        answer = wire.answer()
        assert (answer.status, "connection" in answer.headers) == (status, False)
    wire.request("DELETE", f"/api/videos/{server.api.upload(video_bytes())}", server.api.headers)
    answer = wire.answer()
    assert (answer.status, answer.body, "connection" in answer.headers) == (204, b"", False)
    assert "content-length" not in answer.headers
    wire.send(HEALTH)
    assert wire.answer().status == 200


@pytest.mark.parametrize("value", ["close", "Close", "TE, close", "close, TE"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_who_asks_for_it_gets_the_end_of_the_connection(wire: Wire, version: str, value: str) -> None:
    wire.send(_head(f"GET /health HTTP/{version}", HOST, f"Connection: {value}"))
    answer = wire.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert wire.is_closed_by_server()


@pytest.mark.parametrize("behind", [b"", b"\r\n", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_what_comes_behind_the_last_request_does_not_cut_its_answer(
    server: Server, path: str, film: bytes, behind: bytes
) -> None:
    token = f"Authorization: Bearer {server.api.token}"
    with server.wire(receive_buffer=64 * 1024) as wire:
        wire.send(_head(f"GET {path} HTTP/1.1", HOST, token, "Connection: close"))
        answer = wire.head()
        wire.send(behind)
        time.sleep(0.3)  # it is there before the answer has left
        assert wire.read(int(answer.headers["content-length"])) == film
        assert wire.is_closed_by_server()


def test_http_1_0_ends_with_the_answer_unless_asked(server: Server, path: str, film: bytes) -> None:
    token = f"Authorization: Bearer {server.api.token}"
    with server.wire() as wire:
        wire.send(_head(f"GET {path} HTTP/1.0", token))
        assert wire.answer().body == film
        assert wire.is_closed_by_server()
    with server.wire() as wire:
        for _ in range(3):
            wire.send(_head(f"GET {path} HTTP/1.0", token, "Connection: keep-alive", "Range: bytes=7-9"))
            answer = wire.answer()
            assert (answer.body, answer.headers["connection"]) == (film[7:10], "Keep-Alive")
        wire.send(_head("GET /health HTTP/1.0"))
        assert wire.answer().headers["connection"] == "close"
        assert wire.is_closed_by_server()


def test_a_small_body_is_asked_for_and_answered(wire: Wire) -> None:
    for _ in range(3):
        wire.send(REFRESH + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(TOKEN))
        assert wire.head().status == 100
        wire.send(TOKEN)
        assert wire.answer().status == 401


def test_a_body_that_does_not_wait_for_100_is_taken(wire: Wire) -> None:
    wire.send(REFRESH + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(TOKEN) + TOKEN)
    assert wire.head().status == 100
    assert wire.answer().status == 401


def test_the_100_comes_behind_the_answer_before_it(
    server: Server, wire: Wire, path: str, film: bytes
) -> None:
    data = video_bytes(200_000)
    fields = server.api.headers | {"Expect": "100-continue", "Content-Type": "video/mp4", "Host": "a"}
    fields["Content-Length"] = str(len(data))
    upload = _head("POST /api/videos HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()))
    login = REFRESH + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(TOKEN)
    for head, body, status in ((upload, data, 201), (login, TOKEN, 401)):
        wire.send(_get(server, path) + head)
        assert wire.answer().body == film
        assert wire.head().status == 100
        wire.send(body)
        assert wire.answer().status == status


def test_uploads_pipelined_without_a_pause_are_each_answered(server: Server, wire: Wire) -> None:
    videos = [video_bytes(size, seed=size) for size in (70_000, 300_000, 1000, MIB)]
    fields = [f"{name}: {value}" for name, value in server.api.headers.items()]
    for expect in ([], ["Expect: 100-continue"]):
        for data in videos:
            length = f"Content-Length: {len(data)}"
            head = ["POST /api/videos HTTP/1.1", HOST, "Content-Type: video/mp4", length, *expect, *fields]
            wire.send(_head(*head) + data + HEALTH)
        for data in videos:
            answer = _final(wire)
            assert answer.status == 201, answer
            assert server.api.download(answer.json["id"]) == data
            assert wire.answer().status == 200


def _final(wire: Wire) -> Answer:
    """The answer behind any 100."""
    answer = wire.answer()
    return wire.answer() if answer.status == 100 else answer


@pytest.mark.parametrize(
    "fields", [{}, {"Range": "bytes=0-30000000,34000000-64000000"}], ids=["whole", "parts"]
)
def test_who_closes_its_half_gets_its_whole_answer(
    server: Server, path: str, film: bytes, fields: dict[str, str]
) -> None:
    with server.wire(receive_buffer=128 * 1024) as wire:
        wire.send(_get(server, path, **fields))
        wire.socket.shutdown(socket.SHUT_WR)
        answer = wire.answer()
        assert len(answer.body) >= 60_000_000
        assert fields or answer.body == film
        assert wire.is_closed_by_server()


def test_who_closes_its_half_behind_many_requests_gets_all_answers(
    server: Server, path: str, film: bytes
) -> None:
    requests = [HEALTH, _get(server, path), HEALTH, _get(server, path, Range="bytes=5-9")] * 2
    with server.wire() as wire:
        wire.send(b"".join(requests))
        wire.socket.shutdown(socket.SHUT_WR)
        answers = [wire.answer() for _ in requests]
        assert wire.is_closed_by_server()
    assert [answer.status for answer in answers] == [200, 200, 200, 206] * 2
    assert [answers[1].body == film, answers[3].body, answers[5].body == film] == [True, film[5:10], True]


def test_who_closes_its_half_behind_an_upload_gets_the_answer(server: Server) -> None:
    data = video_bytes(3 * MIB)
    with server.wire() as wire:
        fields = {"Content-Type": "video/mp4", "Content-Length": str(len(data))}
        wire.request("POST", "/api/videos", server.api.headers | fields)
        wire.send(data)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.answer().status == 201
        assert wire.is_closed_by_server()


def test_a_refused_client_that_closes_its_half_is_not_waited_for(server: Server, wire: Wire) -> None:
    wire.send(REFUSED["no host"][0])
    wire.socket.shutdown(socket.SHUT_WR)
    wire.answer().assert_problem(400, "bad_request")
    assert wire.is_closed_by_server()


def test_a_hundred_pipelined_requests_are_answered_in_order(
    server: Server, wire: Wire, path: str, film: bytes
) -> None:
    chance = random.Random(1)
    for _ in range(3):
        wanted, sent = [], []
        for _ in range(100):
            first, size = chance.randrange(len(film)), chance.choice([1, 100, 20_000, 300_000])
            end = min(first + size, len(film))
            kind = chance.choice(["part", "part", "health", "nowhere", "parts"])
            match kind:
                case "part":
                    sent.append(_get(server, path, Range=f"bytes={first}-{end - 1}"))
                    wanted.append((206, film[first:end]))
                case "parts":
                    sent.append(_get(server, path, Range=f"bytes=0-0,{len(film) - 9}-"))
                    wanted.append((206, film[-9:]))
                case "health":
                    sent.append(HEALTH)
                    wanted.append((200, b'"ok"'))
                case "nowhere":
                    sent.append(_head("GET /nowhere HTTP/1.1", HOST, LENGTH) + b"hello")
                    wanted.append((404, b"not_found"))
        wire.send(b"".join(sent))
        for status, body in wanted:
            answer = wire.answer()
            assert answer.status == status
            assert body in answer.body
            assert status != 206 or "multipart" in answer.headers["content-type"] or answer.body == body


def test_pipelined_requests_of_those_who_do_not_read_hold_no_thread(server: Server, path: str) -> None:
    wires = [server.wire(receive_buffer=128 * 1024) for _ in range(12)]
    for wire in wires:
        wire.send(_get(server, path) + HEALTH * 3)
    for wire in wires:
        assert wire.head().status == 200
    assert server.api.get("/health", timeout=5).status == 200
    assert server.api.get("/api/videos", timeout=5).status == 200
    assert len(wires[0].read(64 * MIB)) == 64 * MIB
    assert [wires[0].answer().status for _ in range(3)] == [200] * 3
    for wire in wires:
        wire.close()


def test_a_chunked_body_is_taken_if_it_is_small(wire: Wire) -> None:
    chunks = b"".join(b"%x;note=1\r\n%c\r\n" % (1, byte) for byte in TOKEN)
    for _ in range(2):
        wire.send(REFRESH + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nTrailer: x\r\n\r\n")
        assert wire.answer().status == 401


@pytest.mark.parametrize("kind", ["one chunk", "many chunks", "a size without end", "a trailer without end"])
def test_a_chunked_body_is_refused_if_it_is_large(wire: Wire, kind: str) -> None:
    endless = {
        "one chunk": b"fffff\r\n" + bytes(200_000),
        "many chunks": b"1\r\nx\r\n" * 40_000,
        "a size without end": b"0" * 200_000,
        "a trailer without end": b"0\r\nX: " + b"x" * 200_000,
    }
    wire.send(REFRESH + b"Transfer-Encoding: chunked\r\n\r\n" + endless[kind])
    wire.answer().assert_problem(413, "body_too_large")
    assert wire.is_closed_by_server()


def test_single_bytes_make_a_request(server: Server, wire: Wire, path: str, film: bytes) -> None:
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = REFRESH + b"Content-Length: %d\r\n\r\n" % len(TOKEN) + TOKEN
    for request, status in ((_get(server, path, Range="bytes=5-9"), 206), (body, 401)):
        for byte in request:
            wire.send(bytes([byte]))
        assert wire.answer().status == status


def test_urgent_data_ends_the_connection(server: Server) -> None:
    """It cannot be read in its order, and the loop would be told of it without end."""
    for begin in (b"", HEALTH[:9]):
        with server.wire() as wire:
            wire.send(begin)
            wire.socket.send(b"!", socket.MSG_OOB)
            assert wire.is_closed_by_server()
    eventually(lambda: server.api.get("/health").status == 200, "it answers others")


def test_a_refusal_is_logged_as_json_too(start_server: StartServer) -> None:
    server = start_server(STREAMER_LOG_FORMAT="json")
    with server.wire() as wire:
        wire.send(REFUSED["no host"][0])
        request_id = wire.answer().headers["x-request-id"]
    server.stop()
    [line] = [line for line in server.log.splitlines() if request_id in line]
    assert json.loads(line)["status"] == 400
