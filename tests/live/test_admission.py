"""Requests that are refused by their head, and uploads that are taken while they come; byte by byte."""

import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from streamer import clock
from streamer.app import Application, create_app
from streamer.config import Config
from streamer.tokens import AccessTokens, load_secret
from tests.helpers import PASSWORD, video_bytes
from tests.live.conftest import StartServer
from tests.live.harness import (
    MIB,
    Answer,
    Api,
    Background,
    Server,
    Wire,
    eventually,
    needs_proc,
)
from tests.wsgi import call

GIB = 1024 * MIB
LARGEST = 2**50
QUOTA = 2**48
FORM = "multipart/form-data; boundary=edge"
SETTINGS = {"STREAMER_MAX_UPLOAD_BYTES": str(LARGEST), "STREAMER_QUOTA_BYTES": str(QUOTA)}
ADDED_BY_SERVER = {"connection", "server", "date"}
LOST = re.compile("exception in trigger thunk|uncaptured")  # the former is logged as information


@pytest.fixture(scope="module")
def shared(start_shared_server: StartServer) -> Iterator[Server]:
    """One server for all that leaves nothing."""
    server = start_shared_server(**SETTINGS)
    yield server
    server.assert_consistent()
    assert not LOST.findall(server.log)


@pytest.fixture
def server(start_server: StartServer) -> Iterator[Server]:
    """A server of its own for what leaves something."""
    server = start_server()
    yield server
    assert not LOST.findall(server.log)


@pytest.fixture(scope="module")
def application(shared: Server) -> Application:
    """What the server runs, in this process."""
    config = Config(data=shared.data, min_free_bytes=0, max_upload_bytes=LARGEST, quota_bytes=QUOTA)
    return create_app(config)


@pytest.fixture(scope="module")
def revoked(shared: Server) -> str:
    """The token of a user who has changed the password since."""
    user = Api(shared.address, "").sign_up("forgetful")
    change = json.dumps({"current_password": PASSWORD, "password": "another battery staple"}).encode()
    answer = user.request("PATCH", "/api/auth/me", change, {"Content-Type": "application/json"})
    assert answer.status == 200
    return user.token


