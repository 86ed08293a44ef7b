"""MP4 and QuickTime files: what is in the film, by its ``moov`` box.

Of the tables of samples only the lengths are read, so that a film of 50 GB costs
some kilobytes: how long tracks are stands in headers and edit lists. Only keyframes
take the tables of durations and of sync samples, as far as these are not too long.

Sources: ISO/IEC 14496-12; QuickTime File Format Specification (2016).
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from operator import mul

from streamer.containers import fragments, sample_entries
from streamer.containers.boxes import boxes
from streamer.containers.fragments import Extent, Reach, numbers, thinned
from streamer.containers.media import (
    MOST_FRAMES_PER_SECOND,
    AudioTrack,
    Media,
    Source,
    TextTrack,
    VideoTrack,
    bit_rate,
)
from streamer.containers.sample_entries import Pictures
from streamer.containers.tracks import LONGEST, Film, Track, read_film, rotation
from streamer.errors import MediaUnreadable

_MOST_RECORDS = 8  # of video tracks; to follow one is what takes the most time
_MOST_DURATIONS = 2**16  # rows of stts
_MOST_SYNC_SAMPLES = 2**19  # rows of stss
_MOST_LAST_BOXES = 64

_TEXT_HANDLERS = (b"text", b"sbtl", b"subt", b"subp", b"clcp")
_TEXT_NAMES = ("mov_text", "webvtt", "ttml", "eia_608", "dvd_subtitle")


def read_media(source: Source) -> Media:
    """What is in the file. Raises MediaUnreadable if it has no whole ``moov`` that can be followed.

    What is behind the ``moov`` may be missing. Lengths and rates of films in
    fragments are measured at both ends of them; they are None where there are more
    than can be walked by, and no index.
    """
    film = read_film(source)
    told = _told(film)
    extents, position = _reach(film)
    duration = _film_duration(film, extents)
    pictures = [track for track in told if track.handler == b"vide"]
    video = tuple(_video_track(film, track, place, extents) for place, track in enumerate(pictures))
    audio = tuple(_audio_track(track, extents) for track in told if track.handler == b"soun")
    text = tuple(_text_tracks(told))
    shown: tuple[VideoTrack | AudioTrack | TextTrack, ...] = (*video, *audio, *text)
    by_number = {track.number: track for track in told}
    delay = _first_delay([track for track in told if track.handler in (b"vide", b"soun")], extents)
    return Media(
        duration=duration,
        start=delay if delay < (duration or LONGEST) else 0.0,
        video=video,
        audio=audio,
        text=text,
        bit_rate=bit_rate(source.size, duration),
        faststart=film.is_faststart,
        is_fragmented=film.defaults is not None,
        is_encrypted=any(track.entry.is_encrypted for track in told),
        has_external_data=any(by_number[track.number].is_external for track in shown),
        is_truncated=_is_truncated(source, position),
    )


def read_keyframes(source: Source) -> tuple[float, ...]:
    """When the keyframes of the first video track are shown, in seconds; some thousands, if there are more.

    Composition offsets are taken to be those of the first sample, which is right
    where no picture before a keyframe is shown after it. Raises MediaUnreadable.
    """
    film = read_film(source)
    track = next((track for track in _told(film) if track.handler == b"vide"), None)
    if track is None or not track.timescale:
        return ()
    times = [time / track.timescale for time in _table_keyframes(track)]
    if film.defaults is not None:
        times += fragments.keyframes(
            source, film.fragments_start, film.defaults, track.identifier, track.timescale
        )
    skip, delay = track.edits.skip / track.timescale, track.edits.delay
    after_skip = sorted({round(time - skip, 6) for time in times})
    return tuple(thinned([round(time + delay, 6) for time in after_skip if 0 <= time < LONGEST]))


def _told(film: Film) -> list[Track]:
    """The tracks that are no names or pictures of chapters."""
    chapters = {identifier for track in film.tracks for identifier in track.chapters}
    return [track for track in film.tracks if track.identifier not in chapters]


def _reach(film: Film) -> Reach:
    """How far fragments extend the film; not at all if they can't be followed up to their end."""
    without = Reach({}, film.end)
    if film.defaults is None:
        return without
    ends = {track.identifier: track.media_duration for track in film.tracks if track.samples}
    try:
        return fragments.measure(film.source, film.fragments_start, film.defaults, ends)
    except MediaUnreadable:
        return without


def _is_truncated(source: Source, position: int) -> bool:
    """Whether the media data behind a position of the file, or the next fragment, are not all there.

    Other boxes don't matter: what nobody misses is free space, or was never a box.
    """
    if position > source.size:
        return True
    try:
        behind = list(islice(boxes(source, position, source.size), _MOST_LAST_BOXES))
    except MediaUnreadable:
        return False
    return any(box.kind in (b"mdat", b"moof") and not box.is_whole for box in behind)


def _first_delay(tracks: Sequence[Track], extents: dict[int, Extent]) -> float:
    """For how many seconds no track shows anything; one without samples never does."""
    filled = (track for track in tracks if track.samples or track.identifier in extents)
    return min((track.edits.delay for track in filled), default=0.0)


