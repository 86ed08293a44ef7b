"""Posters and storyboards.

Few pictures of a film are looked at for both, however long it is: ffmpeg seeks to each of
them and decodes one; in a file without an index it reads on, once, and decodes key frames.

Times are those of ffmpeg, which begin with the first frame, so they go up to the duration less the start.
A WebM whose blocks begin at 100 seconds is shown from 0 on by Firefox, which subtracts the start of all
that it decodes, and from 0 on are its variants; Chromium leaves the times as they are.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from streamer.containers import signatures
from streamer.errors import FfmpegFailed
from streamer.ffmpeg import fence, filters
from streamer.ffmpeg.tools import Tools
from streamer.ffmpeg.work import FULL_HD_PIXELS, Work, limits, run, start

WIDTHS = (160, 320, 640, 1280)
"""Of posters, in pixels: those below the width of the film, and that width itself."""

LONGEST_SIDE = 1280

TILE_WIDTH, TILE_HEIGHT = 160, 284  # 16:9 upright is still as wide as this
COLUMNS = 10
MOST_TILES = 100
LEAST_SECONDS = 1.0  # between two tiles

MOST_IMAGE_PIXELS = 50_000_000

_WINDOW = tuple(0.1 + 0.3 * step / 7 for step in range(8))
_ELSEWHERE = (0.0, 0.02, 0.05, 0.5, 0.6, 0.7, 0.8, 0.9)
_PASSES = ((0.4, 4), (1.0, 0))  # how far, and which of the 16 key frames up to there is the first to look at
_PASS_FRAMES = 16
_UNKNOWN_DURATION = 30.0  # seconds; what is looked at then
_SHORT = 60.0  # seconds
_SHORT_IN_FULL_HD = 15.0  # a clip in which to decode from a key frame to any other costs little

_JUDGED_SIDE = 160
_DARK = 32  # of 255
_DARK_SHARE = 0.9
_FLAT = 1.0  # of detail: a sky has more

_JPEG_QUALITY = 4  # of the scale of ffmpeg, about 85 of that of libjpeg
_JPEG_BYTES = 32 * 2**20
_SEEK_CPU_SECONDS = 120
_DECODE_CPU_SECONDS = 600  # where it is from a key frame on, and more:
_CPU_SECONDS_PER_SECOND = 10  # of full HD in HEVC on a small box
_BYTES_PER_CPU_SECOND = 4 * 2**20  # where the film is read and not decoded

_BATCH = 10

_NEED_INDEX = (signatures.MATROSKA, signatures.WEBM, signatures.FLV)
"""Where ffmpeg reads all up to the place that it seeks if there is no index.

In MPEG-TS, MPEG-PS and Ogg it halves the distance; MP4 is nothing without its index, but for
fragments, which it skips by their sizes. In AVI it does not get anywhere.
"""

_SIGNATURES = (
    (re.compile(rb"\xff\xd8\xff"), "jpeg_pipe"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png_pipe"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webp_pipe"),
)


Missing: TypeAlias = FfmpegFailed | None
"""Of a frame that could not be decoded: what ffmpeg said, or nothing where there is none."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG."""

    path: Path
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Cue:
    """Where the tile for a part of the film is, which lasts from ``start`` to ``end`` in seconds."""

    start: float
    end: float
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Storyboard:
    """A picture of tiles, row by row, and the part of the film that each of them is for."""

    picture: Picture
    cues: tuple[Cue, ...]


@dataclass(frozen=True, slots=True, order=True)
class Look:
    """What speaks for a picture: that there is light and something in it, then how much detail."""

    is_lit: bool
    detail: float

    @property
    def is_good(self) -> bool:
        return self.is_lit and self.detail >= _FLAT


