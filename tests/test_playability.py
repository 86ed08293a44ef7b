"""Which browsers play a file, why others do not, and what helps: a table, and what holds for every row."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.containers import signatures
from streamer.containers.media import AudioTrack, Media, VideoTrack
from streamer.playability import BROWSERS, Remedy, Track, Verdict, home, judge

MP4, MOV, THREE_GPP = "video/mp4", "video/quicktime", "video/3gpp"
WEBM, MKV, TS, AVI = "video/webm", "video/x-matroska", "video/mp2t", "video/x-msvideo"
CONTAINERS = [
    container.mime_type
    for container in vars(signatures).values()
    if isinstance(container, signatures.Container)
]


def video(
    name: str, codec: str | None = None, bits: int | None = 8, chroma: str | None = "4:2:0"
) -> VideoTrack:
    return VideoTrack(
        number=0,
        name=name,
        codec=codec,
        width=1920,
        height=1080,
        bit_depth=bits,
        chroma=chroma,
        is_interlaced=False,
    )


def audio(name: str, codec: str | None = None) -> AudioTrack:
    return AudioTrack(number=1, name=name, codec=codec, channels=2, sample_rate=48000)


TRACKS: dict[str, Track] = {
    "h264": video("h264", "avc1.640028"),
    "h264 main": video("h264", "avc1.4D401F"),
    "h264 baseline": video("h264", "avc3.42E01E"),
    "h264 extended": video("h264", "avc1.58A01E"),
    "h264 10 bit": video("h264", "avc1.6E0028", 10),
    "h264 4:2:2": video("h264", "avc1.7A0028", 8, "4:2:2"),
    "h264 4:4:4": video("h264", "avc1.F40028", 8, "4:4:4"),
    "h264 untold": video("h264", None, None, None),
    "h264 4K": dataclasses.replace(video("h264", "avc1.640033"), width=3840, height=2160),
    "h264 8K": dataclasses.replace(video("h264", "avc1.64003C"), width=7680, height=4320),
    "h264 interlaced": dataclasses.replace(video("h264", "avc1.4D4028"), is_interlaced=True),
    "hvc1": video("hevc", "hvc1.1.6.L93.B0"),
    "hvc1 main 10": video("hevc", "hvc1.2.4.L120.B0", 10),
    "hvc1 4:2:2": video("hevc", "hvc1.4.10.L120.B0", 10, "4:2:2"),
    "hev1": video("hevc", "hev1.1.6.L93.B0"),
    "dolby vision": video("hevc", "dvh1.05.06", 10),
    "av1": video("av1", "av01.0.08M.08"),
    "av1 10 bit": video("av1", "av01.0.08M.10", 10),
    "av1 4:4:4": video("av1", "av01.1.08M.08", 8, "4:4:4"),
    "vp9": video("vp9", "vp09.00.40.08"),
    "vp9 untold": video("vp9", None, None, None),
    "vp9 10 bit": video("vp9", "vp09.02.40.10", 10),
    "vp9 turned": dataclasses.replace(video("vp9", "vp09.00.40.08"), rotation=90),
    "vp8": video("vp8", "vp8"),
    "mpeg4": video("mpeg4", "mp4v.20.9"),
    "mpeg2": video("mpeg2video"),
    "theora": video("theora"),
    "prores": video("prores", None, 10, "4:2:2"),
    "strange video": video("\x1b]0;<b>", "\0"),
    "aac": audio("aac", "mp4a.40.2"),
    "he-aac": audio("aac", "mp4a.40.5"),
    "aac main": audio("aac", "mp4a.40.1"),
    "xhe-aac": audio("aac", "mp4a.40.42"),
    "aac untold": audio("aac"),
    "mp3": audio("mp3", "mp4a.6B"),
    "opus": audio("opus", "opus"),
    "flac": audio("flac", "fLaC"),
    "vorbis": audio("vorbis", "vorbis"),
    "ac3": audio("ac3", "ac-3"),
    "eac3": audio("eac3", "ec-3"),
    "alac": audio("alac", "alac"),
    "pcm": audio("pcm_s16le"),
    "dts": audio("dts"),
    "amr": audio("amr_nb", "samr"),
    "strange audio": audio("", ""),
}


def media(*names: str, faststart: bool | None = None) -> Media:
    tracks = [TRACKS[name] for name in names]
    return Media(
        duration=1.0,
        video=tuple(track for track in tracks if isinstance(track, VideoTrack)),
        audio=tuple(track for track in tracks if isinstance(track, AudioTrack)),
        faststart=faststart,
    )


def judged(container: str, facts: Media | None) -> Verdict:
    verdict = judge(container, facts)
    assert verdict is not None
    return verdict


def letters(verdict: Verdict) -> str:
    """The browsers that play it, by their first letters."""
    return "".join(browser[0] for browser in BROWSERS if verdict.browsers[browser])


COMBS = "plays everywhere, but is interlaced: edges look like combs when they move"
HEVC = "HEVC video plays in Safari only"
MATROSKA = "Matroska files play in Chrome only"
NOT_EVERYWHERE = "does not play in every browser"

TABLE: list[tuple[str, tuple[str, ...], str, Remedy, str]] = [
    (MP4, ("h264", "aac"), "cfs", "none", "plays everywhere"),
    (MP4, ("h264 main", "he-aac"), "cfs", "none", "plays everywhere"),
    (MP4, ("h264 baseline", "aac untold"), "cfs", "none", "plays everywhere"),
    (MP4, ("h264 untold",), "cfs", "none", "plays everywhere"),
    (MP4, ("h264 4K", "mp3"), "cfs", "none", "plays everywhere"),
    (MP4, ("h264", "opus"), "cfs", "none", "plays everywhere"),
    (MP4, ("h264", "flac"), "cfs", "none", "plays everywhere"),
    (MP4, ("aac",), "cfs", "none", "plays everywhere"),
    (MP4, ("h264 interlaced",), "cfs", "none", COMBS),
    (MP4, ("h264 extended",), "", "transcode", f"H.264 video of an unusual kind {NOT_EVERYWHERE}"),
    (MP4, ("h264 10 bit", "aac"), "", "transcode", f"H.264 video with 10 bits {NOT_EVERYWHERE}"),
    (MP4, ("h264 4:2:2",), "", "transcode", f"H.264 video with 4:2:2 colours {NOT_EVERYWHERE}"),
    (MP4, ("h264 4:4:4",), "", "transcode", f"H.264 video with 4:4:4 colours {NOT_EVERYWHERE}"),
    (MP4, ("h264 8K", "aac"), "c", "transcode", "H.264 video of 7680 by 4320 plays in Chrome only"),
    (MP4, ("hvc1", "aac"), "s", "transcode", HEVC),
    (MOV, ("hvc1 main 10", "aac"), "s", "transcode", HEVC),
    (MP4, ("hvc1 4:2:2",), "", "transcode", f"HEVC video with 4:2:2 colours {NOT_EVERYWHERE}"),
    (MP4, ("hev1", "aac"), "", "transcode", f"HEVC video of an unusual kind {NOT_EVERYWHERE}"),
    (MP4, ("dolby vision", "eac3"), "", "transcode", f"HEVC video of an unusual kind {NOT_EVERYWHERE}"),
    (MP4, ("av1", "opus"), "cf", "transcode", "AV1 video plays in Chrome and Firefox only"),
    (MP4, ("av1 10 bit",), "cf", "transcode", "AV1 video plays in Chrome and Firefox only"),
    (MP4, ("av1 4:4:4",), "", "transcode", f"AV1 video with 4:4:4 colours {NOT_EVERYWHERE}"),
    (MP4, ("vp9", "aac"), "cf", "transcode", "VP9 video in MP4 plays in Chrome and Firefox only"),
    (MP4, ("vp9", "opus"), "cf", "remux", "VP9 video in MP4 plays in Chrome and Firefox only"),
    (MP4, ("vp9 turned", "opus"), "cf", "transcode", "VP9 video in MP4 plays in Chrome and Firefox only"),
    (MP4, ("mpeg4", "aac"), "", "transcode", "MPEG-4 Part 2 video plays in no browser"),
    (MP4, ("strange video", "aac"), "", "transcode", "such video plays in no browser"),
    (MP4, ("h264", "ac3"), "s", "audio", "AC-3 sound plays in Safari only"),
    (MP4, ("h264", "eac3"), "s", "audio", "E-AC-3 sound plays in Safari only"),
    (MP4, ("h264", "aac main"), "", "audio", f"AAC sound of an unusual kind {NOT_EVERYWHERE}"),
    (MP4, ("h264", "xhe-aac"), "", "audio", f"AAC sound of an unusual kind {NOT_EVERYWHERE}"),
    (MP4, ("h264", "vorbis"), "", "audio", "Vorbis sound in MP4 plays in no browser"),
    (MP4, ("h264", "strange audio"), "", "audio", "such sound plays in no browser"),
    (MP4, ("alac",), "s", "audio", "ALAC sound plays in Safari only"),
    (MP4, ("hvc1", "ac3"), "s", "transcode", f"{HEVC}; AC-3 sound plays in Safari only"),
    (MOV, ("h264", "aac"), "cfs", "none", "plays everywhere"),
    (MOV, ("h264", "pcm"), "s", "audio", "uncompressed sound plays in Safari only"),
    (MOV, ("prores", "pcm"), "", "transcode", "ProRes video plays in no browser"),
    (THREE_GPP, ("h264", "aac"), "cs", "remux", "3GP files play in Chrome and Safari only"),
    (THREE_GPP, ("h264", "amr"), "", "audio", "AMR sound plays in no browser"),
    (WEBM, ("vp9", "opus"), "cfs", "none", "plays everywhere"),
    (WEBM, ("vp9 untold", "vorbis"), "cfs", "none", "plays everywhere"),
    (WEBM, ("vp8", "vorbis"), "cfs", "none", "plays everywhere"),
    (WEBM, ("vp9 10 bit", "opus"), "", "transcode", f"VP9 video with 10 bits {NOT_EVERYWHERE}"),
    (WEBM, ("av1", "opus"), "cf", "transcode", "AV1 video plays in Chrome and Firefox only"),
    (WEBM, ("h264", "opus"), "c", "remux", "H.264 video in WebM plays in Chrome only"),
    (MKV, ("h264", "aac"), "c", "remux", MATROSKA),
    (MKV, ("h264", "opus"), "c", "remux", MATROSKA),
    (MKV, ("h264", "vorbis"), "c", "audio", MATROSKA),
    (MKV, ("h264", "dts"), "", "audio", "DTS sound plays in no browser"),
    (MKV, ("vp9", "opus"), "c", "remux", MATROSKA),
    (MKV, ("vp9", "vorbis"), "c", "remux", MATROSKA),
    (MKV, ("vp8", "vorbis"), "c", "remux", MATROSKA),
    (MKV, ("vp8",), "c", "remux", MATROSKA),
    (MKV, ("vorbis",), "c", "remux", MATROSKA),
    (MKV, ("vp9 turned", "opus"), "c", "transcode", MATROSKA),
    (MKV, ("vp9 10 bit", "opus"), "", "transcode", f"VP9 video with 10 bits {NOT_EVERYWHERE}"),
    (MKV, ("vp9", "aac"), "c", "transcode", MATROSKA),
    (MKV, ("hvc1 main 10", "aac"), "", "transcode", f"{MATROSKA}; {HEVC}"),
    (TS, ("h264", "aac"), "", "remux", "MPEG-TS files play in no browser"),
    (TS, ("h264", "ac3"), "", "audio", "MPEG-TS files play in no browser"),
    (TS, ("mpeg2", "ac3"), "", "transcode", "MPEG-TS files play in no browser"),
    (AVI, ("mpeg4", "mp3"), "", "transcode", "AVI files play in no browser"),
    (AVI, ("h264", "aac"), "", "transcode", "AVI files play in no browser"),
    ("video/x-flv", ("h264", "aac"), "", "remux", "FLV files play in no browser"),
    ("video/mpeg", ("mpeg2",), "", "transcode", "MPEG-PS files play in no browser"),
    ("video/ogg", ("theora", "vorbis"), "", "transcode", "Ogg files play in no browser"),
    ("video/never-heard-of", ("h264", "aac"), "", "remux", "such files play in no browser"),
]  # fmt: skip


@pytest.mark.parametrize(("container", "names", "players", "remedy", "reason"), TABLE)
def test_verdict_follows_from_container_and_codecs(
    container: str, names: tuple[str, ...], players: str, remedy: Remedy, reason: str
) -> None:
    verdict = judged(container, media(*names))
    assert (letters(verdict), verdict.remedy, verdict.reason) == (players, remedy, reason)
    assert verdict.direct is (players == "cfs")


def test_index_at_the_end_plays_and_can_be_helped() -> None:
    verdict = judged(MP4, media("h264", "aac", faststart=False))
    assert verdict.direct
    assert letters(verdict) == "cfs"
    assert verdict.remedy == "faststart"
    assert "begins late" in verdict.reason


def test_index_at_the_start_needs_nothing() -> None:
    assert judged(MP4, media("h264", "aac", faststart=True)).remedy == "none"


def test_fragments_need_no_index_at_the_start() -> None:
    facts = dataclasses.replace(media("h264", faststart=False), is_fragmented=True)
    assert judged(MP4, facts) == Verdict(True, "plays everywhere", dict.fromkeys(BROWSERS, True), "none")


def test_what_does_not_play_has_a_remedy_that_moves_the_index_too() -> None:
    assert judged(MP4, media("h264", "ac3", faststart=False)).remedy == "audio"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"is_encrypted": True}, "it is encrypted, and only the player of its publisher has the key"),
        ({"has_external_data": True}, "parts of it are in other files, which have not come with it"),
        ({"video": (), "audio": ()}, "it has neither pictures nor sound"),
    ],
)
def test_what_cannot_be_helped_has_no_remedy(change: dict[str, object], reason: str) -> None:
    facts = dataclasses.replace(media("hvc1", "ac3"), **change)  # type: ignore[arg-type]
    assert judged(MP4, facts) == Verdict(False, reason, dict.fromkeys(BROWSERS, False), "none")


def test_the_first_default_track_decides() -> None:
    first = dataclasses.replace(audio("ac3"), is_default=False)
    second = dataclasses.replace(audio("aac"), number=2)
    facts = dataclasses.replace(media("h264"), audio=(first, second))
    assert judged(MP4, facts).direct


def test_the_first_track_decides_where_none_is_default() -> None:
    tracks = [dataclasses.replace(audio(name), is_default=False) for name in ("ac3", "aac")]
    facts = dataclasses.replace(media("h264"), audio=tuple(tracks))
    assert judged(MP4, facts).remedy == "audio"


@pytest.mark.parametrize("container", [TS, AVI, "video/mpeg", "video/x-flv", "video/ogg"])
def test_container_that_no_browser_opens_is_judged_unread(container: str) -> None:
    verdict = judged(container, None)
    assert (verdict.direct, letters(verdict), verdict.remedy) == (False, "", "transcode")


@pytest.mark.parametrize("container", [MP4, MOV, THREE_GPP, WEBM, MKV, "video/never-heard-of", ""])
def test_nothing_is_said_of_other_containers_unread(container: str) -> None:
    assert judge(container, None) is None


def test_every_container_that_is_taken_has_a_name_in_the_verdict() -> None:
    reasons = {judged(container, media("theora")).reason for container in CONTAINERS}
    assert not [reason for reason in reasons if reason.startswith("such files")]


@pytest.mark.parametrize(
    ("names", "container"),
    [
        (("h264", "aac"), signatures.MP4),
        (("opus",), signatures.MP4),
        ((), signatures.MP4),
        (("vp8", "vorbis"), signatures.WEBM),
        (("vp9", "opus"), signatures.WEBM),
        (("vp9 turned", "opus"), None),
        (("vp9", "aac"), None),
        (("h264", "vorbis"), None),
        (("av1", "opus"), None),
    ],
)
def test_tracks_are_at_home_where_all_browsers_play_them(
    names: tuple[str, ...], container: signatures.Container | None
) -> None:
    assert home([TRACKS[name] for name in names]) == container


def remedied(facts: Media, remedy: Remedy) -> tuple[str, Media]:
    """What the remedy makes of a file."""
    pictures, sound = facts.video[:1], facts.audio[:1]
    container = home([*pictures, *sound]) if remedy == "remux" else signatures.MP4
    assert container is not None
    if remedy == "transcode":
        pictures = (video("h264", "avc1.640028"),) if pictures else ()
    if remedy in {"transcode", "audio"}:
        sound = (audio("aac", "mp4a.40.2"),) if sound else ()
    made = Media(duration=facts.duration, video=pictures, audio=sound)
    return container.mime_type, dataclasses.replace(made, faststart=container == signatures.MP4 or None)


@pytest.mark.parametrize("container", [*CONTAINERS, "video/never-heard-of"])
def test_remedy_makes_a_file_that_needs_none(container: str) -> None:
    pictures = [(name,) for name, track in TRACKS.items() if isinstance(track, VideoTrack)]
    sounds = [(name,) for name, track in TRACKS.items() if isinstance(track, AudioTrack)]
    for names in itertools.product([(), *pictures], [(), *sounds]):
        for faststart in (None, False):
            facts = media(*names[0], *names[1], faststart=faststart)
            verdict = judged(container, facts)
            assert verdict.direct is all(verdict.browsers.values())
            if verdict.remedy != "none":
                after = judged(*remedied(facts, verdict.remedy))
                assert (after.direct, after.remedy) == (True, "none"), (names, verdict)
            elif facts.video or facts.audio:
                assert verdict.direct


@given(
    container=st.one_of(st.sampled_from(CONTAINERS), st.text()),
    name=st.one_of(st.sampled_from(["h264", "hevc", "av1", "vp9", "aac", "pcm_"]), st.text()),
    codec=st.none() | st.text(),
    size=st.integers(),
    bits=st.none() | st.integers(),
    chroma=st.none() | st.text(),
)
def test_any_facts_have_a_verdict(
    container: str, name: str, codec: str | None, size: int, bits: int | None, chroma: str | None
) -> None:
    track = VideoTrack(
        number=0, name=name, codec=codec, width=size, height=size, bit_depth=bits, chroma=chroma
    )
    sound = AudioTrack(number=1, name=name, codec=codec)
    verdict = judged(container, Media(duration=None, video=(track,), audio=(sound,)))
    assert set(verdict.browsers) == set(BROWSERS)
    assert verdict.reason
