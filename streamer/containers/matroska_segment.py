"""The Segment of a Matroska file: where its parts are, and the heads of its blocks (RFC 9559)."""

from collections.abc import Iterator
from enum import IntEnum
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from streamer.containers.ebml import Document, Element, Master, variable_integer
from streamer.containers.media import Source
from streamer.errors import MediaUnreadable

_MOST_BYTES = 2**18  # of an element, where nothing else is said
_MOST_PASSED = 256  # elements of the first level that are passed in search of one
_MOST_FIRST_BLOCKS = 128
_MOST_LAST_BLOCKS = 1000
_TAILS = (2**16, 2**20, 2**23)  # bytes from the end where the last Cluster is looked for
_MOST_TRIES = 16
_TICK_NANOSECONDS = 1_000_000
_BLOCK_HEAD = 12  # bytes, at most
_LACING = 0x06  # bits of the flags of a block


class Id(IntEnum):
    """Identifiers of elements, with their markers (RFC 9559, section 5; RFC 8794, section 11.2)."""

    EBML = 0x1A45DFA3
    EBML_READ_VERSION = 0x42F7
    EBML_MAX_ID_LENGTH = 0x42F2
    EBML_MAX_SIZE_LENGTH = 0x42F3
    DOC_TYPE = 0x4282
    DOC_TYPE_READ_VERSION = 0x4285

    SEGMENT = 0x18538067
    SEEK_HEAD = 0x114D9B74
    SEEK = 0x4DBB
    SEEK_ID = 0x53AB
    SEEK_POSITION = 0x53AC

    INFO = 0x1549A966
    TIMESTAMP_SCALE = 0x2AD7B1
    DURATION = 0x4489

    CLUSTER = 0x1F43B675
    TIMESTAMP = 0xE7
    SIMPLE_BLOCK = 0xA3
    BLOCK_GROUP = 0xA0
    BLOCK = 0xA1

    TRACKS = 0x1654AE6B
    TRACK_ENTRY = 0xAE
    TRACK_NUMBER = 0xD7
    TRACK_UID = 0x73C5
    TRACK_TYPE = 0x83
    FLAG_ENABLED = 0xB9
    FLAG_DEFAULT = 0x88
    FLAG_FORCED = 0x55AA
    DEFAULT_DURATION = 0x23E383
    NAME = 0x536E
    LANGUAGE = 0x22B59C
    LANGUAGE_BCP47 = 0x22B59D
    CODEC_ID = 0x86
    CODEC_PRIVATE = 0x63A2

    VIDEO = 0xE0
    FLAG_INTERLACED = 0x9A
    PIXEL_WIDTH = 0xB0
    PIXEL_HEIGHT = 0xBA
    STEREO_MODE = 0x53B8
    PIXEL_CROP_BOTTOM = 0x54AA
    PIXEL_CROP_TOP = 0x54BB
    PIXEL_CROP_LEFT = 0x54CC
    PIXEL_CROP_RIGHT = 0x54DD
    DISPLAY_WIDTH = 0x54B0
    DISPLAY_HEIGHT = 0x54BA
    DISPLAY_UNIT = 0x54B2
    FRAME_RATE = 0x2383E3
    COLOUR = 0x55B0
    BITS_PER_CHANNEL = 0x55B2
    CHROMA_SUBSAMPLING_HORZ = 0x55B3
    CHROMA_SUBSAMPLING_VERT = 0x55B4
    TRANSFER_CHARACTERISTICS = 0x55BA
    PROJECTION = 0x7670
    PROJECTION_TYPE = 0x7671
    PROJECTION_POSE_YAW = 0x7673
    PROJECTION_POSE_PITCH = 0x7674
    PROJECTION_POSE_ROLL = 0x7675

    AUDIO = 0xE1
    SAMPLING_FREQUENCY = 0xB5
    OUTPUT_SAMPLING_FREQUENCY = 0x78B5
    CHANNELS = 0x9F
    BIT_DEPTH = 0x6264

    CONTENT_ENCODINGS = 0x6D80
    CONTENT_ENCODING = 0x6240
    CONTENT_ENCODING_SCOPE = 0x5032
    CONTENT_ENCODING_TYPE = 0x5033
    CONTENT_COMPRESSION = 0x5034
    CONTENT_COMP_ALGO = 0x4254
    CONTENT_COMP_SETTINGS = 0x4255

    CUES = 0x1C53BB6B
    CUE_POINT = 0xBB
    CUE_TIME = 0xB3
    CUE_TRACK_POSITIONS = 0xB7
    CUE_TRACK = 0xF7

    TAGS = 0x1254C367
    TAG = 0x7373
    TARGETS = 0x63C0
    TAG_TRACK_UID = 0x63C5
    SIMPLE_TAG = 0x67C8
    TAG_NAME = 0x45A3
    TAG_STRING = 0x4487


