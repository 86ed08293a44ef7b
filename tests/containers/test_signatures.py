"""The first bytes tell the container, and no bytes at all can trouble the reader."""

import subprocess
import time
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.containers.signatures import (
    AVI,
    FLV,
    HEAD_BYTES,
    M2TS,
    MATROSKA,
    MP4,
    MPEG_PS,
    MPEG_TS,
    OGG,
    QUICKTIME,
    THREE_GPP,
    THREE_GPP2,
    WEBM,
    Container,
    recognise,
)
from tests.ffmpeg import clips


def box(kind: bytes, content: bytes = b"") -> bytes:
    return (8 + len(content)).to_bytes(4) + kind + content


def file_type(major: bytes, *compatible: bytes) -> bytes:
    return box(b"ftyp", major + b"\0\0\2\0" + b"".join(compatible))


def element(identifier: int, content: bytes, size_width: int = 1) -> bytes:
    size = (1 << 7 * size_width | len(content)).to_bytes(size_width)
    return identifier.to_bytes((identifier.bit_length() + 7) // 8) + size + content


def ebml(*children: bytes, size_width: int = 1) -> bytes:
    return element(0x1A45DFA3, b"".join(children), size_width)


def document_type(name: bytes, size_width: int = 1) -> bytes:
    return element(0x4282, name, size_width)


def page(packet: bytes, flags: int = 2, version: int = 0) -> bytes:
    lacing = [255] * (len(packet) // 255) + [len(packet) % 255]
    return b"OggS" + bytes([version, flags]) + bytes(20) + bytes([len(lacing), *lacing]) + packet


def packets(count: int, before: int = 0, after: int = 0, header: bytes = b"\x47\x40\x11\x10") -> bytes:
    return b"".join(repeat(bytes(before) + header + bytes(184) + bytes(after), count))


def without(head: bytes, byte: int, bit: int) -> bytes:
    return head[:byte] + bytes([head[byte] & ~bit]) + head[byte + 1 :]


def with_bit(head: bytes, byte: int, bit: int) -> bytes:
    return head[:byte] + bytes([head[byte] | bit]) + head[byte + 1 :]


VORBIS, OPUS = b"\x01vorbis" + bytes(23), b"OpusHead" + bytes(11)
THEORA = b"\x80theora\3\2\1" + bytes(32)
PACK_MPEG1 = bytes.fromhex("000001ba 21 0001 0001 800001")
PACK_MPEG2 = bytes.fromhex("000001ba 44 0004 0004 01 000003 f8")
FLV_HEADER = b"FLV\x01\x05\0\0\0\x09"

HEADS: list[tuple[str, bytes, Container | None]] = [
    # ISO base media files: the major brand decides
    ("mp4 isom", file_type(b"isom", b"isom", b"iso2", b"avc1", b"mp41"), MP4),
    ("mp4 mp42", file_type(b"mp42", b"mp42"), MP4),
    ("mp4 without compatible brands", file_type(b"iso6"), MP4),
    *((f"mp4 {brand!r}", file_type(brand), MP4) for brand in (
        b"avc1", b"mmp4", b"F4V ", b"f4v ", b"MSNV", b"dash", b"cmfc", b"piff",
    )),
    ("mp4 cut behind its major brand", file_type(b"isom", b"mp41")[:12], MP4),
    ("mp4 of itunes, which lists its sound too", file_type(b"M4V ", b"M4V ", b"M4A ", b"mp42"), MP4),
    ("mp4 with a still image beside", file_type(b"mp42", b"mif1", b"heic"), MP4),
    ("mp4 of a camera with its own major brand", file_type(b"XAVC", b"XAVC", b"mp42", b"iso2"), MP4),
    ("mp4 behind padding", box(b"free", bytes(9)) + file_type(b"isom"), MP4),
    ("mp4 with its brands cut", file_type(b"XAVC", b"mp42")[:19], None),
    ("brands nobody knows", file_type(b"XXXX", b"YYYY"), None),
    ("minor version is no brand", box(b"ftyp", b"XXXXisom"), None),
    ("what follows the brands is no brand", file_type(b"XXXX") + b"isom", None),
    ("quicktime", file_type(b"qt  ", b"qt  "), QUICKTIME),
    ("3gp", file_type(b"3gp4", b"isom"), THREE_GPP),
    ("3gp extended", file_type(b"3ge6", b"3gp6"), THREE_GPP),
    ("3gp general", file_type(b"3gg6"), THREE_GPP),
    ("3g2", file_type(b"3g2a", b"isom"), THREE_GPP2),
    *((f"image {brand!r}", file_type(brand, b"isom", b"mif1"), None) for brand in (
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1",
        b"miaf", b"avif", b"avis", b"crx ", b"jp2 ", b"jpx ", b"jpm ", b"jxl ",
    )),
    *((f"sound {brand!r}", file_type(brand, b"isom", b"mp42"), None) for brand in (
        b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B ",
    )),
    ("image with a rare major brand", file_type(b"MiHB", b"mif1", b"heic", b"isom"), None),
    ("jpeg 2000", box(b"jP  ", b"\r\n\x87\n") + file_type(b"jp2 "), None),
    ("segment without its film", box(b"styp", b"msdh\0\0\0\0msdhmsix"), None),
    # QuickTime before brands
    *((f"old quicktime {kind!r}", box(kind, bytes(12)), QUICKTIME) for kind in (b"moov", b"mdat", b"pnot")),
    ("old quicktime wide, mdat", box(b"wide") + box(b"mdat", b"x"), QUICKTIME),
    ("old quicktime skip, free, moov", box(b"skip", b"x") + box(b"free") + box(b"moov"), QUICKTIME),
    ("old quicktime with much padding", (9_000_000).to_bytes(4) + b"free", QUICKTIME),
    ("mdat of more than 4 GiB", b"\0\0\0\1mdat" + (1 << 33).to_bytes(8), QUICKTIME),
    ("mdat to the end of the file", b"\0\0\0\0mdat", QUICKTIME),
    ("mdat of 3 GiB", (3 << 30).to_bytes(4) + b"mdat", QUICKTIME),
    ("mdat smaller than its header", b"\0\0\0\7mdat", None),
    ("moov smaller than its header", b"\0\0\0\7moov", None),
    ("moov of no size", b"\0\0\0\0moov", None),
    ("padding before something else", box(b"free") + box(b"ABCD"), None),
    ("padding before a broken box", box(b"wide") + bytes(8), None),
    ("text: skip", b"Not skip this line", None),
    ("text: ftyp", b"The ftypisom box", None),
    ("seven bytes", b"\0\0\0\x10fty", None),
    # EBML
    ("matroska", ebml(document_type(b"matroska")), MATROSKA),
    ("webm", ebml(document_type(b"webm")), WEBM),
    ("webm, long sizes", ebml(document_type(b"webm", 8), size_width=8), WEBM),
    ("webm behind void and checksum", ebml(element(0xEC, bytes(200), 2), element(0xBF, bytes(4)),
                                          document_type(b"webm"), size_width=2), WEBM),
    ("webm with zeros behind the name", ebml(document_type(b"webm\0\0\0")), WEBM),
    ("webm, then matroska", ebml(document_type(b"webm")) + ebml(document_type(b"matroska")), WEBM),
    ("other document type", ebml(document_type(b"webmx")), None),
    ("document type behind the header", ebml() + document_type(b"webm"), None),
    ("document type inside a void", ebml(element(0xEC, document_type(b"webm"))), None),
    ("document type cut", ebml(document_type(b"matroska"))[:-1], None),
    ("document type behind a size that is none", ebml(b"\xec\0", document_type(b"webm")), None),
    ("document type behind a size of 9 bytes",
     ebml(b"\xec\0\x80" + bytes(7), document_type(b"webm")), None),
    ("document type behind a 5-byte identifier", ebml(b"\x08\1\1\1\1\x80", document_type(b"webm")), None),
    ("ebml magic only", b"\x1a\x45\xdf\xa3", None),
    ("header behind something else", element(0xEC, b"") + ebml(document_type(b"webm")), None),
    # RIFF
    ("avi", b"RIFF\0\0\1\0AVI LIST", AVI),
    ("avi continued", b"RIFF\0\0\1\0AVIXLIST", AVI),
    ("wav", b"RIFF\0\0\1\0WAVEfmt ", None),
    ("webp", b"RIFF\0\0\1\0WEBPVP8 ", None),
    ("no riff", b"RIFX\0\0\1\0AVI LIST", None),
    # Ogg
    ("theora", page(THEORA), OGG),
    ("daala", page(b"\x80daala" + bytes(20)), OGG),
    ("vp8", page(b"OVP80\1\1\0" + bytes(20)), OGG),
    ("dirac", page(b"BBCD\0\0\0\0\x0d"), OGG),
    ("skeleton and sound before theora", page(b"fishead\0" + bytes(600)) + page(VORBIS) + page(THEORA), OGG),
    ("vorbis", page(VORBIS) + page(b"\x03vorbis", flags=0), None),
    ("opus", page(OPUS), None),
    ("theora that is no first page", page(VORBIS) + page(THEORA, flags=0), None),
    ("theora behind the first pages", page(VORBIS) + page(VORBIS, flags=0) + page(THEORA), None),
    ("theora inside sound", page(VORBIS + THEORA), None),
    ("ogg of another version", page(THEORA, version=1), None),
    ("ogg cut before its lacing", page(THEORA)[:26], None),
    ("ogg cut in its name", page(THEORA)[:32], None),
    # FLV
    ("flv", FLV_HEADER + bytes(4), FLV),
    ("flv of another version", b"FLV\x02" + FLV_HEADER[4:], None),
    ("flv with an odd header", b"FLV\x01\x05\0\0\0\x08", None),
    # MPEG program streams
    ("mpeg-1", PACK_MPEG1 + b"\0\0\1\xbb", MPEG_PS),
    ("mpeg-2", PACK_MPEG2 + b"\0\0\1\xbb", MPEG_PS),
    ("mpeg-2, all free bits set", bytes.fromhex("000001ba 7f ffff ffff ff ffffff ff"), MPEG_PS),
    ("mpeg-1, all free bits set", bytes.fromhex("000001ba 2f ffff ffff ffffff ff"), MPEG_PS),
    *((f"mpeg-1 without bit {bit} of byte {byte}", without(PACK_MPEG1 + b"\0", byte, bit), None)
      for byte, bit in ((4, 0x20), (4, 1), (6, 1), (8, 1), (9, 0x80), (11, 1))),
    *((f"mpeg-2 without bit {bit} of byte {byte}", without(PACK_MPEG2, byte, bit), None)
      for byte, bit in ((4, 0x40), (4, 4), (6, 4), (8, 4), (9, 1), (12, 1), (12, 2))),
    *((f"mpeg-1 with bit {bit} of its first byte", with_bit(PACK_MPEG1 + b"\0", 4, bit), None)
      for bit in (0x10, 0x40, 0x80)),
    ("mpeg-2 with bit 128 of its first byte", with_bit(PACK_MPEG2, 4, 0x80), None),
    ("pack header cut", PACK_MPEG2[:12], None),
    ("mpeg elementary stream", b"\0\0\1\xb3" + PACK_MPEG2[4:], None),
    # MPEG transport streams
    ("ts", packets(30), MPEG_TS),
    ("ts of three packets", packets(3), MPEG_TS),
    ("ts cut in its fourth packet", packets(4)[:-180], MPEG_TS),
    ("ts cut in the header of its fourth packet", packets(4)[: 3 * 188 + 2], MPEG_TS),
    ("ts of adaptation fields only", packets(30, header=b"\x47\x40\x11\x20"), MPEG_TS),
    ("ts with parity", packets(30, after=16), MPEG_TS),
    ("m2ts", packets(30, before=4), M2TS),
    ("m2ts of three packets", packets(3, before=4), M2TS),
    ("ts of two packets", packets(2), None),
    ("m2ts of two packets", packets(2, before=4), None),
    ("ts with one broken packet", packets(20) + b"\0" + packets(1)[1:] + packets(1), None),
    ("ts without adaptation field control", packets(30, header=b"\x47\x40\x11\x0f"), None),
    ("text of Gs", b"G" * HEAD_BYTES, None),
    # Everything else
    ("nothing", b"", None),
    ("zeros", bytes(HEAD_BYTES), None),
    ("ones", b"\xff" * HEAD_BYTES, None),
    ("text", b"Dear diary,\n" * 400, None),
    ("html", b"<!DOCTYPE html><html><video src=x></html>", None),
    ("svg", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', None),
    ("hls playlist", b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", None),
    ("ffconcat", b"ffconcat version 1.0\nfile /etc/passwd\n", None),
    ("dash manifest", b'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>', None),
    ("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", None),
    ("gif", b"GIF89a" + bytes(600), None),
    ("jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF", None),
    ("zip", b"PK\3\4" + bytes(40), None),
    ("pdf", b"%PDF-1.7\n", None),
    ("elf", b"\x7fELF\2\1\1" + bytes(60), None),
    ("mp3", b"\xff\xfb\x90\x64" + bytes(400), None),
    ("id3", b"ID3\4\0\0\0\0\x0f\x76" + bytes(400), None),
    ("flac", b"fLaC\0\0\0\x22", None),
]  # fmt: skip


@pytest.mark.parametrize(("head", "expected"), [pytest.param(*row[1:], id=row[0]) for row in HEADS])
def test_tells_the_container_by_its_head(head: bytes, expected: Container | None) -> None:
    assert recognise(head) == expected


@pytest.mark.parametrize(
    ("container", "mime_type", "suffix"),
    [
        (MP4, "video/mp4", ".mp4"),
        (QUICKTIME, "video/quicktime", ".mov"),
        (THREE_GPP, "video/3gpp", ".3gp"),
        (THREE_GPP2, "video/3gpp2", ".3g2"),
        (MATROSKA, "video/x-matroska", ".mkv"),
        (WEBM, "video/webm", ".webm"),
        (AVI, "video/x-msvideo", ".avi"),
        (MPEG_TS, "video/mp2t", ".ts"),
        (M2TS, "video/mp2t", ".m2ts"),
        (MPEG_PS, "video/mpeg", ".mpg"),
        (FLV, "video/x-flv", ".flv"),
        (OGG, "video/ogg", ".ogv"),
    ],
)
def test_a_container_has_the_media_type_that_browsers_say(
    container: Container, mime_type: str, suffix: str
) -> None:
    assert (container.mime_type, container.suffix) == (mime_type, suffix)


def test_what_lies_behind_the_head_is_not_looked_at() -> None:
    padding = box(b"free", bytes(HEAD_BYTES - 8))
    assert recognise(padding + file_type(b"isom")) == QUICKTIME
    assert recognise(packets(22)[:HEAD_BYTES] + bytes(600)) == MPEG_TS


# Real files

PICTURE = "-f lavfi -i testsrc2=size=64x64:rate=25 -t 0.3"
SOUND = "-f lavfi -i sine -t 0.3"
H264 = "-c:v libx264 -pix_fmt yuv420p"

CLIPS: dict[str, tuple[str, Container | None]] = {
    "h264.mp4": (f"{PICTURE} {H264}", MP4),
    "mpeg4.mp4": (f"{PICTURE} -c:v mpeg4", MP4),
    "index-first.mp4": (f"{PICTURE} -c:v mpeg4 -movflags +faststart", MP4),
    "fragments.mp4": (f"{PICTURE} -c:v mpeg4 -movflags +frag_keyframe+empty_moov+default_base_moof", MP4),
    "cmaf.mp4": (f"{PICTURE} {H264} -movflags +cmaf", MP4),
    "itunes.m4v": (f"{PICTURE} {H264} -f ipod", MP4),
    "flash.f4v": (f"{PICTURE} {H264} -f f4v", MP4),
    "smooth.ismv": (f"{PICTURE} {H264}", MP4),
    "clip.mov": (f"{PICTURE} -c:v mpeg4", QUICKTIME),
    "clip.3gp": (f"{PICTURE} -c:v mpeg4", THREE_GPP),
    "clip.3g2": (f"{PICTURE} -c:v mpeg4", THREE_GPP2),
    "clip.mkv": (f"{PICTURE} -c:v mpeg4", MATROSKA),
    "piped.mkv": (f"{PICTURE} -c:v mpeg4 -live 1", MATROSKA),
    "vp8.webm": (f"{PICTURE} -c:v libvpx", WEBM),
    "vp9.webm": (f"{PICTURE} -c:v libvpx-vp9", WEBM),
    "clip.avi": (f"{PICTURE} -c:v mpeg4", AVI),
    "clip.ts": (f"{PICTURE} -c:v mpeg2video", MPEG_TS),
    "clip.m2ts": (f"{PICTURE} {H264} -f mpegts -mpegts_m2ts_mode 1", M2TS),
    "mpeg1.mpg": (f"{PICTURE} -c:v mpeg1video", MPEG_PS),
    "mpeg2.vob": (f"{PICTURE} -c:v mpeg2video", MPEG_PS),
    "clip.flv": (f"{PICTURE} -c:v flv", FLV),
    "theora.ogv": (f"{PICTURE} -c:v libtheora", OGG),
    "theora-vorbis.ogv": (f"{PICTURE} {SOUND} -c:v libtheora -c:a libvorbis", OGG),
    "vp8.ogv": (f"{PICTURE} -c:v libvpx -f ogg", OGG),
    "sound.m4a": (f"{SOUND} -c:a aac", None),
    "vorbis.ogg": (f"{SOUND} -c:a libvorbis", None),
    "opus.ogg": (f"{SOUND} -c:a libopus", None),
    "sound.mp3": (f"{SOUND} -c:a libmp3lame", None),
    "sound.wav": (SOUND, None),
    "sound.flac": (SOUND, None),
    "still.avif": (f"{PICTURE} -frames:v 1 -c:v libaom-av1 -cpu-used 8", None),
    "moving.avif": (f"{PICTURE} -c:v libaom-av1 -cpu-used 8", None),
    "still.png": (f"{PICTURE} -frames:v 1 -c:v png", None),
    "moving.gif": (PICTURE, None),
    "still.jpg": (f"{PICTURE} -frames:v 1 -c:v mjpeg -pix_fmt yuvj420p", None),
}


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The head of every clip whose encoders this build of ffmpeg has."""
    folder, ffmpeg = tmp_path_factory.mktemp("clips"), clips.packaged_ffmpeg()
    listing = subprocess.run(
        [ffmpeg, "-hide_banner", "-encoders"], capture_output=True, text=True, check=True
    )
    known = {line.split()[1] for line in listing.stdout.splitlines() if len(line.split()) > 1}
    heads = {}
    for name, (arguments, _) in CLIPS.items():
        words = arguments.split()
        wanted = {words[at + 1] for at, word in enumerate(words) if word.startswith("-c:")}
        if not wanted <= known:
            continue
        clip = folder / name
        quiet = [ffmpeg, "-nostdin", "-loglevel", "error"]
        subprocess.run([*quiet, *words, str(clip)], check=True, timeout=60)
        heads[name] = clip.read_bytes()[:HEAD_BYTES]
    return heads


@pytest.mark.parametrize("name", CLIPS)
def test_tells_the_container_of_a_real_file(heads: dict[str, bytes], name: str) -> None:
    if name not in heads:
        pytest.skip("this build of ffmpeg lacks the encoder")
    assert recognise(heads[name]) == CLIPS[name][1]


# Whatever the bytes are

EDIT = st.tuples(st.integers(0, 300) | st.integers(0, HEAD_BYTES), st.binary(min_size=1, max_size=9))
MAGICS = st.sampled_from([row[1][:12] for row in HEADS])


@given(
    name=st.sampled_from(sorted(CLIPS)),
    edits=st.lists(EDIT, max_size=6),
    kept=st.integers(0, 300) | st.integers(0, HEAD_BYTES),
)
def test_a_damaged_file_raises_nothing(
    heads: dict[str, bytes], name: str, edits: list[tuple[int, bytes]], kept: int
) -> None:
    head = bytearray(heads.get(name, b""))
    for at, replacement in edits:
        head[at : at + len(replacement)] = replacement
    assert isinstance(recognise(bytes(head[:kept])), Container | None)


@given(magic=MAGICS, rest=st.binary(max_size=800))
def test_any_bytes_raise_nothing_also_behind_a_known_beginning(magic: bytes, rest: bytes) -> None:
    assert isinstance(recognise(magic + rest), Container | None)


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.sampled_from("\r\n\t"), max_size=2_000)
)
def test_plain_text_is_no_video(text: str) -> None:
    assert recognise(text.encode()) is None


def to_width(draw: st.DrawFn, content: bytes) -> int:
    return draw(st.integers(2 if len(content) > 126 else 1, 8))


@st.composite
def filler(draw: st.DrawFn) -> bytes:
    """An element of an EBML header that is no document type."""
    identifier = draw(st.sampled_from([0xEC, 0xBF, 0x4286, 0x42F7, 0x42F2, 0x42F3, 0x4287, 0x4285]))
    content = draw(st.binary(max_size=200))
    return element(identifier, content, to_width(draw, content))


@given(
    before=st.lists(filler(), max_size=8),
    after=st.lists(filler(), max_size=4),
    kind=st.sampled_from([(b"matroska", MATROSKA), (b"webm", WEBM), (b"other", None)]),
    widths=st.tuples(st.integers(1, 8), st.integers(2, 8)),
)
def test_the_document_type_is_found_in_any_order_and_at_any_width(
    before: list[bytes], after: list[bytes], kind: tuple[bytes, Container | None], widths: tuple[int, int]
) -> None:
    children = [*before, document_type(kind[0], widths[0]), *after]
    assert recognise(ebml(*children, size_width=widths[1]) + bytes(20)) == kind[1]


@given(streams=st.lists(st.sampled_from([VORBIS, OPUS, THEORA, b"fishead\0" + bytes(300)]), max_size=8))
def test_ogg_is_video_if_any_first_page_is(streams: list[bytes]) -> None:
    head = b"".join(map(page, streams)) + page(bytes(600), flags=0)
    assert recognise(head) == (OGG if THEORA in streams else None)


@given(
    stride=st.sampled_from([(0, 0, MPEG_TS), (0, 16, MPEG_TS), (4, 0, M2TS)]),
    bodies=st.lists(st.binary(min_size=184, max_size=184), min_size=3, max_size=22),
    headers=st.integers(0, 0xFFFFFF),
)
def test_transport_streams_are_told_whatever_they_carry(
    stride: tuple[int, int, Container], bodies: list[bytes], headers: int
) -> None:
    before, after, container = stride
    header = b"\x47" + (headers | 0x10).to_bytes(3)
    head = b"".join(bytes(before) + header + body + bytes(after) for body in bodies)
    assert recognise(head) == container


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param(box(b"free"), id="boxes"),
        pytest.param(b"\xec\x80", id="elements"),
        pytest.param(page(b""), id="pages"),
        pytest.param(b"XXXX", id="brands"),
        pytest.param(packets(1), id="packets"),
    ],
)
def test_the_worst_bytes_take_milliseconds_however_many_they_are(unit: bytes) -> None:
    beginning = {b"\xec\x80": b"\x1a\x45\xdf\xa3\x08\xff\xff\xff\xff", b"XXXX": b"\0\x10\0\0ftyp"}.get(
        unit, b""
    )
    head = beginning + unit * ((32 << 20) // len(unit))
    started = time.process_time()
    for _ in range(10):
        recognise(head)
    assert (time.process_time() - started) / 10 < 0.03