def make_posters(
    work: Work, at: float | None = None, keyframes: Sequence[float] = ()
) -> tuple[list[Picture], float]:
    """Make JPEGs of one frame of a film, narrowest first; and the time of the frame, in seconds.

    They are upright, in square pixels, not larger than the film and at most 1280 pixels wide and
    high. Without ``at`` the frame is chosen by this rule: of eight frames between 10 and 40 % of the
    duration the one with the most detail, which is the mean absolute Laplacian of its luma at a
    width of 160 pixels: blur, fades and emptiness all make it small. A frame is out of the question
    if nine tenths of it are nearly black. If none of the eight is any good, eight from all
    over the film come into the choice, the very first one too, and of nothing but bad
    ones it is the least bad. In films of more than a minute only key frames are looked at, and
    the time may be that of the next one. Without ``keyframes``, the times of key frames as far as they
    are known, a longer Matroska or FLV is read in one pass: 12 and 16 frames take the place of eight.

    Raises FfmpegFailed, also where no frame can be decoded (``no_picture``) or there is no video
    track (``no_video``); Stopped.
    """
    if at is None:
        at, exact = _choose(work, keyframes)
    else:
        exact = True
    video = work.video
    width, height = filters.fit(video.width, video.height, LONGEST_SIDE)
    whole = filters.deinterlace(work.tools, video)
    shown = [
        (size, [*whole, *filters.show(work.tools, video, *size), *filters.for_jpeg(video)])
        for size in _sizes(width, height)
    ]
    # behind the last frame is nothing to decode
    for precisely in [True, False] if exact else [False]:
        options = ["-threads", str(work.threads), *_seek(at, precisely)]
        source = [*work.input(*options), *_jpegs(f"0:{video.number}", shown)]
        try:
            run(work, source, cpu_seconds=_decode_cpu_seconds(work), file_bytes=_JPEG_BYTES)
        except FfmpegFailed as failure:
            if failure.code != "timed_out" or not precisely:
                raise
        if pictures := _pictures(work.folder, [size for size, _ in shown]):
            return pictures, at
    raise FfmpegFailed("no_picture", f"no frame at {at:.3f} seconds could be decoded")


def posters_of_image(
    tools: Tools, image: Path, folder: Path, should_stop: Callable[[], bool] = fence.never
) -> list[Picture]:
    """Make posters of a JPEG, PNG or WebP of at most 50 megapixels, narrowest first.

    They have nothing of what the image says besides its picture, which is turned as its EXIF
    orientation says.

    Raises FfmpegFailed, for what is none of the three formats with the code ``not_an_image``; Stopped.
    """
    with image.open("rb") as file:
        head = file.read(16)
    demuxer = next((name for signature, name in _SIGNATURES if signature.match(head)), None)
    if demuxer is None:
        raise FfmpegFailed("not_an_image", "it is no JPEG, PNG or WebP")
    bounds = limits(_SEEK_CPU_SECONDS, 8 * _JPEG_BYTES, MOST_IMAGE_PIXELS)
    whole = folder / "image.ppm"
    shrink = (
        f"scale=min(iw\\,{LONGEST_SIDE}):min(ih\\,{LONGEST_SIDE}):force_original_aspect_ratio=decrease,"
        "setsar=1,format=rgb24"
    )
    source = fence.forced_input(image, demuxer, "-threads", "1", "-max_pixels", str(MOST_IMAGE_PIXELS))
    portable = [
        "-frames:v",
        "1",
        "-threads",
        "1",
        "-vf",
        shrink,
        "-c:v",
        "ppm",
        "-f",
        "image2pipe",
        whole.name,
    ]
    start(tools, [*source, *portable], folder=folder, limits=bounds, should_stop=should_stop)
    sizes = _sizes(*_size_of_ppm(whole))
    shown = [(size, [f"scale={size[0]}:{size[1]}", *filters.for_jpeg()]) for size in sizes]
    source = fence.forced_input(whole, "ppm_pipe", "-threads", "1")
    start(tools, [*source, *_jpegs("0:0", shown)], folder=folder, limits=bounds, should_stop=should_stop)
    whole.unlink()
    if pictures := _pictures(folder, sizes):
        return pictures
    raise FfmpegFailed("no_picture", "the image could not be decoded")