# default, and the most that is understood here
_LIMITS = (
    (Id.EBML_READ_VERSION, 1, 1),
    (Id.EBML_MAX_ID_LENGTH, 4, 4),
    (Id.EBML_MAX_SIZE_LENGTH, 8, 8),
    (Id.DOC_TYPE_READ_VERSION, 1, 4),
)
_POINTED_AT = (Id.SEEK_HEAD, Id.INFO, Id.TRACKS, Id.CUES, Id.TAGS)
_BEHIND_BLOCKS = (Id.CLUSTER, Id.CUES, Id.TAGS, Id.SEEK_HEAD, Id.INFO, Id.TRACKS)


class Block(NamedTuple):
    """A Block or SimpleBlock: number of its track, timestamp in ticks, where its frame starts and ends."""

    track: int
    timestamp: int
    start: int
    end: int
    has_lacing: bool


class Segment:
    """The Segment of a file, and where in it the elements of its first level are: ``found``.

    ``wanted`` ones are also looked for behind the first Cluster, as far as Clusters can be passed unread.
    Raises MediaUnreadable if there is none that can be understood.
    """

    def __init__(self, source: Source, wanted: tuple[Id, ...]) -> None:
        self.document = Document(source)
        self._element = _open(self.document)
        self.start, self.end = self._element.start, min(self._element.end, source.size)
        self.found: dict[int, Element] = {}
        self._find(wanted)
        self.info = self.optional(Id.INFO)
        self.tick_seconds = (self.info.unsigned(Id.TIMESTAMP_SCALE) or _TICK_NANOSECONDS) / 1e9

    def master(self, identifier: Id, most_bytes: int) -> Master:
        """Read an element of the first level. Raises MediaUnreadable if it is not there, or too long."""
        if identifier not in self.found:
            raise MediaUnreadable(f"the file has no {identifier.name.capitalize()}")
        return self.document.master(self.found[identifier], most_bytes)

    def optional(self, identifier: Id) -> Master:
        """Read an element of the first level; an empty one where it can't be read."""
        try:
            return self.master(identifier, _MOST_BYTES)
        except MediaUnreadable:
            return Master(self.document)

    @cached_property
    def first_blocks(self) -> list[Block]:
        """The blocks at the beginning of the first Cluster: up to some hundred."""
        return list(self.opening())

    def opening(self) -> Iterator[Block]:
        """The same blocks, each read when it is asked for."""
        cluster = self.found.get(Id.CLUSTER)
        return islice(self._blocks(cluster), _MOST_FIRST_BLOCKS) if cluster else iter(())

    def last_blocks(self) -> list[Block]:
        """The blocks of the last Cluster, up to a thousand; none where that is not found."""
        cluster = self._last_cluster
        return list(islice(self._blocks(cluster), _MOST_LAST_BLOCKS)) if cluster else []

    @property
    def is_truncated(self) -> bool:
        """Whether the Segment, or where its size is unknown the last Cluster, ends behind the file.

        A Cluster of unknown size, as in a live recording, ends where the file does.
        """
        last = self._last_cluster if self._element.has_unknown_size else self._element
        return last is not None and last.end > self.document.source.size

    @cached_property
    def _last_cluster(self) -> Element | None:
        """The last Cluster; None where it does not begin in the last 8 MiB.

        A Cluster is what has the identifier of one, and blocks in it.
        """
        for size in _TAILS:
            start = max(self.start, self.end - size)
            tail = self.document.source.read(start, max(0, self.end - start))
            at = len(tail)
            for _ in range(_MOST_TRIES):
                at = tail.rfind(Id.CLUSTER.to_bytes(4), 0, at)
                if at < 0:
                    break
                if cluster := self._cluster_at(start + at):
                    return cluster
        return None

    def head_of(self, block: Block, size: int) -> bytes:
        """The first bytes of the frame in a block; fewer where it is shorter, or the file is cut."""
        end = min(block.start + size, block.end, self.end)
        return self.document.source.read(block.start, max(0, end - block.start))

    def _find(self, wanted: tuple[Id, ...]) -> None:
        for element in islice(self.document.elements(self.start, self.end), _MOST_PASSED):
            self.found.setdefault(element.identifier, element)
            if element.identifier == Id.SEEK_HEAD:
                self._follow(element)
            if Id.CLUSTER in self.found and self.found.keys() >= set(wanted):
                return

    def _follow(self, seek_head: Element, *, is_second: bool = False) -> None:
        """Take the positions of a SeekHead, and of the one that it may point to, where they are right.

        Source: RFC 9559, section 5.1.1 and "SeekHead".
        """
        for identifier, position in self._positions(seek_head).items():
            try:
                element = self.document.element(position, self.end)
            except MediaUnreadable:
                continue
            if element.identifier != identifier:
                continue
            if identifier != Id.SEEK_HEAD:
                self.found.setdefault(identifier, element)
            elif not is_second:
                self._follow(element, is_second=True)

    def _positions(self, seek_head: Element) -> dict[int, int]:
        """Where the elements that are read here are said to be, in the file."""
        try:
            seeks = list(self.document.master(seek_head, _MOST_BYTES).masters(Id.SEEK))
        except MediaUnreadable:
            return {}
        positions: dict[int, int] = {}
        for seek in seeks:
            identifier = int.from_bytes(seek.binary(Id.SEEK_ID)[:4])
            if identifier in _POINTED_AT:
                positions.setdefault(identifier, self.start + seek.unsigned(Id.SEEK_POSITION))
        return positions

    def _cluster_at(self, position: int) -> Element | None:
        try:
            cluster = self.document.element(position, self.end)
        except MediaUnreadable:
            return None
        return cluster if next(self._blocks(cluster), None) else None

    def _blocks(self, cluster: Element) -> Iterator[Block]:
        """The blocks of a Cluster, their content unread, as far as they are in the file.

        BlockGroups are walked through like their parent, whose end may not be known.

        Source: RFC 9559, section 5.1.3.
        """
        position, base = cluster.start, None
        end = min(cluster.end, self.end)
        while position < end:
            try:
                element = self.document.element(position, end)
                if element.identifier in _BEHIND_BLOCKS:
                    return
                if element.identifier == Id.TIMESTAMP:
                    base = int.from_bytes(self._head(element, 8))
                elif element.identifier in (Id.SIMPLE_BLOCK, Id.BLOCK) and base is not None:
                    yield _block(element, self._head(element, _BLOCK_HEAD), base)
            except MediaUnreadable:
                return
            position = element.start if element.identifier == Id.BLOCK_GROUP else element.end

    def _head(self, element: Element, size: int) -> bytes:
        return self.document.source.read(element.start, min(size, element.end - element.start))


