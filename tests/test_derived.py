"""What is made of a video is there whole, with its row, or not at all, however it ends."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import peewee
import pytest

from streamer import accounts, cleanup, derived, videos
from streamer.database import Database
from streamer.derived import Item, publish
from streamer.errors import InsufficientStorage, Stopped
from streamer.intake import Intake
from streamer.models import Derived, Orphan, User, Video
from streamer.storage.local import StagedFile
from tests.concurrency import at_once
from tests.helpers import PASSWORD
from tests.media import assert_tidy, made_of, open_intake
from tests.wsgi import open_files

OLD = {("poster", "320"): b"old, narrow", ("poster", "640"): b"old, wide"}
NEW = {("poster", "320"): b"new, and narrow", ("poster", "640"): b"new, and wide"}
OTHER = {("captions", "0"): b"WEBVTT"}


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    opened = open_intake(tmp_path)
    yield opened
    opened.database.close()


@pytest.fixture
def user(intake: Intake) -> User:
    return accounts.add(intake.database, "alice", PASSWORD)


@pytest.fixture
def video(intake: Intake, user: User) -> Video:
    """A video that has something already."""
    intake.storage.path("videos/one").write_bytes(bytes(9))
    added = videos.add(
        intake.database,
        user.id,
        title="",
        description="",
        filename="",
        file_path="videos/one",
        mime_type="video/mp4",
        size=9,
        sha256="",
        media=None,
        quota_bytes=None,
    )
    give(intake, added, OLD)
    give(intake, added, OTHER)
    return added


def items_of(intake: Intake, content: dict[tuple[str, str], bytes], folder: Path | None = None) -> list[Item]:
    """Files of this content: taken as they come or, with a folder, made there."""
    return [
        Item(
            kind=kind,
            name=name,
            mime_type="image/jpeg",
            file=_given(intake, data) if folder is None else _made(intake, folder / name, data),
        )
        for (kind, name), data in content.items()
    ]


def _given(intake: Intake, data: bytes) -> StagedFile:
    file = intake.storage.stage("derived")
    file.write(data)
    return file


def _made(intake: Intake, path: Path, data: bytes) -> StagedFile:
    path.write_bytes(data)
    return intake.storage.adopt(path)


def give(
    intake: Intake,
    video: Video,
    content: dict[tuple[str, str], bytes],
    folder: Path | None = None,
    **options: Any,
) -> None:
    publish(intake.database, intake.storage, video.id, items_of(intake, content, folder), **options)


def give_made(intake: Intake, video: Video, content: dict[tuple[str, str], bytes]) -> None:
    """As a worker does."""
    with closing(intake.storage.scratch()) as scratch:
        give(intake, video, content, scratch.path)


def notes(intake: Intake) -> list[str]:
    return [row.file_path for row in Orphan.select().execute(intake.database)]


def assert_nothing_open(intake: Intake) -> None:
    found = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    folders = tuple(f"{intake.config.data}/{name}/" for name in ("derived", "scratch"))
    assert [path for path in found if path.startswith(folders)] == open_files(intake.config.data) == []


@pytest.mark.parametrize("give_new", [give, give_made])
def test_what_is_new_takes_the_place_of_what_was_there(
    intake: Intake, video: Video, give_new: Callable[..., None]
) -> None:
    give_new(intake, video, NEW)
    assert made_of(intake, video) == NEW | OTHER
    assert notes(intake) == []
    assert_tidy(intake)
    assert_nothing_open(intake)


def test_what_was_there_and_is_not_made_any_more_goes_with_its_kind(intake: Intake, video: Video) -> None:
    narrow = {("poster", "160"): b"tiny"}
    give(intake, video, narrow)
    assert made_of(intake, video) == OLD | narrow | OTHER
    give(intake, video, narrow, replacing=["poster"])
    assert made_of(intake, video) == narrow | OTHER
    give(intake, video, {}, replacing=["poster", "captions"])
    assert made_of(intake, video) == {}
    assert_tidy(intake)


def test_row_tells_what_it_is(intake: Intake, video: Video) -> None:
    file = _given(intake, b"12345")
    item = Item(kind="poster", name="x", mime_type="image/png", file=file, facts={"width": 7, "label": "ß"})
    publish(intake.database, intake.storage, video.id, [item])
    row = derived.find(intake.database, video.id, "poster", "x")
    assert row is not None
    assert (row.mime_type, row.size, row.file_path) == ("image/png", 5, f"derived/{file.name}")
    assert row.facts == '{"width": 7, "label": "\\u00df"}'
    assert derived.find(intake.database, video.id, "poster", "y") is None


def test_objects_are_found_by_video_kind_and_name(intake: Intake, user: User, video: Video) -> None:
    found = derived.of(intake.database, [video.id, 99])
    assert [(row.kind, row.name) for row in found[video.id]] == [
        ("captions", "0"),
        ("poster", "320"),
        ("poster", "640"),
    ]
    assert found[99] == []


def test_removed_object_becomes_an_orphan(intake: Intake, video: Video) -> None:
    with intake.database.atomic():
        paths = derived.remove(intake.database, video.id, "poster", "320")
        assert derived.remove(intake.database, video.id, "poster", "321") == []
    assert notes(intake) == paths
    cleanup.remove_orphans(intake.database, intake.storage, paths)
    assert set(made_of(intake, video)) == {("poster", "640"), ("captions", "0")}
    assert_tidy(intake)


def test_captions_and_images_count_as_given_and_what_is_made_does_not(
    intake: Intake, user: User, video: Video
) -> None:
    give(intake, video, {("picture", "own"): b"image"})
    assert derived.given_bytes(intake.database, user.id) == len(b"WEBVTT" + b"image")
    assert derived.given_bytes(intake.database, user.id + 1) == 0


# --- whatever goes wrong

STEPS: dict[str, tuple[Any, str, int]] = {
    "first seal": (StagedFile, "seal", 1),
    "second seal": (StagedFile, "seal", 2),
    "note": (videos, "note_orphans", 1),
    "commit of the note": (Database, "commit", 1),
    "first rename": (StagedFile, "publish", 1),
    "second rename": (StagedFile, "publish", 2),
    "old rows": (Derived, "delete", 1),
    "second row": (Derived, "insert", 2),
    "commit": (Database, "commit", 2),
}
"""What is called while two objects are published, and the how manieth call it is."""


def interrupt(step: str, is_done: bool, act: Callable[[], None]) -> ExitStack:
    """Let something happen at a step, before or after it was done."""
    owner, name, which = STEPS[step]
    call, calls = getattr(owner, name), []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == which and not is_done:
            act()
        result = call(*arguments, **options)
        if len(calls) == which and is_done:
            act()
        return result

    stack = ExitStack()
    stack.enter_context(mock.patch.object(owner, name, interrupted))
    return stack


class Trouble(Exception):
    """Something that nobody has foreseen."""


def break_down() -> None:
    raise Trouble


@pytest.mark.parametrize("is_made", [False, True], ids=["given", "made"])
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_failure_at_any_step_leaves_the_old_or_the_new(
    intake: Intake, video: Video, step: str, is_done: bool, is_made: bool
) -> None:
    with interrupt(step, is_done, break_down), pytest.raises(Trouble):
        (give_made if is_made else give)(intake, video, NEW)
    is_new = step == "commit" and is_done
    assert made_of(intake, video) == (NEW if is_new else OLD) | OTHER
    assert_nothing_open(intake)
    assert notes(intake) == []
    assert_tidy(intake)


DYING = """
import os, pathlib, sys
from streamer.models import Video
from tests import test_derived
from tests.media import open_intake
folder, step, is_done = sys.argv[1:]
intake = open_intake(pathlib.Path(folder))
video = Video.select().get(intake.database)
with test_derived.interrupt(step, bool(is_done), lambda: os._exit(7)):
    test_derived.give_made(intake, video, test_derived.NEW)
