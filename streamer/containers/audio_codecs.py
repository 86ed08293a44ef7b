"""What the configuration record of an audio codec says: its name for browsers, channels and sample rate.

Each function takes a record as MP4 and Matroska both carry it. All of them raise
MediaUnreadable for one that can't be followed.

Sources: RFC 6381, and those that the functions name.
"""

from dataclasses import dataclass

from streamer.containers.bits import BitReader
from streamer.errors import MediaUnreadable

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
class AudioCoding:
    """How sound is coded. ``sample_rate`` is what comes out, in Hz; what is not told is None."""

    codec: str | None
    channels: int | None = None
    sample_rate: int | None = None


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
