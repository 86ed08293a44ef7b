"""What is made of a film that browsers do not play: an MP4 or WebM that they do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streamer import playability
from streamer.containers import reading, signatures
from streamer.containers.media import AudioTrack, Media, VideoTrack, chosen
from streamer.containers.signatures import Container
from streamer.errors import FfmpegFailed, MediaUnreadable
from streamer.ffmpeg import filters
from streamer.ffmpeg.work import Work, length, run

Remedy = Literal["faststart", "remux", "audio", "transcode"]

LONGER_SIDE, SHORTER_SIDE = 1920, 1080
MOST_FRAMES = 60  # per second
KEYFRAME_SECONDS = 2

_LEAST_GAP = 0.015
"""Seconds between two frames where there are too many: between 1/75 and 1/60, as far as can be from both,
because files with times in milliseconds (Matroska, FLV) and cameras have gaps that are not quite even.
So 90, 120 and 240 frames a second become 45, 60 and 60."""

_TIME_BASE = "1/90000"  # as in MPEG: exact for all usual rates

_CRF = 22
_BITS_PER_PIXEL = 0.13  # at most: 8 Mbit/s for 1080p at 30 frames a second
_LEAST_RATE, _MOST_RATE = 500_000, 12_000_000  # bits per second
_LEAST_FRAMES = 30  # per second, because the average may be that of long pauses

# with macroblocks in a frame, and in a second (ITU-T H.264, table A-1); bit rates and buffers fit in all
_LEVELS = (("3.1", 3600, 108_000), ("4.0", 8192, 245_760), ("4.2", 8704, 522_240))
_AUDIO_RATE = 160_000
_SAMPLE_RATE = 48_000
_MOST_MIXED = 8  # channels

_LEAST_BIT_RATE = 250_000  # of a file that does not tell its duration
_MOST_GROWTH, _GROWTH_BYTES = 4, 64 * 2**20  # of what is made of it: so many times its size, and this
_COPY_CPU_SECONDS, _COPY_BYTES_PER_CPU_SECOND = 120, 4 * 2**20
_CPU_SECONDS_PER_SECOND = 60  # of 4K in HDR on a small box
_MOST_CPU_SECONDS = 7 * 24 * 3600
_HEAD_BYTES = 2 * 2**20  # of an MP4, before anything is in it

_CUT_SHARE, _CUT_SECONDS = 0.02, 1.0

_MUXING = {
    # FLAC and Opus were experimental in MP4 for long
    signatures.MP4: ("-strict", "experimental", "-movflags", "+faststart", "-f", "mp4"),
    signatures.WEBM: ("-cues_to_front", "1", "-f", "webm"),
}

_SILENCE = (
    *("-map_metadata", "-1", "-map_metadata:s", "-1", "-map_chapters", "-1"),
    *("-fflags", "+bitexact", "-flags", "+bitexact"),
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A file for browsers, and its media type: that of MP4 or WebM."""

    path: Path
    mime_type: str


def make(work: Work, remedy: Remedy) -> Variant:
    """Make a file that browsers play: its video and audio track, index first, nothing else.

    ``faststart`` and ``remux`` copy both tracks, ``audio`` makes the audio AAC in stereo. ``transcode``
    makes H.264 of the video as well: High profile in 4:2:0 and 8 bits, at most 1920x1080 pixels, or
    1080x1920, upright, square, progressive, in the dynamic range of ordinary screens, some 60 frames a
    second at most, with a key frame every 2 seconds. The file is an MP4, or a WebM where ``remux`` has
    tracks that play everywhere only there. An audio track in which there is nothing may be missing.

    What ffmpeg has left is read again before it is returned. Raises FfmpegFailed, also where ffmpeg
    lacks an encoder (``encoder_missing``), there is nothing to play (``no_tracks``) or to show
    (``no_video``), or the result is shorter than the original (``cut_short``) or cannot be read
    (``result_unreadable``); Stopped.
    """
    video, audio = chosen(work.media.video), chosen(work.media.audio)
    if video is None and audio is None:
        raise FfmpegFailed("no_tracks", "the file has neither video nor audio")
    container = _container(remedy, video, audio)
    path = work.folder / f"web{container.suffix}"
    size = work.path.stat().st_size
    duration = _duration(work.media, size)
    arguments = work.input("-threads", str(work.threads))
    if video is not None:
        arguments += ["-map", f"0:{video.number}", *_video_coding(work, video, remedy)]
    if audio is not None:
        arguments += ["-map", f"0:{audio.number}", *_audio_coding(work, audio, remedy)]
    run(
        work,
        [*arguments, "-threads", str(work.threads), *_SILENCE, *_MUXING[container], path.name],
        cpu_seconds=_cpu_seconds(remedy, duration, size),
        file_bytes=estimate_bytes(work.media, remedy, size),
        filter_threads=work.threads,
        on_progress=lambda seconds: work.on_progress(min(1.0, seconds / duration)),
    )
    made = Variant(path, container.mime_type)
    _check(made, work, video, audio)
    return made


