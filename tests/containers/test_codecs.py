"""Configuration records of codecs: what they say, and that no bytes can trouble their readers.

Those of encoders are in the corpus; here are the rare ones, built bit by bit.
"""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.containers import audio_codecs, video_codecs
from streamer.containers.audio_codecs import AudioCoding
from streamer.containers.bits import BitReader, rbsp
from streamer.containers.media import DynamicRange
from streamer.containers.video_codecs import Coding
from streamer.errors import MediaUnreadable


def bits(*parts: str | tuple[int, int]) -> bytes:
    """Bytes of digits, and of numbers with their widths."""
    digits = "".join(part if isinstance(part, str) else f"{part[0]:0{part[1]}b}" for part in parts)
    digits = digits.replace(" ", "")
    return int(digits.ljust(-(-len(digits) // 8) * 8, "0"), 2).to_bytes(-(-len(digits) // 8))


def ue(*numbers: int) -> str:
    """Exp-Golomb numbers."""
    return "".join(f"{number + 1:b}".zfill(2 * (number + 1).bit_length() - 1) for number in numbers)


def escaped(payload: bytes) -> bytes:
    """A NAL unit's bytes with what keeps start codes out of them."""
    found = bytearray()
    for byte in payload:
        if found[-2:] == b"\0\0" and byte <= 3:
            found.append(3)
        found.append(byte)
    return bytes(found)


def vui(transfer: int = 1, aspect: str = "0", overscan: str = "0") -> str:
    return f"1 {aspect} {overscan} 1 101 0 1 {9:08b} {transfer:08b} {9:08b} 1111"


def avcc(sps: bytes, profile: int = 100) -> bytes:
    sps = escaped(sps)
    return bytes([1, profile, 0, 31, 0xFF, 0xE1]) + len(sps).to_bytes(2) + sps + b"\1\0\4\x68\xce\x0f\xc8"


def avc_sps(
    profile: int = 100,
    high: str = ue(1, 0, 0) + "0 0",
    order: str = ue(0, 0),
    frames: str = "1",
    cropping: str = "0",
    tail: str = "0",
) -> bytes:
    head = bytes([0x67, profile, 0, 31])
    return head + bits(ue(0), high, ue(0), order, ue(4), "0", ue(39, 29), frames, "1", cropping, tail, "1")


NO_HIGH = ""
LISTS = "1" + "1" + "1" * 16 + "1" + ue(16) + "0" * 6  # all of the first list, the second with a stop at once


@pytest.mark.parametrize(
    ("record", "coding"),
    [
        (avcc(avc_sps()), ("avc1.64001F", 8, "4:2:0", False, None)),
        (avcc(avc_sps(66, NO_HIGH), 66), ("avc1.42001F", 8, "4:2:0", False, None)),
        (avcc(avc_sps(110, ue(2, 2, 2) + "0 0")), ("avc1.64001F", 10, "4:2:2", False, None)),
        (avcc(avc_sps(244, ue(3) + "0" + ue(6, 6) + "1 0")), ("avc1.64001F", 14, "4:4:4", False, None)),
        (avcc(avc_sps(100, ue(0, 0, 0) + "0 0")), ("avc1.64001F", 8, "4:0:0", False, None)),
        (avcc(avc_sps(high=ue(1, 0, 0) + "0" + LISTS)), ("avc1.64001F", 8, "4:2:0", False, None)),
        (avcc(avc_sps(order=ue(1) + "0" + ue(3, 4, 2, 7, 8))), ("avc1.64001F", 8, "4:2:0", False, None)),
        (avcc(avc_sps(order=ue(2))), ("avc1.64001F", 8, "4:2:0", False, None)),
        (avcc(avc_sps(frames="01")), ("avc1.64001F", 8, "4:2:0", True, None)),
        (avcc(avc_sps(tail=vui(16))), ("avc1.64001F", 8, "4:2:0", False, "pq")),
        (avcc(avc_sps(tail=vui(18, "1 11111111" + "0" * 32))), ("avc1.64001F", 8, "4:2:0", False, "hlg")),
        (avcc(avc_sps(tail=vui(6, "1 00000001", "11"))), ("avc1.64001F", 8, "4:2:0", False, "sdr")),
        (avcc(avc_sps(cropping="1" + ue(0, 0, 0, 4), tail=vui(2))), ("avc1.64001F", 8, "4:2:0", False, None)),
        (avcc(avc_sps(tail="1 0 0 1 101 0 0 1111")), ("avc1.64001F", 8, "4:2:0", False, None)),
        (avcc(avc_sps(tail="1 0 0 0 1111")), ("avc1.64001F", 8, "4:2:0", False, None)),
        # what breaks off says what it said before
        (avcc(avc_sps()[:5]), ("avc1.64001F", 8, "4:2:0", None, None)),
        (avcc(avc_sps()[:4]), ("avc1.64001F", None, None, None, None)),
        (avcc(avc_sps(high=ue(4, 0, 0))), ("avc1.64001F", None, None, None, None)),
        (avcc(avc_sps(high=ue(1, 7, 7) + "0 0")), ("avc1.64001F", None, None, None, None)),
        (avcc(avc_sps(66, "0" * 60)), ("avc1.64001F", 8, "4:2:0", None, None)),
        (b"\1\x64\0\x1f\xff\xe0\0", ("avc1.64001F", None, None, None, None)),
        (b"\1\x64\0\x1f\xff\xe1\0\0", ("avc1.64001F", None, None, None, None)),
        (b"\1\x64\0\x1f\xff\xff", ("avc1.64001F", None, None, None, None)),
    ],
)
def test_avc_record_is_followed(record: bytes, coding: tuple[object, ...]) -> None:
    found = video_codecs.avc(record)
    told = (found.codec, found.bit_depth, found.chroma, found.is_interlaced, found.dynamic_range)
    assert told == coding


def hvcc(
    sps: bytes = b"", head: str = "01 60000000 b00000000000 5d f000 fc fd f8 f8 0000 0f", before: bytes = b""
) -> bytes:
    sps = escaped(sps)
    arrays = bytes([0xA1]) + b"\0\1" + len(sps).to_bytes(2) + sps if sps else b""
    return bytes.fromhex("01" + head) + bytes([bool(sps) + bool(before)]) + before + arrays


def hevc_sps(
    sub_layers: int = 0,
    profiles: str = "",
    chroma: str = ue(1),
    window: str = "0",
    ordering: str = "1" + ue(4, 2, 4),
    lists: str = "0",
    pulse: str = "0",
    sets: str = ue(0),
    long_term: str = "0",
    tail: str = "",
) -> bytes:
    return b"\x42\x01" + bits(
        (0, 4), (sub_layers, 3), "1", (0, 88), (93, 8), profiles,
        ue(0), chroma, ue(1920, 1080), window, ue(0, 0), ue(4), ordering, ue(0, 3, 0, 3, 1, 1),
        lists, "1 1", pulse, sets, long_term, "1 1", tail or vui(16),
    )  # fmt: skip


SUB_LAYERS = "11 01" + "00" * 6 + "0" * (88 + 8) + "0" * 8
SETS = ue(3) + ue(1, 1) + ue(0) + "1" + ue(0) + "1" + ("1 0" + ue(0) + "1 01 00") + ("1 1" + ue(2) + "1 1 1")
ALL_LISTS = (
    "1 1" + ("0" + ue(0)) * 6 + ("1" + ue(1) * 64) * 6 + ("1" + ue(2) * 65) * 6 + ("1" + ue(2) * 65) * 2
)


@pytest.mark.parametrize(
    "sps",
    [
        hevc_sps(),
        hevc_sps(2, SUB_LAYERS, ordering="1" + ue(*[4, 2, 4] * 3)),
        hevc_sps(2, SUB_LAYERS, ordering="0" + ue(4, 2, 4)),
        hevc_sps(chroma=ue(3) + "0"),
        hevc_sps(window="1" + ue(0, 0, 0, 4)),
        hevc_sps(lists="1 0"),
        hevc_sps(lists=ALL_LISTS),
        hevc_sps(pulse="1 0111 0111" + ue(0, 1) + "0"),
        hevc_sps(sets=SETS),
        hevc_sps(long_term="1" + ue(2) + "0" * 2 * 9),
    ],
)
def test_transfer_is_found_behind_all_that_may_stand_before_it(sps: bytes) -> None:
    assert video_codecs.hevc(hvcc(sps)).dynamic_range == "pq"


@pytest.mark.parametrize(
    "sps",
    [
        b"\x42",
        hevc_sps()[:-4],
        hevc_sps(sets=ue(65)),
        hevc_sps(sets=ue(1, 17)),
        hevc_sps(long_term="1" + ue(33)),
        hevc_sps(tail="0"),
        b"\x42\x01" + bits((0, 8), (0, 96), ue(0, 1, 64, 64), "0", ue(0, 0, 13)),
    ],
)
def test_broken_sequence_of_hevc_says_nothing_of_the_transfer(sps: bytes) -> None:
    coding = video_codecs.hevc(hvcc(sps))
    assert (coding.codec, coding.dynamic_range) == ("hvc1.1.6.L93.B0", None)


@pytest.mark.parametrize(
    ("head", "codec"),
    [
        ("01 60000000 b00000000000 5d f000 fc fd f8 f8 0000 0f", "hvc1.1.6.L93.B0"),
        ("22 20000000 900000000000 99 f000 fc fd fa fa 0000 0f", "hvc1.2.4.H153.90"),
        ("44 08000000 9e08000000 00 5a f000 fc ff f8 f8 0000 0f", "hvc1.A4.10.L90.9E.8"),
        ("c1 80000001 000000000000 00 f000 fc fd f8 f8 0000 0f", "hvc1.C1.80000001.L0"),
        ("01 60000000 000000000001 5d f000 fc fd f8 f8 0000 0f", "hvc1.1.6.L93.0.0.0.0.0.1"),
    ],
)
def test_name_of_hevc_tells_profile_tier_level_and_constraints(head: str, codec: str) -> None:
    assert video_codecs.hevc(hvcc(head=head)).codec == codec


def test_record_of_hevc_tells_depth_chroma_and_fields() -> None:
    head = "02 20000000 {}00000000000 99 f000 fc fe fa fa 0000 0f"
    coding = video_codecs.hevc(hvcc(head=head.format("9")), "hev1")
    assert coding == Coding(codec="hev1.2.4.L153.90", bit_depth=10, chroma="4:2:2", is_interlaced=False)
    assert video_codecs.hevc(hvcc(head=head.format("5"))).is_interlaced is True
    assert video_codecs.hevc(hvcc(head=head.format("d"))).is_interlaced is None
    assert video_codecs.hevc(hvcc(head=head.format("1"))).is_interlaced is None


def test_sequence_of_hevc_is_found_behind_other_units() -> None:
    before = bytes([0xA0]) + b"\0\2\0\3abc\0\1d"
    assert video_codecs.hevc(hvcc(hevc_sps(), before=before)).dynamic_range == "pq"


def av1c(flags: str, sequence: bytes = b"", head: bytes = b"\x0a") -> bytes:
    size = bytes([len(sequence)]) if head[0] & 2 else b""
    return b"\x81" + bits(flags) + b"\0" + (head + size + sequence if sequence else b"")


def av1_sequence(
    profile: int = 0,
    start: str = "0 0 0 0 00000 000000000000 00000",
    tools: str | None = None,
    colours: str = "0 0 0",
) -> bytes:
    tools = "0 000 0000 1 11 0 0 010" if tools is None else tools
    return bits((profile, 3), start, "0101 0101" + "0" * 12, tools, "000", colours, "0" * 16)


REDUCED = "1 1 00000"
TIMED = "0 0 1" + "0" * 64 + "1" + ue(5) + "1 00111" + "0" * 42 + "1 00001" + (
    "0" * 12 + "01000 1" + "1" + "0" * 17 + "1 0000"
) + ("0" * 12 + "00111" + "0" + "0")  # fmt: skip
PQ = f"1 {9:08b} {16:08b} {9:08b} 0"
MAIN = "000 00100 0 0 0 0 1 1 00"
MAIN_10 = "000 00100 0 1 0 0 1 1 00"


@pytest.mark.parametrize(
    ("record", "codec", "depth", "chroma", "dynamic_range"),
    [
        (av1c(MAIN), "av01.0.04M.08", 8, "4:2:0", None),
        (av1c(MAIN, av1_sequence()), "av01.0.04M.08", 8, "4:2:0", None),
        (av1c("000 01001 1 1 0 0 1 1 00"), "av01.0.09H.10", 10, "4:2:0", None),
        (av1c("010 00100 0 1 1 0 1 0 00"), "av01.2.04M.12.0.100.01.01.01.0", 12, "4:2:2", None),
        (av1c("001 00100 0 0 0 0 0 0 00"), "av01.1.04M.08.0.000.01.01.01.0", 8, "4:4:4", None),
        (av1c("000 00100 0 0 0 1 1 1 00"), "av01.0.04M.08.1.110.01.01.01.0", 8, "4:0:0", None),
        (av1c("000 00100 0 0 0 0 1 1 10"), "av01.0.04M.08.0.112.01.01.01.0", 8, "4:2:0", None),
        (
            av1c(MAIN_10, av1_sequence(colours="1 0" + PQ)),
            "av01.0.04M.10.0.110.09.16.09.0",
            10,
            "4:2:0",
            "pq",
        ),
        (
            av1c(MAIN, av1_sequence(colours=f"0 0 1 {1:08b} {1:08b} {1:08b} 0")),
            "av01.0.04M.08",
            8,
            "4:2:0",
            "sdr",
        ),
        (
            av1c("001 00100 0 0 0 0 0 0 00", av1_sequence(1, colours=f"0 1 {1:08b} {13:08b} {0:08b}")),
            "av01.1.04M.08.0.000.01.13.00.1",
            8,
            "4:4:4",
            "sdr",
        ),
        (
            av1c("010 00100 0 1 1 0 1 0 00", av1_sequence(2, colours="1 1 0" + PQ)),
            "av01.2.04M.12.0.100.09.16.09.0",
            12,
            "4:2:2",
            "pq",
        ),
        *(
            (av1c(MAIN_10, sequence, head), "av01.0.04M.10.0.110.09.16.09.0", 10, "4:2:0", "pq")
            for sequence, head in [
                (av1_sequence(start=REDUCED, tools="000", colours="1 0" + PQ), b"\x0a"),
                (av1_sequence(start=TIMED, colours="1 0" + PQ), b"\x0a"),
                (av1_sequence(tools="1 0000 000 000 0000 0 0 1 1", colours="1 0" + PQ), b"\x08"),
                (av1_sequence(tools="0 000 0000 1 00 1 0 1 010", colours="1 0" + PQ), b"\x0e\0"),
                (av1_sequence(tools="0 000 0000 0 0 0", colours="1 0" + PQ), b"\x0a"),
            ]
        ),
        (av1c(MAIN, av1_sequence()[:4]), "av01.0.04M.08", 8, "4:2:0", None),
        (av1c(MAIN, b"\1", b"\x12"), "av01.0.04M.08", 8, "4:2:0", None),
        (av1c(MAIN) + b"\x0a" + b"\xff" * 9, "av01.0.04M.08", 8, "4:2:0", None),
    ],
)
def test_av1_record_is_followed(
    record: bytes, codec: str, depth: int, chroma: str, dynamic_range: str | None
) -> None:
    found = video_codecs.av1(record)
    assert (found.codec, found.bit_depth, found.chroma) == (codec, depth, chroma)
    assert (found.is_interlaced, found.dynamic_range) == (False, dynamic_range)


@pytest.mark.parametrize(
    ("record", "codec", "depth", "chroma", "dynamic_range"),
    [
        ("00 0a 82 01 01 01", "vp09.00.10.08", 8, "4:2:0", "sdr"),
        ("00 0a 80 02 02 02", "vp09.00.10.08", 8, "4:2:0", None),
        ("02 1f a2 09 10 09", "vp09.02.31.10.01.09.16.09.00", 10, "4:2:0", "pq"),
        ("03 33 c5 09 12 09", "vp09.03.51.12.02.09.18.09.01", 12, "4:2:2", "hlg"),
        ("01 0a 86 01 01 01", "vp09.01.10.08.03.01.01.01.00", 8, "4:4:4", "sdr"),
        ("01 0a 8e 01 01 01", "vp09.01.10.08.07.01.01.01.00", 8, None, "sdr"),
    ],
)
def test_vp9_record_is_followed(
    record: str, codec: str, depth: int, chroma: str | None, dynamic_range: DynamicRange | None
) -> None:
    assert video_codecs.vp9(bytes.fromhex(record)) == Coding(
        codec=codec, bit_depth=depth, chroma=chroma, is_interlaced=False, dynamic_range=dynamic_range
    )


@pytest.mark.parametrize(
    ("private", "codec", "depth", "chroma"),
    [
        ("010100 02010a", "vp09.00.10.08", 8, "4:2:0"),
        ("010102 02011f 03010a 040101", "vp09.02.31.10", 10, "4:2:0"),
        ("010102 02011f", "vp09.02.31.10", 10, "4:2:0"),
        ("010101 02010a", "vp09.01.10.08.03.01.01.01.00", 8, "4:4:4"),
        ("010101 02010a 040102 09ff", "vp09.01.10.08.02.01.01.01.00", 8, "4:2:2"),
    ],
)
def test_vp9_features_are_followed(private: str, codec: str, depth: int, chroma: str) -> None:
    assert video_codecs.vp9_of_private(bytes.fromhex(private)) == Coding(
        codec=codec, bit_depth=depth, chroma=chroma, is_interlaced=False
    )


@pytest.mark.parametrize("private", ["", "01", "0101", "010100", "02010a", "01020000 02010a"])
def test_vp9_without_profile_or_level_has_no_name(private: str) -> None:
    assert video_codecs.vp9_of_private(bytes.fromhex(private)) is None


GENERAL = "0 0 0"
PROGRAM = (
    "0000 01 0011"
    + "0001 0001 0001 01 001 0001"
    + "1 0000 1 0000 1 000"
    + "1 0000 0 0000 1 0001"
    + ("0000 0000 0 0000")
)


@pytest.mark.parametrize(
    ("config", "codec", "channels", "rate"),
    [
        (bits("00010 0100 0010", GENERAL), "mp4a.40.2", 2, 44100),
        (bits("00001 0011 0001", GENERAL), "mp4a.40.1", 1, 48000),
        (bits("00010 1111", (12345, 24), "0111", GENERAL), "mp4a.40.2", 8, 12345),
        (bits("00010 1110 0010", GENERAL), "mp4a.40.2", 2, None),
        (bits("00101 0110 0010 0011 00010", GENERAL), "mp4a.40.5", 2, 48000),
        (bits("11101 0110 0001 0011 00010", GENERAL), "mp4a.40.29", 2, 48000),
        (bits("00101 0110 0010 1111", (44100, 24), "10110 0000"), "mp4a.40.5", 2, 44100),
        (bits("00010 0110 0010", GENERAL, (0x2B7, 11), "00101 1 0011"), "mp4a.40.5", 2, 48000),
        (bits("00010 0110 0010", GENERAL, (0x2B7, 11), "00101 0"), "mp4a.40.2", 2, 24000),
        (
            bits("00010 0110 0001", GENERAL, (0x2B7, 11), "00101 1 0011", (0x548, 11), "1"),
            "mp4a.40.29",
            2,
            48000,
        ),
        (
            bits("00010 0110 0001", GENERAL, (0x2B7, 11), "00101 1 0011", (0x548, 11), "0"),
            "mp4a.40.5",
            1,
            48000,
        ),
        (bits("00010 0011 0000", GENERAL, PROGRAM, "0" * 16), "mp4a.40.2", 6, 48000),
        (bits("00010 0011 0000", GENERAL), "mp4a.40.2", None, 48000),
        (bits("00010 0011 0010", "0 1" + "0" * 14 + "0"), "mp4a.40.2", 2, 48000),
        (bits("00110 0011 0010", GENERAL, "000"), "mp4a.40.6", 2, 48000),
        (bits("10001 0011 0010", "0 0 1 000 0"), "mp4a.40.17", 2, 48000),
        (bits("10110 0011 0010", "0 0 1" + "0" * 17), "mp4a.40.22", 2, 48000),
        (bits("11111 001010 0011 0010"), "mp4a.40.42", 2, 48000),
        (bits("00010 0011 1011"), "mp4a.40.2", 7, 48000),
        (bits("00010 0011 1111"), "mp4a.40.2", None, 48000),
    ],
)
def test_aac_configuration_is_followed(
    config: bytes, codec: str, channels: int | None, rate: int | None
) -> None:
    assert audio_codecs.aac(config) == AudioCoding(codec=codec, channels=channels, sample_rate=rate)


@pytest.mark.parametrize(
    ("read", "record", "coding"),
    [
        (audio_codecs.ac3, bits("00 01000 000 111 1 01111 00000"), ("ac-3", 6, 48000)),
        (audio_codecs.ac3, bits("01 01000 000 010 0 01111 00000"), ("ac-3", 2, 44100)),
        (audio_codecs.ac3, bits("11 01000 000 001 0 01111 00000"), ("ac-3", 1, None)),
        (audio_codecs.eac3, bits((640, 13), "000 00 10000 0 0 000 111 1 000 0000 0"), ("ec-3", 6, 48000)),
        (
            audio_codecs.eac3,
            bits((640, 13), "000 00 10000 0 0 000 111 1 000 0001 000000010"),
            ("ec-3", 8, 48000),
        ),
        (
            audio_codecs.eac3,
            bits((640, 13), "000 10 10000 0 0 000 111 1 000 0001 100000100"),
            ("ec-3", 8, 32000),
        ),
        (audio_codecs.opus, b"\0\2\1\x38", ("opus", 2, 48000)),
        (audio_codecs.flac, bytes(10) + bits((96000, 20), "101 10111"), ("flac", 6, 96000)),
        (audio_codecs.flac, bytes(14), ("flac", 1, None)),
        (audio_codecs.alac, bytes(5) + b"\x10\0\0\0\2" + bytes(10) + (44100).to_bytes(4), ("alac", 2, 44100)),
    ],
)
def test_record_of_sound_is_followed(
    read: Callable[[bytes], AudioCoding], record: bytes, coding: tuple[str, int, int | None]
) -> None:
    found = read(record)
    assert (found.codec, found.channels, found.sample_rate) == coding


@pytest.mark.parametrize(
    ("config", "codec"),
    [
        (b"\0\0\1\xb0\x01\0\0\1\xb5\x89", "mp4v.20.1"),
        (b"junk\0\0\1\xb0\xf5", "mp4v.20.245"),
        (b"\0\0\1\xb0", "mp4v.20"),
        (b"", "mp4v.20"),
    ],
)
def test_mpeg4_visual_is_named_by_its_profile(config: bytes, codec: str) -> None:
    assert video_codecs.mpeg4_visual(config) == Coding(codec=codec, bit_depth=8, chroma="4:2:0")


@pytest.mark.parametrize(
    ("record", "codec"),
    [("01000a2d", "dvh1.05.05"), ("0100104c0000", "dvh1.08.09"), ("010014fd", "dvh1.10.31")],
)
def test_dolby_vision_is_named_by_profile_and_level(record: str, codec: str) -> None:
    assert video_codecs.dolby_vision(bytes.fromhex(record), "dvh1") == codec


@pytest.mark.parametrize(
    ("transfer", "dynamic_range"),
    [
        *((transfer, "sdr") for transfer in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17)),
        *((transfer, None) for transfer in (None, 0, 2, 3, 19, 255, 65535)),
        (16, "pq"),
        (18, "hlg"),
    ],
)
def test_dynamic_range_is_that_of_the_transfer(transfer: int | None, dynamic_range: str | None) -> None:
    assert video_codecs.dynamic_range(transfer) == dynamic_range


RECORDS: dict[str, Callable[[bytes], object]] = {
    "avc": video_codecs.avc,
    "hevc": video_codecs.hevc,
    "av1": video_codecs.av1,
    "vp9": video_codecs.vp9,
    "dolby vision": lambda record: video_codecs.dolby_vision(record, "dvh1"),
    "aac": audio_codecs.aac,
    "ac3": audio_codecs.ac3,
    "eac3": audio_codecs.eac3,
    "opus": audio_codecs.opus,
    "flac": audio_codecs.flac,
    "alac": audio_codecs.alac,
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("record", [b"", b"\1"])
def test_record_too_short_for_its_name_is_refused(name: str, record: bytes) -> None:
    with pytest.raises(MediaUnreadable):
        RECORDS[name](record)


@pytest.mark.parametrize(("read", "version"), [(video_codecs.avc, b"\0"), (video_codecs.av1, b"\x82")])
def test_other_version_is_refused(read: Callable[[bytes], Coding], version: bytes) -> None:
    with pytest.raises(MediaUnreadable):
        read(version + bytes(40))


@given(st.binary(max_size=200))
def test_any_bytes_are_followed_or_refused(data: bytes) -> None:
    starts = (b"", avcc(b"")[:8], hvcc(hevc_sps())[:28], av1c(MAIN) + b"\x0a\x20")
    for read in (*RECORDS.values(), video_codecs.vp9_of_private, video_codecs.mpeg4_visual):
        for start in starts:
            with suppress(MediaUnreadable):
                read(start + data)


def test_bits_end_where_the_bytes_do() -> None:
    reader = BitReader(b"\xa5\x80")
    assert (reader.bits(0), reader.bits(3), reader.flag(), reader.left) == (0, 5, False, 12)
    reader.align()
    assert reader.bits(8) == 0x80
    for read in (reader.flag, reader.ue, reader.se, lambda: reader.bits(1)):
        with pytest.raises(MediaUnreadable):
            read()


@pytest.mark.parametrize(
    ("digits", "unsigned", "signed"),
    [
        ("1", 0, 0),
        ("010", 1, 1),
        ("011", 2, -1),
        ("00100", 3, 2),
        ("0" * 31 + "1" * 32, 2**32 - 2, -(2**31 - 1)),
    ],
)
def test_exp_golomb_numbers(digits: str, unsigned: int, signed: int) -> None:
    assert BitReader(bits(digits)).ue() == unsigned
    assert BitReader(bits(digits)).se() == signed


def test_number_of_too_many_zeros_is_refused() -> None:
    with pytest.raises(MediaUnreadable):
        BitReader(bytes(40) + b"\xff" * 40).ue()


@given(st.lists(st.sampled_from([0, 0, 0, 1, 2, 3, 4, 255])).map(bytes))
def test_what_keeps_start_codes_out_is_taken_out(payload: bytes) -> None:
    assert rbsp(escaped(payload)) == payload
