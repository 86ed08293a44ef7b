"""Access tokens, refresh tokens and the secret that signs."""

import errno
import os
import re
import stat
from pathlib import Path

import pytest
from itsdangerous import URLSafeTimedSerializer

from streamer.errors import NotAuthenticated, StreamerError
from streamer.tokens import AccessTokens, hash_refresh_token, load_secret, new_refresh_token
from tests.concurrency import at_once
from tests.conftest import Clock

SECRET = "s" * 64


@pytest.fixture
def tokens() -> AccessTokens:
    return AccessTokens(SECRET)


def test_token_gives_back_what_was_put_in(tokens: AccessTokens) -> None:
    assert tokens.read(tokens.issue(7, 3)) == (7, 3)
    assert tokens.read(tokens.issue(2**63 - 1, 1)) == (2**63 - 1, 1)


def test_token_goes_into_a_header_field_as_it_is(tokens: AccessTokens) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._~+/-]+=*", tokens.issue(7, 3)), "RFC 6750, section 2.1"


def test_token_lives_exactly_one_hour(tokens: AccessTokens, frozen: Clock) -> None:
    token = tokens.issue(7, 3)
    frozen.forward(seconds=3600)
    assert tokens.read(token) == (7, 3)
    frozen.forward(seconds=1)
    with pytest.raises(NotAuthenticated, match="expired"):
        tokens.read(token)


def test_token_from_the_future_is_refused(tokens: AccessTokens, frozen: Clock) -> None:
    token = tokens.issue(7, 3)
    frozen.forward(seconds=-2)
    with pytest.raises(NotAuthenticated):
        tokens.read(token)


def test_another_instance_with_the_same_secret_reads_it(tokens: AccessTokens) -> None:
    assert AccessTokens(SECRET).read(tokens.issue(7, 3)) == (7, 3)


def test_token_of_another_secret_is_refused(tokens: AccessTokens) -> None:
    with pytest.raises(NotAuthenticated):
        tokens.read(AccessTokens(SECRET[:-1]).issue(7, 3))


@pytest.mark.parametrize("salt", ["streamer.playback", "streamer.refresh", "itsdangerous"])
def test_token_for_another_purpose_is_refused(tokens: AccessTokens, salt: str) -> None:
    signed = type(tokens)(SECRET)._serializer
    other = URLSafeTimedSerializer(
        SECRET, salt=salt, signer=signed.signer, signer_kwargs=signed.signer_kwargs
    ).dumps([7, 3])
    with pytest.raises(NotAuthenticated):
        tokens.read(str(other))


@pytest.mark.parametrize(
    "garbage",
    ["", ".", "..", "...", "a", "a.b.c", "é.ü.ß", "🔑", "\0", "x" * 100_000, "." * 10_000],
)
def test_garbage_is_refused(tokens: AccessTokens, garbage: str) -> None:
    with pytest.raises(NotAuthenticated) as caught:
        tokens.read(garbage)
    assert caught.value.presented


def test_no_character_of_a_token_can_be_changed(tokens: AccessTokens) -> None:
    token = tokens.issue(7, 3)
    last = len(token) - 1  # some of its bits are not part of the signature
    for position in range(last):
        other = "A" if token[position] != "A" else "B"
        with pytest.raises(NotAuthenticated):
            tokens.read(token[:position] + other + token[position + 1 :])


def test_refresh_tokens_are_random_and_long() -> None:
    made = {new_refresh_token() for _ in range(100)}
    assert len(made) == 100
    assert {len(token) for token in made} == {43}, "256 bits in base64"


def test_hash_of_a_refresh_token_is_sha_256() -> None:
    assert hash_refresh_token("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# the secret


def test_secret_is_made_once_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    secret = load_secret(path)
    assert re.fullmatch(r"[0-9a-f]{64}", secret)
    before = path.read_bytes()
    assert load_secret(path) == secret
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["secret.key"]


def test_every_installation_has_a_secret_of_its_own(tmp_path: Path) -> None:
    assert load_secret(tmp_path / "one") != load_secret(tmp_path / "two")


def test_secret_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    load_secret(tmp_path / "secret.key")
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


def test_secret_of_the_owner_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text(f"{SECRET}\n")
    assert load_secret(tmp_path / "secret.key") == SECRET
    assert (tmp_path / "secret.key").read_text() == f"{SECRET}\n"


def test_whoever_makes_the_secret_at_once_gets_the_same(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    secrets = at_once(*[lambda: load_secret(path)] * 8)
    assert len(set(map(str, secrets))) == 1
    assert secrets[0] == path.read_text().strip()
    assert os.listdir(tmp_path) == ["secret.key"]


def test_secret_of_a_faster_process_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.key"
    link = os.link

    def slow_link(source: Path, target: Path) -> None:
        path.write_text(SECRET)
        link(source, target)

    monkeypatch.setattr(os, "link", slow_link)
    assert load_secret(path) == SECRET
    assert os.listdir(tmp_path) == ["secret.key"]


def refuse(source: Path, target: Path) -> None:
    raise OSError(errno.EPERM, "not on this file system")


def test_secret_is_made_on_a_file_system_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "secret.key"
    secret = load_secret(path)
    assert re.fullmatch(r"[0-9a-f]{64}", secret)
    assert load_secret(path) == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secret.key"]


def test_secret_that_cannot_be_put_in_place_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(PermissionError):
        load_secret(tmp_path / "secret.key")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", ["", "\n", "short\n"])
def test_secret_file_that_anybody_could_guess_is_refused(tmp_path: Path, content: str) -> None:
    """Such as one that ``touch`` has made: with it, everybody could sign tokens."""
    (tmp_path / "secret.key").write_text(content)
    with pytest.raises(StreamerError, match=r"secret\.key"):
        load_secret(tmp_path / "secret.key")