@pytest.fixture
def expired(shared: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token that was good for an hour, two hours ago."""
    now = clock.now()
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now", lambda: now.replace(year=now.year - 1))
        return AccessTokens(load_secret(shared.data / "secret.key")).issue(1, 1)


class Case(NamedTuple):
    """A request whose head is enough to refuse it."""

    status: int
    code: str
    length: int | None = 10 * GIB
    """None is a chunked body."""
    method: str = "POST"
    path: str = "/api/videos"
    kind: str | None = "video/mp4"
    token: str | None = "good"


CASES = {
    "no token": Case(401, "not_authenticated", token=None),
    "no token, chunked": Case(401, "not_authenticated", None, token=None),
    "no token, small": Case(401, "not_authenticated", 10, token=None),
    "bad token": Case(401, "not_authenticated", token="bad"),
    "expired token": Case(401, "not_authenticated", token="expired"),
    "revoked token": Case(401, "not_authenticated", token="revoked"),
    "revoked token, form": Case(401, "not_authenticated", token="revoked", kind=FORM),
    "chunked": Case(411, "length_required", None),
    "chunked form": Case(411, "length_required", None, kind=FORM),
    "too large": Case(413, "body_too_large", LARGEST + 1),
    "too large form": Case(413, "body_too_large", LARGEST + 256 * 1024 + 1, kind=FORM),
    "far too large": Case(413, "body_too_large", 10**30),
    "quota": Case(413, "quota_exceeded", QUOTA + 1),
    "quota, form": Case(413, "quota_exceeded", QUOTA + 256 * 1024 + 1, kind=FORM),
    "disk": Case(507, "insufficient_storage", QUOTA),
    "disk, form": Case(507, "insufficient_storage", QUOTA, kind=FORM),
    "no media type": Case(415, "unsupported_media_type", kind=None),
    "another media type": Case(415, "unsupported_media_type", kind="image/png"),
    "no boundary": Case(400, "malformed_multipart", kind="multipart/form-data"),
    "bad query": Case(422, "invalid_input", path="/api/videos?title=&colour=red"),
    "method": Case(405, "method_not_allowed", method="PUT"),
    "method without token": Case(401, "not_authenticated", method="PUT", token=None),
    "nothing there": Case(404, "not_found", path="/api/films"),
    "login as a form": Case(
        415, "unsupported_media_type", path="/api/auth/login", kind="text/html", token=None
    ),
    "login too large": Case(
        413, "body_too_large", path="/api/auth/login", kind="application/json", token=None
    ),
}


class Sender:
    """Sends the heads of cases."""

    def __init__(self, server: Server, tokens: dict[str, str]) -> None:
        self.server = server
        self._tokens = tokens

    def fields(self, case: Case) -> dict[str, str]:
        fields = {} if case.length is None else {"Content-Length": str(case.length)}
        if case.kind is not None:
            fields["Content-Type"] = case.kind
        if case.token is not None:
            fields["Authorization"] = f"Bearer {self._tokens[case.token]}"
        return fields

    def send(self, wire: Wire, case: Case, **more: str) -> None:
        if case.length is None:
            more["Transfer-Encoding"] = "chunked"
        wire.request(case.method, case.path, self.fields(case) | more)


@pytest.fixture
def sender(shared: Server, revoked: str, expired: str) -> Sender:
    good = shared.api.token
    return Sender(shared, {"good": good, "bad": f"x{good}", "revoked": revoked, "expired": expired})


class Untouchable:
    """A body that must not be read."""

    def read(self, size: int = -1) -> bytes:
        raise AssertionError("read")


def assert_last(answer: Answer, wire: Wire) -> None:
    assert answer.headers["connection"] == "close"
    assert wire.is_closed_by_server()


def form(data: bytes) -> bytes:
    head = b'--edge\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
    return head + data + b"\r\n--edge--\r\n"


# --- refused by the head


@pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}], ids=["", "expect"])
@pytest.mark.parametrize("name", CASES)
def test_the_head_is_answered_at_once_and_as_the_application_does(
    sender: Sender, application: Application, name: str, expect: dict[str, str]
) -> None:
    case = CASES[name]
    with sender.server.wire() as wire:
        sender.send(wire, case, **expect)
        answer = wire.answer()  # and so not 100
        answer.assert_problem(case.status, case.code)
        assert_last(answer, wire)
    own = call(
        application,
        case.path,
        case.method,
        sender.fields(case) | {"Host": "streamer.test"},
        extra={"wsgi.input": Untouchable()},
    )
    problem = json.loads(own.read())
    assert (own.status, problem["code"]) == (case.status, case.code)
    varying = {"date", "x-request-id", "content-length"}
    assert set(answer.headers) - ADDED_BY_SERVER == set(own.fields)
    assert {k: v for k, v in answer.headers.items() if k not in varying | ADDED_BY_SERVER} == {
        k: v for k, v in own.fields.items() if k not in varying
    }
    if case.code != "insufficient_storage":  # which tells how much there is
        assert answer.json == problem


@pytest.mark.parametrize("kind", ["video/mp4", FORM])
def test_the_largest_limit_that_can_be_set_is_a_limit(start_server: StartServer, kind: str) -> None:
    largest = 2**63 - 1
    server = start_server(STREAMER_MAX_UPLOAD_BYTES=str(largest))
    for size, status in ((largest - 1, 507), (largest, 507), (largest + 2**30, 413)):
        with server.wire() as wire:
            wire.request("POST", "/api/videos", upload_fields(server, size, kind))
            assert wire.answer().status == status


GOES_ON = ["no token", "revoked token", "disk", "another media type", "method", "nothing there", "chunked"]


@pytest.mark.parametrize("name", GOES_ON)
def test_a_client_that_goes_on_sending_reads_the_answer(sender: Sender, name: str) -> None:
    case = CASES[name]
    block = bytes(MIB)
    if case.length is None:
        block = b"%x\r\n%b\r\n" % (MIB, block)
    with sender.server.wire() as wire:
        sender.send(wire, case)
        for _ in range(20):
            wire.send(block)
        answer = wire.answer()
        answer.assert_problem(case.status, case.code)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.socket.recv(1) == b"", "the end and no reset"


@needs_proc
@pytest.mark.parametrize("name", ["no token", "disk", "too large form"])
def test_an_announced_body_is_neither_waited_for_nor_stored(sender: Sender, name: str) -> None:
    began = time.monotonic()
    with sender.server.wire() as wire:
        sender.send(wire, CASES[name])
        assert wire.answer().status == CASES[name].status
        assert time.monotonic() - began < 5
        assert sender.server.incoming() == []


@needs_proc
def test_refused_and_vanished_clients_leave_nothing(sender: Sender) -> None:
    server = sender.server
    server.api.video_ids()
    before = server.open_sockets()
    cases = [CASES[name] for name in GOES_ON]
    for number in range(300):
        wire = server.wire()
        sender.send(
            wire, cases[number % len(cases)], **({"Expect": "100-continue"} if number % 5 == 0 else {})
        )
        if number % 2:
            wire.send(bytes(1000 * (number % 40)))
        if number % 3 == 0:
            wire.answer()
        if number % 4:
            wire.reset()
        wire.close()
    eventually(lambda: server.open_sockets() <= before, "the sockets are closed")
    assert server.incoming() == []
    assert not [name for name in server.descriptors() if "incoming" in name or "videos/" in name]


@needs_proc
def test_clients_that_ask_to_go_on_and_vanish_are_no_error(shared: Server) -> None:
    before = shared.open_sockets()
    fields = shared.api.headers | {"Expect": "100-continue", "Content-Type": "video/mp4"}
    for number in range(300):
        wire = shared.wire()
        path = "/api/auth/login" if number % 3 == 0 else "/api/videos"
        kind = {"Content-Type": "application/json"} if number % 3 == 0 else {}
        wire.request("POST", path, fields | kind | {"Content-Length": "1000"})
        if number % 2:
            wire.send(b"x")
        wire.reset()
    eventually(lambda: shared.open_sockets() <= before, "the sockets are closed")
    eventually(lambda: shared.incoming() == [], "the files are gone")
    assert not LOST.findall(shared.log)


# --- good uploads


@pytest.mark.parametrize("kind", ["video/mp4", FORM])
def test_a_client_that_waits_is_told_to_go_on_and_then_201(server: Server, kind: str) -> None:
    data = video_bytes(3 * MIB)
    body = data if kind != FORM else form(data)
    with server.wire() as wire:
        wire.request(
            "POST", "/api/videos", upload_fields(server, len(body), kind) | {"Expect": "100-continue"}
        )
        assert wire.head().status == 100
        eventually(lambda: len(server.incoming()) == 1, "it has been let in")
        wire.send(body)
        answer = wire.answer()
        assert answer.status == 201
        assert "connection" not in answer.headers
        wire.request("GET", "/health")
        assert wire.answer().status == 200
    assert server.api.download(answer.json["id"]) == data


def upload_fields(server: Server, length: int, kind: str = "video/mp4", token: str = "") -> dict[str, str]:
    token = token or server.api.token
    return {"Authorization": f"Bearer {token}", "Content-Type": kind, "Content-Length": str(length)}


def head(method: str, path: str, fields: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: streamer.test", *(f"{k}: {v}" for k, v in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


GET = head("GET", "/health", {})


@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_requests_before_and_behind_uploads_are_answered_in_order(server: Server, size: int) -> None:
    videos = [video_bytes(size, seed=seed) for seed in range(3)]
    stream = GET
    for data in videos:
        stream += head("POST", "/api/videos", upload_fields(server, size)) + data + GET + GET
    with server.wire() as wire:
        sending = Background(lambda: wire.send(stream))
        assert wire.answer().status == 200
        for data in videos:
            answer = wire.answer()
            assert (answer.status, answer.json["size"]) == (201, len(data))
            assert [wire.answer().status, wire.answer().status] == [200, 200]
        sending.outcome()
    assert [server.api.download(number) for number in (1, 2, 3)] == videos


def test_uploads_back_to_back_with_every_end_of_a_piece(server: Server) -> None:
    """The last byte of one body and the first of the next request in one piece, or not."""
    data = video_bytes(100)
    one = head("POST", "/api/videos", upload_fields(server, len(data))) + data
    for cut in (1, 50, len(one) - 100, len(one) - 1, len(one), len(one) + 1, len(one) + 30, 2 * len(one) - 1):
        with server.wire() as wire:
            wire.send((one + one)[:cut])
            if cut >= len(one):
                assert wire.answer().status == 201
            wire.send((one + one)[cut:] + GET)
            statuses = [wire.answer().status for _ in range(3 if cut < len(one) else 2)]
            assert statuses == [201, 201, 200][-len(statuses) :]


@pytest.mark.parametrize("name", ["no token", "disk", "revoked token", "chunked"])
def test_behind_a_refused_upload_the_connection_ends(sender: Sender, name: str) -> None:
    case, server = CASES[name], sender.server
    before = len(server.logged("/health"))
    with server.wire() as wire:
        more = {"Transfer-Encoding": "chunked"} if case.length is None else {}
        wire.send(GET + GET + head(case.method, case.path, sender.fields(case) | more) + GET * 1000)
        assert [wire.answer().status for _ in range(2)] == [200, 200]
        answer = wire.answer()
        answer.assert_problem(case.status, case.code)
        assert_last(answer, wire)
    eventually(lambda: len(server.logged("/health")) == before + 2, "two were answered")


def test_a_body_that_looks_like_requests_is_not_executed(server: Server) -> None:
    kept = server.api.upload(video_bytes(1000))
    delete = head("DELETE", f"/api/videos/{kept}", server.api.headers)
    refused = upload_fields(server, 10 * MIB) | {"Authorization": "Bearer nobody"}
    with server.wire() as wire:
        wire.send(head("POST", "/api/videos", refused) + delete * 100)
        answer = wire.answer()
        assert answer.status == 401
        wire.send(delete * 10_000)
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.is_closed_by_server()
    body = video_bytes(300) + delete * 30_000
    with server.wire() as wire:
        wire.send(head("POST", "/api/videos", upload_fields(server, len(body))) + body + GET)
        assert [wire.answer().status, wire.answer().status] == [201, 200]
    no_video = delete * 30_000
    with server.wire() as wire:
        wire.send(head("POST", "/api/videos", upload_fields(server, len(no_video))) + no_video + delete)
        answer = wire.answer()
        answer.assert_problem(415, "not_a_video")
        assert_last(answer, wire)
    assert [line.method for line in server.logged() if line.method == "DELETE"] == []
    assert kept in server.api.video_ids()


def test_a_client_that_waits_behind_another_request_is_told_in_order(server: Server) -> None:
    data = video_bytes(MIB)
    fields = upload_fields(server, len(data)) | {"Expect": "100-continue"}
    for _ in range(20):  # whichever is done first
        with server.wire() as wire:
            wire.send(GET * 3 + head("POST", "/api/videos", fields))
            assert [wire.answer().status for _ in range(3)] == [200] * 3
            assert wire.head().status == 100
            wire.send(data + GET)
            assert [wire.answer().status, wire.answer().status] == [201, 200]


@pytest.mark.parametrize("kind", ["video/mp4", FORM])
def test_what_is_no_video_is_refused_while_the_client_still_sends(shared: Server, kind: str) -> None:
    with shared.wire() as wire:
        wire.request("POST", "/api/videos", upload_fields(shared, GIB, kind))
        wire.send(form(bytes(64 * 1024))[:-10])
        answer = wire.answer()
        answer.assert_problem(415, "not_a_video")
        assert answer.headers["connection"] == "close"
        for _ in range(20):
            wire.send(bytes(MIB))
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.is_closed_by_server()
    assert shared.incoming() == []


def test_a_form_that_breaks_is_refused_while_the_client_still_sends(shared: Server) -> None:
    for begin, status in (
        (b"--edge xyz", 400),
        (b'--edge\r\nContent-Disposition: form-data; name="x"\r\n\r\n', 422),
    ):
        with shared.wire() as wire:
            wire.request("POST", "/api/videos", upload_fields(shared, GIB, FORM))
            wire.send(begin)
            answer = wire.answer()
            assert answer.status == status
            assert_last(answer, wire)


def test_room_for_one_is_promised_once(start_server: StartServer, tmp_path: Path) -> None:
    size = 4 * GIB
    room = size + size // 2  # the rest is for what others do to the disk meanwhile
    free = shutil.disk_usage(tmp_path).free
    if free < room:
        pytest.skip("needs 6 GiB of free space, of which nothing is written")
    server = start_server(STREAMER_MIN_FREE_BYTES=str(free - room))
    fields = upload_fields(server, size) | {"Expect": "100-continue"}
    with server.wire() as first:
        first.request("POST", "/api/videos", fields)
        assert first.head().status == 100
        with server.wire() as second:
            second.request("POST", "/api/videos", fields)
            second.answer().assert_problem(507, "insufficient_storage")
    eventually(lambda: server.incoming() == [], "the first has left")
    with server.wire() as third:
        third.request("POST", "/api/videos", fields)
        assert third.head().status == 100


def test_a_token_that_is_revoked_during_the_upload_makes_no_video(server: Server) -> None:
    user = Api(server.address, "").sign_up("changing")
    data = video_bytes(3 * MIB)
    with server.wire() as wire:
        wire.request("POST", "/api/videos", upload_fields(server, len(data), token=user.token))
        wire.send(data[:MIB])
        eventually(lambda: server.incoming() != [], "it has begun")
        change = json.dumps({"current_password": PASSWORD, "password": "another battery staple"}).encode()
        changed = user.request("PATCH", "/api/auth/me", change, {"Content-Type": "application/json"})
        assert changed.status == 200
        wire.send(data[MIB:])
        wire.answer().assert_problem(401, "not_authenticated")
    eventually(lambda: server.incoming() == [], "its file is gone")
    server.assert_consistent()


# --- other ways to send


def test_one_thread_takes_many_uploads_and_answers_the_others(start_server: StartServer) -> None:
    server = start_server(STREAMER_THREADS="1")
    data = video_bytes(8 * MIB)
    body = form(data)
    wires = [server.wire() for _ in range(8)]
    for number, wire in enumerate(wires):
        kind = FORM if number % 2 else "video/mp4"
        wire.request("POST", "/api/videos", upload_fields(server, len(body if number % 2 else data), kind))
    sending = [
        Background(lambda wire=wire, number=number: wire.send(body if number % 2 else data))
        for number, wire in enumerate(wires)
    ]
    for _ in range(20):
        assert server.api.get("/health").status == 200
    for one in sending:
        one.outcome()
    answers = [wire.answer() for wire in wires]
    assert [answer.status for answer in answers] == [201] * 8
    for wire, answer in zip(wires, answers, strict=True):
        assert server.api.download(answer.json["id"]) == data
        wire.close()
    server.assert_consistent()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_connection_that_is_to_end_ends_after_the_201(server: Server, version: str) -> None:
    data = video_bytes(3 * MIB)
    fields = upload_fields(server, len(data)) | ({"Connection": "close"} if version == "1.1" else {})
    with server.wire() as wire:
        wire.send(
            head("POST", "/api/videos", fields).replace(b"HTTP/1.1", b"HTTP/" + version.encode()) + data
        )
        assert wire.answer().status == 201
        assert wire.is_closed_by_server()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"--edge--", 422, id="no parts"),
        pytest.param(form(video_bytes(10_000))[:-10], 400, id="no end"),
        pytest.param(form(b""), 422, id="empty"),
        pytest.param(form(b"<html>"), 415, id="short and no video"),
    ],
)
def test_after_a_whole_body_that_is_refused_the_connection_goes_on(
    shared: Server, body: bytes, status: int
) -> None:
    with shared.wire() as wire:
        wire.send(head("POST", "/api/videos", upload_fields(shared, len(body), FORM)) + body + GET)
        assert [wire.answer().status, wire.answer().status] == [status, 200]
    eventually(lambda: shared.incoming() == [], "nothing stays")


def test_head_is_refused_without_a_body_of_its_own(shared: Server) -> None:
    with shared.wire() as wire:
        wire.request("HEAD", "/health", {"Content-Length": str(MIB)})
        answer = wire.answer("HEAD")
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert wire.is_closed_by_server()


def test_a_small_chunked_body_is_taken_and_a_large_one_is_not(shared: Server) -> None:
    login = json.dumps({"username": "keeper", "password": PASSWORD}).encode()
    fields = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    with shared.wire() as wire:
        wire.request("POST", "/api/auth/login", fields)
        for byte in login:
            wire.send(b"1;x=y\r\n%c\r\n" % byte)
        wire.send(b"0\r\n\r\n")
        assert wire.answer().status == 200
        wire.request("POST", "/api/auth/login", fields)
        wire.send(b"10001\r\n" + bytes(0x10001))  # and no end
        answer = wire.answer()
        answer.assert_problem(413, "body_too_large")
        assert_last(answer, wire)


@pytest.mark.parametrize(
    "endless",
    [b"1;" + b"x" * MIB, b"x" * MIB, b"0\r\n" + b"a: b\r\n" * MIB],
    ids=["extension", "size", "trailer"],
)
def test_chunks_without_end_are_refused(shared: Server, endless: bytes) -> None:
    fields = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    with shared.wire() as wire:
        wire.request("POST", "/api/auth/login", fields)
        wire.send(endless)
        assert wire.answer().status in {400, 413}


# --- clients that leave, servers that end


@needs_proc
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("kind", ["video/mp4", FORM])
def test_a_client_that_vanishes_at_any_moment_leaves_nothing(server: Server, kind: str, how: str) -> None:
    server.api.video_ids()
    sockets = server.open_sockets()
    data = video_bytes(MIB)
    whole = form(data) if kind == FORM else data
    request = head("POST", "/api/videos", upload_fields(server, len(whole), kind)) + whole
    for sent in [*range(len(request) - len(whole), len(request), len(whole) // 40), *[len(request)] * 40]:
        wire = server.wire()
        wire.send(request[:sent])
        getattr(wire, how)()
    eventually(lambda: server.open_sockets() <= sockets, "the sockets are closed")
    eventually(lambda: server.incoming() == [], "the files are gone")
    eventually(
        lambda: not [n for n in server.descriptors() if n.startswith(f"{server.data}/incoming")],
        "the descriptors are closed",
    )
    eventually(lambda: _is_consistent(server), "what came whole is a video or nothing")


def _is_consistent(server: Server) -> bool:
    try:
        server.assert_consistent()
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize("kind", ["video/mp4", FORM])
@pytest.mark.parametrize("grace", ["0", "1"])
def test_a_server_that_is_stopped_leaves_nothing_of_an_upload(
    start_server: StartServer, kind: str, grace: str
) -> None:
    server = start_server(STREAMER_GRACE=grace)
    data = form(video_bytes(2 * MIB))
    wires = [server.wire() for _ in range(3)]
    for wire in wires:
        wire.request("POST", "/api/videos", upload_fields(server, 20 * MIB, kind))
        wire.send(data[: MIB + 1000] if kind == FORM else video_bytes(MIB))
    eventually(lambda: len(server.incoming()) == 3, "they have begun")
    server.stop()
    assert server.incoming() == [], "at once, not at the next start"
    for wire in wires:
        wire.close()


def test_an_upload_in_flight_ends_before_the_server_does(server: Server) -> None:
    data = video_bytes(4 * MIB)
    with server.wire() as wire:
        wire.request("POST", "/api/videos", upload_fields(server, len(data)))
        wire.send(data[:MIB])
        eventually(lambda: server.incoming() != [], "it has begun")
        stopping = Background(server.stop)
        eventually(lambda: not server.is_accepting(), "it takes no more connections")
        wire.send(data[MIB:])
        answer = wire.answer()
        assert answer.status == 201
        assert_last(answer, wire)
    stopping.outcome()
    assert server.incoming() == []
    assert server.start().api.download(answer.json["id"]) == data


def test_a_server_that_is_killed_leaves_what_the_next_start_removes(server: Server) -> None:
    with server.wire() as wire:
        wire.request("POST", "/api/videos", upload_fields(server, 20 * MIB))
        wire.send(video_bytes(MIB))
        eventually(lambda: server.incoming() != [], "it has begun")
        server.kill()
    server.start()
    server.assert_consistent()


# --- what an upload costs


def written(server: Server) -> int:
    """The bytes that the process has given to write(), in files, sockets and pipes."""
    lines = Path(f"/proc/{server.pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))


@needs_proc
@pytest.mark.parametrize("kind", ["video/mp4", FORM])
def test_the_bytes_of_an_upload_are_written_once(server: Server, kind: str) -> None:
    data = video_bytes(64 * MIB)
    body = form(data) if kind == FORM else data
    server.api.video_ids()
    before = written(server)
    with server.wire() as wire:
        wire.request("POST", "/api/videos", upload_fields(server, len(body), kind))
        wire.send(body[: 32 * MIB])
        eventually(lambda: server.incoming() != [], "it has begun")
        [growing] = server.incoming()
        inode = growing.stat().st_ino
        wire.send(body[32 * MIB :])
        assert wire.answer().status == 201
    assert len(data) <= written(server) - before < len(data) + MIB
    [stored] = (server.data / "videos").iterdir()
    assert (stored.name, stored.stat().st_ino) == (growing.name, inode)


@needs_proc
def test_memory_is_flat_with_several_uploads_at_once(start_server: StartServer) -> None:
    server = start_server(measured=True)
    server.api.upload(video_bytes(MIB))
    before = server.memory("VmRSS")
    size = 48 * MIB
    block = video_bytes(MIB)

    def upload(number: int) -> int:
        body = (
            [form(b"")[: form(b"").index(b"\r\n\r\n") + 4], b"\r\n--edge--\r\n"] if number % 2 else [b"", b""]
        )
        length = sum(map(len, body)) + size
        with server.wire() as wire:
            wire.request(
                "POST", "/api/videos", upload_fields(server, length, FORM if number % 2 else "video/mp4")
            )
            wire.send(body[0])
            for _ in range(size // MIB):
                wire.send(block)
            wire.send(body[1])
            return wire.answer().status

    uploads = [Background(lambda number=number: upload(number)) for number in range(6)]
    assert [one.outcome() for one in uploads] == [201] * 6
    growth = server.memory("VmHWM") - before
    assert growth < 32 * MIB, f"{growth / MIB:.1f} MiB"