"""


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_crash_at_any_step_leaves_the_old_or_the_new(
    intake: Intake, video: Video, tmp_path: Path, step: str, is_done: bool
) -> None:
    command = [sys.executable, "-c", DYING, str(tmp_path), step, "x" * is_done]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, timeout=60, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (7, b"")
    is_new = step == "commit" and is_done
    assert made_of(intake, video) == (NEW if is_new else OLD) | OTHER
    cleanup.sweep(intake)
    assert made_of(intake, video) == (NEW if is_new else OLD) | OTHER
    assert notes(intake) == []
    assert_tidy(intake)


@pytest.mark.parametrize("moment", ["at_first", "in_the_end"])
def test_what_is_asked_in_between_can_call_it_off(intake: Intake, video: Video, moment: str) -> None:
    def refuse() -> None:
        raise Stopped

    options: dict[str, Any] = {moment: refuse}
    with pytest.raises(Stopped):
        give(intake, video, NEW, replacing=["captions"], **options)
    assert made_of(intake, video) == OLD | OTHER
    assert_nothing_open(intake)
    assert notes(intake) == []
    assert_tidy(intake)


def test_video_that_was_deleted_meanwhile_gets_nothing(intake: Intake, user: User, video: Video) -> None:
    def delete() -> None:
        with closing(open_intake(intake.config.data).database) as database:
            cleanup.remove_orphans(database, intake.storage, videos.remove(database, user, video))

    with closing(intake.storage.scratch()) as scratch:
        items = items_of(intake, NEW, scratch.path)
        with interrupt("second rename", True, delete), pytest.raises(peewee.IntegrityError):
            publish(intake.database, intake.storage, video.id, items)
    assert notes(intake) == []
    assert not Derived.select().exists(intake.database)
    assert_tidy(intake)


def test_what_is_deleted_just_after_it_was_published_leaves_nothing(
    intake: Intake, user: User, video: Video
) -> None:
    def delete() -> None:
        with closing(open_intake(intake.config.data).database) as database:
            cleanup.remove_orphans(database, intake.storage, videos.remove(database, user, video))

    with interrupt("commit", True, delete):
        give(intake, video, NEW)
    assert notes(intake) == []
    assert_tidy(intake)


def test_sweep_of_another_process_takes_nothing_that_is_being_published(intake: Intake, video: Video) -> None:
    other = open_intake(intake.config.data)
    for step in ("first seal", "commit of the note", "second rename"):
        with interrupt(step, True, partial(cleanup.sweep, other)):
            give_made(intake, video, NEW)
        assert made_of(intake, video) == NEW | OTHER
        assert_tidy(intake)
    other.database.close()


def test_of_those_who_publish_the_same_at_once_one_comes_last(intake: Intake, video: Video) -> None:
    contents = [{key: f"{number}, {key}".encode() for key in NEW} for number in range(6)]

    def publish_one(content: dict[tuple[str, str], bytes]) -> None:
        try:
            give_made(intake, video, content)
        finally:
            intake.database.close()

    assert at_once(*(partial(publish_one, content) for content in contents)) == [None] * 6
    posters = {key: data for key, data in made_of(intake, video).items() if key not in OTHER}
    assert posters in contents
    assert notes(intake) == []
    assert_tidy(intake)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "rename"])
@pytest.mark.parametrize("which", [1, 2])
def test_full_disk_is_told_and_leaves_nothing(
    intake: Intake, video: Video, monkeypatch: pytest.MonkeyPatch, number: int, call: str, which: int
) -> None:
    system_call, calls = getattr(os, call), []

    def fill(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == which:
            raise OSError(number, os.strerror(number))
        return system_call(*arguments, **options)

    with closing(intake.storage.scratch()) as scratch:
        items = items_of(intake, NEW, scratch.path)
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fill)
            with pytest.raises(InsufficientStorage):
                publish(intake.database, intake.storage, video.id, items)
    assert made_of(intake, video) == OLD | OTHER
    assert_tidy(intake)
    assert_nothing_open(intake)
    cleanup.sweep(intake)
    assert notes(intake) == []
