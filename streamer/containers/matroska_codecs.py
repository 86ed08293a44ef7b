"""The CodecIDs of Matroska and WebM: what they are called elsewhere, and what the record beside them says.

Names are those of ffmpeg. ``private`` is the content of ``CodecPrivate``, which is
laid out as its CodecID wants it; one that can't be followed counts as none.

Sources: "Matroska Media Container Codec Specifications"; WebM Container
Guidelines; BITMAPINFOHEADER and WAVEFORMATEX of Microsoft for what comes from AVI.
"""

from collections.abc import Callable
from typing import NamedTuple

from streamer.containers import audio_codecs, video_codecs
from streamer.containers.audio_codecs import AudioCoding
from streamer.containers.bits import BitReader
from streamer.containers.video_codecs import Coding
from streamer.errors import MediaUnreadable

_LONGEST_NAME = 32
_MOST_PRIVATE_BYTES = 8192  # of the records that are read; text tracks have longer ones


class VideoCodec(NamedTuple):
    """The name, and how the pictures are coded: ``codec`` is None where that is not known."""

    name: str
    coding: Coding


class AudioCodec(NamedTuple):
    """The name, and how the sound is coded: ``codec`` is None where that is not known."""

    name: str
    coding: AudioCoding


class Vp9Frame(NamedTuple):
    """What the uncompressed header of a VP9 keyframe says; the subsampling as in ``vpcC``."""

    profile: int
    bit_depth: int
    subsampling: int


def video(codec_id: str, private: bytes) -> VideoCodec:
    """Name and coding of a video track."""
    if codec_id == "V_MS/VFW/FOURCC":
        return VideoCodec(_by_fourcc(private[16:20], codec_id), _NO_VIDEO)
    if codec_id == "V_QUICKTIME":
        return VideoCodec(_by_fourcc(private[4:8], codec_id), _NO_VIDEO)
    name, read = _VIDEO.get(codec_id, (_printable(codec_id), _nothing))
    try:
        return VideoCodec(name, read(private[:_MOST_PRIVATE_BYTES]))
    except MediaUnreadable:
        return VideoCodec(name, _NO_VIDEO)


def audio(codec_id: str, private: bytes, bit_depth: int) -> AudioCodec:
    """Name and coding of an audio track; ``bit_depth`` is that of samples which are not coded."""
    if codec_id in _PCM:
        return AudioCodec(_PCM[codec_id].format(bit_depth) if bit_depth != 8 else "pcm_u8", _NO_AUDIO)
    if codec_id.startswith("A_AAC/"):
        return AudioCodec("aac", _aac_by_name(codec_id, private))
    if codec_id == "A_MS/ACM":
        name = _BY_FORMAT_TAG.get(int.from_bytes(private[:2], "little"), codec_id)
        return AudioCodec(name, AudioCoding(codec="mp3") if name == "mp3" else _NO_AUDIO)
    name, codec = _AUDIO.get(codec_id, (_printable(codec_id), None))
    read = _AUDIO_RECORDS.get(name)
    try:
        return AudioCodec(name, read(private[:_MOST_PRIVATE_BYTES]) if read else AudioCoding(codec=codec))
    except MediaUnreadable:
        return AudioCodec(name, AudioCoding(codec=codec))


def text(codec_id: str) -> str:
    """Name of the codec of a text track."""
    return "webvtt" if codec_id.startswith("D_WEBVTT/") else _TEXT.get(codec_id, _printable(codec_id))


def vp9_frame(frame: bytes) -> Vp9Frame | None:
    """Read the beginning of a VP9 frame.

    None if it is no keyframe, or its chroma is none of 4:2:0, 4:2:2 and 4:4:4.

    Source: VP9 Bitstream & Decoding Process Specification 0.7, sections 6.2 and 6.2.2.
    """
    bits = BitReader(frame)
    try:
        marker, low, high = bits.bits(2), bits.bits(1), bits.bits(1)
        profile = high << 1 | low
        if profile == 3:
            bits.skip(1)
        is_shown_again, is_inter = bits.flag(), bits.flag()
        bits.skip(2)
        if marker != 2 or is_shown_again or is_inter or bits.bits(24) != _VP9_SYNC_CODE:
            return None
        depth = (12 if bits.flag() else 10) if profile >= 2 else 8
        subsampling = _vp9_subsampling(bits, profile)
    except MediaUnreadable:
        return None
    return None if subsampling is None else Vp9Frame(profile, depth, subsampling)


def vp9(frame: Vp9Frame, picture_size: int, frame_rate: float | None) -> Coding:
    """Coding of a VP9 track that does not tell it, from a keyframe, pixels of a picture, frames per second.

    Frames do not tell the level, which the name needs: it is the lowest one that allows such pictures.
    Source: "VP9 Levels" of the WebM Project.
    """
    sample_rate = picture_size * (frame_rate or 0)
    fitting = (level for level, rate, size in _VP9_LEVELS if picture_size <= size and sample_rate <= rate)
    level = next(fitting, _VP9_LEVELS[-1][0])
    packed = frame.bit_depth << 4 | frame.subsampling << 1
    return video_codecs.vp9(bytes((frame.profile, level, packed, 2, 2, 2)))


