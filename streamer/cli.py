"""The ``streamer`` command: serve, and look after accounts."""

import argparse
import getpass
import ipaddress
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import peewee

import streamer
from streamer import accounts, cleanup, digests, housekeeping, inputs, logs, planning, server
from streamer.app import DATABASE, create_app, open_storage
from streamer.config import Config, unknown_settings
from streamer.database import Database, open_database
from streamer.errors import ConfigurationError, StreamerError, UsernameTaken
from streamer.ffmpeg.tools import find_tools
from streamer.intake import Intake
from streamer.storage.local import make_folder
from streamer.worker import Workers

logger = logging.getLogger("streamer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 for what went wrong, 2 for wrong settings."""
    options = _parser().parse_args(arguments)
    try:
        config = Config.from_environ(os.environ | _settings(options))
        status: int = options.run(config, options)
    except ConfigurationError as error:
        for mistake in error.mistakes:
            _fail(mistake, 2)
        return 2
    except (StreamerError, OSError, peewee.DatabaseError) as error:
        return _fail(error, 1)
    except (EOFError, KeyboardInterrupt):
        return _fail("interrupted", 1)
    return status


def _fail(error: Exception | str, status: int) -> int:
    print("streamer:", logs.on_one_line(str(error)), file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="streamer", description="A personal video server.")
    parser.add_argument("--version", action="version", version=f"streamer {streamer.__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data", help="the folder that holds everything (STREAMER_DATA, default: data)")
    commands = parser.add_subparsers(title="commands", required=True)

    serve = commands.add_parser("serve", parents=[common], help="run the server")
    serve.add_argument("--host", help="the address to listen on (STREAMER_HOST, default: 127.0.0.1)")
    serve.add_argument(
        "--port", help="the port to listen on, 0 for a free one (STREAMER_PORT, default: 8000)"
    )
    serve.set_defaults(run=_serve)

    work = commands.add_parser(
        "worker",
        parents=[common],
        help="make posters and variants, and nothing else; beside a server with STREAMER_WORKERS=0",
    )
    work.set_defaults(run=_work)

    clean = commands.add_parser(
        "cleanup",
        parents=[common],
        help="remove expired uploads and what a crash left; works while the server runs, which does it too",
    )
    clean.set_defaults(run=_clean)

    user = commands.add_parser("user", help="look after accounts; works while the server runs")
    user_commands = user.add_subparsers(title="commands", required=True)
    for name, run, text in (
        ("add", _add_user, "make an account"),
        ("passwd", _set_password, "set a new password and end all sessions"),
    ):
        command = user_commands.add_parser(
            name,
            parents=[common],
            help=text,
            description=f"{text}; the password comes from stdin or a prompt",
        )
        command.add_argument("name")
        command.set_defaults(run=run)
    return parser


def _settings(options: argparse.Namespace) -> dict[str, str]:
    """Flags as the variables that they override."""
    given = {name: getattr(options, name, None) for name in ("data", "host", "port")}
    return {f"STREAMER_{name.upper()}": value for name, value in given.items() if value}


def _serve(config: Config, options: argparse.Namespace) -> int:
    logs.configure(config.log_format)
    for name in unknown_settings(os.environ):
        logger.warning("%s is no setting of this version", name)
    _make_data_folder(config)
    app = create_app(config)
    serving = server.Server(app)
    if config.registration and not _is_loopback(config.host):
        logger.warning(
            "anybody who reaches %s can make an account: set STREAMER_REGISTRATION=closed to stop that",
            config.host,
        )
    logger.info("serving the data folder %s at %s", config.data.resolve(), serving.address)
    _tell_of_tools(app.intake)
    if app.intake.tools is None:
        planning.shelve(app.intake.database)
    workers = Workers(app.intake)

    def stop(number: int, frame: FrameType | None) -> None:
        workers.stop()
        serving.stop(number, frame)

    _on_signals(stop)
    print(f"streamer {streamer.__version__} is ready at {serving.address}", flush=True)
    with workers.running(config.workers):
        serving.run()
    _on_signals(signal.SIG_IGN)  # it ends already, with the status that it should have
    logger.info("stopped")
    return 0


def _on_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _tell_of_tools(intake: Intake) -> None:
    tools = intake.tools
    if tools is None:
        logger.info("there is no ffmpeg: no posters are made, and nothing that browsers can play instead")
    else:
        logger.info("posters and variants are made by ffmpeg %s (%s)", tools.version, tools.ffmpeg)


def _work(config: Config, options: argparse.Namespace) -> int:
    logs.configure(config.log_format)
    intake = _existing(config)
    if intake.tools is None:
        raise StreamerError("there is no ffmpeg: install one, or name it by STREAMER_FFMPEG")
    _tell_of_tools(intake)
    workers = Workers(intake)
    _on_signals(lambda number, frame: workers.stop())
    cleanup.sweep(intake)  # takes back what the last one did when it was killed
    look_after = housekeeping.Housekeeping(intake)
    print(f"streamer {streamer.__version__} works on {config.data.resolve()}", flush=True)
    with workers.running(max(config.workers, 1)):
        while not workers.wait(1):
            look_after.tick()
    logger.info("stopped")
    return 0


def _make_data_folder(config: Config) -> None:
    try:
        make_folder(config.data)
    except OSError as error:
        mistake = f"STREAMER_DATA={str(config.data)!r}: want a folder that can be made here: {error.strerror}"
        raise ConfigurationError([mistake]) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _clean(config: Config, options: argparse.Namespace) -> int:
    logs.configure(config.log_format)
    database, storage = _existing_database(config), open_storage(config)
    intake = Intake(database, storage, config, None)  # the work that videos need is the server's to plan
    before = intake.storage.incoming()
    cleanup.sweep(intake)
    digests.compute_missing(database, storage)
    left = intake.storage.incoming()
    print(f"removed {len(set(before) - set(left))} files of uploads, kept {len(left)}")
    return 0


def _existing(config: Config) -> Intake:
    """The data folder, which has to be there, with its ffmpeg. Raises StreamerError."""
    database = _existing_database(config)
    return Intake(database, open_storage(config), config, find_tools(config.ffmpeg, config.data))


def _existing_database(config: Config) -> Database:
    path = config.data / DATABASE
    if not path.exists():
        raise StreamerError(f"{config.data.resolve()} is no data folder: name it by --data")
    return open_database(path)


def _add_user(config: Config, options: argparse.Namespace) -> int:
    name = inputs.parse_fields({"name": options.name}, required={"name": inputs.username}, optional={})[
        "name"
    ]
    _make_data_folder(config)
    database = open_database(config.data / DATABASE)
    if accounts.find(database, name) is not None:
        raise UsernameTaken(f"the user name {name} is taken")
    accounts.add(database, name, _read_password())
    print(logs.on_one_line(f"made the account {name} in {config.data.resolve()}"))
    return 0


def _set_password(config: Config, options: argparse.Namespace) -> int:
    database = _existing_database(config)
    name = options.name.encode(errors="replace").decode()
    user = accounts.find(database, name)
    if user is None:
        raise StreamerError(f"there is no account {name} in {config.data.resolve()}")
    password = _read_password()
    accounts.set_password(database, accounts.find(database, name) or user, password)
    print(f"set the password of {user.username} and ended its sessions")
    return 0


def _read_password() -> str:
    fields = {"password": _type_password()}
    return str(inputs.parse_fields(fields, required={"password": inputs.password}, optional={})["password"])


def _type_password() -> str:
    if not sys.stdin.isatty():
        try:
            return sys.stdin.readline().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise StreamerError(f"the password is not {error.encoding}") from error
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise StreamerError("the two passwords are not the same")
    return password
