"""Storyboards: small pictures from all over a film, as tiles of one, and a WebVTT of their times."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from streamer.errors import FfmpegFailed
from streamer.ffmpeg import fence, filters
from streamer.ffmpeg.pictures import (
    JPEG_BYTES,
    SEEK_CPU_SECONDS,
    Picture,
    frames_at,
    frames_in_passing,
    is_slow_to_seek,
    jpeg,
)
from streamer.ffmpeg.work import Work, run

TILE_WIDTH, TILE_HEIGHT = 160, 284  # 16:9 upright is still as wide as this
COLUMNS = 10
MOST_TILES = 100
LEAST_SECONDS = 1.0  # between two tiles


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
    shown = [*filters.show(work.tools, video, width, height), *filters.for_tile(video)]
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


def _tiles(
    work: Work, count: int, duration: float, shown: list[str], frame_bytes: int, keyframes: Sequence[float]
) -> list[bytes | None]:
    """A frame for each of so many equal parts of the film, and None where there is none."""
    if count < MOST_TILES and len(keyframes) < count:
        try:
            return frames_in_passing(work, count, duration, shown, frame_bytes)
        except FfmpegFailed as failure:
            if failure.code != "timed_out":
                raise
    if is_slow_to_seek(work, keyframes):
        return frames_in_passing(work, count, duration, shown, frame_bytes, only_keyframes=True)
    moments = [duration * (tile + 0.5) / count for tile in range(count)]
    shown = [*filters.deinterlace(work.tools, work.video), *shown]
    frames = frames_at(work, moments, shown, frame_bytes, exact=False)
    return [frame if isinstance(frame, bytes) else None for frame in frames]


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
    output = ["-map", "0:0", *jpeg(shown, path.name)]
    run(work, [*source, *output], cpu_seconds=SEEK_CPU_SECONDS, file_bytes=JPEG_BYTES)
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
