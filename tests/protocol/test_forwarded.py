"""``X-Forwarded-*``: believed from trusted proxies only, and removed always."""

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.protocol.forwarded import HOST, parse_address, resolve

TRUSTED = tuple(map(ip_network, ["127.0.0.1/32", "10.0.0.0/8", "::1/128", "fd00::/8"]))
PROXY = "10.0.0.1"
STRANGER = "198.51.100.7"


def resolved(peer: str = PROXY, script_name: str = "", **fields: str) -> dict[str, Any]:
    """The environment after ``resolve``; the fields are named by what follows ``X-Forwarded-``."""
    environ: dict[str, Any] = {
        "REMOTE_ADDR": peer,
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "inside:8000",
        "SCRIPT_NAME": script_name,
        "PATH_INFO": "/api/videos",
        **{f"HTTP_X_FORWARDED_{name.upper()}": value for name, value in fields.items()},
    }
    resolve(environ, TRUSTED)
    assert environ["PATH_INFO"] == "/api/videos"
    return environ


def test_trusted_proxy_is_believed() -> None:
    environ = resolved(**{"for": STRANGER}, proto="https", host="video.example.org", prefix="/tv")
    assert environ == {
        "REMOTE_ADDR": STRANGER,
        "wsgi.url_scheme": "https",
        "HTTP_HOST": "video.example.org",
        "SCRIPT_NAME": "/tv",
        "PATH_INFO": "/api/videos",
    }


@pytest.mark.parametrize("peer", [STRANGER, "11.0.0.1", "127.0.0.2", "fe80::1", "", "unix:", "10.0.0.1, ::1"])
def test_stranger_is_not_believed_and_its_fields_are_removed(peer: str) -> None:
    environ = resolved(peer, **{"for": "127.0.0.1"}, proto="https", host="evil.example", prefix="/evil")
    assert environ == {
        "REMOTE_ADDR": peer,
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "inside:8000",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/api/videos",
    }


@pytest.mark.parametrize("peer", ["::ffff:10.0.0.1", "::FFFF:127.0.0.1", "::ffff:0a00:0001"])
def test_trusted_proxy_is_known_where_a_socket_takes_both_kinds_of_address(peer: str) -> None:
    assert resolved(peer, **{"for": STRANGER})["REMOTE_ADDR"] == STRANGER


def test_proxy_that_is_trusted_by_its_mapped_address_is_still_known() -> None:
    environ = {"REMOTE_ADDR": "::ffff:10.0.0.1", "HTTP_X_FORWARDED_FOR": STRANGER}
    resolve(environ, [ip_network("::ffff:10.0.0.0/104")])
    assert environ["REMOTE_ADDR"] == STRANGER


@pytest.mark.parametrize("peer", ["::ffff:198.51.100.7", "::ffff:127.0.0.2", "::10.0.0.1", "::fffe:10.0.0.1"])
def test_mapped_address_of_a_stranger_is_not_believed(peer: str) -> None:
    assert resolved(peer, **{"for": "192.0.2.1"})["REMOTE_ADDR"] == peer


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("::192.0.2.1", "::c000:201"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("", "None"),
        ("unix:", "None"),
        ("192.0.2.01", "None"),
        ("192.0.2.0/24", "None"),
        ("[::1]", "None"),
        ("192.0.2.1:80", "None"),
    ],
)
def test_address_is_parsed_and_a_mapped_one_is_that_of_version_four(text: str, address: str) -> None:
    assert str(parse_address(text)) == address


def test_nobody_is_believed_where_no_proxy_is_trusted() -> None:
    environ = {"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": STRANGER}
    resolve(environ, ())
    assert environ == {"REMOTE_ADDR": "127.0.0.1"}


def test_environment_without_an_address_is_left_as_it_is() -> None:
    environ = {"wsgi.url_scheme": "http", "HTTP_X_FORWARDED_PROTO": "https"}
    resolve(environ, TRUSTED)
    assert environ == {"wsgi.url_scheme": "http"}


