"""What a reverse proxy tells about the client: the ``X-Forwarded-*`` fields.

Anybody can send these fields, so they count only when the peer of the
connection is a proxy that the administrator trusts.
"""

import re
from collections.abc import Collection, MutableMapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

HOST = re.compile(r"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")
_PORT = re.compile(r"^(?:\[(?P<six>[^\]]+)\](?::[0-9]+)?|(?P<four>[0-9.]+):[0-9]+)$")
_FIELDS = ("FOR", "PROTO", "HOST", "PREFIX")

Networks = Collection[IPv4Network | IPv6Network]


def resolve(environ: MutableMapping[str, Any], trusted: Networks) -> None:
    """Put what trusted proxies say of the client into its own places of a WSGI environment.

    These are REMOTE_ADDR, wsgi.url_scheme, HTTP_HOST and SCRIPT_NAME. The
    forwarded fields themselves are removed, so that nobody else believes them.
    """
    fields = {name: environ.pop(f"HTTP_X_FORWARDED_{name}", "") for name in _FIELDS}
    if not trusted or not _is_trusted(environ.get("REMOTE_ADDR", ""), trusted):
        return
    environ["REMOTE_ADDR"] = _client(environ["REMOTE_ADDR"], fields["FOR"], trusted)
    if (scheme := _last(fields["PROTO"]).lower()) in {"http", "https"}:
        environ["wsgi.url_scheme"] = scheme
    if HOST.fullmatch(host := _last(fields["HOST"])):
        environ["HTTP_HOST"] = host
    if _PREFIX.fullmatch(prefix := _last(fields["PREFIX"])):
        environ["SCRIPT_NAME"] = prefix.rstrip("/") + environ.get("SCRIPT_NAME", "")


def _client(peer: str, forwarded_for: str, trusted: Networks) -> str:
    """The first address, read from the nearest hop, that is not a trusted proxy."""
    client = peer
    for element in reversed(forwarded_for.split(",")):
        hop = _without_port(element.strip())
        if parse_address(hop) is None:
            break
        client = hop
        if not _is_trusted(hop, trusted):
            break
    return client


def _without_port(hop: str) -> str:
    match = _PORT.match(hop)
    return (match["six"] or match["four"]) if match else hop


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address, or None for what is none. An IPv4 address is one also where a socket takes both kinds."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_trusted(text: str, trusted: Networks) -> bool:
    address = parse_address(text)
    return address is not None and any(
        address in network or ip_address(text) in network for network in trusted
    )


def _last(field: str) -> str:
    """The element that the nearest proxy has added."""
    return field.rpartition(",")[2].strip()
