"""What happens to every request: an id, a log line, authentication, safe headers."""

import logging
import random
import re
import time
from collections.abc import Collection
from typing import Any
from urllib.parse import quote

import falcon

from streamer import accounts, logs
from streamer.admission import Admission, effective_method
from streamer.database import Database
from streamer.errors import MalformedRequest
from streamer.protocol import forwarded
from streamer.resources.bodies import RECEPTION, head_of

logger = logging.getLogger("streamer.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

REFUSAL = "streamer.refusal"
"""Where in the WSGI environment a server of ours puts the error of a body that it has refused."""

_SHOWN_IN_PATHS = "/:@!$&'()*+,;=-._~"
_LINE = "%s %s %s length=%s bytes=%s duration_ms=%s user=%s address=%s request_id=%s"


class LogEntry:
    """One line of the access log, written when the answer has left or its client has."""

    def __init__(self, req: falcon.Request, request_id: str) -> None:
        taken = req.env.get(RECEPTION)  # by our server, before the application was called
        self._started = time.monotonic() if taken is None else taken.began
        self._req = req
        self.request_id = request_id
        self.status = 0
        self.is_sent_by_front = False  # which alone knows how many bytes the client took

    def close(self, sent: int) -> None:
        """Write the line; ``sent`` counts the bytes of the body that the server took."""
        if not self.status:
            return  # an error has taken the place of this body
        fields = {
            "method": self._req.method,
            "path": self._req.path,  # without the query, which may hold secrets
            "status": self.status,
            "length": self._declared_length(),
            "bytes": None if self.is_sent_by_front else sent,
            "duration_ms": round((time.monotonic() - self._started) * 1000, 1),
            "user": getattr(self._req.context, "username", None),
            "address": self._req.remote_addr,
            "request_id": self.request_id,
        }
        facts = ["-" if fact is None else fact for fact in fields.values()]
        facts[1] = quote(self._req.path, safe=_SHOWN_IN_PATHS)
        if logger.isEnabledFor(logging.INFO):
            # not by logger.info, which spends as much again on finding out who called it
            line = (logger.name, logging.INFO, "", 0, _LINE, tuple(facts), None)
            logger.handle(logger.makeRecord(*line, extra={"fields": fields}))

    def _declared_length(self) -> int:
        length = self._req.env.get("CONTENT_LENGTH") or ""
        return int(length) if re.fullmatch("[0-9]{1,40}", length) else 0


class AccessLog:
    """Gives each request its id and writes its line."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = req.get_header("X-Request-Id")
        if not given or not _REQUEST_ID.fullmatch(given):
            # no secret, so no system call is spent on it
            given = f"{random.getrandbits(64):016x}"
        request_id = given
        logs.request_id.set(request_id)
        resp.set_header("X-Request-Id", request_id)
        req.context.log_entry = LogEntry(req, request_id)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        if not hasattr(req.context, "log_entry"):  # Falcon has refused the method before all else
            self.process_request(req, resp)
        entry = req.context.log_entry
        entry.status = resp.status_code
        if resp.stream is None:  # else its close() writes the line
            entry.close(0 if req.method == "HEAD" else len(resp.data or b""))
        logs.request_id.set("-")  # this thread works on something else next


class SafeHeaders:
    """Header fields that are right for JSON; a resource may have said something else.

    ``fields`` of a resource are on all its answers, also on those that tell of a failure.
    """

    FIELDS = (
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-store"),
    )

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        for name, value in (*self.FIELDS, *getattr(resource, "fields", ())):
            if resp.get_header(name) is None:
                resp.set_header(name, value)


class CrossOrigin:
    """Lets pages of other origins call the API (the CORS protocol of the Fetch standard)."""

    ALLOWED = (
        "Authorization, Content-Disposition, Content-Digest, Content-Type, Idempotency-Key, "
        "If-Match, If-Modified-Since, If-None-Match, If-Range, If-Unmodified-Since, Range, "
        "Tus-Resumable, Upload-Checksum, Upload-Complete, Upload-Concat, Upload-Defer-Length, "
        "Upload-Draft-Interop-Version, Upload-Length, Upload-Metadata, Upload-Offset, "
        "X-HTTP-Method-Override, X-Request-Id, X-Requested-With"
    )
    EXPOSED = (
        "Accept-Ranges, Allow, Content-Disposition, Content-Range, ETag, Link, Location, "
        "Repr-Digest, Retry-After, Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, "
        "Tus-Resumable, Tus-Version, Upload-Complete, Upload-Concat, Upload-Defer-Length, "
        "Upload-Expires, Upload-Length, Upload-Limit, Upload-Metadata, Upload-Offset, "
        "Video-Location, WWW-Authenticate, X-Request-Id"
    )
    METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    PREFLIGHT_SECONDS = "7200"  # the most that Chromium believes

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = origins

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        if not self._origins:
            return
        is_open = "*" in self._origins
        if not is_open:
            resp.append_header("Vary", "Origin")
        origin = req.get_header("Origin")
        if origin is None or not (is_open or origin in self._origins):
            return
        # never credentials and "*": then any page could act for whoever looks at it
        resp.set_header("Access-Control-Allow-Origin", "*" if is_open else origin)
        if not is_open:
            resp.set_header("Access-Control-Allow-Credentials", "true")
        if req.method == "OPTIONS" and req.get_header("Access-Control-Request-Method") is not None:
            resp.set_header("Access-Control-Allow-Methods", self.METHODS)
            resp.set_header("Access-Control-Allow-Headers", self.ALLOWED)
            resp.set_header("Access-Control-Max-Age", self.PREFLIGHT_SECONDS)
        else:
            resp.set_header("Access-Control-Expose-Headers", self.EXPOSED)


class MethodOverride:
    """Lets a client that can send no PATCH or DELETE say so in a POST."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        if req.method == "POST":
            req.method = effective_method("POST", req.get_header("X-HTTP-Method-Override"))
            req.context.is_overridden = req.method != "POST"

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, req_succeeded: bool
    ) -> None:
        if req.method == "HEAD" and getattr(req.context, "is_overridden", False):
            # to the connection it is a POST, whose answer has the length that it says
            resp.data = None
            resp.content_length = 0


class ValidHost:
    """Refuses a Host field that is no host name: links are built from it."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        host = req.get_header("Host")
        if not host:  # then the server's own name is used
            req.env.pop("HTTP_HOST", None)
        elif not forwarded.HOST.fullmatch(host):
            raise MalformedRequest("bad_host", "the Host header field is not a host name")


class Admitted:
    """Lets a request through whose head is right, and nobody to a resource that is not public."""

    def __init__(self, admission: Admission, database: Database) -> None:
        self._admission = admission
        self._database = database

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, params: dict[str, Any]
    ) -> None:
        # what the server has found wrong with a body that it has not taken
        if (refusal := req.env.get(REFUSAL)) is not None:
            raise refusal
        head = head_of(req)
        claims = self._admission.claims(resource, head)
        if claims is not None:
            req.context.claims = claims
            if not (req.method in {"GET", "HEAD"} and hasattr(resource, "reads_by_claims")):
                req.context.user = user = accounts.user_of(self._database, claims)
                req.context.username = user.username
        self._admission.check(resource, head)
