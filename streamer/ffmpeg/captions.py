"""The text tracks of a film as files of captions."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from streamer.containers.media import TextTrack
from streamer.errors import FfmpegFailed
from streamer.ffmpeg.work import Work, ignore, run

TEXT_CODECS = frozenset({"mov_text", "webvtt", "subrip", "ass", "ssa", "text"})
"""The text tracks that captions can be made of, by their names in ffmpeg."""

_FORMATS = {"subrip": "srt", "text": "srt", "webvtt": "webvtt"}
"""What takes a track as it is. ffmpeg's own understanding of them loses ``x<y>z``, voices and positions."""

_MOST_AT_ONCE = 16  # each is an open file, and threads
_MOST_BYTES = 16 * 2**20  # of a file of captions
_CPU_SECONDS, _BYTES_PER_CPU_SECOND = 120, 4 * 2**20

logger = logging.getLogger("streamer")


def extract_captions(work: Work) -> dict[int, Path]:
    """Make files of the text tracks of a film, in one pass over it; each by the number of its track.

    They are WebVTT and SubRip where the tracks are, and else SubRip: ffmpeg makes WebVTT without escaping an
    arrow in a text. All are to be read with care, as by ``protocol.captions``.
    Where ffmpeg fails, it is given one track after the other, and those that it cannot convert are left out.

    Raises FfmpegFailed when a limit ends it, or it cannot be run; Stopped.
    """
    tracks = [track for track in work.media.text if track.name in TEXT_CODECS]
    groups = [tracks[at : at + _MOST_AT_ONCE] for at in range(0, len(tracks), _MOST_AT_ONCE)]
    made: dict[int, Path] = {}
    for done, group in enumerate(groups):
        made |= _extract(work, group, _part(work.on_progress, done, len(groups)))
    return made


def _extract(
    work: Work, tracks: Sequence[TextTrack], on_progress: Callable[[float], None]
) -> dict[int, Path]:
    """The files of some tracks: made together, else of each alone."""
    try:
        return _convert(work, tracks, on_progress)
    except FfmpegFailed as error:
        if error.code != "ffmpeg_failed":
            raise
        if len(tracks) == 1:
            number, name = tracks[0].number, work.path.name
            logger.info("text track %s of %s is left out: %s", number, name, error.detail)
            return {}
    made: dict[int, Path] = {}
    for done, track in enumerate(tracks):
        made |= _extract(work, [track], _part(on_progress, done, len(tracks)))
    return made


def _convert(
    work: Work, tracks: Sequence[TextTrack], on_progress: Callable[[float], None]
) -> dict[int, Path]:
    """Run ffmpeg with an output for each of these tracks."""
    paths = {track.number: work.folder / f"captions-{track.number}.txt" for track in tracks}
    outputs: list[str] = []
    for track in tracks:
        codec, muxer = ("copy", _FORMATS[track.name]) if track.name in _FORMATS else ("srt", "srt")
        outputs += ["-map", f"0:{track.number}", "-c:s", codec, "-f", muxer, paths[track.number].name]
    duration = work.media.duration
    run(
        work,
        [*work.input(), *outputs],
        cpu_seconds=_CPU_SECONDS + work.path.stat().st_size // _BYTES_PER_CPU_SECOND,
        file_bytes=_MOST_BYTES,
        on_progress=(lambda seconds: on_progress(min(1.0, seconds / duration))) if duration else ignore,
    )
    missing = [number for number, path in paths.items() if not path.is_file()]
    if missing:
        raise FfmpegFailed("ffmpeg_failed", f"ffmpeg wrote no captions for the tracks {missing}")
    return paths


def _part(on_progress: Callable[[float], None], done: int, count: int) -> Callable[[float], None]:
    """What hears of the progress of one of several steps, as of the whole."""
    return lambda fraction: on_progress((done + fraction) / count)