def _open(document: Document) -> Element:
    """Check the EBML header, and find the Segment, which may end behind the file.

    Source: RFC 8794, section 11.2; RFC 9559, section 4.
    """
    size = document.source.size
    head = document.element(0, size)
    if head.identifier != Id.EBML:
        raise MediaUnreadable("the file does not begin with an EBML header")
    header = document.master(head, _MOST_BYTES)
    for identifier, default, most in _LIMITS:
        if header.unsigned(identifier, default) > most:
            raise MediaUnreadable(
                f"{identifier.name} is {header.unsigned(identifier)}, but {most} is the most"
            )
    if header.text(Id.DOC_TYPE) not in ("matroska", "webm"):
        raise MediaUnreadable(f"a document of type {header.text(Id.DOC_TYPE)[:20]!r}")
    for element in islice(document.elements(head.end, size), _MOST_TRIES):
        if element.identifier == Id.SEGMENT:
            return element
    raise MediaUnreadable("the file has no Segment")


def _block(element: Element, head: bytes, base: int) -> Block:
    """Number of the track, timestamp relative to the Cluster's, flags; then the frame.

    Source: RFC 9559, "Block Structure" and "SimpleBlock Structure".
    """
    track, width = variable_integer(head)
    if len(head) < width + 3:
        raise MediaUnreadable("a block that is shorter than its head")
    timestamp = base + int.from_bytes(head[width : width + 2], signed=True)
    return Block(track, timestamp, element.start + width + 3, element.end, bool(head[width + 2] & _LACING))
