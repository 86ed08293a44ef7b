"""Why doesn't it play? What browsers make of a file, and the cheapest thing that helps.

A browser counts as one that plays a file when every current stable release of it does,
on computers and on phones, without hardware that not all of them have. So HEVC in Chrome
and Firefox and AV1 in Safari do not count, nor does H.264 with 10 bits, which Chrome plays
on computers but not on phones. What a track does not tell is taken for what is usual.

Where the tables come from:

- Chrome: The Chromium Projects, "Audio/Video": the containers MP4 (with QuickTime) and WebM;
  AAC LC and HE, FLAC, MP3, Opus, Vorbis; AV1, VP8, VP9, H.264, and HEVC where the operating
  system has it. It opens QuickTime by what is in it, where no ``type`` attribute says that
  it is that, and Matroska too (Mozilla dev-platform, "Intent to prototype: Matroska"). Phones
  have no H.264 with 10 bits (jellyfin-web, pull request 831).
- Firefox: ``MP4Decoder.cpp`` takes ``video/mp4`` and ``video/quicktime``, not ``video/3gpp``, with
  H.264 of the profiles Baseline, Main and High, VP9, AV1, AAC, MP3, Opus and FLAC; HEVC depends on
  the hardware (release notes of 134 and 136). On phones VP9 with 10 bits fails (mozilla-mobile/fenix,
  issue 25917). Since 145 it opens Matroska, but not before it has loaded all of it (bug 2000420).
- Safari: Release notes of 14.1 and 17.4: VP8, VP9 and Vorbis in WebM, on macOS and then on iOS; of 17:
  Opus in WebM and MP4. AV1 needs a hardware decoder (WebKit, pull request 55373). HEVC plays if its
  sample entry is ``hvc1`` and not ``hev1`` (Apple, "HLS Authoring Specification"). Matroska is not
  supported. VP9 in MP4 plays on some Macs and not on phones (element-x-ios, issue 2374).
- MDN, "Media container formats", "Web video codec guide" and "Web audio codec guide": the rest;
  AC-3, E-AC-3, ALAC and PCM in MP4 are Safari's alone, and Theora is gone.
- How large pictures may be: Microsoft, "H.264 Video Decoder", which is the one of Firefox on Windows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from streamer.containers import signatures
from streamer.containers.media import AudioTrack, Media, VideoTrack, chosen
from streamer.containers.signatures import Container

Track = VideoTrack | AudioTrack

Remedy = Literal["none", "faststart", "remux", "audio", "transcode"]
"""From the cheapest to the dearest: nothing, the index moved to the front, the same streams in an MP4 or
a WebM, the same pictures in an MP4 with the sound as AAC, everything anew as H.264 and AAC."""

BROWSERS = ("chrome", "firefox", "safari")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether browsers play a file as it is. ``reason`` is for people, all else for programs."""

    direct: bool
    """Whether all of them do."""

    reason: str
    browsers: dict[str, bool]
    remedy: Remedy
    """What makes a file of it that all of them play at once; ``none`` where nothing is needed, or helps."""


@dataclass(frozen=True, slots=True)
class _Usual:
    """The kind of a codec that decoders have: its RFC 6381 names, bits and colours."""

    codec: re.Pattern[str]
    bit_depths: tuple[int, ...]
    chromas: tuple[str, ...]


_Players = frozenset[str]

_ALL = frozenset(BROWSERS)
_NONE: _Players = frozenset()
_CHROME, _SAFARI = frozenset({"chrome"}), frozenset({"safari"})
_NOT_SAFARI, _NOT_FIREFOX = _ALL - _SAFARI, _ALL - {"firefox"}

_MP4 = signatures.MP4.mime_type
_WEBM = signatures.WEBM.mime_type

_CONTAINERS = {
    _MP4: _ALL,
    signatures.QUICKTIME.mime_type: _ALL,
    signatures.THREE_GPP.mime_type: _NOT_FIREFOX,
    signatures.THREE_GPP2.mime_type: _NOT_FIREFOX,
    _WEBM: _ALL,
    signatures.MATROSKA.mime_type: _CHROME,
    signatures.AVI.mime_type: _NONE,
    signatures.MPEG_TS.mime_type: _NONE,
    signatures.MPEG_PS.mime_type: _NONE,
    signatures.FLV.mime_type: _NONE,
    signatures.OGG.mime_type: _NONE,
}

# Of the usual kind, in a container that it is meant for.
_CODECS = {
    "h264": _ALL,
    "hevc": _SAFARI,
    "av1": _NOT_SAFARI,
    "vp9": _ALL,
    "vp8": _ALL,
    "aac": _ALL,
    "mp3": _ALL,
    "opus": _ALL,
    "flac": _ALL,
    "vorbis": _ALL,
    "ac3": _SAFARI,
    "eac3": _SAFARI,
    "alac": _SAFARI,
    "pcm": _SAFARI,
}

