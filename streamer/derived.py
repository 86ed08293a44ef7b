"""What is made of videos, or given to them: posters, storyboards, variants, captions.

A derived object is a row and a file in ``derived/``. The file is complete on the
disk before the row is committed; until then, and after the row has gone, the row of
an orphan names it.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import peewee

from streamer import cleanup, clock, videos
from streamer.database import Database
from streamer.models import Derived, Orphan, Video
from streamer.storage.local import LocalStorage, StagedFile

POSTER, STORYBOARD, TILES, VARIANT, CAPTIONS = "poster", "storyboard", "tiles", "variant", "captions"
OWN, WEB = "own", "web"
"""The names of the only picture, and of the only variant, that a video has."""

PICTURE = "picture"
"""An image that was given to make the poster of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A derived object that is about to be published."""

    kind: str
    name: str
    mime_type: str
    file: StagedFile
    facts: Mapping[str, Any] = field(default_factory=dict)


def publish(
    database: Database,
    storage: LocalStorage,
    video_id: int,
    items: Sequence[Item],
    *,
    replacing: Collection[str] = (),
    at_first: Callable[[], object] = lambda: None,
    in_the_end: Callable[[], None] = lambda: None,
) -> None:
    """Give derived objects to a video, durably, all of them or none, and close their files.

    They take the place of those of the same kind and name, and of all of the kinds that ``replacing``
    names. ``at_first`` and ``in_the_end`` run inside of the transaction that commits them, before and after
    anything has changed; what they raise undoes all.
    Raises InsufficientStorage, and IntegrityError if there is no such video any more.
    """
    paths = [item.file.file_path for item in items]
    orphans = list(paths)  # if this fails, or somebody deletes the video just now
    with ExitStack() as files:
        files.callback(cleanup.remove_orphans, database, storage, orphans)
        for item in items:
            files.callback(item.file.close)
        try:
            for item in items:
                item.file.seal()
            with database.atomic():
                videos.note_orphans(database, paths)
            for item in items:
                item.file.publish()
            with database.atomic():
                at_first()
                orphans += _replace(database, video_id, items, replacing)
                Orphan.delete().where(Orphan.file_path.in_(paths)).execute(database)
                in_the_end()
        except BaseException:
            _discard(database, items)
            raise


def _discard(database: Database, items: Iterable[Item]) -> None:
    for item in items:
        # only the database knows whether it was committed
        if not Derived.select().where(Derived.file_path == item.file.file_path).exists(database):
            item.file.discard()


def _replace(
    database: Database, video_id: int, items: Sequence[Item], replacing: Collection[str]
) -> list[str]:
    """Exchange the rows, and tell which objects have become orphans."""
    names = {(item.kind, item.name) for item in items}
    old = [
        row
        for row in of(database, [video_id])[video_id]
        if row.kind in replacing or (row.kind, row.name) in names
    ]
    if old:
        Derived.delete().where(Derived.id.in_([row.id for row in old])).execute(database)
    videos.note_orphans(database, [row.file_path for row in old])
    for item in items:
        Derived.insert(
            video=video_id,
            kind=item.kind,
            name=item.name,
            file_path=item.file.file_path,
            mime_type=item.mime_type,
            size=item.file.size,
            facts=json.dumps(item.facts),
            created_at=clock.now(),
        ).execute(database)
    return [row.file_path for row in old]


def given_bytes(database: Database, user_id: int) -> int:
    """How many bytes the captions and pictures of a user's videos have, of which most were given."""
    of_user = (Video.uploader == user_id) & Derived.kind.in_([CAPTIONS, PICTURE])
    query = Derived.select(peewee.fn.SUM(Derived.size)).join(Video).where(of_user)
    return query.scalar(database) or 0


def remove(database: Database, video_id: int, kind: str, name: str) -> list[str]:
    """Remove the row of one, if there is one. The object, which is returned, has become an orphan.

    Inside of a transaction, after which ``cleanup`` removes the orphan.
    """
    row = find(database, video_id, kind, name)
    if row is None:
        return []
    Derived.delete().where(Derived.id == row.id).execute(database)
    videos.note_orphans(database, [row.file_path])
    return [row.file_path]


def find(database: Database, video_id: int, kind: str, name: str) -> Derived | None:
    """One of a video's derived objects."""
    same = (Derived.video == video_id) & (Derived.kind == kind) & (Derived.name == name)
    found: Derived | None = Derived.select().where(same).get_or_none(database)
    return found


def of(database: Database, video_ids: Collection[int]) -> dict[int, list[Derived]]:
    """The derived objects of some videos, by kind and name."""
    found: dict[int, list[Derived]] = {video_id: [] for video_id in video_ids}
    query = (
        Derived.select()
        .where(Derived.video.in_(video_ids))
        .order_by(Derived.video, Derived.kind, Derived.name)
    )
    for row in query.execute(database):
        found[row.video_id].append(row)
    return found
