"""What the configuration record of a video codec says: its name for browsers, depth, chroma and colours.

Each function takes a record as MP4 and Matroska both carry it. All of them raise
MediaUnreadable for one that can't be followed. Of a sequence parameter set inside
only what it tells before it breaks off, if it does, is told.

Sources: RFC 6381, and ISO/IEC 14496-15 (AVC, HEVC), "AV1 Codec ISO Media File Format
Binding", "VP Codec ISO Media File Format Binding"; ITU-T H.264, H.265, H.273 and the AV1
specification for what is in the bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from streamer.containers.bits import BitReader, rbsp
from streamer.containers.media import DynamicRange
from streamer.errors import MediaUnreadable

_CHROMA = ("4:0:0", "4:2:0", "4:2:2", "4:4:4")  # by chroma_format_idc, H.264, table 6-1
_TRANSFER_UNSPECIFIED = (0, 2, 3)
_TRANSFER_PQ, _TRANSFER_HLG = 16, 18

_AVC_SPS, _HEVC_SPS = 7, 33  # nal_unit_type
_EXTENDED_SAR = 255
# profile_idc of H.264 whose SPS tells chroma and depth (7.3.2.1.1)
_HIGH_PROFILES = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))

_OBU_SEQUENCE_HEADER = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Coding:
    """How pictures are coded. What is not told is None."""

    codec: str | None
    """As in RFC 6381; the functions here always tell it."""

    bit_depth: int | None = None
    chroma: str | None = None
    """``4:0:0``, ``4:2:0``, ``4:2:2`` or ``4:4:4``."""

    is_interlaced: bool | None = None
    """Whether there may be fields."""

    dynamic_range: DynamicRange | None = None


def dynamic_range(transfer: int | None) -> DynamicRange | None:
    """By the transfer characteristics (H.273, table 3); None if they are unspecified or reserved."""
    if transfer is None or transfer in _TRANSFER_UNSPECIFIED or transfer > _TRANSFER_HLG:
        return None
    return {_TRANSFER_PQ: "pq", _TRANSFER_HLG: "hlg"}.get(transfer, "sdr")  # type: ignore[return-value]


def avc(record: bytes, sample_entry: str = "avc1") -> Coding:
    """H.264, by its AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1)."""
    if len(record) < 6 or record[0] != 1:
        raise MediaUnreadable("an AVC configuration record of an unknown version")
    codec = f"{sample_entry}.{record[1:4].hex().upper()}"
    sets = _nal_units(record, 6, record[5] & 0x1F)
    sps = next((unit for unit in sets if unit[0] & 0x1F == _AVC_SPS), None)
    return Coding(codec=codec) if sps is None else _avc_sps(BitReader(rbsp(sps)), codec)


def hevc(record: bytes, sample_entry: str = "hvc1") -> Coding:
    """H.265, by its HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, 8.3.3.1; the name: E.3)."""
    if len(record) < 23:
        raise MediaUnreadable("an HEVC configuration record of less than 23 bytes")
    sps = next((unit for unit in _hevc_units(record) if unit[0] >> 1 & 0x3F == _HEVC_SPS), None)
    is_progressive, is_interlaced = bool(record[6] & 0x80), bool(record[6] & 0x40)  # of the source
    return Coding(
        codec=_hevc_codec(record, sample_entry),
        bit_depth=8 + (record[17] & 7),
        chroma=_CHROMA[record[16] & 3],
        is_interlaced=is_interlaced if is_interlaced != is_progressive else None,
        dynamic_range=dynamic_range(_hevc_transfer(sps)) if sps else None,
    )


def dolby_vision(record: bytes, sample_entry: str) -> str:
    """The name of a stream that only Dolby Vision decoders show, by its DOVIDecoderConfigurationRecord.

    Source: Dolby Vision Streams Within the ISO Base Media File Format, sections 2.2 and 3.
    """
    if len(record) < 4:
        raise MediaUnreadable("a Dolby Vision configuration record of less than 4 bytes")
    profile, level = record[2] >> 1, (record[2] & 1) << 5 | record[3] >> 3
    return f"{sample_entry}.{profile:02}.{level:02}"


def av1(record: bytes) -> Coding:
    """AV1, by its AV1CodecConfigurationRecord (AV1-ISOBMFF, 2.3; the name: section 5)."""
    if len(record) < 4 or record[0] != 0x81:
        raise MediaUnreadable("an AV1 configuration record of an unknown version")
    bits = BitReader(record[1:])
    profile, level = bits.bits(3), bits.bits(5)
    tier, is_high, is_twelve = "MH"[bits.bits(1)], bits.flag(), bits.flag()
    monochrome, subsampling_x, subsampling_y, position = (bits.bits(width) for width in (1, 1, 1, 2))
    depth = 8 + 2 * is_high + 2 * (is_high and is_twelve)
    codec = f"av01.{profile}.{level:02}{tier}.{depth:02}"
    colours = _av1_colours(record[4:])
    primaries, transfer, matrix, full_range = colours or (1, 1, 1, 0)
    if not (subsampling_x and subsampling_y):
        position = 0
    optional = (monochrome, subsampling_x, subsampling_y, position, primaries, transfer, matrix, full_range)
    if optional != (0, 1, 1, 0, 1, 1, 1, 0):
        codec += f".{monochrome}.{subsampling_x}{subsampling_y}{position}"
        codec += f".{primaries:02}.{transfer:02}.{matrix:02}.{full_range}"
    chroma = _CHROMA[0 if monochrome else 3 - subsampling_x - subsampling_y]
    return Coding(
        codec=codec,
        bit_depth=depth,
        chroma=chroma,
        is_interlaced=False,
        dynamic_range=dynamic_range(transfer) if colours else None,
    )


def vp9(record: bytes) -> Coding:
    """VP9, by its VPCodecConfigurationRecord, which stands behind version and flags in ``vpcC``.

    Colours that are unspecified are left out of the name like those that are usual.

    Source: VP Codec ISO Media File Format Binding, "VP Codec Configuration Box", "Codecs Parameter String".
    """
    if len(record) < 6:
        raise MediaUnreadable("a VP9 configuration record of less than 6 bytes")
    profile, level, packed, primaries, transfer, matrix = record[:6]
    depth, subsampling, full_range = packed >> 4, packed >> 1 & 7, packed & 1
    codec = f"vp09.{profile:02}.{level:02}.{depth:02}"
    usual = (1, 2)
    is_usual = all(colour in usual for colour in (primaries, transfer, matrix))
    if subsampling > 1 or full_range or not is_usual:
        codec += f".{subsampling:02}.{primaries:02}.{transfer:02}.{matrix:02}.{full_range:02}"
    return Coding(
        codec=codec,
        bit_depth=depth,
        chroma=_vp9_chroma(subsampling),
        is_interlaced=False,
        dynamic_range=dynamic_range(transfer),
    )


def vp9_of_private(private: bytes) -> Coding | None:
    """VP9, by the features in a ``CodecPrivate`` of WebM: rows of identifier, length, value.

    None where profile or level, which its name begins with, are not told.

    Source: WebM Container Guidelines, "VP9 Codec Feature Metadata (CodecPrivate)".
    """
    features = {}
    at = 0
    while at + 2 < len(private) and at < 64:  # of four features, one byte each
        identifier, length = private[at : at + 2]
        features[identifier] = private[at + 2] if length == 1 else None
        at += 2 + length
    profile, level = features.get(1), features.get(2)
    if profile is None or level is None:
        return None
    depth = features.get(3) or (8 if profile < 2 else 10)
    subsampling = features.get(4)
    if subsampling is None:
        subsampling = 3 if profile & 1 else 1
    codec = f"vp09.{profile:02}.{level:02}.{depth:02}"
    if subsampling > 1:
        codec += f".{subsampling:02}.01.01.01.00"
    return Coding(codec=codec, bit_depth=depth, chroma=_vp9_chroma(subsampling), is_interlaced=False)


def mpeg4_visual(config: bytes) -> Coding:
    """MPEG-4 part 2, by the headers before its first picture (ISO/IEC 14496-2, 6.2.2).

    The name (RFC 6381, 3.3) ends early where they tell no profile. All but the studio's have 8 bits.
    """
    at = config.find(b"\0\0\1\xb0")
    profile = config[at + 4 : at + 5] if at >= 0 else b""
    return Coding(codec=f"mp4v.20.{profile[0]}" if profile else "mp4v.20", bit_depth=8, chroma=_CHROMA[1])


def _nal_units(record: bytes, at: int, count: int) -> Iterator[bytes]:
    """NAL units that are not empty, each behind 16 bits of length."""
    for _ in range(count):
        size = int.from_bytes(record[at : at + 2])
        at += 2
        if unit := record[at : at + size]:
            yield unit
        at += size


def _hevc_units(record: bytes) -> Iterator[bytes]:
    """The parameter sets of the first array that has sequence parameter sets."""
    at = 23
    for _ in range(record[22]):
        if len(record) < at + 3:
            return
        count = int.from_bytes(record[at + 1 : at + 3])
        if record[at] & 0x3F == _HEVC_SPS:
            yield from _nal_units(record, at + 3, min(count, 1))
            return
        at += 3
        for _ in range(min(count, 64)):
            at += 2 + int.from_bytes(record[at : at + 2])


def _hevc_codec(record: bytes, sample_entry: str) -> str:
    space, tier, profile = record[1] >> 6, record[1] >> 5 & 1, record[1] & 0x1F
    compatibility = int(f"{int.from_bytes(record[2:6]):032b}"[::-1], 2)
    constraints = record[6:12].rstrip(b"\0")
    parts = [
        sample_entry,
        f"{['', 'A', 'B', 'C'][space]}{profile}",
        f"{compatibility:X}",
        f"{'LH'[tier]}{record[12]}",
        *(f"{constraint:X}" for constraint in constraints),
    ]
    return ".".join(parts)


def _avc_sps(bits: BitReader, codec: str) -> Coding:
    """What a sequence parameter set of H.264 says (7.3.2.1.1), as far as it can be followed."""
    depth = chroma = is_interlaced = transfer = None
    try:
        bits.skip(8)
        profile = bits.bits(8)
        bits.skip(16)
        bits.ue()
        depth, chroma = _avc_format(bits) if profile in _HIGH_PROFILES else (8, _CHROMA[1])
        _skip_avc_order(bits)
        bits.skip_ue()
        bits.skip(1)
        bits.skip_ue(2)
        is_interlaced = not bits.flag()
        bits.skip(1 + is_interlaced)
        if bits.flag():
            bits.skip_ue(4)
        transfer = _vui_transfer(bits) if bits.flag() else None
    except MediaUnreadable:
        pass
    return Coding(
        codec=codec,
        bit_depth=depth,
        chroma=chroma,
        is_interlaced=is_interlaced,
        dynamic_range=dynamic_range(transfer),
    )


def _avc_format(bits: BitReader) -> tuple[int, str]:
    chroma_format = bits.ue()
    if chroma_format > 3:
        raise MediaUnreadable("a chroma format that does not exist")
    if chroma_format == 3:
        bits.skip(1)
    depth = 8 + bits.ue()
    bits.skip_ue()
    bits.skip(1)
    if bits.flag():
        for index in range(12 if chroma_format == 3 else 8):
            if bits.flag():
                _skip_avc_scaling_list(bits, 16 if index < 6 else 64)
    if depth > 14:
        raise MediaUnreadable("a bit depth that does not exist")
    return depth, _CHROMA[chroma_format]


def _skip_avc_scaling_list(bits: BitReader, size: int) -> None:
    scale = 8
    for _ in range(size):
        scale = (scale + bits.se()) % 256
        if scale == 0:  # the rest is as the last
            return


def _skip_avc_order(bits: BitReader) -> None:
    bits.skip_ue()
    match bits.ue():
        case 0:
            bits.skip_ue()
        case 1:
            bits.skip(1)
            bits.skip_ue(2)
            bits.skip_ue(min(bits.ue(), 255))


def _vui_transfer(bits: BitReader) -> int | None:
    """The transfer characteristics of video usability information (H.264, E.1.1; H.265, E.2.1)."""
    if bits.flag() and bits.bits(8) == _EXTENDED_SAR:
        bits.skip(32)
    if bits.flag():
        bits.skip(1)
    if not bits.flag():
        return None
    bits.skip(3 + 1)
    if not bits.flag():
        return None
    bits.skip(8)
    return bits.bits(8)


def _hevc_transfer(sps: bytes) -> int | None:
    """The transfer characteristics in a sequence parameter set of H.265 (7.3.2.2.1)."""
    try:
        bits = BitReader(rbsp(sps))
        bits.skip(16 + 4)
        most_sub_layers = bits.bits(3)
        bits.skip(1)
        _skip_hevc_profiles(bits, most_sub_layers)
        order_bits = _skip_hevc_format(bits, most_sub_layers)
        _skip_hevc_tools(bits)
        _skip_hevc_references(bits, order_bits)
        bits.skip(2)
        return _vui_transfer(bits) if bits.flag() else None
    except MediaUnreadable:
        return None


def _skip_hevc_profiles(bits: BitReader, sub_layers: int) -> None:
    """Pass over profile_tier_level (H.265, 7.3.3)."""
    bits.skip(88 + 8)
    present = [(bits.flag(), bits.flag()) for _ in range(sub_layers)]
    if sub_layers:
        bits.skip(2 * (8 - sub_layers))
    for has_profile, has_level in present:
        bits.skip(88 * has_profile + 8 * has_level)


def _skip_hevc_format(bits: BitReader, sub_layers: int) -> int:
    """Pass over sizes and depths; return the bits of a picture order count."""
    bits.ue()
    if bits.ue() == 3:
        bits.skip(1)
    bits.skip_ue(2)
    if bits.flag():
        bits.skip_ue(4)
    bits.skip_ue(2)
    order_bits = 4 + bits.ue()
    if order_bits > 16:
        raise MediaUnreadable("a picture order count that is too long")
    bits.skip_ue(3 * (sub_layers + 1 if bits.flag() else 1))
    bits.skip_ue(6)
    return order_bits


def _skip_hevc_tools(bits: BitReader) -> None:
    if bits.flag() and bits.flag():
        for size in range(4):
            for _ in range(0, 6, 3 if size == 3 else 1):
                _skip_hevc_scaling_list(bits, size)
    bits.skip(2)
    if bits.flag():
        bits.skip(4 + 4)
        bits.skip_ue(2)
        bits.skip(1)


def _skip_hevc_scaling_list(bits: BitReader, size: int) -> None:
    if not bits.flag():
        bits.skip_ue()
        return
    bits.skip_ue((size > 1) + min(64, 1 << 4 + 2 * size))


def _skip_hevc_references(bits: BitReader, order_bits: int) -> None:
    pictures = 0
    for index in range(_at_most(64, bits.ue())):
        pictures = _skip_hevc_reference_set(bits, index, pictures)
    if bits.flag():
        bits.skip(_at_most(32, bits.ue()) * (order_bits + 1))


def _skip_hevc_reference_set(bits: BitReader, index: int, pictures: int) -> int:
    """Pass over st_ref_pic_set (H.265, 7.3.7); from the pictures of the one before to those of this one."""
    if index and bits.flag():
        bits.skip(1)
        bits.ue()
        return sum(bits.flag() or bits.flag() for _ in range(pictures + 1))
    pictures = _at_most(16, bits.ue()) + _at_most(16, bits.ue())
    for _ in range(pictures):
        bits.ue()
        bits.skip(1)
    return _at_most(16, pictures)


def _at_most(limit: int, number: int) -> int:
    if number > limit:
        raise MediaUnreadable(f"{number} of something of which there are at most {limit}")
    return number


def _av1_colours(units: bytes) -> tuple[int, int, int, int] | None:
    """Primaries, transfer, matrix and full range, if the first OBU is a sequence header that tells them."""
    if not units or units[0] >> 3 & 15 != _OBU_SEQUENCE_HEADER:
        return None
    at = 2 if units[0] & 4 else 1
    try:
        size, width = _leb128(units, at) if units[0] & 2 else (len(units), 0)
        return _av1_sequence(BitReader(units[at + width : at + width + size]))
    except MediaUnreadable:
        return None


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number of AV1 and its width in bytes (AV1, 4.10.5)."""
    number = 0
    for width, byte in enumerate(data[at : at + 8], 1):
        number |= (byte & 0x7F) << 7 * (width - 1)
        if not byte & 0x80:
            return number, width
    raise MediaUnreadable("a number of AV1 without an end")


