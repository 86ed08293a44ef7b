"""How the samples of a track are coded: the sample entries of MP4 and QuickTime (``stsd``).

Sources: ISO/IEC 14496-12, 8.5.2 and 12; 14496-14, 5.6 and 14496-1, 7.2.6 (``esds``);
QuickTime File Format, "Video Media", "Sound Media"; RFC 6381, 3.3.
"""

import re
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction

from streamer.containers import audio_codecs, video_codecs
from streamer.containers.audio_codecs import AudioCoding
from streamer.containers.boxes import Box
from streamer.containers.video_codecs import Coding
from streamer.errors import MediaUnreadable

# bytes before the boxes of an entry, by handler
_FIELDS, _TEXT_FIELDS = {b"vide": 78, b"soun": 28}, 8
_AUDIO_FIELDS_BY_VERSION = {1: 44, 2: 64}
_PROTECTED = (b"encv", b"enca", b"encs", b"enct", b"drms", b"drmi")
_ALL_FORCED = 0x40000000  # displayFlags: all samples are forced (QuickTime File Format, "Subtitle Media")

_STEEPEST_PIXEL = 16

_ES_DESCRIPTOR, _DECODER_CONFIG_DESCRIPTOR, _DECODER_SPECIFIC_INFO = 3, 4, 5

_NAMES = {
    code.encode().ljust(4): name
    for name, codes in {
        "h264": "avc1 avc2 avc3 avc4 dva1 dvav",
        "hevc": "hvc1 hev1 dvh1 dvhe",
        "vvc": "vvc1 vvi1",
        "av1": "av01 dav1",
        "vp8": "vp08",
        "vp9": "vp09",
        "mpeg4": "mp4v DIVX XVID 3IVD 3IV2",
        "mpeg2video": "m2v1 mpg2 hdv1 hdv2 hdv3 hdv5 hdv6 hdv7 hdv8 hdv9 mx3n mx3p mx4n mx4p mx5n mx5p "
        "xdv1 xdv2 xdv3 xdv4 xdv5 xdv6 xdv7 xdv8 xdv9 xdva xdvb xdvc xdvd xdve xdvf xd51 xd54 xd55 xd59 xd5a "
        "xd5b xd5c xd5d xd5e xd5f",
        "mpeg1video": "m1v m1v1 mpeg mp1v",
        "mjpeg": "jpeg mjpa AVDJ dmb1",
        "mjpegb": "mjpb",
        "prores": "apch apcn apcs apco ap4h ap4x",
        "dnxhd": "AVdn AVdh",
        "dvvideo": "dvc dvcp dvpp dv5p dv5n dvhp dvhq dvh5 dvh6 dvh3 dv1n dv1p AVdv AVd1",
        "h263": "h263 s263",
        "h261": "h261",
        "jpeg2000": "mjp2",
        "png": "png",
        "gif": "gif",
        "tiff": "tiff",
        "qtrle": "rle",
        "rpza": "rpza azpr",
        "svq1": "SVQ1 svq1 svqi",
        "svq3": "SVQ3",
        "cinepak": "cvid",
        "msmpeg4v3": "3IVX DIV3 MP43",
        "vc1": "vc-1 ovc1",
        "v210": "v210",
        "v308": "v308",
        "v408": "v408",
        "v410": "v410",
        "hap": "Hap1 Hap5 HapY HapA HapM",
        "cfhd": "CFHD",
        "ffv1": "FFV1",
        "magicyuv": "MAGY",
        "rawvideo": "raw 2vuy yuv2 2Vuy yuvs",
        "aac": "mp4a",
        "mp3": ".mp3",
        "ac3": "ac-3 sac3",
        "eac3": "ec-3",
        "ac4": "ac-4",
        "dts": "dtsc dtsh dtsl dtse",
        "opus": "Opus",
        "flac": "fLaC",
        "alac": "alac",
        "truehd": "mlpa",
        "mpegh_3d_audio": "mha1 mhm1",
        "amr_nb": "samr",
        "amr_wb": "sawb",
        "adpcm_ima_qt": "ima4",
        "ilbc": "ilbc",
        "qdm2": "QDM2",
        "qdmc": "QDMC",
        "gsm": "agsm",
        "qcelp": "Qclp Qclq sqcp",
        "evrc": "sevc",
        "speex": "spex",
        "wmav2": "WMA2",
        "pcm_mulaw": "ulaw",
        "pcm_alaw": "alaw",
        "mov_text": "tx3g text",
        "webvtt": "wvtt",
        "ttml": "stpp dfxp",
        "eia_608": "c608",
    }.items()
    for code in codes.split()
}
"""Names by sample entry; MPEG-4's own come by object type."""

