"""Which container a file is, by its first bytes.

Every reader takes the first bytes of a file and answers with a container, or
with None if it is not one of its own. Slices are taken without asking whether
the bytes are there: short ones fail the comparison that follows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import compress

HEAD_BYTES = 4096
"""How many of a file's first bytes are looked at."""


@dataclass(frozen=True, slots=True)
class Container:
    """A file format for video: what people call it, its media type, its usual file name suffix."""

    name: str
    mime_type: str
    suffix: str


MP4 = Container("MP4", "video/mp4", ".mp4")
QUICKTIME = Container("QuickTime", "video/quicktime", ".mov")
THREE_GPP = Container("3GP", "video/3gpp", ".3gp")
THREE_GPP2 = Container("3GP2", "video/3gpp2", ".3g2")
MATROSKA = Container("Matroska", "video/x-matroska", ".mkv")
WEBM = Container("WebM", "video/webm", ".webm")
AVI = Container("AVI", "video/x-msvideo", ".avi")
MPEG_TS = Container("MPEG-TS", "video/mp2t", ".ts")
M2TS = Container("M2TS", "video/mp2t", ".m2ts")
MPEG_PS = Container("MPEG-PS", "video/mpeg", ".mpg")
FLV = Container("FLV", "video/x-flv", ".flv")
OGG = Container("Ogg", "video/ogg", ".ogv")

BY_MIME_TYPE = {
    container.mime_type: container
    for container in (
        MP4, QUICKTIME, THREE_GPP, THREE_GPP2, MATROSKA, WEBM, AVI, MPEG_TS, MPEG_PS, FLV, OGG
    )
}  # fmt: skip
"""M2TS is to all that read it MPEG-TS."""

