"""The settings: every variable, what it takes and what it refuses."""

import dataclasses
import os
from ipaddress import ip_network
from pathlib import Path

import pytest

from streamer.config import Config, unknown_settings
from streamer.errors import ConfigurationError

SECRET = "0123456789abcdef" * 2
NOT_ASCII_DIGITS = ["+1", "-1", "1_0", "\u0661", "\uff11", " 1", "1 ", "1\n", "1.0", "0x1", "1e3", "one"]


def read(**variables: str) -> Config:
    return Config.from_environ({f"STREAMER_{name.upper()}": value for name, value in variables.items()})


def test_defaults_need_no_variable() -> None:
    config = Config.from_environ({})
    assert dataclasses.asdict(config) == {
        "data": Path("data"),
        "host": "127.0.0.1",
        "port": 8000,
        "threads": 8,
        "connections": 2000,
        "header_bytes": 32 * 1024,
        "header_timeout": 20,
        "body_rate": 500,
        "keep_alive": 60,
        "send_timeout": 600,
        "grace": 10,
        "fast_paths": True,
        "public_url": None,
        "secret_key": None,
        "registration": True,
        "max_upload_bytes": 20 * 2**30,
        "quota_bytes": None,
        "min_free_bytes": None,
        "upload_ttl": 604_800,
        "ffmpeg": "auto",
        "ffmpeg_threads": max(1, (os.cpu_count() or 1) // 2),
        "workers": 1,
        "transcode": True,
        "storyboards": True,
        "cors_origins": (),
        "trusted_proxies": (),
        "sendfile": "off",
        "log_format": "text",
    }
    assert config == Config()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("data", "/srv/videos", Path("/srv/videos")),
        ("data", "my videos/é", Path("my videos/é")),
        ("host", "0.0.0.0", "0.0.0.0"),
        ("host", "::1", "::1"),
        ("port", "0", 0),
        ("port", "65535", 65535),
        ("port", "008080", 8080),
        ("threads", "1", 1),
        ("threads", "256", 256),
        ("public_url", "https://video.example.org", "https://video.example.org"),
        ("public_url", "https://video.example.org/", "https://video.example.org"),
        ("public_url", "http://[::1]:8000/tv/", "http://[::1]:8000/tv"),
        ("secret_key", SECRET, SECRET),
        ("registration", "open", True),
        ("registration", "closed", False),
        ("max_upload_bytes", "1", 1),
        ("max_upload_bytes", str(2**63 - 1), 2**63 - 1),
        ("quota_bytes", "0", 0),
        ("quota_bytes", "1000", 1000),
        ("min_free_bytes", "0", 0),
        ("upload_ttl", "1", 1),
        ("upload_ttl", "604800", 604_800),
        ("upload_ttl", "31536000", 31_536_000),
        ("ffmpeg", "off", "off"),
        ("ffmpeg", "/opt/ffmpeg/bin/ffmpeg", "/opt/ffmpeg/bin/ffmpeg"),
        ("ffmpeg_threads", "3", 3),
        ("workers", "0", 0),
        ("workers", "64", 64),
        ("transcode", "off", False),
        ("transcode", "auto", True),
        ("storyboards", "off", False),
        ("cors_origins", "*", ("*",)),
        ("cors_origins", "https://app.example.org", ("https://app.example.org",)),
        (
            "cors_origins",
            "https://a.example , http://localhost:5173,http://[::1]:80,capacitor://localhost",
            ("https://a.example", "http://localhost:5173", "http://[::1]:80", "capacitor://localhost"),
        ),
        ("trusted_proxies", "127.0.0.1", (ip_network("127.0.0.1/32"),)),
        (
            "trusted_proxies",
            "127.0.0.1, ::1 ,10.0.0.0/8",
            (ip_network("127.0.0.1/32"), ip_network("::1/128"), ip_network("10.0.0.0/8")),
        ),
        ("trusted_proxies", "10.0.0.1/8", (ip_network("10.0.0.0/8"),)),
        (
            "trusted_proxies",
            "192.168.1.7/24,fd00::7/8",
            (ip_network("192.168.1.0/24"), ip_network("fd00::/8")),
        ),
        ("sendfile", "off", "off"),
        ("sendfile", "x-accel-redirect", "x-accel-redirect"),
        ("sendfile", "x-sendfile", "x-sendfile"),
        ("log_format", "text", "text"),
        ("log_format", "json", "json"),
    ],
)
def test_good_value_is_taken(name: str, text: str, value: object) -> None:
    assert read(**{name: text}) == dataclasses.replace(Config(), **{name: value})


