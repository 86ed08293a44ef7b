"""What a server in front is given to send, and how it is told."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from streamer.protocol.conditional import EntityTag, Preconditions, Validators
from streamer.protocol.ranges import ByteRange
from streamer.protocol.sendfile import handing_over, is_answered_alike

VALIDATORS = Validators(EntityTag("tag"), datetime(2026, 5, 4, tzinfo=UTC))
ONE = [ByteRange(3, 5)]


def is_left(
    field: str | None, ranges: list[ByteRange] | None, if_range: str | None = None, **conditions: str
) -> bool:
    return is_answered_alike(Preconditions(**conditions), field, if_range, VALIDATORS, ranges)


def test_the_whole_is_left_to_the_front() -> None:
    assert is_left(None, None)
    assert is_left(None, None, if_range='"other"'), "If-Range means nothing without Range"


@pytest.mark.parametrize("field", ["bytes=3-5", "bytes=3-", "bytes=-3", "bytes=003-999999999999999999"])
def test_one_plain_range_is_left_to_the_front(field: str) -> None:
    assert is_left(field, ONE)
    assert is_left(field, ONE, if_range='"tag"')


@pytest.mark.parametrize(
    "field",
    [
        "bytes=3-3,4-5",
        "bytes=3-5,",
        "bytes=3-5, 99-",
        "Bytes=3-5",
        "bytes= 3-5",
        "bytes=3-9999999999999999999",
        "bytes=0000000000000000003-5",
    ],
)
def test_a_range_that_servers_may_read_otherwise_is_ours(field: str) -> None:
    assert not is_left(field, ONE)


@pytest.mark.parametrize("field", ["", "bytes=5-3", "bytes=x", "items=0-1", "bytes=0-9"])
def test_a_range_that_is_ignored_is_ours(field: str) -> None:
    assert not is_left(field, None)


@pytest.mark.parametrize("if_range", ["Mon, 04 May 2026 00:00:00 GMT", ' "tag"', ""])
def test_only_our_entity_tag_as_it_stands_may_be_in_if_range(if_range: str) -> None:
    assert not is_left("bytes=3-5", ONE, if_range)


@pytest.mark.parametrize("name", ["if_match", "if_none_match", "if_modified_since", "if_unmodified_since"])
def test_a_condition_that_let_the_request_pass_keeps_it_with_us(name: str) -> None:
    assert not is_left(None, None, **{name: ""})
    assert not is_left("bytes=3-5", ONE, **{name: "*"})


def test_nginx_is_given_a_uri_and_the_others_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("dätä/../data é/videos/ab")
    assert handing_over("x-accel-redirect", "videos/ab", path) == (
        "X-Accel-Redirect",
        "/_streamer/videos/ab",
    )
    name, value = handing_over("x-sendfile", "videos/ab", path)
    assert name == "X-Sendfile"
    assert value.encode("latin-1").decode() == f"{tmp_path}/data é/videos/ab"