# Starts of brands; None are images and sounds in the same file format.
_BRANDS: tuple[tuple[tuple[bytes, ...], Container | None], ...] = (
    ((b"qt  ",), QUICKTIME),
    ((b"3g2",), THREE_GPP2),
    ((b"3g",), THREE_GPP),
    ((b"iso", b"mp4", b"mmp4", b"avc1", b"M4V", b"F4V ", b"f4v ", b"MSNV", b"dash", b"cmf", b"piff"), MP4),
    ((b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B "), None),
    ((b"hei", b"hev", b"mif", b"msf1", b"miaf", b"avi", b"crx ", b"jp", b"jxl "), None),
)
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")
"""The media types of images that are told."""

IMAGE_HEAD_BYTES = 12
"""How many of an image's first bytes are looked at."""

_PADDING_BOXES = (b"free", b"skip", b"wide")
_QUICKTIME_BOXES = (b"moov", b"mdat", b"pnot")

_EBML_HEADER_ID = 0x1A45DFA3
_DOC_TYPE_ID = 0x4282
_DOC_TYPES = {b"matroska": MATROSKA, b"webm": WEBM}

_OGG_FIRST_PAGE = 0x02
_OGG_VIDEO = (b"\x80theora", b"\x80daala", b"OVP80", b"BBCD\0")

# Of the bytes after the pack start code: which bits are fixed, and their values.
_PACK_MPEG1 = (0xF1_0001_0001_8000_0100, 0x21_0001_0001_8000_0100)
_PACK_MPEG2 = (0xC4_0004_0004_0100_0003, 0x44_0004_0004_0100_0003)

# A program that can be played has at least a PAT, a PMT and one packet of media.
_LEAST_PACKETS = 3


def recognise(head: bytes) -> Container | None:
    """Tell the container of a file from ``head``, its first ``HEAD_BYTES`` bytes or all that it has.

    None if it is no container that we know, or one that says it holds no
    video. Takes any bytes, raises nothing, looks at no more than ``HEAD_BYTES``.
    """
    head = head[:HEAD_BYTES]
    return next((found for reader in _READERS if (found := reader(head))), None)


def image_type(head: bytes) -> str | None:
    """The media type of an image, by its first bytes; None for what is no JPEG, PNG or WebP."""
    is_image = (
        head.startswith(_JPEG),
        head.startswith(_PNG),
        head[:4] == b"RIFF" and head[8:IMAGE_HEAD_BYTES] == b"WEBP",
    )
    return next(compress(IMAGE_TYPES, is_image), None)


def _iso_media(head: bytes) -> Container | None:
    """MP4, 3GP and QuickTime: a row of boxes, the first of which tells the brands.

    QuickTime files older than brands begin with the film or its data.

    Source: ISO/IEC 14496-12, sections 4.2 and 4.3; QuickTime File Format,
    "Movie files"; media types: RFC 4337, RFC 3839, RFC 4393.
    """
    at = 0
    while at + 8 <= len(head):
        size, kind = int.from_bytes(head[at : at + 4]), head[at + 4 : at + 8]
        if not _is_plausible(kind, size):
            return None
        if kind == b"ftyp":
            return _by_brands(head[at + 8 : at + size])
        if kind in _QUICKTIME_BOXES:
            return QUICKTIME
        if kind not in _PADDING_BOXES:
            return None
        at += size
    return QUICKTIME if at else None


def _is_plausible(kind: bytes, size: int) -> bool:
    if kind == b"mdat":
        return size in (0, 1) or size >= 8
    # Real ones stay far below 256 MiB, and four letters of text are a number far above.
    return 8 <= size < 1 << 28


def _by_brands(file_type: bytes) -> Container | None:
    """The major brand decides; if it is not known, the first compatible one that is.

    So video with a still image beside it is video, and an image with a rare
    major brand is an image: its first compatible brands say so.
    """
    brands = [file_type[at : at + 4] for at in range(0, len(file_type) - 3, 4)]
    del brands[1:2]  # not a brand but the minor version
    for brand in brands:
        for starts, container in _BRANDS:
            if brand.startswith(starts):
                return container
    return None


def _ebml(head: bytes) -> Container | None:
    """Matroska and WebM, by the DocType in the EBML header.

    Source: RFC 8794, section 11.2; RFC 9559, section 4.5; WebM Container Guidelines.
    """
    if not head.startswith(_EBML_HEADER_ID.to_bytes(4)):
        return None
    document_type = _element(_element(head, _EBML_HEADER_ID), _DOC_TYPE_ID)
    return _DOC_TYPES.get(document_type.partition(b"\0")[0])


def _element(data: bytes, wanted: int) -> bytes:
    return next((content for identifier, content in _elements(data) if identifier == wanted), b"")


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Identifier and content of each EBML element (RFC 8794, section 6), up to the first broken one."""
    at = 0
    while at < len(data):
        identifier, identifier_width = _variable_integer(data, at)
        size, size_width = _variable_integer(data, at + identifier_width)
        if identifier_width > 4 or size_width > 8:
            return
        start = at + identifier_width + size_width
        at = start + (size ^ (1 << 7 * size_width))
        yield identifier, data[start:at]


def _variable_integer(data: bytes, at: int) -> tuple[int, int]:
    """Value, with its length marker, and width in bytes; width 9 if there is none (RFC 8794, section 4)."""
    width = 9 - int.from_bytes(data[at : at + 1]).bit_length()
    return int.from_bytes(data[at : at + width]), width


def _riff(head: bytes) -> Container | None:
    """AVI. Source: Microsoft, "AVI RIFF File Reference"; OpenDML AVI extensions 1.02."""
    return AVI if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX") else None


def _ogg(head: bytes) -> Container | None:
    """Ogg, if one of its streams is video: their first pages stand before all others.

    Source: RFC 3533, sections 4 and 6; media types: RFC 5334.
    """
    at = 0
    while head[at : at + 5] == b"OggS\0" and len(head) > at + 26 and head[at + 5] & _OGG_FIRST_PAGE:
        start = at + 27 + head[at + 26]
        if head.startswith(_OGG_VIDEO, start):
            return OGG
        at = start + sum(head[at + 27 : start])
    return None


def _flv(head: bytes) -> Container | None:
    """FLV: version 1, with the header's length of 9. Source: Adobe FLV File Format 10.1, annex E.2."""
    return FLV if head[:4] == b"FLV\x01" and head[5:9] == b"\0\0\0\x09" else None


def _program_stream(head: bytes) -> Container | None:
    """MPEG program stream, by the fixed bits of its first pack header.

    Source: ISO/IEC 13818-1, section 2.5.3.3; ISO/IEC 11172-1, section 2.4.3.2.
    """
    if head[:4] != b"\0\0\1\xba":
        return None
    fixed = int.from_bytes(head[4:13])
    return MPEG_PS if any(fixed & mask == value for mask, value in (_PACK_MPEG1, _PACK_MPEG2)) else None


def _transport_stream(head: bytes) -> Container | None:
    """MPEG transport stream: packets of 188 bytes, bare, with parity behind or a time stamp before.

    Every packet in the head must begin as one; three at least.

    Source: ISO/IEC 13818-1, section 2.4.3.2; ETSI EN 300 429 (204 bytes);
    BDAV, "Blu-ray Disc White Paper 2.B" (192 bytes).
    """
    for stride, offset, container in ((188, 0, MPEG_TS), (204, 0, MPEG_TS), (192, 4, M2TS)):
        packets = range(offset, len(head) - 3, stride)
        if len(packets) >= _LEAST_PACKETS and all(_is_packet(head, at) for at in packets):
            return container
    return None


def _is_packet(head: bytes, at: int) -> bool:
    # The sync byte is the letter G. The adaptation field control is never 00, which leaves text of Gs out.
    return head[at] == 0x47 and head[at + 3] & 0x30 != 0


_READERS: tuple[Callable[[bytes], Container | None], ...] = (
    _iso_media,
    _ebml,
    _riff,
    _ogg,
    _flv,
    _program_stream,
    _transport_stream,
)