# Who plays codecs that are out of place; the others may be in any MP4.
_IN_MP4 = {"vp9": _NOT_SAFARI, "vp8": _NONE, "vorbis": _NONE}
_MP4_FAMILY = {
    container.mime_type
    for container in (signatures.MP4, signatures.QUICKTIME, signatures.THREE_GPP, signatures.THREE_GPP2)
}
_WEBM_CODECS = {"vp8", "vp9", "av1", "vorbis", "opus"}  # WebM Container Guidelines

_USUAL = {
    "h264": _Usual(re.compile(r"avc[13]\.(?:42|4d|64)[0-9a-f]{4}"), (8,), ("4:2:0",)),
    "hevc": _Usual(re.compile(r"hvc1\.[12]\..+"), (8, 10), ("4:2:0",)),
    "av1": _Usual(re.compile(r"av01\.0\..+"), (8, 10), ("4:0:0", "4:2:0")),
    "vp9": _Usual(re.compile(r"vp9|vp09\.00\..+"), (8,), ("4:2:0",)),
    # LC with and without SBR and PS, and LC as MPEG-2 has it
    "aac": _Usual(re.compile(r"mp4a\.(?:40\.0?2|40\.0?5|40\.29|67)"), (), ()),
}

_MOST_H264_PIXELS = 4096 * 2304

_CONTAINER_LABELS = {
    container.mime_type: container.name
    for container in (
        signatures.MP4,
        signatures.QUICKTIME,
        signatures.WEBM,
        signatures.THREE_GPP,
        signatures.THREE_GPP2,
        signatures.MATROSKA,
        signatures.AVI,
        signatures.MPEG_TS,
        signatures.MPEG_PS,
        signatures.FLV,
        signatures.OGG,
    )
}
_CODEC_LABELS = {
    "h264": "H.264",
    "hevc": "HEVC",
    "av1": "AV1",
    "vp9": "VP9",
    "vp8": "VP8",
    "mpeg4": "MPEG-4 Part 2",
    "mpeg2video": "MPEG-2",
    "mpeg1video": "MPEG-1",
    "h263": "H.263",
    "theora": "Theora",
    "prores": "ProRes",
    "dnxhd": "DNxHD",
    "mjpeg": "Motion JPEG",
    "ffv1": "FFV1",
    "aac": "AAC",
    "mp3": "MP3",
    "mp2": "MP2",
    "opus": "Opus",
    "vorbis": "Vorbis",
    "flac": "FLAC",
    "ac3": "AC-3",
    "eac3": "E-AC-3",
    "alac": "ALAC",
    "dts": "DTS",
    "truehd": "TrueHD",
    "amr_nb": "AMR",
    "amr_wb": "AMR",
    "pcm": "uncompressed",
}


def judge(container_mime_type: str, media: Media | None) -> Verdict | None:
    """Tell which browsers play a file as it is, why others do not, and what helps.

    ``media`` is what was read of the file, None where that could not be read. Then the verdict is None
    as well, but for containers that no browser opens: of those nothing has to be known, and as
    anything may be in them, the remedy is the one that always works.

    The tracks that decide are those that browsers choose: the first that is marked as default, else the
    first. A file with its index at the end plays too, but only after another request to the server,
    since browsers ask for ranges; its remedy is for those who wait.
    """
    if media is None:
        if _CONTAINERS.get(container_mime_type) != _NONE:
            return None
        return _refusal(_about_container(container_mime_type), "transcode")
    if media.is_encrypted:
        return _refusal("it is encrypted, and only the player of its publisher has the key")
    if media.has_external_data:
        return _refusal("parts of it are in other files, which have not come with it")
    if not media.video and not media.audio:
        return _refusal("it has neither pictures nor sound")
    verdict = _weigh(container_mime_type, media)
    if media.is_truncated:
        return replace(verdict, reason=f"{verdict.reason}; the end of the file is missing")
    return verdict


def _refusal(reason: str, remedy: Remedy = "none") -> Verdict:
    return Verdict(False, reason, dict.fromkeys(BROWSERS, False), remedy)


def _weigh(container: str, media: Media) -> Verdict:
    """The verdict on a file of which all is known."""
    tracks = [track for track in (chosen(media.video), chosen(media.audio)) if track]
    parts = [(_about_container(container), _CONTAINERS.get(container, _NONE))]
    parts += [(_about_track(container, track), _players(container, track)) for track in tracks]
    players = _ALL.intersection(*(plays for _, plays in parts))
    browsers = {browser: browser in players for browser in BROWSERS}
    if players != _ALL:
        return Verdict(False, _reason(parts), browsers, _remedy(container, tracks))
    if container in _MP4_FAMILY and media.faststart is False and not media.is_fragmented:
        reason = "plays everywhere, but begins late: its index is at the end of the file"
        return Verdict(True, reason, browsers, "faststart")
    if any(isinstance(track, VideoTrack) and track.is_interlaced for track in tracks):
        reason = "plays everywhere, but is interlaced: edges look like combs when they move"
        return Verdict(True, reason, browsers, "none")
    return Verdict(True, "plays everywhere", browsers, "none")