def _film_duration(film: Film, extents: dict[int, Extent]) -> float | None:
    """In seconds: as the film's header says, or until the last track ends."""
    if film.duration and not extents:
        return film.duration
    ends = [track.edits.delay + (_track_duration(track, extents) or 0) for track in film.tracks]
    return max([film.duration, *ends]) or None


def _track_duration(track: Track, extents: dict[int, Extent]) -> float | None:
    """In seconds, of what is shown."""
    if track.identifier in extents:
        return track.seconds(extents[track.identifier].end - track.edits.skip) or None
    return track.shown_seconds or track.seconds(track.media_duration - track.edits.skip) or None


def _video_track(film: Film, track: Track, place: int, extents: dict[int, Extent]) -> VideoTrack:
    pictures = sample_entries.read_pictures(track.entry, with_record=place < _MOST_RECORDS)
    turn = rotation(film.matrix, track.matrix)
    width, height = _displayed(track, pictures)
    if turn in (90, 270):
        width, height = height, width
    return VideoTrack(
        number=track.number,
        name=pictures.name,
        codec=pictures.coding.codec,
        width=width,
        height=height,
        rotation=turn,
        frame_rate=_frame_rate(track, extents),
        bit_depth=pictures.coding.bit_depth,
        chroma=pictures.coding.chroma,
        is_interlaced=pictures.coding.is_interlaced,
        dynamic_range=pictures.coding.dynamic_range,
        duration=_track_duration(track, extents),
        language=track.language,
        is_default=track.is_enabled,
    )


def _audio_track(track: Track, extents: dict[int, Extent]) -> AudioTrack:
    sound = sample_entries.read_sound(track.entry)
    return AudioTrack(
        number=track.number,
        name=sound.name,
        codec=sound.codec,
        channels=sound.channels,
        sample_rate=sound.sample_rate,
        duration=_track_duration(track, extents),
        language=track.language,
        is_default=track.is_enabled,
    )


def _text_tracks(tracks: Sequence[Track]) -> Iterator[TextTrack]:
    for track in tracks:
        if track.handler in _TEXT_HANDLERS:
            name, is_forced = sample_entries.read_text(track.entry)
            if name in _TEXT_NAMES:
                yield TextTrack(
                    number=track.number,
                    name=name,
                    language=track.language,
                    label=track.label,
                    is_default=track.is_enabled,
                    is_forced=is_forced or track.is_forced,
                )


def _frame_rate(track: Track, extents: dict[int, Extent]) -> float | None:
    """The average, of all samples or of those that were read."""
    extent = extents.get(track.identifier, Extent(0))
    samples, duration = extent.samples, extent.duration
    if track.samples:
        samples, duration = samples + track.samples, duration + track.media_duration
    if not samples or not duration or not track.timescale:
        return None
    rate = samples * track.timescale / duration
    return rate if rate <= MOST_FRAMES_PER_SECOND else None


def _displayed(track: Track, pictures: Pictures) -> tuple[int, int]:
    """Width and height in square pixels, before the rotation.

    The shape of a pixel is told by ``pasp``, or follows from the size that the track is shown at.
    """
    width, height = pictures.width, pictures.height
    if not width or not height:
        return track.width >> 16, track.height >> 16
    aspect = pictures.pixel_aspect
    if aspect is None:
        aspect = sample_entries.plausible_aspect(track.width * height, track.height * width)
    return round(width * (aspect or 1)), height


def _table_keyframes(track: Track) -> list[int]:
    """When the sync samples in the ``moov`` are shown, in the track's timescale; thinned if they are many."""
    samples: Sequence[int] = range(1, track.samples + 1)
    if b"stss" in track.tables:
        samples = numbers(track.tables[b"stss"].content(4 * _MOST_SYNC_SAMPLES, skip=8))
    kept = [sample - 1 for sample in thinned(samples) if 0 < sample <= track.samples]
    offset = 0
    if b"ctts" in track.tables:
        offset = int.from_bytes(track.tables[b"ctts"].content(4, skip=12), signed=True)
    return [time + offset for time in _decoding_times(track, kept)]


def _decoding_times(track: Track, samples: Sequence[int]) -> Iterator[int]:
    """When samples, counted from 0, are decoded: by ``stts``, or evenly spread if that is too long."""
    table = track.tables.get(b"stts")
    if table is None:
        return
    if int.from_bytes(table.content(4, skip=4)) > _MOST_DURATIONS:
        yield from (sample * track.media_duration // track.samples for sample in samples)
        return
    rows = numbers(table.content(8 * _MOST_DURATIONS, skip=8))
    counts, durations = rows[0::2], rows[1::2]
    ends = list(accumulate(counts))
    times = list(accumulate(map(mul, counts, durations)))
    for sample in samples:
        row = bisect_right(ends, sample)
        if row < len(times):
            yield times[row] - (ends[row] - sample) * durations[row]