def _vp9_subsampling(bits: BitReader, profile: int) -> int | None:
    is_rgb = bits.bits(3) == _VP9_RGB
    if not is_rgb:
        bits.skip(1)
    if not profile & 1:
        return None if is_rgb else 1
    if is_rgb:
        return 3
    return {(1, 0): 2, (0, 0): 3}.get((bits.bits(1), bits.bits(1)))


def _printable(codec_id: str) -> str:
    return "".join(filter(str.isprintable, codec_id))[:_LONGEST_NAME] or "unknown"


def _by_fourcc(fourcc: bytes, codec_id: str) -> str:
    name = fourcc.decode("latin-1")
    return _BY_FOURCC.get(name.upper(), _printable(name if name.strip("\0") else codec_id))


def _aac_by_name(codec_id: str, private: bytes) -> AudioCoding:
    """The coding, from its record or, as it was before there was one, from the CodecID."""
    try:
        return audio_codecs.aac(private)
    except MediaUnreadable:
        return AudioCoding(codec=_AAC_BY_NAME.get(codec_id.removeprefix("A_AAC/")))


def _opus(private: bytes) -> AudioCoding:
    if not private.startswith(b"OpusHead"):
        return AudioCoding(codec="opus", sample_rate=48000)
    return audio_codecs.opus(private[8:])


def _flac(private: bytes) -> AudioCoding:
    if not private.startswith(b"fLaC"):
        raise MediaUnreadable("a FLAC track without its signature")
    return audio_codecs.flac(private[8:])


def _vp8(_private: bytes) -> Coding:
    return Coding(codec="vp8", bit_depth=8, chroma="4:2:0", is_interlaced=False)


def _vp9(private: bytes) -> Coding:
    return video_codecs.vp9_of_private(private) or _NO_VIDEO


def _theora(_private: bytes) -> Coding:
    return Coding(codec="theora", is_interlaced=False)


def _nothing(_private: bytes) -> Coding:
    return _NO_VIDEO


_NO_VIDEO = Coding(codec=None)
_NO_AUDIO = AudioCoding(codec=None)

_VIDEO: dict[str, tuple[str, Callable[[bytes], Coding]]] = {
    "V_MPEG4/ISO/AVC": ("h264", video_codecs.avc),
    "V_MPEGH/ISO/HEVC": ("hevc", video_codecs.hevc),
    "V_MPEGI/ISO/VVC": ("vvc", _nothing),
    "V_AV1": ("av1", video_codecs.av1),
    "V_VP8": ("vp8", _vp8),
    "V_VP9": ("vp9", _vp9),
    "V_MPEG4/ISO/SP": ("mpeg4", video_codecs.mpeg4_visual),
    "V_MPEG4/ISO/ASP": ("mpeg4", video_codecs.mpeg4_visual),
    "V_MPEG4/ISO/AP": ("mpeg4", video_codecs.mpeg4_visual),
    "V_MPEG4/MS/V3": ("msmpeg4v3", _nothing),
    "V_MPEG1": ("mpeg1video", _nothing),
    "V_MPEG2": ("mpeg2video", _nothing),
    "V_THEORA": ("theora", _theora),
    "V_PRORES": ("prores", _nothing),
    "V_MJPEG": ("mjpeg", _nothing),
    "V_FFV1": ("ffv1", _nothing),
    "V_DIRAC": ("dirac", _nothing),
    "V_SNOW": ("snow", _nothing),
    "V_UNCOMPRESSED": ("rawvideo", _nothing),
    "V_AVS2": ("avs2", _nothing),
    "V_AVS3": ("avs3", _nothing),
    "V_REAL/RV10": ("rv10", _nothing),
    "V_REAL/RV20": ("rv20", _nothing),
    "V_REAL/RV30": ("rv30", _nothing),
    "V_REAL/RV40": ("rv40", _nothing),
}

_BY_FOURCC = {
    fourcc: name
    for name, fourccs in {
        "h264": "H264 X264 AVC1",
        "hevc": "HEVC H265 X265 HVC1 HEV1",
        "mpeg4": "MP4V FMP4 XVID DIVX DX50 MP4S M4S2 3IV2",
        "msmpeg4v3": "DIV3 DIV4 DIV5 DIV6 MP43 COL1",
        "msmpeg4v2": "DIV2 MP42",
        "msmpeg4v1": "DIV1 MP41 MPG4",
        "mpeg1video": "MPG1 PIM1",
        "mpeg2video": "MPG2 MPEG EM2V",
        "wmv1": "WMV1",
        "wmv2": "WMV2",
        "wmv3": "WMV3",
        "vc1": "WVC1 WMVA",
        "h263": "H263 U263 S263",
        "mjpeg": "MJPG AVRN",
        "prores": "APCH APCN APCS APCO AP4H AP4X",
        "svq1": "SVQ1",
        "svq3": "SVQ3",
        "ffv1": "FFV1",
        "huffyuv": "HFYU",
        "ffvhuff": "FFVH",
        "utvideo": "ULRG ULRA ULY0 ULY2 ULH0 ULH2",
        "dvvideo": "DVSD DVHD DV25 DV50",
        "vp6": "VP60 VP61 VP62",
        "vp8": "VP80",
        "vp9": "VP90",
        "av1": "AV01",
        "theora": "THEO",
        "cinepak": "CVID",
    }.items()
    for fourcc in fourccs.split()
}

