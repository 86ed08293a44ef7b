"""Pictures of a film: frames at given times, and how a JPEG is made of one.

Few frames of a film are looked at, however long it is: ffmpeg seeks to each of
them and decodes one; in a file without an index it reads on, once, and decodes key frames.

Times are those of ffmpeg, which begin with the first frame, so they go up to the duration less the start.
A WebM whose blocks begin at 100 seconds is shown from 0 on by Firefox, which subtracts the start of all
that it decodes, and from 0 on are its variants; Chromium leaves the times as they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from streamer.containers import signatures
from streamer.errors import FfmpegFailed
from streamer.ffmpeg import filters
from streamer.ffmpeg.work import FULL_HD_PIXELS, Work, run

SHORT = 60.0
"""Seconds of a clip of which any part may be decoded, if need be."""

JPEG_BYTES = 32 * 2**20
"""What no JPEG, and no frame as it is passed on, has more than."""

SEEK_CPU_SECONDS = 120
"""Enough to seek and decode a few key frames."""

_JPEG_QUALITY = 4  # of the scale of ffmpeg, about 85 of that of libjpeg
_DECODE_CPU_SECONDS = 600  # where it is from a key frame on, and more:
_CPU_SECONDS_PER_SECOND = 10  # of full HD in HEVC on a small box
_BYTES_PER_CPU_SECOND = 4 * 2**20  # where the film is read and not decoded
_BATCH = 10

_NEED_INDEX = (signatures.MATROSKA, signatures.WEBM, signatures.FLV)
"""Where ffmpeg reads all up to the place that it seeks if there is no index.

In MPEG-TS, MPEG-PS and Ogg it halves the distance; MP4 is nothing without its index, but for
fragments, which it skips by their sizes. In AVI it does not get anywhere.
"""

Missing: TypeAlias = FfmpegFailed | None
"""Of a frame that could not be decoded: what ffmpeg said, or nothing where there is none."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG."""

    path: Path
    width: int
    height: int


def is_slow_to_seek(work: Work, keyframes: Sequence[float]) -> bool:
    """Whether all up to a place is read to get there."""
    return not keyframes and work.container in _NEED_INDEX


def seek(at: float, exact: bool) -> list[str]:
    """The input options that begin with the frame at this time, or with the key frame before it."""
    place = ["-ss", f"{at:.3f}"]
    return place if exact else [*place, "-noaccurate_seek"]


def frames_at(
    work: Work, moments: Sequence[float], shown: list[str], frame_bytes: int, exact: bool
) -> Iterator[bytes | Missing]:
    """Decode a frame at each of these times, and show it by the filters.

    Ten in a process cost a third of what ten processes cost: of an hour of 1080p at 1.5 Mbit/s, 100 key
    frames take 4 s of the processor, and 14 s one by one. 37 MB are read of Matroska, and 259 MB
    of MP4, most of which is the index of 2 MB every time. To go through all key frames
    in one pass (``-skip_frame nokey``) takes 2 to 3 s, but reads the whole film, whatever its size.

    Larger pictures go fewer at a time, because all decoders are there at once.
    """
    batch = max(1, min(_BATCH, _BATCH * FULL_HD_PIXELS // pixels(work)))
    for first in range(0, len(moments), batch):
        yield from _batch(work, moments[first : first + batch], shown, frame_bytes, exact)
        work.on_progress(min(1.0, (first + batch) / len(moments)))


def _batch(
    work: Work, moments: Sequence[float], shown: list[str], frame_bytes: int, exact: bool
) -> list[bytes | Missing]:
    inputs, outputs = [], []
    paths = [work.folder / f"frame-{number}.raw" for number in range(len(moments))]
    for number, (moment, path) in enumerate(zip(moments, paths, strict=True)):
        inputs += work.input("-threads", "1", *seek(moment, exact))
        outputs += ["-map", f"{number}:{work.video.number}", *_one_frame(shown), "-f", "rawvideo", path.name]
    cpu_seconds = decode_cpu_seconds(work, len(moments)) if exact else SEEK_CPU_SECONDS
    try:
        run(work, [*inputs, *outputs], cpu_seconds=cpu_seconds, file_bytes=JPEG_BYTES)
    except FfmpegFailed as failure:
        if failure.code == "timed_out" and exact:
            return _batch(work, moments, shown, frame_bytes, exact=False)
        if failure.code not in ("ffmpeg_failed", "too_much_memory", "killed"):
            raise
        if len(moments) > 1:  # a broken place spoils the others of its batch
            return [_batch(work, [moment], shown, frame_bytes, exact)[0] for moment in moments]
        return [failure]
    return [_taken(path, frame_bytes) for path in paths]


def _taken(path: Path, size: int) -> bytes | None:
    """Read and remove a file; None if it is not there or not of this size."""
    with suppress(FileNotFoundError):
        data = path.read_bytes()
        path.unlink()
        return data if len(data) == size else None
    return None


def frames_in_passing(
    work: Work,
    count: int,
    seconds: float,
    shown: list[str],
    frame_bytes: int,
    only_keyframes: bool = False,
) -> list[bytes | None]:
    """So many frames, evenly spaced over the first ``seconds``, by reading all up to there.

    Each is the last that begins before the middle of its part.
    """
    path = work.folder / "frames.raw"
    # some decoders skip nothing, so it is kept from them as well
    selection = ["-skip_frame", "nokey", "-discard:v", "nokey"] if only_keyframes else []
    source = work.input("-threads", str(work.threads), *selection, "-t", f"{seconds:.3f}")
    whole = filters.deinterlace(work.tools, work.video)
    even = [*whole, f"fps={count / seconds:.9f}:start_time=0", *shown]
    output = ["-map", f"0:{work.video.number}", "-frames:v", str(count), "-threads", "1"]
    size = work.path.stat().st_size
    run(
        work,
        [*source, *output, "-vf", ",".join(even), "-f", "rawvideo", path.name],
        cpu_seconds=decode_cpu_seconds(work) + size // _BYTES_PER_CPU_SECOND,
        file_bytes=count * frame_bytes,
        on_progress=lambda reached: work.on_progress(min(1.0, reached / seconds)),
    )
    data = path.read_bytes() if path.is_file() else b""
    path.unlink(missing_ok=True)
    frames = [data[at : at + frame_bytes] for at in range(0, len(data), frame_bytes)]
    return [*frames, *[None] * (count - len(frames))]


def decode_cpu_seconds(work: Work, places: int = 1) -> int:
    """The limit for decoding what may be as much as a short clip, as often as there are places."""
    seconds = min(work.seconds or SHORT, SHORT) * places
    return _DECODE_CPU_SECONDS + int(seconds * _CPU_SECONDS_PER_SECOND * pixels(work) / FULL_HD_PIXELS)


def pixels(work: Work) -> int:
    """Of a frame."""
    return work.video.width * work.video.height


def jpeg(shown: list[str], name: str) -> list[str]:
    """The arguments of an output that is one JPEG, without a word about what it was made of and by."""
    coding = ["-c:v", "mjpeg", "-q:v", str(_JPEG_QUALITY), "-huffman", "optimal"]
    silence = ["-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
    return [*_one_frame(shown), *coding, *silence, "-f", "mjpeg", name]


def _one_frame(shown: list[str]) -> list[str]:
    """The output options for the first frame, whenever it is; encoders too have a thread for each core.

    A key frame before the time that was sought is before the beginning, where ffmpeg would drop
    it and all that follow up to that time.
    """
    return ["-frames:v", "1", "-threads", "1", "-fps_mode", "passthrough", "-vf", ",".join(shown)]