def make_storyboard(work: Work, keyframes: Sequence[float] = ()) -> Storyboard:
    """Make a JPEG of up to 100 small pictures of a film, at least a second apart.

    ``keyframes`` are the times of key frames, as far as they are known: where the tiles are a second
    apart and there are fewer key frames than tiles, all frames are decoded, unless that takes too long;
    else key frames only. A tile that cannot be decoded repeats the one before it.

    Raises FfmpegFailed, also where no frame can be decoded (``no_picture``), there is no video track
    (``no_video``) or nobody knows how long it is (``no_duration``); Stopped.
    """
    video, duration = work.video, work.seconds
    if not duration:
        raise FfmpegFailed("no_duration", "the file does not tell how long it is")
    count = max(1, min(MOST_TILES, int(duration / LEAST_SECONDS)))
    scale = min(1, TILE_WIDTH / video.width, TILE_HEIGHT / video.height)
    width, height = max(1, round(video.width * scale)), max(1, round(video.height * scale))
    shown = [*filters.show(work.tools, video, width, height), "format=rgb24"]
    tiles = _tiles(work, count, duration, shown, width * height * 3, keyframes)
    picture = _tiled(work, _filled(tiles), width, height)
    return Storyboard(picture, tuple(_cues(count, duration, width, height)))


def storyboard_vtt(storyboard: Storyboard, image_url: str) -> str:
    """A WebVTT file that says for every part of a film which tile of the picture at this URL is for it.

    Source: W3C, WebVTT, section 4.1; Media Fragments URI 1.0, section 4.2.2.
    """
    blocks = (
        f"{_timestamp(cue.start)} --> {_timestamp(cue.end)}\n"
        f"{image_url}#xywh={cue.x},{cue.y},{cue.width},{cue.height}\n"
        for cue in storyboard.cues
    )
    return "\n".join(["WEBVTT\n", *blocks])


def judge(gray: bytes, width: int) -> Look:
    """Judge a picture by its luma: one byte for each pixel, row by row."""
    dark = sum(gray.count(value) for value in range(_DARK))
    rows = [gray[at : at + width] for at in range(0, len(gray), width)]
    total = sum(
        abs(4 * here - left - right - above - below)
        for upper, row, lower in zip(rows, rows[1:], rows[2:], strict=False)
        for left, here, right, above, below in zip(row, row[1:], row[2:], upper[1:], lower[1:], strict=False)
    )
    return Look(dark < _DARK_SHARE * len(gray), total / len(gray))


def _choose(work: Work, keyframes: Sequence[float]) -> tuple[float, bool]:
    """The time of the frame for the poster, and whether it is exactly that frame."""
    duration = work.seconds or _UNKNOWN_DURATION
    exact = duration <= _SHORT and duration * _pixels(work) <= _SHORT_IN_FULL_HD * FULL_HD_PIXELS
    in_passing = not exact and _is_slow_to_seek(work, keyframes)
    best: tuple[Look, float] | None = None
    failures: list[FfmpegFailed] = []
    for parts, (share, first) in zip((_WINDOW, _ELSEWHERE), _PASSES, strict=True):
        if in_passing:
            looks = _looks_in_passing(work, share * duration)[first:]
        else:
            looks = _looks(work, [duration * part for part in parts], exact)
        found = [(look, moment) for look, moment in looks if isinstance(look, Look)]
        failures += [look for look, _ in looks if isinstance(look, FfmpegFailed)]
        best = max([*found, *([best] if best else [])], default=None)
        if best and best[0].is_good:
            break
    if best is None:
        raise failures[-1] if failures else FfmpegFailed("no_picture", "no frame could be decoded")
    return best[1], exact


def _looks(work: Work, moments: Sequence[float], exact: bool) -> list[tuple[Look | Missing, float]]:
    width, height, shown = _judged(work)
    frames = _frames(work, moments, shown, width * height, exact)
    looks = (judge(frame, width) if isinstance(frame, bytes) else frame for frame in frames)
    return list(zip(looks, moments, strict=True))


