"""Password hashes: every byte counts, and few are computed at once."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import bcrypt
import pytest

from streamer import passwords
from streamer.errors import Busy
from streamer.passwords import admission, hash_password, verify_password

WAIT_SECONDS = 30  # for what comes at once unless something is broken


def test_password_matches_its_own_hash_only() -> None:
    hashed = hash_password("correct horse")
    assert verify_password("correct horse", hashed)
    assert not verify_password("correct horsf", hashed)
    assert not verify_password("Correct horse", hashed)
    assert not verify_password("", hashed)


def test_equal_passwords_have_different_hashes() -> None:
    assert hash_password("correct horse") != hash_password("correct horse")


@pytest.mark.parametrize(
    ("password", "other"),
    [
        ("x" * 72 + "a", "x" * 72 + "b"),
        ("x" * 128, "x" * 127),
        ("x" * 127 + "a", "x" * 127 + "b"),
        ("é" * 40, "é" * 39),
        ("before\0after", "before\0other"),
        ("before\0after", "before"),
        ("\0" * 8, "\0" * 9),
    ],
)
def test_every_character_counts(password: str, other: str) -> None:
    hashed = hash_password(password)
    assert verify_password(password, hashed)
    assert not verify_password(other, hashed)


@pytest.mark.parametrize(
    ("typed", "set_as"),
    [
        ("caf\u00e9 au lait", "cafe\u0301 au lait"),
        ("\u212bngstr\u00f6m", "\u00c5ngstro\u0308m"),
        ("\uff50\uff41ss word", "pass word"),
    ],
)
def test_unicode_forms_of_one_password_are_equal(typed: str, set_as: str) -> None:
    assert verify_password(typed, hash_password(set_as))
    assert verify_password(set_as, hash_password(typed))


def test_hash_has_the_cost_of_twelve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert passwords.COST == 12
    monkeypatch.setattr(passwords, "COST", 5)
    assert hash_password("correct horse").startswith("$2b$05$")


def test_hash_of_another_cost_still_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = hash_password("correct horse")
    monkeypatch.setattr(passwords, "COST", 5)
    assert verify_password("correct horse", hashed)


@pytest.mark.parametrize("password", ["", "correct horse", "." * 53])
def test_nobody_has_no_password(password: str) -> None:
    assert verify_password(password, None) is False


def test_nobody_is_not_let_in_even_by_a_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, hashed: True)
    assert verify_password("correct horse", None) is False


def test_nobody_costs_the_same_bcrypt_work_as_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[int, bytes]] = []
    check = bcrypt.checkpw

    def checkpw(password: bytes, hashed: bytes) -> bool:
        runs.append((len(password), hashed[:7]))
        return check(password, hashed)

    hashed = hash_password("correct horse")
    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    verify_password("wrong horse", hashed)
    verify_password("wrong horse", None)
    assert runs == [(44, b"$2b$04$")] * 2


# how many at once


class Gate:
    """Stands in for bcrypt: whoever comes in waits until the gate opens."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.inside = 0
        self.most = 0
        self._changed = threading.Condition()

    def checkpw(self, password: bytes, hashed: bytes) -> bool:
        with self._changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self._changed.notify_all()
        assert self.open.wait(WAIT_SECONDS)
        with self._changed:
            self.inside -= 1
        return True

    def wait_for(self, inside: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.inside == inside, WAIT_SECONDS)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    closed = Gate()
    monkeypatch.setattr(bcrypt, "checkpw", closed.checkpw)
    yield closed
    closed.open.set()


def admitted(started: threading.Semaphore, call: Callable[[], bool]) -> bool:
    with admission():
        started.release()
        return call()


def test_two_run_four_wait_and_the_seventh_is_sent_away(gate: Gate) -> None:
    started = threading.Semaphore(0)
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(admitted, started, lambda: verify_password("a", "b")) for _ in range(6)]
        for _ in running:
            assert started.acquire(timeout=WAIT_SECONDS)
        gate.wait_for(inside=2)
        for _ in range(3):
            with pytest.raises(Busy), admission():
                pass
        gate.open.set()
        assert [future.result(WAIT_SECONDS) for future in running] == [True] * 6
    assert gate.most == 2
    with admission():
        assert verify_password("a", "b")


def test_hashing_a_new_password_takes_turns_with_checks(gate: Gate) -> None:
    started = threading.Semaphore(0)
    with ThreadPoolExecutor(3) as pool:
        checks = [pool.submit(admitted, started, lambda: verify_password("a", "b")) for _ in range(2)]
        gate.wait_for(inside=2)
        new = pool.submit(hash_password, "correct horse")
        assert not passwords._turns.acquire(blocking=False)
        assert not new.done()
        gate.open.set()
        assert new.result(WAIT_SECONDS).startswith("$2b$")
        assert all(check.result(WAIT_SECONDS) for check in checks)


def test_places_come_back_after_errors() -> None:
    for _ in range(10):
        with pytest.raises(ValueError, match="alt"), admission():
            verify_password("correct horse", "not a hash")
    for _ in range(10):
        with pytest.raises(KeyboardInterrupt), admission():
            raise KeyboardInterrupt
    for _ in range(10):
        with pytest.raises(UnicodeEncodeError), admission():
            hash_password("\ud800")
    with admission():
        assert verify_password("correct horse", hash_password("correct horse"))
