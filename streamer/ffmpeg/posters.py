"""Posters: one frame of a film, or an image, in several sizes."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from streamer.containers import signatures
from streamer.errors import FfmpegFailed
from streamer.ffmpeg import fence, filters
from streamer.ffmpeg.pictures import (
    JPEG_BYTES,
    SEEK_CPU_SECONDS,
    SHORT,
    Missing,
    Picture,
    decode_cpu_seconds,
    frames_at,
    frames_in_passing,
    is_slow_to_seek,
    jpeg,
    pixels,
    seek,
)
from streamer.ffmpeg.tools import Tools
from streamer.ffmpeg.work import FULL_HD_PIXELS, Work, limits, run, start

WIDTHS = (160, 320, 640, 1280)
"""Of posters, in pixels: those below the width of the film, and that width itself."""

LONGEST_SIDE = 1280

MOST_IMAGE_PIXELS = 50_000_000

_WINDOW = tuple(0.1 + 0.3 * step / 7 for step in range(8))
_ELSEWHERE = (0.0, 0.02, 0.05, 0.5, 0.6, 0.7, 0.8, 0.9)
_PASSES = ((0.4, 4), (1.0, 0))  # how far, and which of the 16 key frames up to there is the first to look at
_PASS_FRAMES = 16
_UNKNOWN_DURATION = 30.0  # seconds; what is looked at then
_SHORT_IN_FULL_HD = 15.0  # a clip in which to decode from a key frame to any other costs little

_JUDGED_SIDE = 160
_DARK = 32  # of 255
_DARK_SHARE = 0.9
_FLAT = 1.0  # of detail: a sky has more

_DEMUXERS = {"image/jpeg": "jpeg_pipe", "image/png": "png_pipe", "image/webp": "webp_pipe"}


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
    ones it is the least bad. In films of more than a minute, or of more pixels than 15 seconds of full
    HD, only key frames are looked at, and the time may be that of the next one; of a clip any frame, if
    those are no good. Without ``keyframes``, the times of key frames as far as they are known, such a
    Matroska or FLV is read in one pass: 12 and 16 frames take the place of eight.

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
        options = ["-threads", str(work.threads), *seek(at, precisely)]
        source = [*work.input(*options), *_jpegs(f"0:{video.number}", shown)]
        try:
            run(work, source, cpu_seconds=decode_cpu_seconds(work), file_bytes=JPEG_BYTES)
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
    bounds = limits(SEEK_CPU_SECONDS, 8 * JPEG_BYTES, MOST_IMAGE_PIXELS)
    whole = folder / "image.ppm"
    portable = [*_image_input(image), *_portable(whole.name)]
    start(tools, portable, folder=folder, limits=bounds, should_stop=should_stop)
    sizes = _sizes(*_size_of_ppm(whole))
    shown = [(size, [f"scale={size[0]}:{size[1]}", *filters.for_jpeg()]) for size in sizes]
    source = fence.forced_input(whole, "ppm_pipe", "-threads", "1")
    start(tools, [*source, *_jpegs("0:0", shown)], folder=folder, limits=bounds, should_stop=should_stop)
    whole.unlink()
    if pictures := _pictures(folder, sizes):
        return pictures
    raise FfmpegFailed("no_picture", "the image could not be decoded")


def _image_input(image: Path) -> list[str]:
    """The arguments that make an image an input. Raises FfmpegFailed (``not_an_image``)."""
    with image.open("rb") as file:
        media_type = signatures.image_type(file.read(signatures.IMAGE_HEAD_BYTES))
    if media_type is None:
        raise FfmpegFailed("not_an_image", "it is no JPEG, PNG or WebP")
    return fence.forced_input(
        image, _DEMUXERS[media_type], "-threads", "1", "-max_pixels", str(MOST_IMAGE_PIXELS)
    )


def _portable(name: str) -> list[str]:
    """The arguments of an output that is a Portable Pixmap, not larger than a poster."""
    shrink = (
        f"scale=min(iw\\,{LONGEST_SIDE}):min(ih\\,{LONGEST_SIDE}):force_original_aspect_ratio=decrease,"
        "setsar=1,format=rgb24"
    )
    one = ["-frames:v", "1", "-threads", "1", "-vf", shrink]
    return [*one, "-c:v", "ppm", "-f", "image2pipe", name]


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
    is_cheap = duration * pixels(work) <= _SHORT_IN_FULL_HD * FULL_HD_PIXELS
    if duration > SHORT or not is_cheap:
        look, at = _best(work, duration, keyframes, exact=False)
        if look.is_good or duration > SHORT:
            return at, False
    return _best(work, duration, keyframes, exact=True)[1], True


def _best(work: Work, duration: float, keyframes: Sequence[float], *, exact: bool) -> tuple[Look, float]:
    """The best of the frames that are looked at, and its time."""
    in_passing = not exact and is_slow_to_seek(work, keyframes)
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
    return best


def _looks(work: Work, moments: Sequence[float], exact: bool) -> list[tuple[Look | Missing, float]]:
    width, height, shown = _judged(work)
    frames = frames_at(work, moments, shown, width * height, exact)
    looks = (judge(frame, width) if isinstance(frame, bytes) else frame for frame in frames)
    return list(zip(looks, moments, strict=True))


def _looks_in_passing(work: Work, seconds: float) -> list[tuple[Look | Missing, float]]:
    """At key frames of the first ``seconds``."""
    width, height, shown = _judged(work)
    frames = frames_in_passing(work, _PASS_FRAMES, seconds, shown, width * height, only_keyframes=True)
    return [
        (judge(frame, width) if frame else None, seconds * (number + 0.5) / _PASS_FRAMES)
        for number, frame in enumerate(frames)
    ]


def _judged(work: Work) -> tuple[int, int, list[str]]:
    """Width and height of the gray pictures that are judged, and the filters that make them."""
    width, height = filters.fit(work.video.width, work.video.height, _JUDGED_SIDE)
    return width, height, [f"scale={width}:{height}", "format=gray"]


def _sizes(width: int, height: int) -> list[tuple[int, int]]:
    widths = [narrower for narrower in WIDTHS if narrower < width]
    return [*((narrower, max(1, round(height * narrower / width))) for narrower in widths), (width, height)]


def _jpegs(stream: str, shown: Sequence[tuple[tuple[int, int], list[str]]]) -> list[str]:
    """The arguments for one JPEG of each size, made by these filters."""
    outputs = [["-map", stream, *jpeg(chain, _poster(width))] for (width, _), chain in shown]
    return [argument for output in outputs for argument in output]


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
