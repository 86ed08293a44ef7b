"""Files that are not what they say: each tells whoever reads it to open a secret file or an address."""

import struct
import subprocess
from pathlib import Path

FILE_TYPE = struct.pack(">I4s4sI4s4s", 24, b"ftyp", b"isom", 512, b"isom", b"mp42")

PLAYLIST = """#EXTM3U
#EXT-X-TARGETDURATION:1
#EXTINF:1,
{0}
#EXT-X-ENDLIST
"""
MASTER_PLAYLIST = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,URI="{0}"
#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"
{0}
"""
ENCRYPTED_PLAYLIST = """#EXTM3U
#EXT-X-TARGETDURATION:1
#EXT-X-KEY:METHOD=AES-128,URI="{0}"
#EXT-X-MAP:URI="{0}"
#EXTINF:1,
{0}
#EXT-X-ENDLIST
"""
CONCAT_SCRIPT = "ffconcat version 1.0\nfile '{0}'\n"
DASH_MANIFEST = """<?xml version="1.0"?>
<!DOCTYPE MPD [<!ENTITY secret SYSTEM "{0}">]>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><BaseURL>{0}</BaseURL>
<AdaptationSet mimeType="video/mp2t"><Representation id="1" bandwidth="1"><BaseURL>{0}</BaseURL>
<SegmentList duration="1"><SegmentURL media="{0}"/></SegmentList></Representation></AdaptationSet></Period>
</MPD>
"""
SESSION_DESCRIPTION = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=x
c=IN IP4 127.0.0.1
t=0 0
a=control:{0}
m=video 5004 RTP/AVP 96
a=rtpmap:96 H264/90000
"""
SMOOTH_MANIFEST = """<?xml version="1.0"?>
<ASX version="3.0"><Entry><Ref href="{0}"/></Entry></ASX>
"""
SUBTITLES = """[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,{0},20
[Events]
Format: Layer, Start, End, Style, Text
Dialogue: 0,0:00:00.00,0:00:01.00,Default,{{\\fn{0}}}text {0}
"""
TEXTS = {
    "playlist": PLAYLIST,
    "master playlist": MASTER_PLAYLIST,
    "encrypted playlist": ENCRYPTED_PLAYLIST,
    "concat script": CONCAT_SCRIPT,
    "DASH manifest": DASH_MANIFEST,
    "session description": SESSION_DESCRIPTION,
    "ASX": SMOOTH_MANIFEST,
    "subtitles": SUBTITLES,
}


def box(kind: bytes, *contents: bytes) -> bytes:
    """A box of ISO/IEC 14496-12, section 4.2."""
    content = b"".join(contents)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def url_reference(address: str) -> bytes:
    """A data reference by URL (ISO/IEC 14496-12, section 8.7.2), whose flags say that it is elsewhere."""
    return box(b"url ", bytes(4), address.encode() + b"\0")


def urn_reference(address: str) -> bytes:
    """A data reference by name and location."""
    return box(b"urn ", bytes(4), b"urn:x\0", address.encode() + b"\0")


def alias_reference(path: str) -> bytes:
    """A Macintosh alias record: the absolute path, and that the file is in the same folder."""
    name = Path(path).name.encode()
    where = path.encode().ljust(len(path) + len(path) % 2, b"\0")
    record = b"".join(
        [
            bytes(10),
            bytes([0]).ljust(28, b"\0"),  # the name of the volume
            bytes(12),
            bytes([len(name)]) + name.ljust(63, b"\0"),
            bytes(16),
            struct.pack(">HH", 1, 1),  # levels up and down
            bytes(16),
            struct.pack(">HH", 2, len(where)) + where,
            struct.pack(">HH", 0xFFFF, 0),
        ]
    )
    return box(b"alis", bytes(4), record)


def with_reference(video: bytes, reference: bytes) -> bytes:
    """An MP4, whose film is behind its data, with its first data reference replaced by another one."""
    start = video.index(b"dref") - 4
    size = int.from_bytes(video[start : start + 4])
    replaced = box(b"dref", bytes(4), struct.pack(">I", 1), reference)
    parents, at = [], 0
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        at = video.index(kind, at)
        parents.append(at - 4)
    changed = bytearray(video[:start] + replaced + video[start + size :])
    for parent in parents:
        longer = int.from_bytes(changed[parent : parent + 4]) + len(replaced) - size
        changed[parent : parent + 4] = longer.to_bytes(4)
    return bytes(changed)


def avi_with_subtitles(text: bytes) -> bytes:
    """An AVI of one text stream, whose only chunk is a file of its own (as of AVI-Mux GUI, "GAB2")."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    def listing(kind: bytes, *chunks: bytes) -> bytes:
        return chunk(b"LIST", kind + b"".join(chunks))

    packet = b"GAB2\0" + struct.pack("<HI", 2, 2) + bytes(2) + struct.pack("<HI", 4, len(text)) + text
    header = struct.pack("<14I", 40000, 0, 0, 0, 1, 0, 1, 0, 64, 48, 0, 0, 0, 0)
    stream = struct.pack(
        "<4s4sIHHIIIIIIIIhhhh", b"txts", bytes(4), 0, 0, 0, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0
    )
    lists = [
        listing(
            b"hdrl", chunk(b"avih", header), listing(b"strl", chunk(b"strh", stream), chunk(b"strf", b""))
        ),
        listing(b"movi", chunk(b"00tx", packet)),
    ]
    return chunk(b"RIFF", b"AVI " + b"".join(lists))


def matroska_with_text(ffmpeg: str, path: Path, text: Path) -> None:
    """A Matroska file that carries a text as an attachment and in its metadata."""
    picture = ["-f", "lavfi", "-i", "color=blue:s=64x48:d=1:r=5"]
    attached = ["-attach", str(text), "-metadata:s:t", "mimetype=application/x-mpegurl"]
    titled = ["-metadata", f"title={text.read_text()}"]
    command = [ffmpeg, "-v", "error", "-nostdin", "-y", *picture, *attached, *titled, str(path)]
    subprocess.run(command, check=True)