def home(tracks: Sequence[Track]) -> Container | None:
    """The container in which all browsers play these tracks as they are: MP4, else WebM, else None."""
    if all(_players(_MP4, track) == _ALL for track in tracks):
        return signatures.MP4
    # not all players turn the pictures of WebM, and not every ffmpeg writes that they shall
    is_turned = any(isinstance(track, VideoTrack) and track.rotation for track in tracks)
    if not is_turned and all(_players(_WEBM, track) == _ALL for track in tracks):
        return signatures.WEBM
    return None


def _remedy(container: str, tracks: list[Track]) -> Remedy:
    """The cheapest way into a file that all browsers play."""
    if container == signatures.AVI.mime_type:
        return "transcode"  # it has no presentation times: what is copied is shown in the order of decoding
    if home(tracks):
        return "remux"
    pictures = [track for track in tracks if isinstance(track, VideoTrack)]
    return "audio" if home(pictures) == signatures.MP4 else "transcode"


def _players(container: str, track: Track) -> _Players:
    """The browsers that play a track, if they open the container."""
    if not _is_usual(track):
        return _NONE
    return _players_of_codec(container, _family(track)) & (_CHROME if _is_too_large(track) else _ALL)


def _players_of_codec(container: str, family: str) -> _Players:
    players = _CODECS.get(family, _NONE)
    if container in _MP4_FAMILY:
        return players & _IN_MP4.get(family, _ALL)
    if container == _WEBM and family not in _WEBM_CODECS:
        return players & _CHROME
    return players


def _family(track: Track) -> str:
    return "pcm" if track.name.startswith("pcm_") else track.name


def _is_usual(track: Track) -> bool:
    usual = _USUAL.get(track.name)
    is_named_so = not (usual and track.codec) or usual.codec.fullmatch(track.codec.lower()) is not None
    return is_named_so and not _oddities(track)


def _oddities(track: Track) -> list[str]:
    """What is unusual about pictures, in words."""
    usual = _USUAL.get(track.name)
    if usual is None or not isinstance(track, VideoTrack):
        return []
    depth = [] if track.bit_depth in (None, *usual.bit_depths) else [f"{track.bit_depth} bits"]
    chroma = [] if track.chroma in (None, *usual.chromas) else [f"{track.chroma} colours"]
    return depth + chroma


def _is_too_large(track: Track) -> bool:
    return (
        isinstance(track, VideoTrack)
        and track.name == "h264"
        and track.width * track.height > _MOST_H264_PIXELS
    )


def _reason(parts: list[tuple[str, _Players]]) -> str:
    """What does not play everywhere; one thing that plays nowhere says it all."""
    limits = [part for part in parts if part[1] != _ALL]
    hopeless = [part for part in limits if not part[1]]
    return "; ".join(sentence for sentence, _ in hopeless[:1] or limits)


def _tell(subject: str, players: _Players) -> str:
    names = " and ".join(browser.title() for browser in BROWSERS if browser in players)
    return f"{subject} in {names} only" if names else f"{subject} in no browser"


def _about_container(mime_type: str) -> str:
    subject = f"{_CONTAINER_LABELS.get(mime_type, 'such')} files play"
    return _tell(subject, _CONTAINERS.get(mime_type, _NONE))


def _about_track(container: str, track: Track) -> str:
    label = _CODEC_LABELS.get(_family(track))
    kind = "video" if isinstance(track, VideoTrack) else "sound"
    if label is None:
        return _tell(f"such {kind} plays", _players(container, track))
    subject = f"{label} {kind}{_peculiarity(container, track)}"
    if not _is_usual(track):  # some browsers do play it on some devices, but not on all of them
        return f"{subject} does not play in every browser"
    return _tell(f"{subject} plays", _players(container, track))


def _peculiarity(container: str, track: Track) -> str:
    """Why a track does not play where its codec does otherwise."""
    if not _is_usual(track):
        oddities = _oddities(track)
        return f" with {' and '.join(oddities)}" if oddities else " of an unusual kind"
    if isinstance(track, VideoTrack) and _is_too_large(track):
        return f" of {track.width} by {track.height}"
    if _players_of_codec(container, _family(track)) != _CODECS.get(_family(track), _NONE):
        return f" in {_CONTAINER_LABELS[container]}"
    return ""
