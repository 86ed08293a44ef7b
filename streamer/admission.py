"""Who may send which body: decided by the head of a request, before a byte of its body is taken.

The application asks before it does anything else. A server that can, such as ours,
asks earlier: when the head has arrived and the body is still on its way. Nothing here
waits or asks the database: a token counts by its signature and its age, a body by its
declared type and length. Whether the token has been revoked, the quota and the disk are
looked at by ``Reception.open``.
"""

from typing import NamedTuple, Protocol

import falcon

from streamer.errors import (
    BodyTooLarge,
    MalformedRequest,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    StreamerError,
)
from streamer.protocol.resumption import Field
from streamer.tokens import AccessTokens, Claims

OVERRIDES = ("PATCH", "DELETE", "HEAD")
MAX_SMALL_BODY_BYTES = 64 * 1024  # the most that is taken from a stranger


class Head(NamedTuple):
    """What admission looks at in a request."""

    method: str
    query: str
    content_length: int | None
    """In bytes; None where it is not declared."""

    is_chunked: bool
    """Whether the end of a body without a declared length shows: a cut one does not look whole then."""

    field: Field
    """Gives a header field."""

    @property
    def content_type(self) -> str | None:
        """The media type of the body with its parameters, as it came."""
        return self.field("Content-Type")

    @property
    def media_type(self) -> str:
        """The media type of the body without its parameters, in lower case."""
        return (self.content_type or "").partition(";")[0].strip().lower()


class Reception(Protocol):
    """Takes a large body as it comes: ``open`` once, ``feed`` in order; ``close`` at any time and again.

    One that makes something that can be resumed may have ``announcement(base)`` as well: the header
    fields of the interim response 104 that tells the client so, or None; ``base`` is the URL of the
    application's root.
    """

    began: float
    """The monotonic time when its request arrived, in seconds."""

    def open(self) -> None: ...
    def feed(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class BodyRule(Protocol):
    """What one method of a resource takes. ``bodies`` of the resource maps methods to their rules.

    A rule for large bodies has ``begin(head, claims, **params)`` as well, which gives a ``Reception``, or
    None where the body is small after all; ``params`` are those of the path.
    """

    def check(self, head: Head) -> None:
        """Raise StreamerError unless such a body is taken."""


class Admission:
    """The one decision, for the routes of one application."""

    def __init__(self, router: falcon.routing.CompiledRouter, access_tokens: AccessTokens) -> None:
        self._router = router
        self._access_tokens = access_tokens

    def claims(self, resource: object, head: Head) -> Claims | None:
        """Whose request this says it is, None for anybody's at a public resource. Raises NotAuthenticated."""
        if getattr(resource, "public", False) or head.method == "OPTIONS":
            return None
        scheme, _, token = (head.field("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer":
            raise NotAuthenticated("an access token is needed: Authorization: Bearer …", presented=False)
        return self._access_tokens.read(token.strip())

    def check(self, resource: object, head: Head) -> None:
        """Judge the body by its head. Raises MethodNotAllowed, BodyTooLarge, or what its rule raises."""
        rule = _rule(resource, head)
        if rule is not None:
            rule.check(head)
        elif head.method == "OPTIONS" or hasattr(resource, f"on_{head.method.lower()}"):
            _require_small(head, BodyTooLarge(MAX_SMALL_BODY_BYTES))
        else:
            methods = falcon.routing.map_http_methods(resource)
            raise MethodNotAllowed([*sorted(methods.keys() - {"OPTIONS"}), "OPTIONS"])

    def early(self, path: str, head: Head) -> Reception | None:
        """Decide on a request to a path (as WSGI has it) whose body has not been taken yet.

        Gives what takes a large body; None leaves a small one to the server. Raises NotFound, or as
        ``claims`` and ``check`` do.
        """
        resource, params = self._find(path)
        if resource is None:
            _require_small(head, NotFound("there is nothing at this path"))
            return None
        claims = self.claims(resource, head)
        self.check(resource, head)
        rule = _rule(resource, head)
        if rule is None or claims is None or not hasattr(rule, "begin"):
            return None
        reception: Reception | None = rule.begin(head, claims, **params)
        return reception

    def _find(self, path: str) -> tuple[object, dict[str, str]]:
        found = self._router.find(path.encode("latin-1", "replace").decode("utf-8", "replace"))
        return (found[0], found[2]) if found else (None, {})


def effective_method(method: str, override: str | None) -> str:
    """The method of a request whose client may not be able to send it. Raises MalformedRequest.

    ``override`` is the field X-HTTP-Method-Override, which tus asks for.
    """
    if method != "POST" or override is None:
        return method
    if override.upper() not in OVERRIDES:
        wanted = " or ".join(OVERRIDES)
        raise MalformedRequest("bad_method_override", f"X-HTTP-Method-Override has to be {wanted}")
    return override.upper()


def _rule(resource: object, head: Head) -> BodyRule | None:
    rule: BodyRule | None = getattr(resource, "bodies", {}).get(head.method)
    return rule


def _require_small(head: Head, refusal: StreamerError) -> None:
    if (head.content_length or 0) > MAX_SMALL_BODY_BYTES:
        raise refusal