def _av1_sequence(bits: BitReader) -> tuple[int, int, int, int] | None:
    """Colours in a sequence_header_obu (AV1, 5.5.1, 5.5.2)."""
    profile = bits.bits(3)
    bits.skip(1)
    is_reduced = bits.flag()
    _skip_av1_operating_points(bits, is_reduced)
    width_bits, height_bits = bits.bits(4) + 1, bits.bits(4) + 1
    bits.skip(width_bits + height_bits)
    if not is_reduced and bits.flag():
        bits.skip(4 + 3)
    bits.skip(3)
    if not is_reduced:
        _skip_av1_tools(bits)
    bits.skip(3)
    is_high = bits.flag()
    if profile == 2 and is_high:
        bits.skip(1)
    is_monochrome = profile != 1 and bits.flag()
    if not bits.flag():
        return None
    primaries, transfer, matrix = bits.bits(8), bits.bits(8), bits.bits(8)
    is_srgb = (primaries, transfer, matrix) == (1, 13, 0) and not is_monochrome
    return primaries, transfer, matrix, 1 if is_srgb else bits.bits(1)


def _skip_av1_operating_points(bits: BitReader, is_reduced: bool) -> None:
    if is_reduced:
        bits.skip(5)
        return
    delay_bits = 0
    if bits.flag():  # timing_info
        bits.skip(64)
        if bits.flag():
            bits.ue()
        if bits.flag():  # decoder_model_info
            delay_bits = bits.bits(5) + 1
            bits.skip(32 + 5 + 5)
    has_display_delay = bits.flag()
    for _ in range(bits.bits(5) + 1):
        bits.skip(12)
        if bits.bits(5) > 7:
            bits.skip(1)
        if delay_bits and bits.flag():
            bits.skip(2 * delay_bits + 1)
        if has_display_delay and bits.flag():
            bits.skip(4)


def _skip_av1_tools(bits: BitReader) -> None:
    bits.skip(4)
    has_order_hint = bits.flag()
    if has_order_hint:
        bits.skip(2)
    has_screen_content_tools = bits.flag() or bits.flag()
    if has_screen_content_tools and not bits.flag():
        bits.skip(1)
    if has_order_hint:
        bits.skip(3)


def _vp9_chroma(subsampling: int) -> str | None:
    return {0: "4:2:0", 1: "4:2:0", 2: "4:2:2", 3: "4:4:4"}.get(subsampling)
