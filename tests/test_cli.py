"""The ``streamer`` command, called in this process; ``tests/live`` runs it as one of its own."""

import getpass
import hashlib
import io
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import streamer
from streamer import cli, jobs, planning, server, uploads
from streamer.app import Application, create_app
from streamer.config import Config
from streamer.models import Upload, Video
from streamer.uploads import Plan
from tests import media
from tests.conftest import Clock, MakeApp
from tests.ffmpeg import clips
from tests.helpers import PASSWORD, Client, video_bytes
from tests.wsgi import database_of, intake_of, stored_files

NEW = "another long password"
DATA = video_bytes(5000)
COMMANDS = [("serve",), ("worker",), ("cleanup",), ("user", "add", "alice"), ("user", "passwd", "alice")]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Only the data folder is set; what serving sets up in the process is put back."""
    for field in Config.__dataclass_fields__:
        monkeypatch.delenv(f"STREAMER_{field.upper()}", raising=False)
    monkeypatch.setenv("STREAMER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("STREAMER_FFMPEG", "off")
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    monkeypatch.setattr("streamer.logs.configure", lambda log_format: None)
    return tmp_path / "data"


Type = Callable[..., None]


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types lines at a prompt."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def type_in(*lines: str) -> None:
        left = list(lines)

        def prompt(text: str) -> str:
            assert text.endswith(": ")
            if not left:
                raise EOFError
            return left.pop(0)

        monkeypatch.setattr(sys, "stdin", Terminal())
        monkeypatch.setattr(getpass, "getpass", prompt)

    return type_in


Pipe = Callable[[bytes], None]


@pytest.fixture
def pipe_in(monkeypatch: pytest.MonkeyPatch) -> Pipe:
    """Gives bytes on standard input, which is no terminal."""

    def pipe_in(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return pipe_in


def fails(status: int, *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error of a command that ends with this status."""
    assert cli.main(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("streamer: ")
    return line


# user add


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"", b"\nmore\n"])
def test_account_is_made_with_the_first_line_of_standard_input(
    environment: Path, pipe_in: Pipe, capsys: pytest.CaptureFixture[str], ending: bytes
) -> None:
    pipe_in(PASSWORD.encode() + ending)
    assert cli.main(["user", "add", "alice"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (f"made the account alice in {environment}\n", "")
    Client(create_app(Config(data=environment, ffmpeg="off"))).sign_in("alice")


def test_data_folder_whose_name_is_not_utf_8_is_told_on_one_line(
    tmp_path: Path, pipe_in: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe_in(PASSWORD.encode())
    assert cli.main(["user", "add", "alice", "--data", str(tmp_path / "old\ndisk\udcff")]) == 0
    assert capsys.readouterr().out == f"made the account alice in {tmp_path}/old\\ndisk\\udcff\n"


def test_spaces_are_part_of_a_password(environment: Path, pipe_in: Pipe) -> None:
    pipe_in(b"  spaces around  \n")
    cli.main(["user", "add", "alice"])
    Client(create_app(Config(data=environment, ffmpeg="off"))).sign_in("alice", "  spaces around  ")


def test_account_is_made_at_a_prompt(environment: Path, type_in: Type) -> None:
    type_in(PASSWORD, PASSWORD)
    assert cli.main(["user", "add", "alice"]) == 0
    Client(create_app(Config(data=environment, ffmpeg="off"))).sign_in("alice")


def test_two_different_passwords_make_no_account(
    environment: Path, type_in: Type, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(PASSWORD, NEW)
    assert "not the same" in fails(1, "user", "add", "alice", capsys=capsys)
    type_in(PASSWORD, PASSWORD)
    assert cli.main(["user", "add", "alice"]) == 0


def test_end_of_input_at_the_prompt_is_one_line(type_in: Type, capsys: pytest.CaptureFixture[str]) -> None:
    type_in(PASSWORD)
    fails(1, "user", "add", "alice", capsys=capsys)


def test_password_in_another_encoding_is_one_line(pipe_in: Pipe, capsys: pytest.CaptureFixture[str]) -> None:
    pipe_in("pässwörter".encode("latin-1"))
    fails(1, "user", "add", "alice", capsys=capsys)


@pytest.mark.parametrize(
    ("name", "password", "words"),
    [
        ("al", PASSWORD, "name: must have 3 to 32"),
        ("al ice", PASSWORD, "name: must have 3 to 32"),
        ("alice", "short", "password: must have 8 to 128"),
        ("alice", "", "password: must have 8 to 128"),
        ("\udcff\udcff\udcff", PASSWORD, "name: "),
    ],
)
def test_bad_name_or_password_makes_no_account(
    pipe_in: Pipe, capsys: pytest.CaptureFixture[str], name: str, password: str, words: str
) -> None:
    pipe_in(f"{password}\n".encode())
    assert words in fails(1, "user", "add", name, capsys=capsys)


def test_taken_name_makes_no_second_account(pipe_in: Pipe, capsys: pytest.CaptureFixture[str]) -> None:
    pipe_in(PASSWORD.encode())
    cli.main(["user", "add", "alice"])
    capsys.readouterr()
    pipe_in(NEW.encode())
    assert "ALICE is taken" in fails(1, "user", "add", "ALICE", capsys=capsys)


def test_taken_name_is_told_before_a_password_is_asked_for(
    environment: Path, make_app: MakeApp, type_in: Type, capsys: pytest.CaptureFixture[str]
) -> None:
    Client(make_app(data=environment)).sign_up("alice")
    type_in()
    assert "alice is taken" in fails(1, "user", "add", "alice", capsys=capsys)


def test_bad_name_is_told_before_a_password_is_asked_for_and_makes_no_folder(
    environment: Path, type_in: Type, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in()
    assert "name: must have" in fails(1, "user", "add", "al", capsys=capsys)
    assert not environment.exists()


def test_relative_data_folder_is_told_with_its_whole_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pipe_in: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pipe_in(PASSWORD.encode())
    cli.main(["user", "add", "alice", "--data", "here"])
    assert capsys.readouterr().out == f"made the account alice in {tmp_path / 'here'}\n"


def test_account_is_made_while_the_server_runs_and_registration_is_closed(
    environment: Path, make_app: MakeApp, pipe_in: Pipe
) -> None:
    app = make_app(data=environment, registration=False)
    bystander = Client(app)
    bystander.get("/health", status=200)
    pipe_in(PASSWORD.encode())
    assert cli.main(["user", "add", "alice"]) == 0
    Client(app).sign_in("alice").get("/api/auth/me", status=200)


def test_data_folder_of_the_command_line_comes_before_that_of_the_environment(
    environment: Path, tmp_path: Path, pipe_in: Pipe
) -> None:
    pipe_in(PASSWORD.encode())
    assert cli.main(["user", "add", "alice", "--data", str(tmp_path / "other")]) == 0
    assert (tmp_path / "other" / "streamer.db").exists()
    assert not environment.exists()


# user passwd


def test_new_password_ends_the_sessions_of_the_running_server(
    environment: Path, make_app: MakeApp, pipe_in: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    app = make_app(data=environment)
    alice, bob = Client(app).sign_up("alice"), Client(app).sign_up("bob")
    pipe_in(NEW.encode())
    assert cli.main(["user", "passwd", "ALICE"]) == 0
    assert capsys.readouterr().out == "set the password of alice and ended its sessions\n"
    alice.get("/api/auth/me", status=401)
    alice.post("/api/auth/refresh", {"refresh_token": alice.session["refresh_token"]}, status=401)
    Client(app).sign_in("alice", NEW)
    bob.get("/api/auth/me", status=200)


def test_new_password_can_be_typed(environment: Path, make_app: MakeApp, type_in: Type) -> None:
    app = make_app(data=environment)
    Client(app).sign_up("alice")
    type_in(NEW, NEW)
    assert cli.main(["user", "passwd", "alice"]) == 0
    Client(app).sign_in("alice", NEW)


@pytest.mark.parametrize("name", ["nobody", "", "al\nice", "\udcff"])
def test_unknown_account_is_told_before_a_password_is_asked_for(
    environment: Path, type_in: Type, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    create_app(Config(data=environment, ffmpeg="off"))
    type_in()
    line = fails(1, "user", "passwd", name, capsys=capsys)
    assert "there is no account" in line
    assert str(environment) in line


@pytest.mark.parametrize("there", [False, True])
def test_new_password_in_a_folder_without_a_database_creates_nothing(
    environment: Path, tmp_path: Path, type_in: Type, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    if there:
        environment.mkdir()
    before = sorted(tmp_path.rglob("*"))
    type_in()
    assert f"{environment} is no data folder" in fails(1, "user", "passwd", "alice", capsys=capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_new_password_unlocks_the_account_from_every_address(
    environment: Path, make_app: MakeApp, pipe_in: Pipe
) -> None:
    app = make_app(data=environment)
    Client(app).sign_up("alice")
    wrong = {"username": "alice", "password": "not the password"}
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
        for _ in range(10):
            Client(app, address).post("/api/auth/login", wrong, status=401)
        Client(app, address).post("/api/auth/login", wrong, status=429)
    pipe_in(NEW.encode())
    assert cli.main(["user", "passwd", "alice"]) == 0
    for address in ("192.0.2.1", "192.0.2.2", "2001:db8::1"):
        Client(app, address).sign_in("alice", NEW)


def test_bad_new_password_changes_nothing(
    environment: Path, make_app: MakeApp, pipe_in: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    alice = Client(make_app(data=environment)).sign_up("alice")
    pipe_in(b"short")
    assert "password: must have" in fails(1, "user", "passwd", "alice", capsys=capsys)
    alice.get("/api/auth/me", status=200)


# settings and what goes wrong


# cleanup


@pytest.fixture
def running(frozen: Clock, environment: Path, make_app: MakeApp) -> Application:
    """An application that goes on, with an account."""
    app = make_app(data=environment)
    Client(app).sign_up("alice")
    return app


def begin_upload(app: Application, size: int) -> str:
    """An upload that waits for its next bytes."""
    with closing(uploads.begin(intake_of(app), 1, Plan(length=len(DATA)))) as append:
        append.feed(DATA[:size])
        append.end()
    return append.upload.id


def test_cleanup_removes_what_has_expired_while_the_server_runs(
    running: Application, environment: Path, frozen: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_upload(running, 1000)
    frozen.forward(days=7)
    waiting = begin_upload(running, 2000)
    (environment / "incoming" / ("0" * 32)).write_bytes(b"left by a crash")
    assert cli.main(["cleanup"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("removed 2 files of uploads, kept 1\n", "")
    assert stored_files(environment) == [f"incoming/{waiting}"]
    assert [upload.id for upload in Upload.select().execute(database_of(running))] == [waiting]


def test_cleanup_leaves_alone_what_the_server_is_storing(
    running: Application, environment: Path, frozen: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(uploads.begin(intake_of(running), 1, Plan(length=len(DATA)))) as append:
        append.feed(DATA[:1000])
        frozen.forward(days=8)
        assert cli.main(["cleanup"]) == 0
        assert capsys.readouterr().out == "removed 0 files of uploads, kept 1\n"
        append.feed(DATA[1000:])
        append.end()
    assert append.video is not None
    assert stored_files(environment) == [append.video.file_path]


def test_cleanup_computes_the_digests_that_are_missing(
    running: Application, capsys: pytest.CaptureFixture[str]
) -> None:
    alice = Client(running).sign_in("alice")
    alice.upload(DATA, status=201)
    Video.update(sha256="").execute(database_of(running))
    assert cli.main(["cleanup"]) == 0
    assert capsys.readouterr().out == "removed 0 files of uploads, kept 0\n"
    [video] = Video.select().execute(database_of(running))
    assert video.sha256 == hashlib.sha256(DATA).hexdigest()


def test_cleanup_takes_the_lifetime_from_the_row_and_not_from_its_own_settings(
    running: Application, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = begin_upload(running, 1000)
    monkeypatch.setenv("STREAMER_UPLOAD_TTL", "1")
    assert cli.main(["cleanup"]) == 0
    assert capsys.readouterr().out == "removed 0 files of uploads, kept 1\n"
    assert intake_of(running).storage.incoming() == [waiting]


@pytest.mark.parametrize("there", [False, True])
def test_cleanup_of_a_folder_without_a_database_creates_nothing(
    environment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], there: bool
) -> None:
    if there:
        environment.mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert f"{environment} is no data folder" in fails(1, "cleanup", capsys=capsys)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STREAMER_PORT", "http"),
        ("STREAMER_THREADS", "0"),
        ("STREAMER_REGISTRATION", "maybe"),
        ("STREAMER_TRUSTED_PROXIES", "proxy\nhost"),
        ("STREAMER_PUBLIC_URL", "https://[::1"),
        ("STREAMER_UPLOAD_TTL", "7d"),
        ("STREAMER_CORS_ORIGINS", "example.org"),
    ],
)
@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_setting_ends_every_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    environment: Path,
    command: tuple[str, ...],
    variable: str,
    value: str,
) -> None:
    monkeypatch.setenv(variable, value)
    line = fails(2, *command, capsys=capsys)
    assert f"{variable}={value!r}: want " in line
    assert not environment.exists()


def test_every_wrong_setting_has_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("THREADS", "QUOTA_BYTES", "LOG_FORMAT"):
        monkeypatch.setenv(f"STREAMER_{name}", "wrong; very\nwrong")
    assert cli.main(["serve", "--port", "http"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.partition("=")[0] for line in captured.err.splitlines()] == [
        "streamer: STREAMER_PORT",
        "streamer: STREAMER_THREADS",
        "streamer: STREAMER_QUOTA_BYTES",
        "streamer: STREAMER_LOG_FORMAT",
    ]


@pytest.mark.parametrize("command", [("serve",), ("user", "add", "alice")])
def test_data_folder_below_a_file_is_a_wrong_setting(
    tmp_path: Path, type_in: Type, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    data = str(tmp_path / "file" / "data")
    type_in()
    assert f"STREAMER_DATA={data!r}: want " in fails(2, *command, "--data", data, capsys=capsys)


def test_wrong_flag_is_told_as_the_variable_that_it_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    assert "STREAMER_PORT='70000'" in fails(2, "serve", "--port", "70000", capsys=capsys)


def test_secret_key_is_not_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STREAMER_SECRET_KEY", "hunter2")
    assert "hunter2" not in fails(2, "serve", capsys=capsys)


@pytest.mark.parametrize("arguments", [[], ["user"], ["sing"], ["user", "add"], ["serve", "-x"]])
def test_wrong_arguments_end_with_status_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: streamer" in capsys.readouterr().err


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"streamer {streamer.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("content", ["file for folder", "no database", "newer database"])
def test_data_folder_that_cannot_be_used_ends_every_command_with_one_line(
    environment: Path,
    pipe_in: Pipe,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    content: str,
) -> None:
    if content == "file for folder":
        environment.write_text("")
    elif content == "no database":
        environment.mkdir()
        (environment / "streamer.db").write_text("no database" * 100)
    else:
        create_app(Config(data=environment, ffmpeg="off"))
        with sqlite3.connect(environment / "streamer.db") as connection:
            connection.execute("INSERT INTO schema_migration (name, applied) VALUES ('9999_x', '')")
        connection.close()
    pipe_in(PASSWORD.encode())
    makes_folder = command in {("serve",), ("user", "add", "alice")}
    cannot_be_made = content == "file for folder" and makes_folder
    line = fails(2 if cannot_be_made else 1, *command, capsys=capsys)
    assert str(environment) in line
    assert ("STREAMER_DATA=" in line) is cannot_be_made


def test_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"streamer {streamer.__version__}\n")


# serve


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Application]:
    """The applications that would have been served."""
    applications: list[Application] = []

    class Server:
        address = "http://127.0.0.1:8000"

        def __init__(self, app: Application) -> None:
            applications.append(app)

        def run(self) -> None:
            pass

        def stop(self, number: int, frame: object) -> None:
            pass

    monkeypatch.setattr(server, "Server", Server)
    return applications


WARNING = "can make an account"


@pytest.mark.parametrize(
    ("host", "registration", "warned"),
    [
        ("127.0.0.1", "open", False),
        ("127.1.2.3", "open", False),
        ("::1", "open", False),
        ("[::1]", "open", False),
        ("[2001:db8::1]", "open", True),
        ("localhost", "open", False),
        ("0.0.0.0", "open", True),
        ("::", "open", True),
        ("192.0.2.1", "open", True),
        ("nas.local", "open", True),
        ("0.0.0.0", "closed", False),
        ("nas.local", "closed", False),
    ],
)
@pytest.mark.usefixtures("served")
def test_open_registration_on_a_reachable_address_is_warned_of_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    host: str,
    registration: str,
    warned: bool,
) -> None:
    monkeypatch.setenv("STREAMER_REGISTRATION", registration)
    assert cli.main(["serve", "--host", host]) == 0
    warnings = [event.getMessage() for event in caplog.records if event.levelno == logging.WARNING]
    assert len(warnings) == warned
    if warned:
        assert WARNING in warnings[0]
        assert host in warnings[0]
        assert "STREAMER_REGISTRATION=closed" in warnings[0]


def test_flags_of_serve_come_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, served: list[Application]
) -> None:
    monkeypatch.setenv("STREAMER_PORT", "1234")
    monkeypatch.setenv("STREAMER_HOST", "::1")
    monkeypatch.setenv("STREAMER_THREADS", "3")
    data = str(tmp_path / "flag")
    assert cli.main(["serve", "--host", "127.0.0.2", "--port", "4321", "--data", data]) == 0
    (app,) = served
    assert (app.config.host, app.config.port, app.config.threads) == ("127.0.0.2", 4321, 3)
    assert app.config.data == Path(data)


@pytest.mark.usefixtures("served")
def test_one_line_tells_that_the_server_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["serve"])
    ready = f"streamer {streamer.__version__} is ready at http://127.0.0.1:8000\n"
    assert capsys.readouterr().out == ready


@pytest.mark.usefixtures("served")
def test_every_variable_that_sets_nothing_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("STREAMER_PROT", "STREAMER_THREADS", "STREAMER_MAX_UPLOAD", "STREAM_PORT"):
        monkeypatch.setenv(name, "1")
    assert cli.main(["serve"]) == 0
    warnings = [event.getMessage() for event in caplog.records if event.levelno == logging.WARNING]
    assert [line.partition(" ")[0] for line in warnings] == ["STREAMER_MAX_UPLOAD", "STREAMER_PROT"]


@pytest.mark.usefixtures("served")
def test_log_tells_the_whole_path_of_the_data_folder_and_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "streamer")
    monkeypatch.chdir(tmp_path)
    cli.main(["serve", "--data", "here"])
    assert [event.getMessage() for event in caplog.records if event.name == "streamer"] == [
        f"serving the data folder {tmp_path / 'here'} at http://127.0.0.1:8000",
        "there is no ffmpeg: no posters are made, and nothing that browsers can play instead",
        "stopped",
    ]


@pytest.mark.usefixtures("served")
def test_log_format_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    formats: list[str] = []
    monkeypatch.setattr("streamer.logs.configure", formats.append)
    monkeypatch.setenv("STREAMER_LOG_FORMAT", "json")
    cli.main(["serve"])
    assert formats == ["json"]


@pytest.mark.usefixtures("served")
def test_signals_stop_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(signal, "signal", lambda number, handler: told.append((number, handler)))
    cli.main(["serve"])
    numbers = [signal.SIGTERM, signal.SIGINT]
    assert [number for number, _ in told] == numbers * 2
    assert [handler.__name__ for _, handler in told[:2]] == ["stop", "stop"]
    assert [handler for _, handler in told[2:]] == [signal.SIG_IGN] * 2


# worker


def test_worker_needs_a_data_folder_and_an_ffmpeg(
    environment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is no data folder" in fails(1, "worker", capsys=capsys)
    create_app(Config(data=environment, ffmpeg="off"))
    assert "there is no ffmpeg" in fails(1, "worker", capsys=capsys)


def test_ffmpeg_that_cannot_be_run_is_a_wrong_setting(
    environment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create_app(Config(data=environment, ffmpeg="off"))
    monkeypatch.setenv("STREAMER_FFMPEG", "/no/such/ffmpeg")
    for command in ("worker", "serve"):
        assert "STREAMER_FFMPEG='/no/such/ffmpeg': want " in fails(2, command, capsys=capsys)


@contextmanager
def worker_process(data: Path) -> Iterator[subprocess.Popen[str]]:
    """``streamer worker``, which is ready."""
    clips.tools()  # there has to be an ffmpeg
    command = [sys.executable, "-m", "streamer", "worker", "--data", str(data)]
    variables = os.environ | {"STREAMER_FFMPEG": "auto", "STREAMER_STORYBOARDS": "off"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=variables, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == f"streamer {streamer.__version__} works on {data}\n"
            yield process
        finally:
            process.kill()


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_worker_works_until_it_is_told_to_end(environment: Path, tmp_path: Path, number: int) -> None:
    environment.mkdir()
    intake = media.open_intake(environment, clips.tools(), storyboards=False)
    video = media.add(intake, media.film(tmp_path, "plays.mp4"))
    with worker_process(environment) as process:
        wait_for(lambda: media.again(intake, video).status == "ready")
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert " stopped " in errors.splitlines()[-1]
    media.assert_tidy(intake)
    intake.database.close()


def test_killed_worker_loses_nothing_and_the_next_begins_with_what_it_did(
    environment: Path, tmp_path: Path
) -> None:
    environment.mkdir()
    intake = media.open_intake(environment, clips.tools(), storyboards=False)
    video = media.add(intake, media.film(tmp_path, "plays.mp4"))
    scratch = intake.storage.scratch()
    assert jobs.claim(intake.database, scratch.name) is not None
    os.close(scratch._descriptor)  # as the kernel does when a process dies
    scratch._descriptor = -1
    with worker_process(environment):
        wait_for(lambda: media.again(intake, video).status == "ready")
    assert media.files(environment, "scratch") == []
    intake.database.close()


@pytest.mark.usefixtures("served")
def test_without_ffmpeg_the_server_lets_what_is_queued_wait_for_one(
    environment: Path, tmp_path: Path
) -> None:
    environment.mkdir()
    intake = media.open_intake(environment, clips.tools())
    video = media.add(intake, media.film(tmp_path, "plays.mp4"))
    assert video.status == "processing"
    assert cli.main(["serve"]) == 0
    assert (
        media.again(intake, video).status,
        {job.state for job in media.jobs_of(intake, video).values()},
    ) == ("ready", {"left_out"})
    planning.plan_missing(intake.database, intake.config, intake.tools)
    assert media.again(intake, video).status == "processing"
    assert set(media.jobs_of(intake, video)) == {"poster", "storyboard"}
    intake.database.close()


@pytest.mark.parametrize("host", ["not a host", "300.1.1.1", "a..b"])
def test_address_that_is_none_is_a_wrong_setting(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"STREAMER_HOST={host!r}: want " in fails(2, "serve", "--host", host, capsys=capsys)
