"""The one tree of exceptions. Each carries the facts of its failure.

Nothing here knows HTTP: ``resources/errors`` holds the one table from these
classes to status codes and problem documents.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one named field of the input."""

    field: str
    message: str


class StreamerError(Exception):
    """Every failure that this package foresees."""

    is_final = False
    """Whether it is about an upload that the client has sent whole."""


class ConfigurationError(StreamerError):
    """Settings have values that cannot be used; ``mistakes`` has a line for each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class DatabaseTooNew(StreamerError):
    """The database was written by a later version of this program."""

    def __init__(self, path: str, unknown: list[str]) -> None:
        super().__init__(
            f"{path} was made by a newer version (it has the migrations {', '.join(unknown)}): "
            "start that version, or go back to a copy of the data folder"
        )


class DatabaseUnusable(StreamerError):
    """The database file cannot be opened or is not one."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


class SecretUnusable(StreamerError):
    """The file with the secret key holds none."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} does not hold a secret of at least 32 characters: remove it to get a new one"
        )


class CannotListen(StreamerError):
    """The address to listen on is wrong or taken."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(f"cannot listen on {host} port {port}: {reason}")


class InvalidInput(StreamerError):
    """Input is well formed but some of its fields have values that we refuse."""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in errors))
        self.errors = errors


class MalformedRequest(StreamerError):
    """A request, or its body, does not follow its grammar."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class UnsupportedMediaType(StreamerError):
    """A request body has a media type that this resource does not take."""

    def __init__(self, received: str | None, wanted: str) -> None:
        super().__init__(f"got {received or 'no Content-Type'}, want {wanted}")


class LengthMissing(StreamerError):
    """A request body came without a declared length."""


class ClientDisconnected(StreamerError):
    """The client left before its request body was complete."""

    def __init__(self, received: int, expected: int | None = None) -> None:
        of = "" if expected is None else f" of {expected}"
        super().__init__(f"the body ended after {received}{of} bytes")


class NotFound(StreamerError):
    """What was asked for does not exist, or belongs to somebody else."""


class MethodNotAllowed(StreamerError):
    """A resource has no such method; ``allowed`` are those that it has."""

    def __init__(self, allowed: list[str]) -> None:
        super().__init__("this path does not take this method; Allow lists those that it takes")
        self.allowed = allowed


class NotAuthenticated(StreamerError):
    """No credentials, or credentials that are not valid (any more).

    ``presented`` tells whether there was a token at all (RFC 6750, section 3.1).
    """

    def __init__(self, detail: str, *, presented: bool = True) -> None:
        super().__init__(detail)
        self.presented = presented


class WrongPassword(StreamerError):
    """Somebody signed in did not know the password of the account."""


class UsernameTaken(StreamerError):
    """Another account has this user name (without regard to case)."""


class RegistrationClosed(StreamerError):
    """Accounts are made by the administrator only."""


class TooManyAttempts(StreamerError):
    """Too many failed logins, or registrations; ``retry_after`` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many attempts, try again in {retry_after} seconds")
        self.retry_after = retry_after


class Busy(StreamerError):
    """The server has all the work of this kind that it takes at once."""

    retry_after = 1  # seconds


class Unavailable(StreamerError):
    """The database or the data folder does not work; an administrator has to look after it."""

    retry_after = 10  # seconds


class NotAVideo(StreamerError):
    """The first bytes are not those of a container that we know."""


class MediaUnreadable(StreamerError):
    """A file does not describe itself in a way that can be followed."""


class FfmpegFailed(StreamerError):
    """ffmpeg did not do what it was started for; ``code`` is for programs, ``detail`` its own last words."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class FfmpegMissing(StreamerError):
    """There is no ffmpeg here, and this cannot be done without."""

    def __init__(self) -> None:
        super().__init__("the server has no ffmpeg, and this cannot be done without")


class NothingFailed(StreamerError):
    """There is nothing to try again."""


class NotAnImage(StreamerError):
    """The first bytes are not those of an image that we take."""


class NoPictures(StreamerError):
    """A video has no pictures to choose one of, or none that can be looked at."""


class Stopped(StreamerError):
    """Somebody wants this work to end before it is done."""


class BodyTooLarge(StreamerError):
    """A request body is longer than the limit for it, in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the limit is {limit} bytes")
        self.limit = limit


class QuotaExceeded(StreamerError):
    """The account would hold more than its quota; both figures are in bytes."""

    def __init__(self, quota: int, used: int) -> None:
        super().__init__(f"this does not fit: {used} of the quota of {quota} bytes are used")
        self.quota = quota
        self.used = used


class InsufficientStorage(StreamerError):
    """The disk has no room for this upload; ``available`` is in bytes."""

    def __init__(self, available: int) -> None:
        super().__init__(f"the disk has no room for this: {available} bytes are available")
        self.available = available


class UploadLocked(StreamerError):
    """Another request is adding to this upload."""

    retry_after = 1  # seconds


class UploadGone(StreamerError):
    """The upload has expired, or has lost bytes; it has to begin anew."""


class UploadNotAppendable(StreamerError):
    """Nothing can be added to an upload that was put together from others."""


class OffsetMismatch(StreamerError):
    """A request wants to add bytes at another place than where the upload ends."""

    def __init__(self, expected: int, provided: int) -> None:
        super().__init__(f"the upload has {expected} bytes, and the request goes on from byte {provided}")
        self.expected = expected
        self.provided = provided


class InconsistentLength(StreamerError):
    """What is said about the length of an upload does not agree."""


class ChecksumMismatch(StreamerError):
    """The bytes of a request are not those that its checksum is of; none of them was taken."""

    def __init__(self) -> None:
        super().__init__("the bytes are not those that the checksum is of: send them again")


class UnsupportedTusVersion(StreamerError):
    """A request to an upload speaks no version of tus that we know."""


class TooManyUploads(StreamerError):
    """The account has begun too many uploads that are not finished."""

    retry_after = 3600  # seconds

    def __init__(self, limit: int) -> None:
        super().__init__(f"the account has {limit} unfinished uploads: finish or delete some of them")


class KeyInUse(StreamerError):
    """The first request with this Idempotency-Key is still running."""

    retry_after = 1  # seconds


class KeyReused(StreamerError):
    """Another request has had this Idempotency-Key."""


class PreconditionFailed(StreamerError):
    """A precondition of the request does not hold (RFC 9110, section 13)."""


class RangeNotSatisfiable(StreamerError):
    """No byte of the representation is in the requested ranges (RFC 9110, 15.5.17)."""

    def __init__(self, complete_length: int) -> None:
        super().__init__(f"the representation has {complete_length} bytes")
        self.complete_length = complete_length