def estimate_bytes(media: Media, remedy: Remedy, size: int) -> int:
    """At most how many bytes ``make`` writes for an original of this size.

    It is the space to reserve, and ffmpeg is ended when it wants more. Raises FfmpegFailed (``no_video``)
    where the pictures have no size.
    """
    seconds = _duration(media, size)
    video, audio = chosen(media.video), chosen(media.audio)
    bits = _AUDIO_RATE * seconds if audio else 0.0
    if remedy == "transcode" and video is not None:
        bits += _most_rate(video) * (seconds + 2)  # the buffer of the rate control
    else:
        bits += 8 * size
    if not media.duration:
        bits = min(bits, 8 * (_MOST_GROWTH * size + _GROWTH_BYTES))
    return int(bits / 8 * 1.1) + _HEAD_BYTES


def _container(remedy: Remedy, video: VideoTrack | None, audio: AudioTrack | None) -> Container:
    """What to put the tracks in."""
    home = playability.home([track for track in (video, audio) if track]) if remedy == "remux" else None
    return home or signatures.MP4


def _video_coding(work: Work, video: VideoTrack, remedy: Remedy) -> list[str]:
    if remedy != "transcode":
        # Apple's players take HEVC only by this name, which keeps its parameter sets out of the stream.
        return ["-c:v", "copy", *(["-tag:v", "hvc1"] if video.name == "hevc" else [])]
    if "libx264" not in work.tools.encoders:
        raise FfmpegFailed("encoder_missing", "this ffmpeg has no libx264, which makes H.264")
    rate = _most_rate(video)
    quality = ["-preset", "veryfast", "-crf", str(_CRF), "-maxrate", str(rate), "-bufsize", str(2 * rate)]
    keyframes = ["-force_key_frames", f"expr:gte(t,n_forced*{KEYFRAME_SECONDS})"]
    # By itself ffmpeg counts time in frames of the usual rate, and drops those that come faster.
    times = ["-fps_mode", "vfr", "-enc_time_base:v", _TIME_BASE]
    # The encoder would take the level from the finest gap that there is, were it of one millisecond.
    kind = ["-c:v", "libx264", "-profile:v", "high", "-level:v", _level(video)]
    return ["-vf", ",".join(_pictures(work, video)), *times, *kind, *quality, *keyframes]


def _pictures(work: Work, video: VideoTrack) -> list[str]:
    """The filters of a transcoding; what takes pictures away comes early."""
    width, height = _even(video)
    # Even drops keep the rhythm of 90 or 120 frames a second, which a filter for 60 would lose; where the
    # average is 60, frames that are near each other are no more than unevenness.
    fewer = f"select=isnan(prev_selected_t)+gte(t-prev_selected_t\\,{_LEAST_GAP})"
    is_slow = 0 < (video.frame_rate or 0) <= MOST_FRAMES + 1
    return [
        *filters.deinterlace(work.tools, video),
        *([] if is_slow else [fewer]),
        *filters.show(work.tools, video, width, height),
        *filters.for_h264(video),
    ]


def _even(video: VideoTrack) -> tuple[int, int]:
    """The size in pixels, of which 4:2:0 has an even number in either direction."""
    if not (video.width and video.height):
        raise FfmpegFailed("no_video", "the pictures have no size")
    width, height = filters.fit(video.width, video.height, LONGER_SIDE, SHORTER_SIDE)
    return max(2, width - width % 2), max(2, height - height % 2)