def _looks_in_passing(work: Work, seconds: float) -> list[tuple[Look | Missing, float]]:
    """At key frames of the first ``seconds``."""
    width, height, shown = _judged(work)
    frames = _pass(work, _PASS_FRAMES, seconds, shown, width * height, only_keyframes=True)
    return [
        (judge(frame, width) if frame else None, seconds * (number + 0.5) / _PASS_FRAMES)
        for number, frame in enumerate(frames)
    ]


def _judged(work: Work) -> tuple[int, int, list[str]]:
    """Width and height of the gray pictures that are judged, and the filters that make them."""
    width, height = filters.fit(work.video.width, work.video.height, _JUDGED_SIDE)
    return width, height, [f"scale={width}:{height}", "format=gray"]


def _is_slow_to_seek(work: Work, keyframes: Sequence[float]) -> bool:
    return not keyframes and work.container in _NEED_INDEX


def _sizes(width: int, height: int) -> list[tuple[int, int]]:
    widths = [narrower for narrower in WIDTHS if narrower < width]
    return [*((narrower, max(1, round(height * narrower / width))) for narrower in widths), (width, height)]


def _seek(at: float, exact: bool) -> list[str]:
    """The input options that begin with the frame at this time, or with the key frame before it."""
    place = ["-ss", f"{at:.3f}"]
    return place if exact else [*place, "-noaccurate_seek"]


