"""Accounts and sessions, below HTTP."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import bcrypt
import pytest

from streamer import accounts, passwords, throttle, videos
from streamer.accounts import Session
from streamer.database import Database, open_database
from streamer.errors import Busy, NotAuthenticated, TooManyAttempts, UsernameTaken, WrongPassword
from streamer.models import LoginFailures, RefreshToken, User
from streamer.tokens import AccessTokens
from tests.concurrency import at_once
from tests.conftest import Clock
from tests.helpers import PASSWORD

HOME = "192.0.2.1"
NEW = "another long password"
ACCESS = AccessTokens("k" * 32)
DAY_SECONDS = 24 * 60 * 60


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "streamer.db")
    yield opened
    opened.close()


@pytest.fixture
def alice(database: Database) -> User:
    return accounts.add(database, "alice", PASSWORD)


def log_in(database: Database, username: str = "alice", password: str = PASSWORD) -> Session:
    return accounts.log_in(database, username, password, HOME)


def access_token(session: Session) -> str:
    return ACCESS.issue(session.user.id, session.user.credential_version)


def is_alive(database: Database, session: Session) -> bool:
    """Spends the refresh token."""
    try:
        accounts.refresh(database, session.refresh_token)
    except NotAuthenticated:
        return False
    return True


def closing(database: Database, call: Callable[[], Session | User]) -> Callable[[], Session | User]:
    """The call, which then closes the connection of the thread it was made in."""

    def run() -> Session | User:
        try:
            return call()
        finally:
            database.close()

    return run


@pytest.fixture
def during_check(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Lets something happen while the next password is being checked."""

    def arrange(happen: Callable[[], object]) -> None:
        check = bcrypt.checkpw

        def checkpw(password: bytes, hashed: bytes) -> bool:
            monkeypatch.setattr(bcrypt, "checkpw", check)
            happen()
            return check(password, hashed)

        monkeypatch.setattr(bcrypt, "checkpw", checkpw)

    return arrange


# register


def test_new_account_is_empty_and_its_password_hashed(database: Database, frozen: Clock) -> None:
    user = accounts.add(database, "Alice", PASSWORD)
    assert (user.username, user.video_count, user.bytes_used) == ("Alice", 0, 0)
    assert user.created_at == frozen.time
    assert user.password.startswith("$2b$")
    assert bcrypt.checkpw(PASSWORD.encode(), user.password.encode()) is False, "SHA-256 comes first"


def test_user_name_is_unique_without_regard_to_case(database: Database, alice: User) -> None:
    with pytest.raises(UsernameTaken, match="ALICE"):
        accounts.add(database, "ALICE", PASSWORD)
    assert [user.username for user in User.select().execute(database)] == ["alice"]


def test_of_two_registrations_at_once_exactly_one_wins(database: Database) -> None:
    calls = [
        closing(database, lambda name=name: accounts.add(database, name, PASSWORD))  # type: ignore[misc]
        for name in ("carol", "CAROL", "Carol")
    ]
    kinds = sorted(type(outcome).__name__ for outcome in at_once(*calls))
    assert kinds == ["User", "UsernameTaken", "UsernameTaken"]