def test_proxy_that_says_nothing_changes_nothing() -> None:
    environ = resolved()
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == (PROXY, "http")
    assert (environ["HTTP_HOST"], environ["SCRIPT_NAME"]) == ("inside:8000", "")


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("  198.51.100.7\t", "198.51.100.7"),
        # read from the right: what stands further left, anybody can write
        ("192.0.2.1, 198.51.100.7", "198.51.100.7"),
        ("127.0.0.1, 198.51.100.7", "198.51.100.7"),
        # through trusted proxies
        ("198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("192.0.2.1, 198.51.100.7, 10.0.0.2,127.0.0.1", "198.51.100.7"),
        ("198.51.100.7, fd00::1, ::1", "198.51.100.7"),
        # the client is itself in the trusted network
        ("10.0.0.3", "10.0.0.3"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("198.51.100.7, ::ffff:10.0.0.2", "198.51.100.7"),
        ("192.0.2.1, ::ffff:198.51.100.7", "::ffff:198.51.100.7"),
        ("198.51.100.7, [::ffff:10.0.0.2]:80", "198.51.100.7"),
        # ports
        ("198.51.100.7:4711", "198.51.100.7"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("198.51.100.7, 10.0.0.2:80", "198.51.100.7"),
        ("198.51.100.7, [::1]:80", "198.51.100.7"),
        # garbage ends the reading at the last good hop
        ("", PROXY),
        (",", PROXY),
        ("unknown", PROXY),
        ("_hidden", PROXY),
        ("198.51.100.7, unknown", PROXY),
        ("198.51.100.7, unknown, 10.0.0.2", "10.0.0.2"),
        ("198.51.100.7,", PROXY),
        ("999.1.1.1", PROXY),
        ("198.51.100.7:port", PROXY),
        ("198.51.100.7 10.0.0.2", PROXY),
        ("[198.51.100.7", PROXY),
        ("1.2.3.4:5:6", PROXY),
        ("<script>", PROXY),
        ("198.51.100.7\n", "198.51.100.7"),
        ("١٩٨.51.100.7", PROXY),
    ],
)
def test_client_is_the_nearest_hop_that_is_no_trusted_proxy(chain: str, client: str) -> None:
    assert resolved(**{"for": chain})["REMOTE_ADDR"] == client


@pytest.mark.parametrize(
    ("proto", "scheme"),
    [
        ("https", "https"),
        ("HTTPS", "https"),
        ("http", "http"),
        ("http, https", "https"),
        ("https, http", "http"),
        (" https ", "https"),
        ("", "http"),
        ("https,", "http"),
        ("wss", "http"),
        ("javascript", "http"),
        ("https://evil", "http"),
        ("https\nX-Field: x", "http"),
    ],
)
def test_scheme_is_that_of_the_nearest_proxy_and_one_of_two(proto: str, scheme: str) -> None:
    assert resolved(proto=proto)["wsgi.url_scheme"] == scheme


@pytest.mark.parametrize(
    ("host", "kept"),
    [
        ("video.example.org", "video.example.org"),
        ("video.example.org:8443", "video.example.org:8443"),
        ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ("my_nas", "my_nas"),
        ("first.example, last.example", "last.example"),
        ("", "inside:8000"),
        ("a b", "inside:8000"),
        ("evil.example/path", "inside:8000"),
        ("user@evil.example", "inside:8000"),
        ("evil.example?x", "inside:8000"),
        ("evil.example#x", "inside:8000"),
        ("evil.example\\x", "inside:8000"),
        ("evil.example\r\nX-Field: x", "inside:8000"),
        ("evil.example:port", "inside:8000"),
        ("evil.example:123456", "inside:8000"),
        ("evil.example:", "inside:8000"),
        ("[::1", "inside:8000"),
        ("[evil]", "inside:8000"),
        ("\u0435vil.example", "inside:8000"),
        ('"><script>', "inside:8000"),
    ],
)
def test_host_is_that_of_the_nearest_proxy_if_it_is_one(host: str, kept: str) -> None:
    assert resolved(host=host)["HTTP_HOST"] == kept


@pytest.mark.parametrize(
    ("prefix", "script_name"),
    [
        ("/tv", "/tv"),
        ("/tv/", "/tv"),
        ("/my/tv-2.0_~", "/my/tv-2.0_~"),
        ("/first, /last", "/last"),
        ("", ""),
        ("/", ""),
        ("tv", ""),
        ("//evil.example", ""),
        ("/tv//x", ""),
        ("/a b", ""),
        ("/tv?x", ""),
        ("/tv#x", ""),
        ("https://evil.example", ""),
        ("/\\evil.example", ""),
        ("/tv\r\nX-Field: x", ""),
        ("/%2e%2e", ""),
    ],
)
def test_prefix_is_a_plain_path_or_nothing(prefix: str, script_name: str) -> None:
    assert resolved(prefix=prefix)["SCRIPT_NAME"] == script_name


def test_prefix_comes_before_where_the_application_is_mounted() -> None:
    assert resolved(script_name="/mounted", prefix="/tv/")["SCRIPT_NAME"] == "/tv/mounted"


@given(st.sampled_from([PROXY, STRANGER]), st.text(), st.text(), st.text(), st.text())
def test_no_field_gets_through_raw(peer: str, chain: str, proto: str, host: str, prefix: str) -> None:
    environ = resolved(peer, **{"for": chain}, proto=proto, host=host, prefix=prefix)
    assert not [name for name in environ if name.startswith("HTTP_X_FORWARDED")]
    assert environ["wsgi.url_scheme"] in {"http", "https"}
    assert HOST.fullmatch(environ["HTTP_HOST"])
    assert not set(environ["SCRIPT_NAME"] + environ["REMOTE_ADDR"]) & set("\r\n \"'<>?#\\")