_OBJECT_TYPES = {
    0x20: "mpeg4",
    0x21: "h264",
    0x23: "hevc",
    0x40: "aac",
    **dict.fromkeys(range(0x60, 0x66), "mpeg2video"),
    **dict.fromkeys(range(0x66, 0x69), "aac"),
    0x69: "mp3",
    0x6A: "mpeg1video",
    0x6B: "mp3",
    0x6C: "mjpeg",
    0x6D: "png",
    0x6E: "jpeg2000",
    0xA3: "vc1",
    0xA4: "dirac",
    0xA5: "ac3",
    0xA6: "eac3",
    0xA9: "dts",
    0xAD: "opus",
    0xB1: "vp9",
    0xC1: "flac",
    0xD0: "evrc",
    0xD1: "ac3",
    0xDD: "vorbis",
    0xE0: "dvd_subtitle",
    0xE1: "qcelp",
}
"""Names by objectTypeIndication (the register of MP4RA, and the private ones that are in use)."""

_OBJECT_TYPE_VISUAL, _OBJECT_TYPE_AAC = 0x20, 0x40
_MPEG4_SOUND: dict[str | None, str] = {"mp4a.40.34": "mp3", "mp4a.40.36": "mp4als"}  # all else is aac

_PRORES = {
    **dict.fromkeys((b"apch", b"apcn", b"apcs", b"apco"), (10, "4:2:2")),
    **dict.fromkeys((b"ap4h", b"ap4x"), (12, "4:4:4")),
}
_CAN_BE_CODEC = re.compile(rb"[A-Za-z0-9][A-Za-z0-9-]{3}")


_CONFIGURATIONS: dict[bytes, Callable[[bytes, str], Coding]] = {
    b"avcC": video_codecs.avc,
    b"hvcC": video_codecs.hevc,
    b"av1C": lambda record, _: video_codecs.av1(record),
    b"vpcC": lambda record, _: video_codecs.vp9(record[4:]),
}
_SOUND_CONFIGURATIONS: dict[bytes, Callable[[bytes], AudioCoding]] = {
    b"dOps": audio_codecs.opus,
    b"dfLa": lambda record: audio_codecs.flac(record[8:]),
    b"alac": lambda record: audio_codecs.alac(record[4:]),
    b"dac3": audio_codecs.ac3,
    b"dec3": audio_codecs.eac3,
}
_DOLBY_VISION_ONLY = (b"dvh1", b"dvhe", b"dva1", b"dvav", b"dav1")


@dataclass(frozen=True, slots=True)
class Entry:
    """The first sample entry of a track: its type, as before encryption, and the boxes in it."""

    kind: bytes
    is_encrypted: bool
    fields: bytes
    """What stands before the boxes, or more of it."""

    parts: dict[bytes, Box]

    @property
    def name(self) -> str:
        """The codec as ffmpeg names it, or else the type as far as it can be printed."""
        word = "".join(filter(str.isprintable, self.kind.decode("latin-1"))).strip()
        return _NAMES.get(self.kind, word)

    @property
    def codec(self) -> str | None:
        """The type as the whole of a name of RFC 6381."""
        return self.kind.decode("ascii") if _CAN_BE_CODEC.fullmatch(self.kind) else None

    def number(self, at: int, size: int = 2) -> int:
        """An unsigned number among the fields; 0 behind their end."""
        return int.from_bytes(self.fields[at : at + size])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """How a track of pictures is coded, ``width`` by ``height`` pixels.

    A clean aperture (``clap``) is not taken into account: hardly a player crops by it.
    """

    name: str
    width: int
    height: int
    pixel_aspect: Fraction | None
    """How many times as wide as high a pixel is said to be."""

    coding: Coding


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """How a track of sound is coded. What is not told is None."""

    name: str
    codec: str | None
    channels: int | None
    sample_rate: int | None


