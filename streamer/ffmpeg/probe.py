"""What ffprobe tells about files of the containers that are not read here."""

import json
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from streamer.containers.media import (
    MOST_FRAMES_PER_SECOND,
    MOST_TRACKS,
    AudioTrack,
    DynamicRange,
    Media,
    TextTrack,
    VideoTrack,
    bit_rate,
    printable_label,
)
from streamer.containers.signatures import Container
from streamer.errors import FfmpegFailed
from streamer.ffmpeg import fence
from streamer.ffmpeg.tools import Tools
from streamer.ffmpeg.work import limits

_ENTRIES = (
    "format=duration:"
    "stream=index,codec_type,codec_name,profile,level,width,height,sample_aspect_ratio,avg_frame_rate,pix_fmt,"
    "field_order,color_transfer,duration,channels,sample_rate:"
    "stream_disposition=default,forced,attached_pic:stream_tags=language,title:stream_side_data=rotation"
)
_CPU_SECONDS = 60
_OUTPUT_BYTES = 2**20
_MOST_PIXELS_A_SIDE = 2**16
_MOST_SECONDS = 10**8

_PIXEL_FORMAT = re.compile(
    r"(yuv[aj]?420|yuv[aj]?422|yuv[aj]?444|gbra?|gray)p?(\d{1,2})?(?:le|be)?", re.ASCII
)
_CHROMA = {"420": "4:2:0", "422": "4:2:2", "444": "4:4:4", "gbr": "4:4:4", "bra": "4:4:4", "ray": "4:0:0"}

# ITU-T H.264, annex A, as the first two bytes of "avc1.": profile_idc and the flags that go without saying
_AVC_PROFILES = {
    "Constrained Baseline": "42E0",
    "Baseline": "4200",
    "Main": "4D00",
    "Extended": "5800",
    "High": "6400",
    "High 10": "6E00",
    "High 4:2:2": "7A00",
    "High 4:4:4 Predictive": "F400",
}
_HEVC_PROFILES = {"Main": "1.6", "Main 10": "2.4"}  # ISO/IEC 14496-15, E.3; ITU-T H.265, annex A
_AAC_PROFILES = {"LC": "mp4a.40.2", "HE-AAC": "mp4a.40.5", "HE-AACv2": "mp4a.40.29"}
_NAMES = {
    "vp8": "vp8",
    "theora": "theora",
    "mp3": "mp3",
    "ac3": "ac-3",
    "eac3": "ec-3",
    "opus": "opus",
    "vorbis": "vorbis",
    "flac": "flac",
}
_TRANSFERS: dict[str, DynamicRange] = {
    "smpte2084": "pq",
    "arib-std-b67": "hlg",
    "bt709": "sdr",
    "smpte170m": "sdr",
    "gamma22": "sdr",
    "gamma28": "sdr",
    "bt470m": "sdr",
    "bt470bg": "sdr",
    "iec61966-2-1": "sdr",
    "bt2020-10": "sdr",
    "bt2020-12": "sdr",
}
_INTERLACED = {"progressive": False, "tt": True, "bb": True, "tb": True, "bt": True}


def probe(
    tools: Tools,
    path: Path,
    container: Container,
    folder: Path,
    should_stop: Callable[[], bool] = fence.never,
) -> Media | None:
    """Ask ffprobe what is in a file; None without ffprobe, or where it cannot tell.

    Raises FfmpegFailed where that is not the fault of the file, and Stopped.
    """
    if tools.ffprobe is None:
        return None
    arguments = ["-v", "error", "-of", "json", "-show_entries", _ENTRIES, *fence.media_input(path, container)]
    bounds = limits(_CPU_SECONDS, 0, 0)
    try:
        output = fence.run(
            tools.ffprobe,
            arguments,
            folder=folder,
            limits=bounds,
            should_stop=should_stop,
            keep_output=_OUTPUT_BYTES,
        )
        answer = json.loads(output)
    except FfmpegFailed as failure:
        if failure.code != "ffmpeg_failed":
            raise
        return None
    except (ValueError, RecursionError):
        return None
    return read_answer(answer, path.stat().st_size)


def read_answer(answer: Any, size: int) -> Media | None:
    """What the JSON of ffprobe says about a file of this size in bytes, as far as it makes sense.

    None if there is no track in it.
    """
    streams = [stream for stream in _list(answer, "streams") if isinstance(stream, dict)][:MOST_TRACKS]
    video = tuple(filter(None, map(_video, streams)))
    audio = tuple(filter(None, map(_audio, streams)))
    text = tuple(filter(None, map(_text, streams)))
    if not (video or audio):
        return None
    duration = _seconds(_dictionary(answer, "format"))
    rate = bit_rate(size, duration)
    return Media(duration=duration, video=video, audio=audio, text=text, bit_rate=rate)


