"""What the configuration record of a codec says: its name for browsers, depth, chroma and colours.

Each function takes a record as MP4 and Matroska both carry it. All of them raise
MediaUnreadable for one that can't be followed. Of a sequence parameter set inside
only what it tells before it breaks off, if it does, is told.

Sources: RFC 6381, and ISO/IEC 14496-15 (AVC, HEVC), "AV1 Codec ISO Media File Format
Binding", "VP Codec ISO Media File Format Binding", ISO/IEC 14496-3 (AAC), ETSI TS 102 366
(AC-3); ITU-T H.264, H.265, H.273 and the AV1 specification for what is in the bits.
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

_AAC_SAMPLE_RATES = (
    (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
)  # fmt: skip
_AAC_CHANNELS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8, 11: 7, 12: 8, 13: 24, 14: 8}
_AAC_SBR, _AAC_PS, _AAC_SCALABLE, _AAC_BSAC = 5, 29, (6, 20), 22
_AAC_GENERAL = frozenset((1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23))  # have a GASpecificConfig
_AAC_RESILIENT = frozenset((17, 19, 20, 23))

_AC3_SAMPLE_RATES = (48000, 44100, 32000)
_AC3_CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)  # by acmod, without the LFE
_EAC3_LOCATIONS = (2, 2, 1, 1, 2, 2, 2, 1, 1)  # channels by bit of chan_loc, from bit 0: Lc/Rc … LFE2


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioCoding:
    """How sound is coded. ``sample_rate`` is what comes out, in Hz; what is not told is None."""

    codec: str | None
    channels: int | None = None
    sample_rate: int | None = None


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


def aac(config: bytes) -> AudioCoding:
    """AAC and its kin, by an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1).

    ``mp4a.40.2`` is AAC LC, ``.5`` with SBR (HE-AAC), ``.29`` with SBR and PS (HE-AAC v2),
    wherever in the record that is told. A stream may have SBR without telling.
    """
    bits = BitReader(config)
    kind = core = _aac_object_type(bits)
    rate, channels = _aac_sample_rate(bits), _AAC_CHANNELS.get(configuration := bits.bits(4))
    if kind in (_AAC_SBR, _AAC_PS):
        rate, core = _aac_sample_rate(bits), _aac_object_type(bits)
        if core == _AAC_BSAC:
            bits.skip(4)
    try:
        if core in _AAC_GENERAL:
            channels = _aac_general(bits, core, configuration) or channels
            if kind == core:
                kind, rate = _aac_extension(bits, kind, rate)
    except MediaUnreadable:
        pass  # what is read is known; records are often cut short behind it
    if kind == _AAC_PS:
        channels = 2
    return AudioCoding(codec=f"mp4a.40.{kind}", channels=channels, sample_rate=rate)


def ac3(record: bytes) -> AudioCoding:
    """AC-3, by the content of ``dac3`` (ETSI TS 102 366, F.4)."""
    bits = BitReader(record)
    rate = _ac3_sample_rate(bits)
    bits.skip(5 + 3)
    return AudioCoding(codec="ac-3", channels=_ac3_channels(bits), sample_rate=rate)


def eac3(record: bytes) -> AudioCoding:
    """E-AC-3, by the content of ``dec3``: the first of its programmes (ETSI TS 102 366, F.6)."""
    bits = BitReader(record)
    bits.skip(13 + 3)
    rate = _ac3_sample_rate(bits)
    bits.skip(5 + 1 + 1 + 3)
    channels = _ac3_channels(bits)
    bits.skip(3)
    if bits.bits(4):
        locations = bits.bits(9)
        channels += sum(count for at, count in enumerate(_EAC3_LOCATIONS) if locations >> at & 1)
    return AudioCoding(codec="ec-3", channels=channels, sample_rate=rate)


def opus(head: bytes) -> AudioCoding:
    """Opus, by an OpusSpecificBox or an OpusHead without its signature: both begin alike; always 48 kHz.

    Source: Encapsulation of Opus in ISO Base Media File Format, 4.3.2; RFC 7845, section 5.1.
    """
    if len(head) < 2:
        raise MediaUnreadable("an Opus configuration of less than 2 bytes")
    return AudioCoding(codec="opus", channels=head[1], sample_rate=48000)


def flac(stream_info: bytes) -> AudioCoding:
    """FLAC, by its streaminfo metadata block without a header (RFC 9639, section 8.2)."""
    bits = BitReader(stream_info)
    bits.skip(80)
    rate = bits.bits(20)
    return AudioCoding(codec="flac", channels=bits.bits(3) + 1, sample_rate=rate or None)


def alac(cookie: bytes) -> AudioCoding:
    """Apple Lossless, by its ALACSpecificConfig of 24 bytes (Apple, "ALAC Magic Cookie Description")."""
    if len(cookie) < 24:
        raise MediaUnreadable("an ALAC configuration of less than 24 bytes")
    return AudioCoding(codec="alac", channels=cookie[9], sample_rate=int.from_bytes(cookie[20:24]) or None)


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


def _aac_object_type(bits: BitReader) -> int:
    kind = bits.bits(5)
    return kind if kind < 31 else 32 + bits.bits(6)


def _aac_sample_rate(bits: BitReader) -> int | None:
    index = bits.bits(4)
    if index == 15:
        return bits.bits(24) or None
    return _AAC_SAMPLE_RATES[index] if index < len(_AAC_SAMPLE_RATES) else None


def _aac_general(bits: BitReader, kind: int, configuration: int) -> int | None:
    """Pass over a GASpecificConfig (ISO/IEC 14496-3, 4.4.1); the channels, if they are told in it."""
    bits.skip(1)
    if bits.flag():
        bits.skip(14)
    has_extension = bits.flag()
    channels = _aac_program(bits) if configuration == 0 else None
    if kind in _AAC_SCALABLE:
        bits.skip(3)
    if has_extension:
        bits.skip((5 + 11) * (kind == _AAC_BSAC) + 3 * (kind in _AAC_RESILIENT) + 1)
    return channels


def _aac_program(bits: BitReader) -> int | None:
    """The channels of a program_config_element (ISO/IEC 14496-3, 4.4.1.1)."""
    bits.skip(4 + 2 + 4)
    sides = sum(bits.bits(4) for _ in range(3))
    effects, associated, coupling = bits.bits(2), bits.bits(3), bits.bits(4)
    for width in (4, 4, 3):  # mixdowns
        if bits.flag():
            bits.skip(width)
    channels = effects
    for _ in range(sides):
        channels += 1 + bits.bits(1)
        bits.skip(4)
    bits.skip(4 * effects + 4 * associated + 5 * coupling)
    bits.align()
    bits.skip(8 * bits.bits(8))
    return channels or None


def _aac_extension(bits: BitReader, kind: int, rate: int | None) -> tuple[int, int | None]:
    """SBR and PS as told behind a configuration that decoders without them understand."""
    if bits.left < 16 or bits.bits(11) != 0x2B7 or _aac_object_type(bits) != _AAC_SBR or not bits.flag():
        return kind, rate
    rate = _aac_sample_rate(bits)
    if bits.left >= 12 and bits.bits(11) == 0x548 and bits.flag():
        return _AAC_PS, rate
    return _AAC_SBR, rate


def _ac3_sample_rate(bits: BitReader) -> int | None:
    code = bits.bits(2)
    return _AC3_SAMPLE_RATES[code] if code < len(_AC3_SAMPLE_RATES) else None


def _ac3_channels(bits: BitReader) -> int:
    return _AC3_CHANNELS[bits.bits(3)] + bits.bits(1)
