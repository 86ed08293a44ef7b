"""Derived objects as the worker publishes them, and what can be known of a video, without ffmpeg."""

from collections.abc import Mapping

from streamer import derived
from streamer import facts as known_facts
from streamer.app import Application
from streamer.containers.media import AudioTrack, Media, VideoTrack
from streamer.models import Video
from tests.wsgi import database_of, intake_of

JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
WEBP = b"RIFF\x10\0\0\0WEBPVP8 "
VTT = b"WEBVTT\n\n00:00:00.000 --> 00:00:02.000\nHello\n"

PICTURES = VideoTrack(number=0, name="h264", codec="avc1.640028", width=1920, height=1080)
SOUND = AudioTrack(number=1, name="aac", codec="mp4a.40.2")
USUAL = Media(duration=60.0, video=(PICTURES,), audio=(SOUND,), faststart=True)
"""What every browser plays."""

UNUSUAL = Media(
    duration=60.0, video=(VideoTrack(number=0, name="prores", codec=None, width=640, height=480),)
)
"""What none plays."""


def give(
    app: Application,
    kind: str,
    name: str,
    mime_type: str,
    data: bytes,
    facts: Mapping[str, object] | None = None,
    video_id: int = 1,
) -> None:
    """Publish a derived object of a video."""
    intake = intake_of(app)
    file = intake.storage.stage("derived")
    file.write(data)
    item = derived.Item(kind=kind, name=name, mime_type=mime_type, file=file, facts=facts or {})
    derived.publish(intake.database, intake.storage, video_id, [item])


def give_captions(app: Application, name: str, *, is_forced: bool = False) -> None:
    """Captions, as they come out of the file."""
    facts = {"language": None, "label": None, "is_forced": is_forced, "source": "file"}
    give(app, derived.CAPTIONS, name, "text/vtt", VTT, facts)


def give_posters(app: Application, *widths: int, seed: str = "") -> None:
    """Posters of these widths, each with bytes of its own."""
    for width in widths:
        data = poster(width, seed)
        size = {"width": width, "height": width * 9 // 16}
        give(app, derived.POSTER, str(width), "image/jpeg", data, size)


def poster(width: int, seed: str = "") -> bytes:
    """The bytes of one of them."""
    return JPEG + f"{seed} poster of {width} pixels ".encode() * width


def tell(app: Application, media: Media | None, mime_type: str = "video/mp4", video_id: int = 1) -> None:
    """Let this be known of a video."""
    changes = {"media": known_facts.to_json(media), "mime_type": mime_type}
    Video.update(changes).where(Video.id == video_id).execute(database_of(app))


def derived_files(app: Application) -> list[str]:
    """The names of all files that are, or were to become, derived objects."""
    folders = (app.config.data / name for name in ("derived", "incoming", "scratch"))
    return sorted(path.name for folder in folders for path in folder.iterdir())