def _video(stream: dict[str, Any]) -> VideoTrack | None:
    number = _number_of(stream, "video")
    width = _integer(stream.get("width"), _MOST_PIXELS_A_SIDE)
    height = _integer(stream.get("height"), _MOST_PIXELS_A_SIDE)
    if number is None or not width or not height or _flag(stream, "attached_pic"):
        return None
    rotation = next(_rotations(stream), 0)
    width = max(1, round(width * (_ratio(stream.get("sample_aspect_ratio"), ":", 100) or 1)))
    depth, chroma = _pixels(_string(stream, "pix_fmt"))
    return VideoTrack(
        number=number,
        name=_name(stream),
        codec=_video_codec(stream),
        width=height if rotation % 180 else width,
        height=width if rotation % 180 else height,
        rotation=rotation,
        frame_rate=_ratio(stream.get("avg_frame_rate"), "/", MOST_FRAMES_PER_SECOND),
        bit_depth=depth,
        chroma=chroma,
        is_interlaced=_INTERLACED.get(_string(stream, "field_order")),
        dynamic_range=_TRANSFERS.get(_string(stream, "color_transfer")),
        duration=_seconds(stream),
        language=_language(stream),
        is_default=_flag(stream, "default"),
    )


def _audio(stream: dict[str, Any]) -> AudioTrack | None:
    number = _number_of(stream, "audio")
    if number is None:
        return None
    return AudioTrack(
        number=number,
        name=_name(stream),
        codec=_audio_codec(stream),
        channels=_integer(stream.get("channels"), 255) or None,
        sample_rate=_integer(stream.get("sample_rate"), 10**7) or None,
        duration=_seconds(stream),
        language=_language(stream),
        is_default=_flag(stream, "default"),
    )


def _text(stream: dict[str, Any]) -> TextTrack | None:
    number = _number_of(stream, "subtitle")
    if number is None:
        return None
    return TextTrack(
        number=number,
        name=_name(stream),
        language=_language(stream),
        label=printable_label(_string(_dictionary(stream, "tags"), "title")),
        is_default=_flag(stream, "default"),
        is_forced=_flag(stream, "forced"),
    )


def _video_codec(stream: dict[str, Any]) -> str | None:
    """The codec as in RFC 6381, where profile and level are told; the tier of HEVC is taken for Main."""
    name, profile = stream.get("codec_name"), _string(stream, "profile")
    level = _integer(stream.get("level"), 255)
    if name == "h264" and level and profile in _AVC_PROFILES:
        return f"avc1.{_AVC_PROFILES[profile]}{level:02X}"
    if name == "hevc" and level and profile in _HEVC_PROFILES:
        return f"hvc1.{_HEVC_PROFILES[profile]}.L{level}.B0"
    return _NAMES.get(_string(stream, "codec_name"))


def _audio_codec(stream: dict[str, Any]) -> str | None:
    if stream.get("codec_name") == "aac":
        return _AAC_PROFILES.get(_string(stream, "profile"))
    return _NAMES.get(_string(stream, "codec_name"))


def _rotations(stream: dict[str, Any]) -> Iterator[int]:
    """Quarter turns clockwise; ffprobe counts them the other way."""
    for data in _list(stream, "side_data_list"):
        angle = data.get("rotation") if isinstance(data, dict) else None
        if isinstance(angle, int) and angle % 90 == 0:
            yield -angle % 360


def _pixels(name: str) -> tuple[int | None, str | None]:
    """Bit depth and chroma subsampling of a pixel format; None where the name is of another kind."""
    found = _PIXEL_FORMAT.fullmatch(name)
    return (int(found[2] or 8), _CHROMA[found[1][-3:]]) if found else (None, None)


def _number_of(stream: dict[str, Any], kind: str) -> int | None:
    return _integer(stream.get("index"), 10**6) if stream.get("codec_type") == kind else None


def _name(stream: dict[str, Any]) -> str:
    return printable_label(_string(stream, "codec_name")) or "unknown"


def _language(stream: dict[str, Any]) -> str | None:
    language = _string(_dictionary(stream, "tags"), "language")
    return (
        language
        if re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,4}", language) and language != "und"
        else None
    )


def _seconds(values: dict[str, Any]) -> float | None:
    """The duration; 0 is what is written where nothing is known."""
    return _number(values.get("duration"), _MOST_SECONDS) or None


def _flag(stream: dict[str, Any], name: str) -> bool:
    return _dictionary(stream, "disposition").get(name) == 1


def _string(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    return value if isinstance(value, str) else ""


def _dictionary(values: Any, name: str) -> dict[str, Any]:
    value = values.get(name) if isinstance(values, dict) else None
    return value if isinstance(value, dict) else {}


def _list(values: Any, name: str) -> list[Any]:
    value = values.get(name) if isinstance(values, dict) else None
    return value if isinstance(value, list) else []


def _integer(value: Any, most: int) -> int | None:
    """A count, which ffprobe gives as a number or as text; None if it is none, or above ``most``."""
    number = _number(value, most)
    return int(number) if number is not None and number == int(number) else None


def _number(value: Any, most: float) -> float | None:
    """A number from 0 to ``most``; None for all else."""
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= most else None


def _ratio(value: Any, separator: str, most: float) -> float | None:
    """A ratio such as ``30000/1001``; None unless it is positive and within ``most`` and its inverse."""
    found = (
        re.fullmatch(rf"(\d{{1,10}}){separator}(\d{{1,10}})", value, re.ASCII)
        if isinstance(value, str)
        else None
    )
    if not found or not int(found[1]) or not int(found[2]):
        return None
    ratio = float(Fraction(int(found[1]), int(found[2])))
    return ratio if 1 / most <= ratio <= most else None