def _frames(
    work: Work, moments: Sequence[float], shown: list[str], frame_bytes: int, exact: bool
) -> Iterator[bytes | Missing]:
    """Decode a frame at each of these times, and show it by the filters.

    Ten in a process cost a third of what ten processes cost: of an hour of 1080p at 1.5 Mbit/s, 100 key
    frames take 4 s of the processor, and 14 s one by one. 37 MB are read of Matroska, and 259 MB
    of MP4, most of which is the index of 2 MB every time. To go through all key frames
    in one pass (``-skip_frame nokey``) takes 2 to 3 s, but reads the whole film, whatever its size.

    Larger pictures go fewer at a time, because all decoders are there at once.
    """
    batch = max(1, min(_BATCH, _BATCH * FULL_HD_PIXELS // _pixels(work)))
    for first in range(0, len(moments), batch):
        yield from _batch(work, moments[first : first + batch], shown, frame_bytes, exact)
        work.on_progress(min(1.0, (first + batch) / len(moments)))


def _batch(
    work: Work, moments: Sequence[float], shown: list[str], frame_bytes: int, exact: bool
) -> list[bytes | Missing]:
    inputs, outputs = [], []
    paths = [work.folder / f"frame-{number}.raw" for number in range(len(moments))]
    for number, (moment, path) in enumerate(zip(moments, paths, strict=True)):
        inputs += work.input("-threads", "1", *_seek(moment, exact))
        outputs += ["-map", f"{number}:{work.video.number}", *_one_frame(shown), "-f", "rawvideo", path.name]
    cpu_seconds = _decode_cpu_seconds(work, len(moments)) if exact else _SEEK_CPU_SECONDS
    try:
        run(work, [*inputs, *outputs], cpu_seconds=cpu_seconds, file_bytes=_JPEG_BYTES)
    except FfmpegFailed as failure:
        if failure.code == "timed_out" and exact:
            return _batch(work, moments, shown, frame_bytes, exact=False)
        if failure.code not in ("ffmpeg_failed", "too_much_memory"):
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


def _tiles(
    work: Work, count: int, duration: float, shown: list[str], frame_bytes: int, keyframes: Sequence[float]
) -> list[bytes | None]:
    """A frame for each of so many equal parts of the film, and None where there is none."""
    if count < MOST_TILES and len(keyframes) < count:
        try:
            return _pass(work, count, duration, shown, frame_bytes)
        except FfmpegFailed as failure:
            if failure.code != "timed_out":
                raise
    if _is_slow_to_seek(work, keyframes):
        return _pass(work, count, duration, shown, frame_bytes, only_keyframes=True)
    moments = [duration * (tile + 0.5) / count for tile in range(count)]
    shown = [*filters.deinterlace(work.tools, work.video), *shown]
    frames = _frames(work, moments, shown, frame_bytes, exact=False)
    return [frame if isinstance(frame, bytes) else None for frame in frames]


def _pass(
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
    path = work.folder / "tiles.rgb"
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
        cpu_seconds=_decode_cpu_seconds(work) + size // _BYTES_PER_CPU_SECOND,
        file_bytes=count * frame_bytes,
        on_progress=lambda reached: work.on_progress(min(1.0, reached / seconds)),
    )
    data = path.read_bytes() if path.is_file() else b""
    path.unlink(missing_ok=True)
    frames = [data[at : at + frame_bytes] for at in range(0, len(data), frame_bytes)]
    return [*frames, *[None] * (count - len(frames))]


def _decode_cpu_seconds(work: Work, places: int = 1) -> int:
    """For decoding what may be as much as a short clip, as often as there are places."""
    seconds = min(work.seconds or _SHORT, _SHORT) * places
    return _DECODE_CPU_SECONDS + int(seconds * _CPU_SECONDS_PER_SECOND * _pixels(work) / FULL_HD_PIXELS)


def _pixels(work: Work) -> int:
    return work.video.width * work.video.height


def _filled(frames: Sequence[bytes | None]) -> list[bytes]:
    """Put the frame before in every gap, and in those at the start the first one that there is."""
    last = next((frame for frame in frames if frame), None)
    if last is None:
        raise FfmpegFailed("no_picture", "no frame could be decoded")
    filled = []
    for frame in frames:
        last = frame or last
        filled.append(last)
    return filled


def _tiled(work: Work, tiles: Sequence[bytes], width: int, height: int) -> Picture:
    """Put tiles in rows and make a JPEG of them."""
    raw, path = work.folder / "tiles.rgb", work.folder / "storyboard.jpg"
    raw.write_bytes(b"".join(tiles))
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    kind = ["-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-framerate", "1"]
    source = fence.forced_input(raw, "rawvideo", "-threads", "1", *kind)
    shown = [f"tile={columns}x{rows}", *filters.for_jpeg()]
    output = ["-map", "0:0", *_jpeg(shown, path.name)]
    run(work, [*source, *output], cpu_seconds=_SEEK_CPU_SECONDS, file_bytes=_JPEG_BYTES)
    raw.unlink()
    return Picture(path, columns * width, rows * height)


def _cues(count: int, duration: float, width: int, height: int) -> Iterator[Cue]:
    bounds = [round(duration * bound / count, 3) for bound in range(count + 1)]
    for tile, (begin, end) in enumerate(pairwise(bounds)):
        row, column = divmod(tile, COLUMNS)
        yield Cue(begin, end, column * width, row * height, width, height)


def _timestamp(seconds: float) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}"


def _jpegs(stream: str, shown: Sequence[tuple[tuple[int, int], list[str]]]) -> list[str]:
    """The arguments for one JPEG of each size, made by these filters."""
    outputs = [["-map", stream, *_jpeg(chain, _poster(width))] for (width, _), chain in shown]
    return [argument for output in outputs for argument in output]


def _jpeg(shown: list[str], name: str) -> list[str]:
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


def _poster(width: int) -> str:
    return f"poster-{width}.jpg"


def _pictures(folder: Path, sizes: Sequence[tuple[int, int]]) -> list[Picture]:
    """The JPEGs of these sizes; none if one of them is missing or empty."""
    pictures = [Picture(folder / _poster(width), width, height) for width, height in sizes]
    whole = all(picture.path.is_file() and picture.path.stat().st_size for picture in pictures)
    return pictures if whole else []


def _size_of_ppm(path: Path) -> tuple[int, int]:
    """Width and height of a Portable Pixmap, which begins with them as text (Netpbm, ppm(5))."""
    if path.is_file():
        with path.open("rb") as file:
            head = re.match(rb"P6\s(\d+)\s(\d+)\s", file.read(64))
        if head:
            return int(head[1]), int(head[2])
    raise FfmpegFailed("no_picture", "the image could not be decoded")