def _audio_coding(work: Work, audio: AudioTrack, remedy: Remedy) -> list[str]:
    fits = (
        audio.codec == "mp4a.40.2" and (audio.channels or 9) <= 2 and (audio.sample_rate or 0) <= _SAMPLE_RATE
    )
    if remedy in ("faststart", "remux") or (remedy == "transcode" and fits):
        return ["-c:a", "copy"]
    if "aac" not in work.tools.encoders:
        raise FfmpegFailed("encoder_missing", "this ffmpeg has no encoder for AAC")
    shape = ["-ac", str(min(audio.channels or 2, 2)), "-ar", str(_SAMPLE_RATE)]
    # More channels than 8 have no usual places, without which they cannot be mixed.
    mixed = "pan=stereo|c0=c0|c1=c1," if (audio.channels or 0) > _MOST_MIXED else ""
    return ["-af", f"{mixed}aresample=async=1", "-c:a", "aac", "-b:a", str(_AUDIO_RATE), *shape]


def _most_rate(video: VideoTrack) -> int:
    """The bits per second that the video of a transcoding may have."""
    width, height = _even(video)
    rate = width * height * _frames(video) * _BITS_PER_PIXEL
    return int(min(max(rate, _LEAST_RATE), _MOST_RATE))


def _level(video: VideoTrack) -> str:
    """The lowest level of H.264 that the video of a transcoding keeps to; all sizes keep to the last."""
    width, height = _even(video)
    macroblocks = -(-width // 16) * -(-height // 16)
    return next(
        level
        for level, most, most_per_second in _LEVELS
        if macroblocks <= most and macroblocks * _frames(video) <= most_per_second
    )


def _frames(video: VideoTrack) -> float:
    """How many frames a second of a transcoding may have, where it has many."""
    return min(max(video.frame_rate or MOST_FRAMES, _LEAST_FRAMES), MOST_FRAMES)


def _duration(media: Media, size: int) -> float:
    """In seconds; the longest that it may well be where that is not told."""
    return length(media) or max(1.0, size * 8 / _LEAST_BIT_RATE)


def _cpu_seconds(remedy: Remedy, duration: float, size: int) -> int:
    seconds = _COPY_CPU_SECONDS + size / _COPY_BYTES_PER_CPU_SECOND
    if remedy == "audio":
        seconds += duration
    if remedy == "transcode":
        seconds += duration * _CPU_SECONDS_PER_SECOND
    return int(min(seconds, _MOST_CPU_SECONDS))


def _check(made: Variant, work: Work, video: VideoTrack | None, audio: AudioTrack | None) -> None:
    """Raise FfmpegFailed unless a result is whole: of a file that breaks off ffmpeg makes what it can."""
    try:
        result = _read(made)
    except (OSError, MediaUnreadable) as error:
        why = error.strerror if isinstance(error, OSError) else error  # without the path
        raise FfmpegFailed("result_unreadable", f"what ffmpeg has made cannot be read: {why}") from error
    if video and audio and not result.audio and _is_empty(work, audio):
        audio = None  # of a recorder without a microphone
    if len(result.video) != (video is not None) or len(result.audio) != (audio is not None):
        raise FfmpegFailed("result_unreadable", "what ffmpeg has made lacks a track")
    known = [track.duration for track in (video, audio) if track is not None and track.duration]
    # the whole film may be longer than its tracks, by captions that stay
    wanted = max(known, default=work.media.duration or 0.0)
    wanted = min(wanted, length(work.media) or wanted)  # ffmpeg moves the beginning to 0
    found = result.duration or 0.0
    if found < wanted * (1 - _CUT_SHARE) - _CUT_SECONDS:
        detail = f"the result ends after {found:.1f} seconds, the original after {wanted:.1f}"
        raise FfmpegFailed("cut_short", detail)


def _is_empty(work: Work, audio: AudioTrack) -> bool:
    """Whether there is no packet of a track; what is missing at the end of a file might be some."""
    if work.media.is_truncated:
        return False
    path, size = work.folder / "packet", work.path.stat().st_size
    one_packet = ["-map", f"0:{audio.number}", "-c", "copy", "-frames:a", "1", "-f", "data", path.name]
    run(
        work,
        [*work.input(), *one_packet],
        cpu_seconds=_cpu_seconds("remux", 0.0, size),
        file_bytes=estimate_bytes(work.media, "remux", size),
    )
    is_empty = path.is_file() and not path.stat().st_size
    path.unlink(missing_ok=True)
    return is_empty


def _read(made: Variant) -> Media:
    with reading.opened(made.path) as source:
        return reading.READERS[made.mime_type].read_media(source)