_AUDIO: dict[str, tuple[str, str | None]] = {
    "A_AAC": ("aac", None),
    "A_OPUS": ("opus", "opus"),
    "A_VORBIS": ("vorbis", "vorbis"),
    "A_FLAC": ("flac", "flac"),
    "A_ALAC": ("alac", "alac"),
    "A_MPEG/L1": ("mp1", None),
    "A_MPEG/L2": ("mp2", None),
    "A_MPEG/L3": ("mp3", "mp3"),
    "A_AC3": ("ac3", "ac-3"),
    "A_AC3/BSID9": ("ac3", "ac-3"),
    "A_AC3/BSID10": ("ac3", "ac-3"),
    "A_EAC3": ("eac3", "ec-3"),
    "A_DTS": ("dts", "dtsc"),
    "A_DTS/EXPRESS": ("dts", "dtse"),
    "A_DTS/LOSSLESS": ("dts", "dtsl"),
    "A_TRUEHD": ("truehd", "mlpa"),
    "A_MLP": ("mlp", None),
    "A_TTA1": ("tta", None),
    "A_WAVPACK4": ("wavpack", None),
    "A_REAL/COOK": ("cook", None),
    "A_REAL/ATRC": ("atrac3", None),
    "A_REAL/SIPR": ("sipr", None),
}

_AUDIO_RECORDS: dict[str, Callable[[bytes], AudioCoding]] = {
    "aac": audio_codecs.aac,
    "opus": _opus,
    "flac": _flac,
    "alac": audio_codecs.alac,
}

_PCM = {"A_PCM/INT/LIT": "pcm_s{}le", "A_PCM/INT/BIG": "pcm_s{}be", "A_PCM/FLOAT/IEEE": "pcm_f{}le"}

_AAC_BY_NAME = {
    "MPEG4/MAIN": "mp4a.40.1",
    "MPEG4/LC": "mp4a.40.2",
    "MPEG4/SSR": "mp4a.40.3",
    "MPEG4/LTP": "mp4a.40.4",
    "MPEG4/LC/SBR": "mp4a.40.5",
    "MPEG2/MAIN": "mp4a.66",
    "MPEG2/LC": "mp4a.67",
    "MPEG2/SSR": "mp4a.68",
    "MPEG2/LC/SBR": "mp4a.40.5",
}

_BY_FORMAT_TAG = {
    0x0001: "pcm",
    0x0002: "adpcm_ms",
    0x0006: "pcm_alaw",
    0x0007: "pcm_mulaw",
    0x0050: "mp2",
    0x0055: "mp3",
    0x00FF: "aac",
    0x0160: "wmav1",
    0x0161: "wmav2",
    0x0162: "wmapro",
    0x0163: "wmalossless",
    0x2000: "ac3",
    0x2001: "dts",
    0xF1AC: "flac",
}

_TEXT = {
    "S_TEXT/UTF8": "subrip",
    "S_TEXT/ASCII": "text",
    "S_TEXT/ASS": "ass",
    "S_TEXT/SSA": "ass",
    "S_ASS": "ass",
    "S_SSA": "ass",
    "S_TEXT/WEBVTT": "webvtt",
    "S_VOBSUB": "dvd_subtitle",
    "S_DVBSUB": "dvb_subtitle",
    "S_HDMV/PGS": "hdmv_pgs_subtitle",
    "S_HDMV/TEXTST": "hdmv_text_subtitle",
    "S_ARIBSUB": "arib_caption",
}

_VP9_SYNC_CODE = 0x498342
_VP9_RGB = 7
# level, most samples in a second, most samples in a picture
_VP9_LEVELS = (
    (10, 829440, 36864),
    (11, 2764800, 73728),
    (20, 4608000, 122880),
    (21, 9216000, 245760),
    (30, 20736000, 552960),
    (31, 36864000, 983040),
    (40, 83558400, 2228224),
    (41, 160432128, 2228224),
    (50, 311951360, 8912896),
    (51, 588251136, 8912896),
    (52, 1176502272, 8912896),
    (60, 1176502272, 35651584),
    (61, 2353004544, 35651584),
    (62, 4706009088, 35651584),
)
