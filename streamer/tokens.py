"""Access tokens (signed, not stored) and refresh tokens (random, stored as a hash).

One salt per purpose: a token for one use never passes for another.
"""

import hashlib
import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer

from streamer import clock
from streamer.errors import NotAuthenticated, SecretUnusable

ACCESS_LIFETIME_SECONDS = 60 * 60
REFRESH_LIFETIME_SECONDS = 30 * 24 * 60 * 60
REMEMBERED_TOKENS = 1024  # whose signatures are verified once


class Claims(NamedTuple):
    """What an access token says, for as long as the user's credential is of this version."""

    user_id: int
    credential_version: int


class _Signer(TimestampSigner):
    """Reads the time where everything else does."""

    def get_timestamp(self) -> int:
        return int(clock.now().timestamp())


class AccessTokens:
    """Issues and reads access tokens, valid for one hour and one version of a user's credential."""

    def __init__(self, secret: str) -> None:
        self._serializer = URLSafeTimedSerializer(
            secret,
            salt="streamer.access",
            signer=_Signer,
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
        # players ask for range after range with the same token; a signature that was right stays right
        self._verified = lru_cache(maxsize=REMEMBERED_TOKENS)(self._verify)

    def issue(self, user_id: int, credential_version: int) -> str:
        """Make a token."""
        return str(self._serializer.dumps([user_id, credential_version]))

    def read(self, token: str) -> Claims:
        """Give back what a token says. Raises NotAuthenticated."""
        try:
            claims, issued = self._verified(token)
        except BadData as error:
            raise NotAuthenticated("the access token is not valid") from error
        if not 0 <= clock.now().timestamp() - issued < ACCESS_LIFETIME_SECONDS + 1:
            raise NotAuthenticated("the access token has expired")
        return claims

    def _verify(self, token: str) -> tuple[Claims, float]:
        """What a token says and when it was issued, however long ago. Raises BadData."""
        (user_id, version), issued = self._serializer.loads(token, return_timestamp=True)
        return Claims(user_id, version), issued.timestamp()


def new_refresh_token() -> str:
    """A refresh token of 256 random bits."""
    return secrets.token_urlsafe(32)


def hash_refresh_token(token: str) -> str:
    """What is stored of a refresh token: it is random, so a fast hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def load_secret(path: Path) -> str:
    """The secret of this installation, made at the first start, readable by its owner only.

    Raises SecretUnusable for a file that anybody could guess.
    """
    if not path.exists():
        _make_secret(path)
    secret = path.read_text(encoding="utf-8", errors="replace").strip()
    if len(secret) < 32:
        raise SecretUnusable(str(path))
    return secret


def _make_secret(path: Path) -> None:
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(descriptor)
    try:
        # unlike a rename, a link never replaces the secret of a process that was faster
        os.link(unfinished, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links, such as exFAT
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)