def read_entry(stsd: Box, handler: bytes) -> Entry | None:
    """The first sample entry of a track, laid out as for its handler; None if there is none."""
    entry = next(stsd.children(skip=8), None)
    if entry is None:
        return None
    fields = entry.content(_AUDIO_FIELDS_BY_VERSION[2])
    size = _FIELDS.get(handler, _TEXT_FIELDS)
    if handler == b"soun" and stsd.content(1) == b"\0":  # QuickTime's layouts; ISO's have none of their own
        size = _AUDIO_FIELDS_BY_VERSION.get(int.from_bytes(fields[8:10]), size)
    parts = entry.parts(size)
    if entry.kind not in _PROTECTED:
        return Entry(entry.kind, False, fields, parts)
    original = parts[b"sinf"].parts().get(b"frma") if b"sinf" in parts else None
    return Entry(original.content(4) if original else entry.kind, True, fields, parts)


def read_pictures(entry: Entry, *, with_record: bool = True) -> Pictures:
    """What a visual sample entry says; of its codec's record only if that is wanted."""
    name, coding = entry.name, Coding(codec=None)
    if with_record:
        with suppress(MediaUnreadable):  # the rest holds without it
            name, coding = _video_coding(entry)
    return Pictures(
        name=name,
        width=entry.number(24),
        height=entry.number(26),
        pixel_aspect=_pixel_aspect(entry),
        coding=_as_container_says(coding, entry),
    )


def read_sound(entry: Entry) -> Sound:
    """What an audio sample entry says, and the record of its codec, which knows better."""
    name, coding = entry.name, AudioCoding(codec=entry.codec)
    with suppress(MediaUnreadable):
        name, coding = _audio_coding(entry)
    channels, rate = _audio_fields(entry)
    return Sound(
        name=name,
        codec=coding.codec,
        channels=coding.channels or channels,
        sample_rate=coding.sample_rate or rate,
    )


def read_text(entry: Entry) -> tuple[str, bool]:
    """The name of a codec for text, and whether all of it is forced on the viewer (``tx3g``)."""
    if entry.kind == b"mp4s" and b"esds" in entry.parts:
        object_type, _ = _decoder_config(entry.parts[b"esds"].content()[4:])
        return _OBJECT_TYPES.get(object_type, entry.name), False
    return entry.name, entry.kind == b"tx3g" and bool(entry.number(8, 4) & _ALL_FORCED)


def plausible_aspect(across: int, down: int) -> Fraction | None:
    """The width of a pixel through its height, unless that is void or comes from a broken file only."""
    if not across or not down:
        return None
    aspect = Fraction(across, down)
    return aspect if Fraction(1, _STEEPEST_PIXEL) <= aspect <= _STEEPEST_PIXEL else None


def _video_coding(entry: Entry) -> tuple[str, Coding]:
    if entry.kind in _DOLBY_VISION_ONLY and (box := entry.parts.get(b"dvcC") or entry.parts.get(b"dvvC")):
        return entry.name, Coding(codec=video_codecs.dolby_vision(box.content(), entry.kind.decode()))
    if entry.kind in _PRORES:
        depth, chroma = _PRORES[entry.kind]
        return entry.name, Coding(codec=entry.kind.decode(), bit_depth=depth, chroma=chroma)
    for kind, read in _CONFIGURATIONS.items():
        if kind in entry.parts and entry.codec and (kind != b"vpcC" or entry.kind == b"vp09"):
            return entry.name, read(entry.parts[kind].content(), entry.codec)
    if entry.kind == b"mp4v" and b"esds" in entry.parts:
        object_type, specific = _decoder_config(entry.parts[b"esds"].content()[4:])
        visual = object_type == _OBJECT_TYPE_VISUAL
        coding = video_codecs.mpeg4_visual(specific) if visual else Coding(codec=f"mp4v.{object_type:02X}")
        return _OBJECT_TYPES.get(object_type, entry.name), coding
    return entry.name, Coding(codec=entry.codec)


def _audio_coding(entry: Entry) -> tuple[str, AudioCoding]:
    parts = entry.parts
    if b"wave" in parts:  # QuickTime puts them one level deeper
        parts = {**parts[b"wave"].parts(), **parts}
    for kind, read in _SOUND_CONFIGURATIONS.items():
        if kind in parts:
            return entry.name, read(parts[kind].content())
    if b"esds" in parts:
        object_type, specific = _decoder_config(parts[b"esds"].content()[4:])
        if object_type == _OBJECT_TYPE_AAC:
            coding = audio_codecs.aac(specific)
            return _MPEG4_SOUND.get(coding.codec, entry.name), coding
        coding = AudioCoding(codec=f"mp4a.{object_type:02X}")
        return _OBJECT_TYPES.get(object_type, entry.name), coding
    return _pcm_name(entry, parts), AudioCoding(codec=entry.codec)