def test_name_taken_while_the_password_is_hashed_is_refused(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashpw = bcrypt.hashpw

    def rival(password: bytes, salt: bytes) -> bytes:
        monkeypatch.setattr(bcrypt, "hashpw", hashpw)
        accounts.add(database, "CAROL", PASSWORD)
        return hashpw(password, salt)

    monkeypatch.setattr(bcrypt, "hashpw", rival)
    with pytest.raises(UsernameTaken, match="carol"):
        accounts.add(database, "carol", PASSWORD)


def test_taken_name_costs_no_hash(database: Database, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bcrypt, "hashpw", None)
    with pytest.raises(UsernameTaken):
        accounts.add(database, "alice", PASSWORD)


def test_id_of_a_removed_account_is_never_given_again(database: Database, alice: User) -> None:
    videos.remove_account(database, alice)
    assert accounts.add(database, "alice", PASSWORD).id > alice.id


def test_registration_that_is_one_too_many_costs_no_hash_and_makes_no_account(
    database: Database, frozen: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(throttle.REGISTRATIONS_PER_ADDRESS):
        throttle.count_registration(database, HOME)
    with monkeypatch.context() as patch:
        patch.setattr(bcrypt, "hashpw", None)
        with pytest.raises(TooManyAttempts):
            accounts.register(database, "alice", PASSWORD, HOME)
    assert User.select().count(database) == 0
    assert accounts.register(database, "alice", PASSWORD, "192.0.2.2").username == "alice"


def test_registration_of_a_taken_name_counts(database: Database, alice: User, frozen: Clock) -> None:
    for _ in range(throttle.REGISTRATIONS_PER_ADDRESS):
        with pytest.raises(UsernameTaken):
            accounts.register(database, "alice", PASSWORD, HOME)
    with pytest.raises(TooManyAttempts):
        accounts.register(database, "bob", PASSWORD, HOME)


def test_registration_that_finds_no_place_is_not_counted(database: Database) -> None:
    with ExitStack() as places:
        for _ in range(passwords.RUNNING + passwords.WAITING):
            places.enter_context(passwords.admission())
        with pytest.raises(Busy):
            accounts.register(database, "alice", PASSWORD, HOME)
    assert LoginFailures.select().count(database) == 0


def test_administrator_adds_accounts_without_being_counted(database: Database) -> None:
    accounts.add(database, "alice", PASSWORD)
    assert LoginFailures.select().count(database) == 0


# log in


def test_log_in_ignores_the_case_of_the_name(database: Database, alice: User) -> None:
    assert log_in(database, "ALICE").user.id == alice.id


def test_unknown_user_and_wrong_password_fail_in_the_same_words(database: Database, alice: User) -> None:
    with pytest.raises(NotAuthenticated) as unknown:
        log_in(database, username="nobody")
    with pytest.raises(NotAuthenticated) as wrong:
        log_in(database, password="not the password")
    assert str(unknown.value) == str(wrong.value)
    assert unknown.value.presented is wrong.value.presented is False


def test_session_does_not_begin_when_the_password_was_changed_during_the_check(
    database: Database, alice: User, during_check: Callable[[Callable[[], object]], None]
) -> None:
    during_check(lambda: accounts.set_password(database, alice, NEW))
    with pytest.raises(NotAuthenticated):
        log_in(database)
    assert RefreshToken.select().count(database) == 1, "only the session that the change has begun"


def test_session_does_not_begin_when_the_account_was_removed_during_the_check(
    database: Database, alice: User, during_check: Callable[[Callable[[], object]], None]
) -> None:
    during_check(lambda: videos.remove_account(database, alice))
    with pytest.raises(NotAuthenticated):
        log_in(database)


def test_session_does_not_begin_for_a_new_account_of_the_same_name(
    database: Database, alice: User, during_check: Callable[[Callable[[], object]], None]
) -> None:
    def replace() -> None:
        videos.remove_account(database, alice)
        accounts.add(database, "alice", NEW)

    during_check(replace)
    with pytest.raises(NotAuthenticated):
        log_in(database)
    assert RefreshToken.select().count(database) == 0


def test_beginning_a_session_removes_expired_tokens(database: Database, alice: User, frozen: Clock) -> None:
    log_in(database)
    frozen.forward(days=30)
    log_in(database)
    assert RefreshToken.select().count(database) == 1


def test_refresh_token_is_stored_as_a_hash_only(database: Database, alice: User) -> None:
    token = log_in(database).refresh_token
    (row,) = RefreshToken.select().dicts().execute(database)
    assert token not in str(row)
    assert len(row["token_hash"]) == 64


# refresh


def test_refresh_gives_a_new_token_each_time(database: Database, alice: User) -> None:
    session = log_in(database)
    seen = {session.refresh_token}
    for _ in range(3):
        session = accounts.refresh(database, session.refresh_token)
        assert session.user == alice
        seen.add(session.refresh_token)
    assert len(seen) == 4


def test_spent_refresh_token_revokes_its_family(database: Database, alice: User) -> None:
    first = log_in(database)
    second = accounts.refresh(database, first.refresh_token)
    third = accounts.refresh(database, second.refresh_token)
    assert not is_alive(database, first)
    assert not is_alive(database, third)
    assert RefreshToken.select().count(database) == 0


def test_spent_refresh_token_leaves_other_sessions_alone(database: Database, alice: User) -> None:
    other = log_in(database)
    stolen = log_in(database)
    accounts.refresh(database, stolen.refresh_token)
    assert not is_alive(database, stolen)
    assert is_alive(database, other)


def test_of_two_refreshes_at_once_exactly_one_wins_and_then_the_family_ends(
    database: Database, alice: User
) -> None:
    for _ in range(5):
        token = log_in(database).refresh_token
        calls = [closing(database, lambda token=token: accounts.refresh(database, token))] * 2  # type: ignore[misc]
        outcomes = at_once(*calls)
        winners = [outcome for outcome in outcomes if isinstance(outcome, Session)]
        assert len(winners) == 1
        assert sum(isinstance(outcome, NotAuthenticated) for outcome in outcomes) == 1
        assert not is_alive(database, winners[0]), "one of the two was not its owner"


def test_refresh_token_lives_thirty_days(database: Database, alice: User, frozen: Clock) -> None:
    early, late = log_in(database), log_in(database)
    frozen.forward(seconds=30 * DAY_SECONDS - 1)
    assert is_alive(database, early)
    frozen.forward(seconds=1)
    assert not is_alive(database, late)


def test_each_refresh_gives_another_thirty_days(database: Database, alice: User, frozen: Clock) -> None:
    session = log_in(database)
    for _ in range(3):
        frozen.forward(days=29)
        session = accounts.refresh(database, session.refresh_token)


@pytest.mark.parametrize("token", ["", "x", "é" * 500, "0" * 1000])
def test_unknown_refresh_token_is_refused_and_ends_nothing(
    database: Database, alice: User, token: str
) -> None:
    session = log_in(database)
    with pytest.raises(NotAuthenticated) as caught:
        accounts.refresh(database, token)
    assert caught.value.presented
    assert is_alive(database, session)


# log out


def test_log_out_ends_this_session_only(database: Database, alice: User) -> None:
    session, other = log_in(database), log_in(database)
    accounts.log_out(database, session.refresh_token)
    assert not is_alive(database, session)
    assert is_alive(database, other)


def test_log_out_with_a_spent_token_ends_its_session(database: Database, alice: User) -> None:
    session = log_in(database)
    following = accounts.refresh(database, session.refresh_token)
    accounts.log_out(database, session.refresh_token)
    assert not is_alive(database, following)


def test_log_out_with_an_unknown_token_is_no_error(database: Database, alice: User) -> None:
    session = log_in(database)
    accounts.log_out(database, "unknown")
    assert is_alive(database, session)


# access tokens


def test_access_token_names_its_user(database: Database, alice: User) -> None:
    bob = accounts.add(database, "bob", PASSWORD)
    assert accounts.user_of(database, ACCESS.read(access_token(log_in(database)))) == alice
    assert accounts.user_of(database, ACCESS.read(access_token(log_in(database, "bob")))) == bob


def test_access_token_dies_with_its_account(database: Database, alice: User) -> None:
    token = access_token(log_in(database))
    videos.remove_account(database, alice)
    with pytest.raises(NotAuthenticated):
        accounts.user_of(database, ACCESS.read(token))


def test_credential_versions_are_random_and_fit_into_the_database(database: Database) -> None:
    versions = [accounts.add(database, f"user{number}", PASSWORD).credential_version for number in range(8)]
    assert len(set(versions)) == 8
    assert all(0 <= version < 2**63 for version in versions)
    assert max(versions) > 2**48, "not counted from one"


def test_access_token_of_another_database_is_refused(database: Database, alice: User, tmp_path: Path) -> None:
    other = open_database(tmp_path / "other.db")
    namesake = accounts.add(other, "alice", PASSWORD)
    assert namesake.id == alice.id
    with pytest.raises(NotAuthenticated, match="revoked"):
        accounts.user_of(other, ACCESS.read(access_token(log_in(database))))
    other.close()


# change of the password


def test_change_of_password_ends_access_tokens_and_sessions(database: Database, alice: User) -> None:
    old = log_in(database)
    new = accounts.change_password(database, alice, PASSWORD, NEW, HOME)
    with pytest.raises(NotAuthenticated, match="revoked"):
        accounts.user_of(database, ACCESS.read(access_token(old)))
    assert not is_alive(database, old)
    assert accounts.user_of(database, ACCESS.read(access_token(new))) == alice
    assert is_alive(database, new)


def test_after_a_change_only_the_new_password_is_right(database: Database, alice: User) -> None:
    accounts.change_password(database, alice, PASSWORD, NEW, HOME)
    assert log_in(database, password=NEW).user == alice
    with pytest.raises(NotAuthenticated):
        log_in(database)


def test_change_of_password_leaves_other_accounts_alone(database: Database, alice: User) -> None:
    accounts.add(database, "bob", PASSWORD)
    session = log_in(database, "bob")
    accounts.set_password(database, alice, NEW)
    assert accounts.user_of(database, ACCESS.read(access_token(session))).username == "bob"
    assert is_alive(database, session)
    assert log_in(database, "bob")


def test_wrong_current_password_changes_nothing(database: Database, alice: User) -> None:
    session = log_in(database)
    with pytest.raises(WrongPassword):
        accounts.change_password(database, alice, "not the password", NEW, HOME)
    assert accounts.user_of(database, ACCESS.read(access_token(session))) == alice
    assert is_alive(database, session)


def test_wrong_current_passwords_are_throttled_together_with_logins(
    database: Database, alice: User, frozen: Clock
) -> None:
    for _ in range(5):
        with pytest.raises(WrongPassword):
            accounts.confirm_password(database, alice, "not the password", HOME)
        with pytest.raises(NotAuthenticated):
            log_in(database, password="not the password")
    with pytest.raises(TooManyAttempts):
        accounts.confirm_password(database, alice, PASSWORD, HOME)
    accounts.confirm_password(database, alice, PASSWORD, "192.0.2.2")


def test_password_changed_during_the_check_is_not_changed_again(
    database: Database, alice: User, during_check: Callable[[Callable[[], object]], None]
) -> None:
    """Somebody who knows the old password can't undo the change that should keep him out."""
    during_check(lambda: accounts.set_password(database, alice, NEW))
    with pytest.raises((NotAuthenticated, WrongPassword)):
        accounts.change_password(database, alice, PASSWORD, "password of the thief", HOME)
    assert log_in(database, password=NEW).user == alice


def test_password_of_an_account_removed_during_the_check_is_not_changed(
    database: Database, alice: User, during_check: Callable[[Callable[[], object]], None]
) -> None:
    during_check(lambda: videos.remove_account(database, alice))
    with pytest.raises(NotAuthenticated):
        accounts.change_password(database, alice, PASSWORD, NEW, HOME)


def lock(database: Database, username: str, address: str) -> None:
    """Fail to log in until nobody there is asked for a password any more."""
    for _ in range(throttle.FAILURES_PER_ACCOUNT_AND_ADDRESS):
        with pytest.raises(NotAuthenticated):
            accounts.log_in(database, username, "not the password", address)
    with pytest.raises(TooManyAttempts):
        accounts.log_in(database, username, PASSWORD, address)


def test_new_password_unlocks_the_account_everywhere_and_no_other(
    database: Database, alice: User, frozen: Clock
) -> None:
    accounts.add(database, "alice.b", PASSWORD)
    for address in (HOME, "192.0.2.2", "2001:db8::1"):
        lock(database, "alice", address)
        lock(database, "alice.b", address)
    accounts.set_password(database, alice, NEW)
    for address in (HOME, "192.0.2.2", "2001:db8::1"):
        assert accounts.log_in(database, "alice", NEW, address)
        with pytest.raises(TooManyAttempts):
            accounts.log_in(database, "alice.b", PASSWORD, address)


def test_password_that_was_not_set_unlocks_nothing(database: Database, alice: User, frozen: Clock) -> None:
    lock(database, "alice", HOME)
    accounts.set_password(database, alice, NEW)
    lock(database, "alice", HOME)
    with pytest.raises(NotAuthenticated):
        accounts.set_password(database, alice, "password of the slower one")
    with pytest.raises(TooManyAttempts):
        log_in(database, password=NEW)


# removal


def test_account_whose_password_was_changed_meanwhile_is_not_removed(database: Database, alice: User) -> None:
    session = accounts.set_password(database, alice, NEW)
    with pytest.raises(NotAuthenticated) as caught:
        videos.remove_account(database, alice)
    assert not caught.value.presented
    assert is_alive(database, session)
    assert log_in(database, password=NEW).user == alice


def test_account_is_removed_once(database: Database, alice: User) -> None:
    videos.remove_account(database, alice)
    with pytest.raises(NotAuthenticated):
        videos.remove_account(database, alice)


def test_account_whose_sessions_go_on_is_unchanged(database: Database, alice: User) -> None:
    accounts.refresh(database, log_in(database).refresh_token)
    accounts.require_unchanged(database, alice)
