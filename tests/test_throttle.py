"""Failed logins: how many, from where, for how long."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from streamer import throttle
from streamer.database import Database, open_database
from streamer.errors import Busy, NotAuthenticated, TooManyAttempts, WrongPassword
from streamer.models import LoginFailures
from tests.concurrency import at_once
from tests.conftest import Clock

HOME = "192.0.2.1"
PER_ACCOUNT = 10
PER_ADDRESS = 50
REGISTRATIONS = 100
WINDOW_SECONDS = 15 * 60


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "streamer.db")
    yield opened
    opened.close()


def fail(database: Database, username: str = "alice", address: str = HOME, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(NotAuthenticated), throttle.attempt(database, username, address):
            raise NotAuthenticated("wrong")


def succeed(database: Database, username: str = "alice", address: str = HOME) -> None:
    with throttle.attempt(database, username, address):
        pass


def register(database: Database, address: str = HOME, times: int = 1) -> None:
    for _ in range(times):
        throttle.count_registration(database, address)


def sources(database: Database) -> set[str]:
    return {row.source for row in LoginFailures.select().execute(database)}


def is_blocked(database: Database, username: str = "alice", address: str = HOME) -> bool:
    """Ask without leaving a trace: what is neither right nor wrong is not counted."""
    try:
        with throttle.attempt(database, username, address):
            raise Busy
    except TooManyAttempts:
        return True
    except Busy:
        return False


@pytest.mark.usefixtures("frozen")
def test_tenth_failure_blocks_the_account_from_that_address(database: Database) -> None:
    fail(database, times=PER_ACCOUNT - 1)
    assert not is_blocked(database)
    fail(database)
    assert is_blocked(database)


@pytest.mark.usefixtures("frozen")
def test_wrong_password_of_somebody_signed_in_counts_too(database: Database) -> None:
    for _ in range(PER_ACCOUNT):
        with pytest.raises(WrongPassword), throttle.attempt(database, "alice", HOME):
            raise WrongPassword
    assert is_blocked(database)


@pytest.mark.usefixtures("frozen")
def test_blocked_attempt_is_not_made(database: Database) -> None:
    fail(database, times=PER_ACCOUNT)
    made = False
    with pytest.raises(TooManyAttempts), throttle.attempt(database, "alice", HOME):
        made = True
    assert not made


@pytest.mark.usefixtures("frozen")
def test_block_knows_neither_other_addresses_nor_other_accounts(database: Database) -> None:
    fail(database, times=PER_ACCOUNT)
    assert not is_blocked(database, address="192.0.2.2")
    assert not is_blocked(database, username="bob")


@pytest.mark.usefixtures("frozen")
def test_user_name_counts_without_regard_to_case(database: Database) -> None:
    fail(database, "alice", times=PER_ACCOUNT // 2)
    fail(database, "ALICE", times=PER_ACCOUNT // 2)
    assert is_blocked(database, "Alice")


@pytest.mark.usefixtures("frozen")
def test_fiftieth_failure_blocks_the_address_for_every_account(database: Database) -> None:
    for number in range(5):
        fail(database, f"user{number}", times=PER_ADDRESS // 5 - (number == 4))
    assert not is_blocked(database, "somebody.else")
    fail(database, "user4")
    assert is_blocked(database, "somebody.else")
    assert not is_blocked(database, "user4", "192.0.2.2")


def test_blocked_attempts_are_not_counted(database: Database, frozen: Clock) -> None:
    fail(database, times=PER_ACCOUNT)
    for _ in range(PER_ADDRESS):
        assert is_blocked(database)
    assert not is_blocked(database, "bob"), "they would have used up the address"


def test_block_ends_fifteen_minutes_after_the_first_failure(database: Database, frozen: Clock) -> None:
    fail(database)
    frozen.forward(seconds=WINDOW_SECONDS - 10)
    fail(database, times=PER_ACCOUNT - 1)
    frozen.forward(seconds=9)
    assert is_blocked(database)
    frozen.forward(seconds=1)
    assert not is_blocked(database)


@pytest.mark.parametrize("age", [0, 0.25, 60, WINDOW_SECONDS - 0.5])
def test_retry_after_is_long_enough_and_at_most_a_second_too_long(
    database: Database, frozen: Clock, age: float
) -> None:
    fail(database, times=PER_ACCOUNT)
    frozen.forward(seconds=age)
    with pytest.raises(TooManyAttempts) as caught, throttle.attempt(database, "alice", HOME):
        pass
    assert 0 <= caught.value.retry_after - (WINDOW_SECONDS - age) <= 1
    frozen.forward(seconds=caught.value.retry_after)
    assert not is_blocked(database)


def test_failures_of_ended_windows_do_not_stay(database: Database, frozen: Clock) -> None:
    for number in range(5):
        fail(database, f"user{number}")
    frozen.forward(seconds=WINDOW_SECONDS)
    fail(database, "alice", "192.0.2.9")
    assert sources(database) == {
        "account:alice 192.0.2.9",
        "address:192.0.2.9",
    }


@pytest.mark.usefixtures("frozen")
def test_success_forgets_the_failures_of_the_account(database: Database) -> None:
    fail(database, times=PER_ACCOUNT - 1)
    succeed(database)
    fail(database, times=PER_ACCOUNT - 1)
    assert not is_blocked(database)


@pytest.mark.usefixtures("frozen")
def test_success_does_not_forget_the_failures_of_the_address(database: Database) -> None:
    for number in range(5):
        fail(database, f"victim{number}", times=PER_ADDRESS // 5 - 1)
        succeed(database, "attacker")
    fail(database, "victim5", times=5)
    assert is_blocked(database, "somebody.else")


@pytest.mark.usefixtures("frozen")
def test_success_itself_is_not_counted(database: Database) -> None:
    for _ in range(PER_ADDRESS + 1):
        succeed(database)


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("error", [Busy("full"), OSError("disk"), KeyboardInterrupt()])
def test_attempt_whose_password_nobody_looked_at_is_taken_back(
    database: Database, error: BaseException
) -> None:
    fail(database, times=PER_ACCOUNT - 1)
    for _ in range(PER_ADDRESS):
        with pytest.raises(type(error)), throttle.attempt(database, "alice", HOME):
            raise error
    assert not is_blocked(database)
    fail(database)
    assert is_blocked(database), "what failed before still counts"


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:DB8:0001:2::2", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "::FFFF:c000:0201", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "::192.0.2.1", False),
        ("", "unix:/run/streamer.sock", True),
        ("", "192.0.2.1", False),
    ],
)
def test_addresses_count_as_their_customer(database: Database, first: str, second: str, shared: bool) -> None:
    fail(database, address=first, times=PER_ACCOUNT)
    assert is_blocked(database, address=second) is shared


@pytest.mark.usefixtures("frozen")
def test_attempts_that_still_run_are_counted(database: Database) -> None:
    with ExitStack() as running:
        for _ in range(PER_ACCOUNT):
            running.enter_context(throttle.attempt(database, "alice", HOME))
        assert is_blocked(database)
    assert not is_blocked(database), "all of them were right"


@pytest.mark.usefixtures("frozen")
def test_attempts_made_at_once_do_not_slip_past_the_limit(database: Database) -> None:
    def attempt() -> None:
        try:
            with throttle.attempt(database, "alice", HOME):
                raise NotAuthenticated("wrong")
        finally:
            database.close()

    kinds = [type(outcome) for outcome in at_once(*[attempt] * 16)]
    assert kinds.count(NotAuthenticated) == PER_ACCOUNT
    assert kinds.count(TooManyAttempts) == 16 - PER_ACCOUNT


@pytest.mark.usefixtures("frozen")
def test_counts_are_shared_through_the_database(database: Database, tmp_path: Path) -> None:
    fail(database, times=PER_ACCOUNT)
    other = open_database(tmp_path / "streamer.db")
    assert is_blocked(other)
    other.close()


# a clock that was wrong


@pytest.mark.parametrize("back", [timedelta(seconds=1), timedelta(minutes=20), timedelta(days=3650)])
def test_clock_that_jumps_back_frees_whoever_was_locked_out(
    database: Database, frozen: Clock, back: timedelta
) -> None:
    fail(database, times=PER_ACCOUNT)
    register(database, times=REGISTRATIONS)
    frozen.time -= back
    assert not is_blocked(database)
    register(database)


@pytest.mark.parametrize("later_seconds", [60, 61, WINDOW_SECONDS])
def test_whoever_is_refused_after_a_clock_jumped_back_is_free_a_window_later(
    database: Database, frozen: Clock, later_seconds: int
) -> None:
    fail(database, times=PER_ACCOUNT)
    frozen.forward(seconds=-60)
    frozen.forward(seconds=later_seconds)
    assert is_blocked(database)
    frozen.forward(seconds=WINDOW_SECONDS)
    assert not is_blocked(database)


def test_failures_after_a_clock_jumped_back_count_as_ever(database: Database, frozen: Clock) -> None:
    fail(database, times=PER_ACCOUNT)
    frozen.forward(days=-1)
    fail(database, times=PER_ACCOUNT)
    assert is_blocked(database)


# a new password


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize("name", ["ada", "ADA"])
def test_forgotten_account_is_free_from_every_address(database: Database, name: str) -> None:
    addresses = [HOME, "203.0.113.9", "2001:db8::1", ""]
    for address in addresses:
        fail(database, "Ada", address, times=PER_ACCOUNT)
    throttle.forget_account(database, name)
    assert not [address for address in addresses if is_blocked(database, "ada", address)]


@pytest.mark.usefixtures("frozen")
@pytest.mark.parametrize(
    "neighbour",
    ["ad", "adb", "ada.b", "ada-", "ada_", "ada0", "ada!", "ada!x", "adaa", "ada\x1f", "lada", ""],
)
def test_forgetting_an_account_leaves_its_neighbours_locked(database: Database, neighbour: str) -> None:
    fail(database, neighbour, times=PER_ACCOUNT)
    throttle.forget_account(database, "ada")
    assert is_blocked(database, neighbour)


@pytest.mark.usefixtures("frozen")
def test_forgetting_an_account_with_a_longer_name_leaves_its_prefix_locked(database: Database) -> None:
    fail(database, "ada", times=PER_ACCOUNT)
    throttle.forget_account(database, "ada.b")
    assert is_blocked(database, "ada")


@pytest.mark.usefixtures("frozen")
def test_forgetting_an_account_leaves_what_the_address_has_done(database: Database) -> None:
    fail(database, "ada")
    register(database)
    throttle.forget_account(database, "ada")
    assert sources(database) == {f"address:{HOME}", f"registration:{HOME}"}


# registrations


@pytest.mark.usefixtures("frozen")
def test_hundred_registrations_are_counted_and_the_next_is_not_made(database: Database) -> None:
    register(database, times=REGISTRATIONS)
    with pytest.raises(TooManyAttempts):
        register(database)
    register(database, "192.0.2.2")
    assert not is_blocked(database), "logging in is something else"


@pytest.mark.usefixtures("frozen")
def test_registrations_count_per_network(database: Database) -> None:
    register(database, "2001:db8:1:2::1", times=REGISTRATIONS // 2)
    register(database, "2001:db8:1:2:ffff::", times=REGISTRATIONS // 2)
    with pytest.raises(TooManyAttempts):
        register(database, "2001:db8:1:2::3")
    register(database, "2001:db8:1:3::1")


def test_registrations_are_free_again_when_retry_after_says(database: Database, frozen: Clock) -> None:
    register(database)
    frozen.forward(seconds=60)
    register(database, times=REGISTRATIONS - 1)
    with pytest.raises(TooManyAttempts) as caught:
        register(database)
    assert 0 <= caught.value.retry_after - (WINDOW_SECONDS - 60) <= 1
    frozen.forward(seconds=caught.value.retry_after)
    register(database, times=REGISTRATIONS)


@pytest.mark.usefixtures("frozen")
def test_failed_logins_do_not_use_up_registrations(database: Database) -> None:
    for number in range(5):
        fail(database, f"user{number}", times=PER_ADDRESS // 5)
    register(database, times=REGISTRATIONS)