PORT = "a port from 0 to 65535"
THREADS = "a whole number from 1 to 256"
BYTES = "a whole number of bytes, such as 5000000000"
URL = "an absolute http or https URL"
NETWORKS = "addresses or networks with commas between"
LIFETIME = "a whole number of seconds from 1 to 31536000"
ORIGINS = "* or origins with commas between, such as https://app.example.org"


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        *(("port", text, PORT) for text in [*NOT_ASCII_DIGITS, "65536", "9" * 30]),
        *(("threads", text, THREADS) for text in [*NOT_ASCII_DIGITS, "0", "257"]),
        *(("max_upload_bytes", text, BYTES) for text in [*NOT_ASCII_DIGITS, "0", str(2**63), "20G"]),
        *(("quota_bytes", text, BYTES) for text in [*NOT_ASCII_DIGITS, str(2**63)]),
        *(("min_free_bytes", text, BYTES) for text in [*NOT_ASCII_DIGITS, "5%"]),
        *(("upload_ttl", text, LIFETIME) for text in [*NOT_ASCII_DIGITS, "0", "31536001", "7d", "9" * 30]),
        *(
            ("cors_origins", text, ORIGINS)
            for text in [
                "app.example.org",
                "https://app.example.org/",
                "https://app.example.org/path",
                "https://APP.example.org",
                "https://a.example,",
                "https://a.example;https://b.example",
                "*,https://a.example",
                "https://*.example.org",
                "https://user@a.example",
                "https://a.example:port",
                "https://a.example\nX: y",
                "null",
                " ",
            ]
        ),
        *(
            ("public_url", text, URL)
            for text in [
                "video.example.org",
                "//video.example.org",
                "ftp://video.example.org",
                "https://",
                "https:///videos",
                "https://a.example/?x=1",
                "https://a.example/#top",
                "https://[::1",
                "https://:443",
                "https://a.example:port",
                "https://a.example/\nX-Field: x",
                "https://a.example/two words",
                "javascript:alert(1)",
                " ",
            ]
        ),
        *(("registration", text, "open or closed") for text in ["Open", "true", "1", " open", "closed\n"]),
        *(
            ("sendfile", text, "off, x-accel-redirect or x-sendfile")
            for text in ["on", "X-Sendfile", "x-accel", "nginx", "x-sendfile "]
        ),
        *(("log_format", text, "text or json") for text in ["JSON", "xml", "text "]),
        *(
            ("trusted_proxies", text, NETWORKS)
            for text in ["localhost", "127.0.0.1,", ",", "10.0.0.1/", "1.2.3.4/33", "127.0.0.1;::1", "*"]
        ),
    ],
)
def test_bad_value_is_refused_with_its_name_itself_and_what_is_wanted(
    name: str, text: str, wanted: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(**{name: text})
    message = str(caught.value)
    assert message.startswith(f"STREAMER_{name.upper()}={text!r}: want ")
    assert wanted in message
    assert len(message.splitlines()) == 1
    assert caught.value.mistakes == [message]


def test_every_mistake_has_a_line_of_its_own_in_the_order_of_the_settings() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(log_format="xml", threads="0", secret_key="hunter2", host="::1", port="http\nport")
    port, threads, secret, log_format = caught.value.mistakes
    assert port == f"STREAMER_PORT='http\\nport': want {PORT}"
    assert threads == f"STREAMER_THREADS='0': want {THREADS}"
    assert secret.startswith("STREAMER_SECRET_KEY=(hidden): want at least 32 characters")
    assert log_format == "STREAMER_LOG_FORMAT='xml': want text or json"
    assert str(caught.value) == "; ".join(caught.value.mistakes)


@pytest.mark.parametrize("secret", ["short", "x" * 31, "hunter2 hunter2 "])
def test_secret_key_that_is_too_short_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="at least 32 characters") as caught:
        read(secret_key=secret)
    error: BaseException | None = caught.value
    assert "STREAMER_SECRET_KEY" in str(error)
    while error is not None:
        assert secret not in repr(error)
        error = error.__cause__


def test_secret_key_that_is_no_text_is_refused() -> None:
    """So comes what is not UTF-8 in an environment; it could sign nothing."""
    with pytest.raises(ConfigurationError, match="STREAMER_SECRET_KEY"):
        read(secret_key="\udcff" * 40)


def test_secret_key_is_not_in_the_representation() -> None:
    config = read(secret_key=SECRET)
    assert SECRET not in repr(config)
    assert SECRET not in str(config)
    assert config.secret_key == SECRET


@pytest.mark.parametrize("field", dataclasses.fields(Config), ids=lambda field: field.name)
def test_empty_variable_counts_as_not_set(field: dataclasses.Field[object]) -> None:
    assert read(**{field.name: ""}) == Config()


def test_other_variables_are_not_read() -> None:
    assert Config.from_environ({"PORT": "1", "streamer_port": "x", "STREAMER_PORTS": "x"}) == Config()


def test_variables_that_set_nothing_are_named() -> None:
    others = {"STREAMER_PROT": "1", "STREAMER_": "", "STREAMER_port": "1", "PORT": "1", "MY_STREAMER_X": ""}
    known = {f"STREAMER_{field.name.upper()}": "" for field in dataclasses.fields(Config)}
    assert unknown_settings(others | known) == ["STREAMER_", "STREAMER_PROT", "STREAMER_port"]
    assert unknown_settings(known) == []


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().port = 1  # type: ignore[misc]


def test_settings_are_given_by_name_only() -> None:
    with pytest.raises(TypeError):
        Config(Path("data"))  # type: ignore[call-arg]
