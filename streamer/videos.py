"""Videos: add, find, page through, change, remove.

A video is a row and a stored object. The object is complete on the disk before
the row is committed, and the row is gone before the object is removed, so a row
always has its object. Before, the row of an upload names the object; after, an
``Orphan``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import peewee

from streamer import accounts, clock, facts, jobs
from streamer.containers.media import Media
from streamer.database import Database
from streamer.errors import NotAuthenticated, QuotaExceeded
from streamer.models import Derived, Orphan, Upload, User, Video
from streamer.storage.local import VIDEOS

SORT_FIELDS: dict[str, Any] = {
    "created_at": Video.created_at,
    "title": Video.title_folded,
    "size": Video.size,
}
SORTS = tuple(sign + name for name in SORT_FIELDS for sign in ("", "-"))


@dataclass(frozen=True, slots=True)
class Listing:
    """Which videos of a user to list: filters, order and page (from 1)."""

    page: int = 1
    limit: int = 20
    sort: str = "-created_at"
    q: str = ""
    status: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """The videos of one page and the number of videos on all of them."""

    videos: list[Video]
    total: int


def add(
    database: Database,
    user_id: int,
    *,
    title: str,
    description: str,
    filename: str,
    file_path: str,
    mime_type: str,
    size: int,
    sha256: str,
    media: Media | None,
    quota_bytes: int | None,
) -> Video:
    """Make a video of an object that is complete on the disk.

    ``sha256`` is in hexadecimal, or empty when it is not known yet; ``media`` is what could be read of
    the file. Raises QuotaExceeded or NotAuthenticated (the account is gone).
    """
    now = clock.now()
    with database.atomic():
        _count_in(database, user_id, size, quota_bytes)
        video_id = Video.insert(
            uploader=user_id,
            title=title,
            title_folded=fold(title),
            description=description,
            filename=filename,
            file_path=file_path,
            mime_type=mime_type,
            size=size,
            sha256=sha256,
            status=jobs.READY,
            media=facts.to_json(media),
            read_by=facts.VERSION,
            created_at=now,
            updated_at=now,
        ).execute(database)
        return Video.select().where(Video.id == video_id).get(database)


def same_content(database: Database, user: User, sha256: str) -> Video | None:
    """The user's own video with this SHA-256 (in hexadecimal), the oldest if there are several."""
    same = (Video.uploader == user.id) & (Video.sha256 == sha256)
    found: Video | None = Video.select().where(same).order_by(Video.id).first(database)
    return found


def _count_in(database: Database, user_id: int, size: int, quota_bytes: int | None) -> None:
    user = User.select().where(User.id == user_id).get_or_none(database)
    if user is None:
        raise NotAuthenticated("the account has been deleted")
    if quota_bytes is not None and user.bytes_used + size > quota_bytes:
        raise QuotaExceeded(quota_bytes, user.bytes_used)
    _count(database, user_id, videos=1, size=size)


def _count(database: Database, user_id: int, videos: int, size: int) -> None:
    User.update(video_count=User.video_count + videos, bytes_used=User.bytes_used + size).where(
        User.id == user_id
    ).execute(database)


def listing(database: Database, user: User, query: Listing) -> Page:
    """One page of the user's videos.

    It costs as much as the page is long and as the way to it; only ``q`` looks at every title,
    and a filter is counted in an index.
    """
    found = _filtered(user, query)
    total = found.count(database) if query.q or query.status else user.video_count
    if not total:
        return Page([], 0)
    videos = found.order_by(*_order(query)).paginate(query.page, query.limit)
    return Page(list(videos.execute(database)), total)


def _filtered(user: User, query: Listing) -> "peewee.ModelSelect[Video]":
    found = Video.select().where(Video.uploader == user.id)
    if query.status:
        found = found.where(Video.status == query.status)
    if query.q:
        # instr, not LIKE: nothing in a title is a pattern
        found = found.where(peewee.fn.instr(Video.title_folded, fold(query.q)) > 0)
    return found


def _order(query: Listing) -> tuple[peewee.Ordering, peewee.Ordering]:
    column = SORT_FIELDS[query.sort.lstrip("-")]
    if query.sort.startswith("-"):
        return column.desc(), Video.id.desc()
    return column.asc(), Video.id.asc()


def fold(title: str) -> str:
    """A title as it is sorted and searched: without regard to case."""
    return title.casefold()


def change(database: Database, video: Video, title: str | None, description: str | None) -> Video:
    """Change what is given."""
    video.title = video.title if title is None else title
    video.description = video.description if description is None else description
    video.updated_at = clock.now()
    Video.update(
        title=video.title,
        title_folded=fold(video.title),
        description=video.description,
        updated_at=video.updated_at,
    ).where(Video.id == video.id).execute(database)
    return video


def remove(database: Database, user: User, video: Video) -> list[str]:
    """Remove the row. The objects, which are returned, have become orphans, which ``cleanup`` removes."""
    with database.atomic():
        made = Derived.select(Derived.file_path).where(Derived.video == video.id)
        paths = [video.file_path, *(path for (path,) in made.tuples().execute(database))]
        if not Video.delete().where(Video.id == video.id).execute(database):
            return []
        note_orphans(database, paths)
        _count(database, user.id, videos=-1, size=-video.size)
    return paths


def note_orphans(database: Database, paths: Sequence[str]) -> None:
    """Note that these objects are to be removed, unless a row names them. Inside of a transaction."""
    now = clock.now()
    for some in peewee.chunked(paths, 400):
        notes = [{"file_path": path, "created_at": now} for path in some]
        Orphan.insert_many(notes).execute(database)


def remove_account(database: Database, user: User) -> list[str]:
    """Remove the account and all its rows. The objects, which are returned, have become orphans.

    Raises NotAuthenticated if the account has changed since it was confirmed.
    """
    own = Video.uploader == user.id
    with database.atomic():
        accounts.require_unchanged(database, user)
        # an upload may have its final name already, and its row goes with the account
        unfinished = (Upload.user == user.id) & Upload.video.is_null()
        published = Upload.select(peewee.Value(f"{VIDEOS}/").concat(Upload.id)).where(unfinished)
        made = Derived.select(Derived.file_path).join(Video).where(own)
        paths = [
            path
            for query in (Video.select(Video.file_path).where(own), made, published)
            for (path,) in query.tuples().execute(database)
        ]
        note_orphans(database, paths)
        Video.delete().where(own).execute(database)
        User.delete().where(User.id == user.id).execute(database)
    return paths