def _audio_fields(entry: Entry) -> tuple[int | None, int | None]:
    """Channels and sample rate; of QuickTime's version 2 where it has them."""
    if entry.number(8) == 2:
        rate, channels = struct.unpack(">dI", entry.fields[32:44].ljust(12, b"\0"))
        return channels if channels < 256 else None, int(rate) if 1 <= rate < 2**32 else None
    return entry.number(16) or None, entry.number(24) or None


def _pcm_name(entry: Entry, parts: dict[bytes, Box]) -> str:
    """The name of uncompressed sound: sign, width in bits and order of its bytes."""
    bits = entry.number(18)
    is_little = b"enda" in parts and parts[b"enda"].content(2)[-1:] == b"\1"
    match entry.kind:
        case b"lpcm" if entry.number(8) == 2:
            flags, bits = entry.number(52, 4), entry.number(48, 4)
            sign = "f" if flags & 1 else "s" if flags & 4 else "u"
            return _pcm(sign, bits, is_little=not flags & 2)
        case b"ipcm" | b"fpcm" if b"pcmC" in parts:
            flags, bits = parts[b"pcmC"].content(6)[4:].ljust(2, b"\0")
            return _pcm("f" if entry.kind == b"fpcm" else "s", bits, is_little=bool(flags & 1))
        case b"sowt":
            return _pcm("s", bits, is_little=True)
        case b"twos":
            return _pcm("s", bits, is_little=False)
        case b"in24" | b"in32":
            return _pcm("s", int(entry.kind[2:]), is_little=is_little)
        case b"fl32" | b"fl64":
            return _pcm("f", int(entry.kind[2:]), is_little=is_little)
        case b"raw " | b"NONE" | b"\0\0\0\0":
            return _pcm("u", bits, is_little=False)
    return entry.name


def _pcm(sign: str, bits: int, *, is_little: bool) -> str:
    order = "" if bits == 8 else "le" if is_little else "be"
    return f"pcm_{sign}{bits}{order}"


def _as_container_says(coding: Coding, entry: Entry) -> Coding:
    """What the container says of colours and fields stands above what the codec says."""
    transfer = None
    if b"colr" in entry.parts:
        colours = entry.parts[b"colr"].content(8)
        if colours[:4] in (b"nclx", b"nclc"):
            transfer = int.from_bytes(colours[6:8])
    fields = entry.parts[b"fiel"].content(1) if b"fiel" in entry.parts else b""
    return replace(
        coding,
        dynamic_range=video_codecs.dynamic_range(transfer) or coding.dynamic_range,
        is_interlaced={b"\1": False, b"\2": True}.get(fields, coding.is_interlaced),
    )


def _pixel_aspect(entry: Entry) -> Fraction | None:
    if b"pasp" not in entry.parts:
        return None
    pixel = entry.parts[b"pasp"].content(8)
    return plausible_aspect(int.from_bytes(pixel[:4]), int.from_bytes(pixel[4:]))


def _decoder_config(descriptors: bytes) -> tuple[int, bytes]:
    """The object type and the codec's own record in an ES_Descriptor (ISO/IEC 14496-1, 7.2.6)."""
    stream = _descriptor(descriptors, _ES_DESCRIPTOR)
    at, flags = 3, int.from_bytes(stream[2:3])
    at += 2 * bool(flags & 0x80)
    if flags & 0x40:
        at += 1 + int.from_bytes(stream[at : at + 1])
    at += 2 * bool(flags & 0x20)
    config = _descriptor(stream[at:], _DECODER_CONFIG_DESCRIPTOR)
    if not config:
        raise MediaUnreadable("a stream descriptor without a decoder's configuration")
    return config[0], _descriptor(config[13:], _DECODER_SPECIFIC_INFO)


def _descriptor(data: bytes, tag: int) -> bytes:
    """The content of a descriptor; empty if it is another one (ISO/IEC 14496-1, 8.3.3)."""
    if data[:1] != bytes([tag]):
        return b""
    size, at = 0, 1
    for byte in data[1:5]:
        at += 1
        size = size << 7 | byte & 0x7F
        if not byte & 0x80:
            break
    return data[at : at + size]
