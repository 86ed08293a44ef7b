"""Ten thousand files that are almost right: each is read or refused, at once and in little memory."""

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from streamer.containers import reading
from tests.containers import ffprobe, test_mp4
from tests.containers.bounds import assert_bounded
from tests.containers.ffprobe import make, pictures, sound

FILES = 10_000
SLICES = 10  # of them, so that a failure is found again fast
MEASURED = 20  # one in so many is read with its memory counted, which is slow

FEW = pictures("32x32", seconds=0.24)
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "3", "-crf", "40"]
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:pools=1", "-crf", "40"]
VP9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "20k", "-g", "3"]
AV1 = ["-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "lp=1", "-crf", "60"]
AAC = ["-c:a", "aac", "-b:a", "16k"]
OPUS = ["-c:a", "libopus", "-b:a", "16k"]
WITH_SOUND = [*FEW, *sound(0.24, 48000)]
LINES = ["-f", "srt", "-i", "{lines}", "-map", "0", "-map", "1", "-map", "2"]

SEEDS: dict[str, list[list[str]]] = {
    "video/mp4": [
        [*WITH_SOUND, *X264, *AAC],
        [*WITH_SOUND, *LINES, *X264, *AAC, "-c:s", "mov_text", "-metadata:s:s:0", "title=Lines"],
        [*WITH_SOUND, *X264, *AAC, "-movflags", "frag_keyframe+empty_moov"],
        [*FEW, *X264, "-movflags", "dash+frag_keyframe+global_sidx"],
        [*FEW, *X264, "-movflags", "frag_keyframe"],
        [*FEW, *X265, "-tag:v", "hvc1", "-color_trc", "smpte2084"],
        [*WITH_SOUND, *VP9, *OPUS],
        [*pictures("64x64", seconds=0.12), *AV1],
        [*WITH_SOUND, "-c:v", "mpeg4", "-c:a", "ac3", "-f", "mov"],
        [*WITH_SOUND, *X264, "-c:a", "pcm_f32le", "-timecode", "00:00:00:00", "-f", "mov"],
    ],
    "video/x-matroska": [
        [*WITH_SOUND, *X264, *AAC, "-f", "matroska"],
        [*WITH_SOUND, *LINES, *X264, *AAC, "-c:s", "srt", "-f", "matroska"],
        [*WITH_SOUND, *VP9, *OPUS, "-f", "webm"],
        [*WITH_SOUND, *VP9, *OPUS, "-f", "webm", "-live", "1"],
        [*WITH_SOUND, *VP9, *OPUS, "-f", "webm", "-cues_to_front", "1", "-reserve_index_space", "256"],
        [*FEW, *X265, "-color_trc", "smpte2084", "-f", "matroska"],
        [*pictures("64x64", seconds=0.12), *AV1, "-f", "matroska"],
        [*WITH_SOUND, "-c:v", "mpeg4", "-c:a", "flac", "-f", "matroska", "-cluster_time_limit", "80"],
    ],
}
"""By media type: the arguments of ffmpeg for files of a few kilobytes."""

CONTAINERS = (
    b"moov",
    b"trak",
    b"mdia",
    b"minf",
    b"stbl",
    b"dinf",
    b"edts",
    b"mvex",
    b"moof",
    b"traf",
    b"udta",
)
MASTERS = (
    0x18538067,
    0x1549A966,
    0x1654AE6B,
    0xAE,
    0xE0,
    0xE1,
    0x55B0,
    0x1C53BB6B,
    0xBB,
    0xB7,
    0x114D9B74,
    0x1F43B675,
)
NUMBERS = (
    *(0, 1, 2, 7, 8, 9, 15, 16, 127, 128, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1),
    *(2**53, 2**63, 2**64 - 1, 0x7FF0_0000_0000_0000, 0x7FF8_0000_0000_0001),
)


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    folder = tmp_path_factory.mktemp("seeds")
    lines = folder / "lines.srt"
    lines.write_text("1\n00:00:00,000 --> 00:00:00,200\nHello\n\n", encoding="utf-8")
    made = {kind: [seed(folder, lines, arguments) for arguments in files] for kind, files in SEEDS.items()}
    made["video/mp4"].append(test_mp4.HOSTILE["runs without rows"]())
    return made


def seed(folder: Path, lines: Path, arguments: list[str]) -> bytes:
    arguments = [argument.format(lines=lines) if "{" in argument else argument for argument in arguments]
    return make(folder / "seed.mp4", *arguments).read_bytes()


def box_heads(data: bytes, start: int = 0, end: int | None = None) -> Iterator[int]:
    """Where the boxes of a right file begin."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        yield start
        size, kind = int.from_bytes(data[start : start + 4]) or end - start, data[start + 4 : start + 8]
        if kind in CONTAINERS or kind == b"stsd":
            yield from box_heads(data, start + (8 if kind in CONTAINERS else 16), start + size)
        start += size


def element_heads(data: bytes, start: int = 0, end: int | None = None) -> Iterator[int]:
    """Where the elements of a right file begin."""
    end = len(data) if end is None else end
    while start + 2 <= end:
        yield start
        width = 9 - data[start].bit_length()
        size_at = start + width
        size_width = 9 - data[size_at].bit_length()
        content = size_at + size_width
        size = int.from_bytes(data[size_at:content]) ^ (1 << 7 * size_width)
        is_open = size == (1 << 7 * size_width) - 1
        if int.from_bytes(data[start:size_at]) in MASTERS:
            yield from element_heads(data, content, end if is_open else content + size)
        start = end if is_open else content + size


HEADS = {"video/mp4": box_heads, "video/x-matroska": element_heads}


def mutated(chance: random.Random, data: bytes, heads: list[int], other: bytes) -> bytes:
    """A file with one to six faults, most of them where its structure is written down."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        if not changed:
            break
        at = min(chance.choice(heads) + chance.choice((0, 0, 2, 4, 4, *range(24))), len(changed) - 1)
        if chance.random() < 0.15:
            at = chance.randrange(len(changed))
        fault(chance, changed, at, heads, other)
    return bytes(changed)


def fault(chance: random.Random, data: bytearray, at: int, heads: list[int], other: bytes) -> None:
    size = chance.choice((1, 1, 2, 4, 4, 8))
    begin, end = sorted(chance.choices(heads, k=2))
    match chance.randrange(9):
        case 0 | 1:
            data[at] ^= 1 << chance.randrange(8)
        case 2 | 3 | 4:
            data[at : at + size] = (chance.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size)
        case 5:
            data[at : at + size] = chance.randbytes(size)
        case 6:  # a part of it once more, somewhere
            data[at:at] = data[begin:end] * chance.choice((1, 1, 1, 50))
        case 7:  # a part of another file
            start = chance.randrange(len(other))
            data[at : at + chance.choice((0, 64))] = other[start : start + chance.choice((16, 256, 4096))]
        case 8:
            del data[begin : chance.choice((end, begin + 1, begin + 4, len(data)))]


@pytest.mark.parametrize("part", range(SLICES))
@pytest.mark.parametrize("kind", SEEDS)
def test_no_mutated_file_is_too_much(seeds: dict[str, list[bytes]], kind: str, part: int) -> None:
    chance = random.Random(f"{kind} {part}")
    heads = [list(HEADS[kind](data)) for data in seeds[kind]]
    reader = reading.READERS[kind]
    for number in range(FILES // SLICES // len(SEEDS)):
        place = chance.randrange(len(heads))
        data = mutated(chance, seeds[kind][place], heads[place], chance.choice(seeds[kind]))
        for read in (reader.read_media, reader.read_keyframes):
            assert_bounded(read, data, with_memory=number % MEASURED == 0)


@pytest.mark.parametrize("kind", SEEDS)
def test_seeds_are_right_before_they_are_mutated(seeds: dict[str, list[bytes]], kind: str) -> None:
    for data in seeds[kind]:
        assert reading.READERS[kind].read_media(ffprobe.source(data)).video
        assert all(before < after for before, after in pairwise(HEADS[kind](data)))
