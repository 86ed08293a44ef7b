"""Failed logins are counted per account and address, and per address.

There is no count per account alone: with one, a stranger could lock the owner
out. The counts live in the database, so that all processes share them. An
attempt is counted before the password is looked at and taken back when it was
right, so that attempts made at once can't slip past the limit together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_network

from streamer import clock
from streamer.database import Database
from streamer.errors import NotAuthenticated, TooManyAttempts, WrongPassword
from streamer.models import LoginFailures
from streamer.protocol.forwarded import parse_address

WINDOW = timedelta(minutes=15)
FAILURES_PER_ACCOUNT_AND_ADDRESS = 10
FAILURES_PER_ADDRESS = 50
REGISTRATIONS_PER_ADDRESS = 100


@contextmanager
def attempt(database: Database, username: str, address: str) -> Iterator[None]:
    """Make one attempt inside, which raises NotAuthenticated or WrongPassword when it fails.

    Raises TooManyAttempts when the attempt must not be made; it is not counted then.
    """
    _count(database, username, address)
    try:
        yield
    except (NotAuthenticated, WrongPassword):
        raise
    except BaseException:
        _take_back(database, username, address)  # nobody looked at the password
        raise
    with database.atomic():
        _take_back(database, username, address)
        _forget(database, username, address)


def forget_account(database: Database, username: str) -> None:
    """Forget the failures of an account from everywhere: it has a new password."""
    account = f"account:{username.lower()}"
    everywhere = (LoginFailures.source >= f"{account} ") & (LoginFailures.source < f"{account}!")
    LoginFailures.delete().where(everywhere).execute(database)


def count_registration(database: Database, address: str) -> None:
    """Count one registration. Raises TooManyAttempts when it must not be made."""
    with database.atomic():
        _count_one(database, f"registration:{_network(address)}", REGISTRATIONS_PER_ADDRESS)


def _count(database: Database, username: str, address: str) -> None:
    with database.atomic():
        for source, most in _sources(username, address):
            _count_one(database, source, most)


def _count_one(database: Database, source: str, most: int) -> None:
    now = clock.now()
    # those that end later than they can were counted by a clock that was wrong
    over = (LoginFailures.expires_at <= now) | (LoginFailures.expires_at > now + WINDOW)
    LoginFailures.delete().where(over).execute(database)
    row = LoginFailures.select().where(LoginFailures.source == source).get_or_none(database)
    if row is not None and row.failures >= most:
        raise TooManyAttempts(retry_after=int((row.expires_at - now).total_seconds()) + 1)
    LoginFailures.insert(source=source, failures=1, expires_at=now + WINDOW).on_conflict(
        conflict_target=[LoginFailures.source],
        update={LoginFailures.failures: LoginFailures.failures + 1},
    ).execute(database)


def _take_back(database: Database, username: str, address: str) -> None:
    sources = [source for source, _ in _sources(username, address)]
    LoginFailures.update(failures=LoginFailures.failures - 1).where(
        LoginFailures.source.in_(sources)
    ).execute(database)


def _forget(database: Database, username: str, address: str) -> None:
    """Forget the failures of the account that was signed in to; those of the address stand."""
    (account, _), _ = _sources(username, address)
    LoginFailures.delete().where(LoginFailures.source == account).execute(database)


def _sources(username: str, address: str) -> list[tuple[str, int]]:
    network = _network(address)
    return [
        (f"account:{username.lower()} {network}", FAILURES_PER_ACCOUNT_AND_ADDRESS),
        (f"address:{network}", FAILURES_PER_ADDRESS),
    ]


def _network(address: str) -> str:
    """An IPv4 address itself; of an IPv6 address the /64, all of which one customer has."""
    parsed = parse_address(address)
    if parsed is None:  # a Unix socket has none
        return "local"
    return str(ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)
