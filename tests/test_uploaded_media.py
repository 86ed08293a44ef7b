"""The answer that tells of a new video tells what is in it, whatever way it came."""

from collections.abc import Callable
from typing import Any

import pytest
import webtest

from tests import resumable
from tests.conftest import MakeApp
from tests.ffmpeg import clips
from tests.helpers import Client
from tests.media import film

PATCH = {"Content-Type": resumable.OFFSET_STREAM}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return film(tmp_path_factory.mktemp("films"), "begins-late.mp4").read_bytes()


def video_at(client: Client, answer: webtest.TestResponse) -> dict[str, Any]:
    found: dict[str, Any] = client.get(answer.headers["Video-Location"], status=200).json
    return found


def by_form(client: Client, data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = client.upload(data, status=201).json
    return found


def raw(client: Client, data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = client.upload_raw(data, status=201).json
    return found


def by_tus(client: Client, data: bytes) -> dict[str, Any]:
    path = resumable.created(client, len(data), data[:3000])
    return video_at(client, resumable.append(client, path, 3000, data[3000:], status=204))


def by_tus_at_once(client: Client, data: bytes) -> dict[str, Any]:
    return video_at(client, resumable.create(client, len(data), data, status=201))


def by_draft(client: Client, data: bytes) -> dict[str, Any]:
    path = resumable.path_of(resumable.create_by_draft(client, data[:3000]))
    answer = resumable.append_by_draft(client, path, 3000, data[3000:], complete=True)
    assert answer.status_int < 300
    return video_at(client, answer)


def in_parts(client: Client, data: bytes) -> dict[str, Any]:
    partial = {"Upload-Concat": "partial"}
    parts = [
        resumable.path_of(resumable.create(client, len(part), part, partial, status=201))
        for part in (data[:10], data[10:4000], data[4000:])
    ]
    final = {"Upload-Concat": f"final;{' '.join(parts)}"}
    return video_at(client, resumable.create(client, headers=final, status=201))


Way = Callable[[Client, bytes], dict[str, Any]]
WAYS = [by_form, raw, by_tus, by_tus_at_once, by_draft, in_parts]


@pytest.mark.parametrize("way", WAYS)
def test_new_video_tells_what_is_in_it_without_ffmpeg(alice: Client, data: bytes, way: Way) -> None:
    video = way(alice, data)
    assert video["status"] == "ready"
    assert video["processing"] is None
    assert video["media"]["duration"] == pytest.approx(2, abs=0.1)
    assert (video["media"]["width"], video["media"]["height"]) == (160, 120)
    assert (video["media"]["video_codec"], video["media"]["audio_codec"]) == ("h264", "aac")
    assert video["media"]["faststart"] is False
    assert video["playable"]["direct"] is True
    assert video["playable"]["remedy"] == "faststart"
    assert alice.get(video["links"]["self"], status=200).json == video


@pytest.mark.parametrize("way", WAYS)
def test_new_video_is_in_the_queue_with_ffmpeg(make_app: MakeApp, data: bytes, way: Way) -> None:
    client = Client(make_app(ffmpeg=clips.tools().ffmpeg)).sign_up("alice")
    video = way(client, data)
    assert video["status"] == "processing"
    assert video["processing"]["step"] == "poster"
    assert video["media"]["video_codec"] == "h264"


def test_video_that_cannot_be_read_is_taken_and_tells_nothing(alice: Client, data: bytes) -> None:
    cut = data[: data.index(b"moov") - 4]
    video = alice.upload(cut, status=201).json
    assert (video["status"], video["media"], video["playable"]) == ("ready", None, None)
