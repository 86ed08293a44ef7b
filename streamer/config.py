"""The settings: read once from the environment, validated, frozen.

Every field ``name`` is set by the variable ``STREAMER_NAME``; an empty variable
counts as not set. Other modules receive a ``Config`` and never read the
environment themselves.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from streamer.errors import ConfigurationError

Network = IPv4Network | IPv6Network


def _port(text: str) -> int:
    return _whole_number(text, "a port from 0 to 65535", high=65535)


def _threads(text: str) -> int:
    return _whole_number(text, "a whole number from 1 to 256", low=1, high=256)


def _workers(text: str) -> int:
    return _whole_number(text, "a whole number from 0 to 64", high=64)


def _connections(text: str) -> int:
    return _whole_number(text, "a whole number from 1 to 100000", low=1, high=100_000)


def _header_bytes(text: str) -> int:
    return _whole_number(text, "a whole number of bytes from 1024 to 1048576", low=1024, high=2**20)


def _seconds(text: str) -> int:
    return _whole_number(text, "a whole number of seconds from 1 to 86400", low=1, high=86_400)


def _lifetime(text: str) -> int:
    return _whole_number(text, "a whole number of seconds from 1 to 31536000", low=1, high=31_536_000)


def _grace(text: str) -> int:
    return _whole_number(text, "a whole number of seconds from 0 to 86400", high=86_400)


def _body_rate(text: str) -> int:
    return _whole_number(text, "a whole number of bytes per second from 1 on, such as 500", low=1)


def _byte_count(text: str) -> int:
    return _whole_number(text, "a whole number of bytes, such as 5000000000")


def _positive_byte_count(text: str) -> int:
    return _whole_number(text, "a whole number of bytes, such as 5000000000", low=1)


def _whole_number(text: str, wanted: str, low: int = 0, high: int = 2**63 - 1) -> int:
    # int() alone would take "+1", "1_0" and foreign digits
    if not re.fullmatch(r"[0-9]{1,19}", text) or not low <= int(text) <= high:
        raise ValueError(wanted)
    return int(text)


def _public_url(text: str) -> str:
    if not re.fullmatch(r"https?://[A-Za-z0-9._~:\[\]-]+(?:/[A-Za-z0-9._~%-]+)*/?", text) or not _has_host(
        text
    ):
        raise ValueError("an absolute http or https URL without query, such as https://video.example.org")
    return text.rstrip("/")


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the address or the port
        return False


def _secret_key(text: str) -> str:
    if len(text) < 32 or not text.isprintable():
        raise ValueError("at least 32 characters, such as the output of: openssl rand -hex 32")
    return text


def _registration(text: str) -> bool:
    if text not in {"open", "closed"}:
        raise ValueError("open or closed")
    return text == "open"


def _switch(text: str) -> bool:
    if text not in {"on", "off"}:
        raise ValueError("on or off")
    return text == "on"


def _automatic(text: str) -> bool:
    if text not in {"auto", "off"}:
        raise ValueError("auto or off")
    return text == "auto"


def _log_format(text: str) -> str:
    if text not in {"text", "json"}:
        raise ValueError("text or json")
    return text


def _sendfile(text: str) -> str:
    if text not in {"off", "x-accel-redirect", "x-sendfile"}:
        raise ValueError("off, x-accel-redirect or x-sendfile")
    return text


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in text.split(","))
    except ValueError as error:
        raise ValueError("addresses or networks with commas between, such as 127.0.0.1,10.0.0.0/8") from error


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._~-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in text.split(","))
    if origins != ("*",) and not all(_ORIGIN.fullmatch(origin) for origin in origins):
        raise ValueError("* or origins with commas between, such as https://app.example.org")
    return origins


def _setting(default: Any, parse: Callable[[str], Any], **options: Any) -> Any:
    return field(default=default, metadata={"parse": parse}, **options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting, with its default."""

    data: Path = _setting(Path("data"), Path)
    """The folder that holds everything: database, secret key, videos."""

    host: str = _setting("127.0.0.1", str)
    """The address that ``streamer serve`` listens on."""

    port: int = _setting(8000, _port)
    """The port that ``streamer serve`` listens on; 0 takes a free one."""

    threads: int = _setting(8, _threads)
    """How many requests are worked on at once. A viewer holds none of them."""

    connections: int = _setting(2000, _connections)
    """How many connections ``streamer serve`` has open at once."""

    header_bytes: int = _setting(32 * 1024, _header_bytes)
    """The longest head of a request, in bytes."""

    header_timeout: int = _setting(20, _seconds)
    """How long the head of a request may take, in seconds."""

    body_rate: int = _setting(500, _body_rate)
    """The least rate of a request body, on average, in bytes per second."""

    keep_alive: int = _setting(60, _seconds)
    """How long a connection may do nothing between requests, or inside of a body, in seconds."""

    send_timeout: int = _setting(600, _seconds)
    """How long a client may take nothing of its answer, in seconds."""

    grace: int = _setting(10, _grace)
    """How long answers in flight get when the server is told to end, in seconds."""

    fast_paths: bool = _setting(True, _switch)
    """Whether to use what only some systems have: sendfile and epoll (``on`` or ``off``)."""

    public_url: str | None = _setting(None, _public_url)
    """Where clients reach the application; else each request's own address is used in links."""

    secret_key: str | None = _setting(None, _secret_key, repr=False)
    """Signs the tokens; else one is made once and kept in the data folder."""

    registration: bool = _setting(True, _registration)
    """Whether strangers may make accounts (``open`` or ``closed``)."""

    max_upload_bytes: int = _setting(20 * 2**30, _positive_byte_count)
    """The largest video, in bytes."""

    quota_bytes: int | None = _setting(None, _byte_count)
    """The most that one account may keep, in bytes; None is no limit."""

    min_free_bytes: int | None = _setting(None, _byte_count)
    """Disk space never used for videos, in bytes; None is 5 % of the disk, at most 2 GiB."""

    upload_ttl: int = _setting(7 * 24 * 3600, _lifetime)
    """How long an unfinished upload is kept after its last byte, in seconds."""

    ffmpeg: str = _setting("auto", str)
    """The ffmpeg to use: ``auto`` looks for one, ``off`` does without, else its path or name."""

    ffmpeg_threads: int = _setting(max(1, (os.cpu_count() or 1) // 2), _threads)
    """How many threads each ffmpeg may use; half of the cores if it is not set."""

    workers: int = _setting(1, _workers)
    """How many variants ``streamer serve`` makes at once; 0 leaves all that to ``streamer worker``."""

    transcode: bool = _setting(True, _automatic)
    """Whether videos that browsers cannot play get a variant that they can (``auto`` or ``off``)."""

    storyboards: bool = _setting(True, _switch)
    """Whether to make pictures for the preview of a position (``on`` or ``off``)."""

    cors_origins: tuple[str, ...] = _setting((), _origins)
    """The origins whose pages may call the API; ``*`` is every one."""

    trusted_proxies: tuple[Network, ...] = _setting((), _networks)
    """The proxies whose ``X-Forwarded-*`` fields are believed."""

    sendfile: str = _setting("off", _sendfile)
    """How the server in front is told to send the bytes: ``off``, ``x-accel-redirect`` or ``x-sendfile``."""

    log_format: str = _setting("text", _log_format)
    """``text`` or ``json``, one line per event."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the ``STREAMER_*`` variables. Raises ConfigurationError for a value that cannot be used."""
        values, mistakes = {}, []
        for setting in fields(cls):
            name = f"STREAMER_{setting.name.upper()}"
            text = environ.get(name)
            if not text:
                continue
            try:
                values[setting.name] = setting.metadata["parse"](text)
            except ValueError as error:
                shown = "(hidden)" if setting.name == "secret_key" else repr(text)
                mistakes.append(f"{name}={shown}: want {error}")
        if mistakes:
            raise ConfigurationError(mistakes)
        return cls(**values)


def unknown_settings(environ: Mapping[str, str]) -> list[str]:
    """The ``STREAMER_*`` variables that set nothing: mistyped, or of another version."""
    known = {f"STREAMER_{setting.name.upper()}" for setting in fields(Config)}
    return sorted(name for name in environ if name.startswith("STREAMER_") and name not in known)
