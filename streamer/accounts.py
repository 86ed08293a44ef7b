"""Accounts and sessions: register, authenticate, rotate refresh tokens, change, delete.

A session is a family of refresh tokens, each used once. An access token holds
the version of the user's credential, so a new password ends all of them.
"""

import logging
import secrets
from dataclasses import dataclass
from datetime import timedelta

import peewee

from streamer import clock, passwords, throttle, tokens
from streamer.database import Database
from streamer.errors import NotAuthenticated, UsernameTaken, WrongPassword
from streamer.models import RefreshToken, User

logger = logging.getLogger("streamer")


@dataclass(frozen=True, slots=True)
class Session:
    """What a client gets that has signed in."""

    user: User
    refresh_token: str


def register(database: Database, username: str, password: str, address: str) -> User:
    """Make an account for somebody at this address. Raises UsernameTaken, TooManyAttempts or Busy."""
    with passwords.admission():
        throttle.count_registration(database, address)
        return add(database, username, password)


def add(database: Database, username: str, password: str) -> User:
    """Make an account. Raises UsernameTaken."""
    if find(database, username) is not None:  # before the password is hashed, which is slow
        raise _taken(username)
    hashed = passwords.hash_password(password)
    try:
        with database.atomic():
            user_id = User.insert(
                username=username,
                password=hashed,
                credential_version=_new_credential_version(),
                created_at=clock.now(),
            ).execute(database)
    except peewee.IntegrityError as error:
        raise _taken(username) from error
    return _user(database, user_id)


def _new_credential_version() -> int:
    """Random, so that no token passes for one of another database or another time."""
    return secrets.randbelow(2**62)


def _taken(username: str) -> UsernameTaken:
    return UsernameTaken(f"the user name {username} is taken")


def log_in(database: Database, username: str, password: str, address: str) -> Session:
    """Begin a session. Raises NotAuthenticated, TooManyAttempts or Busy.

    An unknown user name takes the same time as a wrong password and fails in the same words.
    """
    with passwords.admission(), throttle.attempt(database, username, address):
        user = find(database, username)
        matches = passwords.verify_password(password, user.password if user else None)
        if user is None or not matches:
            # only names that exist: what was typed into the wrong field may be a password
            logger.warning("failed login: user=%s address=%s", user.username if user else "-", address)
            raise NotAuthenticated("the user name or the password is wrong", presented=False)
    return _begin_session(database, user)


def find(database: Database, username: str) -> User | None:
    """The account with this name, without regard to case."""
    return User.select().where(User.username == username).get_or_none(database)


def refresh(database: Database, refresh_token: str) -> Session:
    """Spend a refresh token for the next of its family.

    Raises NotAuthenticated; a token that was spent before also ends its family,
    because then somebody has a copy of it (RFC 9700, section 4.14.2).
    """
    now = clock.now()
    token_hash = tokens.hash_refresh_token(refresh_token)
    with database.atomic():
        token = RefreshToken.select().where(RefreshToken.token_hash == token_hash).get_or_none(database)
        if token is not None and token.spent_at is None and token.expires_at > now:
            RefreshToken.update(spent_at=now).where(RefreshToken.id == token.id).execute(database)
            user = _user(database, token.user_id)
            return Session(user, _add_refresh_token(database, user.id, token.family))
        if token is not None:
            RefreshToken.delete().where(RefreshToken.family == token.family).execute(database)
    raise NotAuthenticated("the refresh token is not valid (any more)")


def log_out(database: Database, refresh_token: str) -> None:
    """End the session of this refresh token, if there is one."""
    token_hash = tokens.hash_refresh_token(refresh_token)
    family = RefreshToken.select(RefreshToken.family).where(RefreshToken.token_hash == token_hash)
    with database.atomic():
        RefreshToken.delete().where(RefreshToken.family.in_(family)).execute(database)


def user_of(database: Database, claims: tokens.Claims) -> User:
    """The user of an access token. Raises NotAuthenticated if the token has been revoked."""
    same = (User.id == claims.user_id) & (User.credential_version == claims.credential_version)
    user = User.select().where(same).get_or_none(database)
    if user is None:
        raise NotAuthenticated("the access token has been revoked")
    return user


def change_password(database: Database, user: User, current: str, new: str, address: str) -> Session:
    """Set a new password, end every session and begin a new one.

    Raises WrongPassword, NotAuthenticated, TooManyAttempts or Busy.
    """
    with passwords.admission():
        _confirm_password(database, user, current, address)
        return set_password(database, user, new)


def set_password(database: Database, user: User, password: str) -> Session:
    """Set a new password, end every session and begin a new one. Raises NotAuthenticated."""
    hashed = passwords.hash_password(password)
    with database.atomic():
        require_unchanged(database, user)
        RefreshToken.delete().where(RefreshToken.user == user.id).execute(database)
        User.update(password=hashed, credential_version=_new_credential_version()).where(
            User.id == user.id
        ).execute(database)
        throttle.forget_account(database, user.username)
        return _begin_session(database, _user(database, user.id))


def confirm_password(database: Database, user: User, password: str, address: str) -> None:
    """Make sure that it is the user who asks. Raises WrongPassword, TooManyAttempts or Busy."""
    with passwords.admission():
        _confirm_password(database, user, password, address)


def _confirm_password(database: Database, user: User, password: str, address: str) -> None:
    with throttle.attempt(database, user.username, address):
        if not passwords.verify_password(password, user.password):
            raise WrongPassword("the password is wrong")


def require_unchanged(database: Database, user: User) -> None:
    """Raise NotAuthenticated if the account or its password has gone while the given one was checked."""
    same = (User.id == user.id) & (User.credential_version == user.credential_version)
    if not User.select().where(same).exists(database):
        raise NotAuthenticated("the user name or the password is wrong", presented=False)


def _user(database: Database, user_id: int) -> User:
    return User.select().where(User.id == user_id).get(database)


def _begin_session(database: Database, user: User) -> Session:
    with database.atomic():
        require_unchanged(database, user)
        RefreshToken.delete().where(RefreshToken.expires_at <= clock.now()).execute(database)
        return Session(user, _add_refresh_token(database, user.id, family=secrets.token_hex(16)))


def _add_refresh_token(database: Database, user_id: int, family: str) -> str:
    now = clock.now()
    token = tokens.new_refresh_token()
    RefreshToken.insert(
        user=user_id,
        family=family,
        token_hash=tokens.hash_refresh_token(token),
        created_at=now,
        expires_at=now + timedelta(seconds=tokens.REFRESH_LIFETIME_SECONDS),
    ).execute(database)
    return token
