"""The same uploads by the IETF's draft, and in both dialects at once."""

import base64
import hashlib

import pytest

from streamer.config import Config
from tests.conftest import Clock, MakeApp
from tests.helpers import Client, video_bytes
from tests.resumable import (
    INTEROP,
    PARTIAL_UPLOAD,
    VERSION,
    append,
    append_by_draft,
    create_by_draft,
    created,
    offset_of,
    path_of,
)
from tests.wsgi import stored_files

VIDEO = video_bytes(10_000)
LIMITS = f"max-size={20 * 2**30}, max-age={7 * 86400}"


def digest(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def begun(client: Client, data: bytes = b"", **headers: str) -> str:
    """An unfinished upload; its path."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return path_of(create_by_draft(client, data, headers=fields, status=201))


def test_a_whole_video_in_the_first_request_is_answered_by_the_video(alice: Client) -> None:
    answer = create_by_draft(alice, VIDEO, complete=True, query="?title=Ski", status=201)
    assert answer.headers["Upload-Complete"] == "?1"
    assert answer.headers["Location"] == "http://localhost:80/api/videos/1"
    assert answer.json["title"] == "Ski"
    assert alice.get("/api/videos/1", status=200).json == answer.json
    assert alice.get("/api/videos/1/stream").body == VIDEO


def test_an_upload_goes_on_in_pieces(alice: Client) -> None:
    answer = create_by_draft(alice, VIDEO[:1000], status=201)
    assert answer.headers["Upload-Complete"] == "?0"
    assert answer.headers["Upload-Limit"] == LIMITS
    path = path_of(answer)
    answer = append_by_draft(alice, path, 1000, VIDEO[1000:5000], status=204)
    assert answer.headers["Upload-Complete"] == "?0"
    answer = append_by_draft(alice, path, 5000, VIDEO[5000:], complete=True, status=201)
    assert answer.headers["Upload-Complete"] == "?1"
    assert answer.headers["Location"].endswith("/api/videos/1")
    assert answer.json["size"] == len(VIDEO)
    assert alice.get("/api/videos/1/stream").body == VIDEO


def test_an_empty_request_may_complete_an_upload(alice: Client) -> None:
    path = begun(alice, VIDEO)
    answer = append_by_draft(alice, path, len(VIDEO), b"", complete=True, status=201)
    assert answer.json["id"] == 1


def test_an_upload_is_not_over_before_the_client_says_so(alice: Client) -> None:
    path = begun(alice, VIDEO[:1000], Upload_Length="10000")
    answer = append_by_draft(alice, path, 1000, VIDEO[1000:], status=204)
    assert (answer.headers["Upload-Complete"], answer.headers["Upload-Offset"]) == ("?0", "10000")
    assert append_by_draft(alice, path, 10_000, b"", complete=True, status=201).json["id"] == 1


def test_an_error_about_the_whole_is_told_from_one_about_the_piece(alice: Client) -> None:
    path = begun(alice, bytes(100))
    answer = append_by_draft(alice, path, 100, bytes(100), complete=True, status=415)
    assert answer.headers["Upload-Complete"] == "?1"
    answer = create_by_draft(alice, bytes(5000), status=415)
    assert "Upload-Complete" not in answer.headers


def test_the_last_answer_is_given_again_to_a_client_that_lost_it(alice: Client) -> None:
    path = begun(alice, VIDEO[:9000])
    first = append_by_draft(alice, path, 9000, VIDEO[9000:], complete=True, status=201)
    answer = alice.head(path, INTEROP, status=200)
    assert (answer.headers["Upload-Complete"], answer.headers["Upload-Offset"]) == ("?1", "10000")
    again = append_by_draft(alice, path, len(VIDEO), b"", complete=True, status=201)
    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]


def test_the_state_is_told_whole(frozen: Clock, alice: Client) -> None:
    path = begun(alice, VIDEO[:1000], Upload_Length="10000")
    frozen.forward(seconds=100)
    answer = alice.head(path, INTEROP, status=200)
    assert answer.headers["Upload-Offset"] == "1000"
    assert answer.headers["Upload-Complete"] == "?0"
    assert answer.headers["Upload-Length"] == "10000"
    assert answer.headers["Upload-Limit"] == f"max-size={20 * 2**30}, max-age={7 * 86400 - 100}"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Upload-Length" not in alice.head(begun(alice), INTEROP).headers


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ('inline; filename="clip.mp4"', "clip.mp4"),
        ("inline; filename*=UTF-8''K%C3%B6ln.mp4; filename=\"K_ln.mp4\"", "K\xf6ln.mp4"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("inline", "video.mp4"),
        ("", "video.mp4"),
        (";;;=", "video.mp4"),
    ],
)
def test_the_file_name_comes_with_the_disposition(alice: Client, disposition: str, filename: str) -> None:
    headers = {"Content-Disposition": disposition} if disposition else {}
    answer = create_by_draft(alice, VIDEO, complete=True, headers=headers, status=201)
    assert answer.json["filename"] == filename


def test_a_file_name_of_the_query_counts_more(alice: Client) -> None:
    headers = {"Content-Disposition": 'inline; filename="a.mp4"'}
    answer = create_by_draft(
        alice, VIDEO, complete=True, query="?filename=b.mp4", headers=headers, status=201
    )
    assert answer.json["filename"] == "b.mp4"


@pytest.mark.parametrize("name", ["filename*=UTF-8''%FF", "filename*=no-such''x"])
def test_a_file_name_that_cannot_be_read_is_refused(alice: Client, config: Config, name: str) -> None:
    create_by_draft(alice, VIDEO, headers={"Content-Disposition": f"inline; {name}"}, status=400)
    assert stored_files(config.data) == []


def test_lengths_that_disagree_are_refused(alice: Client) -> None:
    answer = create_by_draft(alice, VIDEO, complete=True, headers={"Upload-Length": "9"}, status=400)
    assert answer.json["type"].endswith("#inconsistent-upload-length")
    assert answer.headers["Upload-Complete"] == "?0"
    path = begun(alice, VIDEO[:1000], Upload_Length="10000")
    for data, headers in ((VIDEO[1000:2000], {}), (VIDEO[1000:], {"Upload-Length": "10001"})):
        answer = append_by_draft(alice, path, 1000, data, complete=True, headers=headers, status=400)
        assert answer.json["code"] == "inconsistent_length"
    append_by_draft(alice, path, 1000, VIDEO[1000:] + b"x", status=413)
    assert offset_of(alice, path) == 1000


def test_a_wrong_offset_is_told_with_the_problem_type_of_the_draft(alice: Client) -> None:
    path = begun(alice, VIDEO[:1000])
    answer = append_by_draft(alice, path, 999, VIDEO[999:], complete=True, status=409)
    assert answer.headers["Upload-Offset"] == "1000"
    assert answer.headers["Upload-Complete"] == "?0"
    assert answer.json["type"] == (
        "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
    )
    assert (answer.json["expected-offset"], answer.json["provided-offset"]) == (1000, 999)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Upload-Offset", '"0"'),
        ("Upload-Offset", "0.0"),
        ("Upload-Offset", "-1"),
        ("Upload-Offset", "0, 0"),
        ("Upload-Offset", "1" * 16),
        ("Upload-Complete", "1"),
        ("Upload-Complete", "true"),
        ("Upload-Complete", "?1, ?1"),
        ("Upload-Complete", "?2"),
    ],
)
def test_a_field_of_another_type_counts_as_missing(alice: Client, name: str, value: str) -> None:
    path = begun(alice)
    answer = append_by_draft(alice, path, 0, VIDEO, headers={name: value}, status=400)
    assert answer.json["code"] == "bad_upload_field"
    assert offset_of(alice, path) == 0


def test_parameters_of_a_field_are_ignored(alice: Client) -> None:
    path = begun(alice)
    headers = {"Upload-Offset": " 0;a=1;b ", "Upload-Complete": "?1; final", "Upload-Length": '10000;x="y"'}
    append_by_draft(alice, path, 0, VIDEO, headers=headers, status=201)


@pytest.mark.parametrize("field", ["Upload-Offset", "Upload-Complete"])
def test_an_append_needs_both_fields(alice: Client, field: str) -> None:
    path = begun(alice)
    headers = {"Content-Type": PARTIAL_UPLOAD, "Upload-Offset": "0", "Upload-Complete": "?0"}
    del headers[field]
    alice._request("PATCH", path, headers, body=b"x", status=400)


@pytest.mark.parametrize("kind", ["application/octet-stream", "video/mp4", "application/offset+octet-stream"])
def test_a_piece_has_the_media_type_of_the_draft(alice: Client, kind: str) -> None:
    append_by_draft(alice, begun(alice), 0, b"x", headers={"Content-Type": kind}, status=415)


def test_what_is_no_video_by_its_media_type_is_refused(alice: Client) -> None:
    create_by_draft(alice, b"x", headers={"Content-Type": "text/plain"}, status=415)


def test_a_digest_that_does_not_fit_drops_the_content(alice: Client) -> None:
    path = begun(alice, VIDEO[:1000])
    wrong = {"Content-Digest": f"sha-256=:{digest(b'other')}:"}
    append_by_draft(alice, path, 1000, VIDEO[1000:], headers=wrong, status=460)
    assert offset_of(alice, path) == 1000
    sha512 = base64.b64encode(hashlib.sha512(VIDEO[1000:]).digest()).decode()
    for_sure = {"Content-Digest": f"md5=:AAAA:, sha-512=:{sha512}:"}
    append_by_draft(alice, path, 1000, VIDEO[1000:], complete=True, headers=for_sure, status=201)
    assert alice.get("/api/videos/1/stream").body == VIDEO
    broken = {"Content-Digest": "sha-256=:A:"}
    create_by_draft(alice, VIDEO, headers=broken, status=400)


@pytest.mark.parametrize(
    "value",
    [
        "md5=:AAAA:",
        'foo="a,sha-256=:AAAA:"',
        "sha-256=:AAAA:,",
        "sha-256=:AAAA: x",
        f"sha-256=:AAAA:, sha-256=:{digest(VIDEO)}:",
        f"a;b=1;c, sha-256=:{digest(VIDEO)}:;d",
        "sha-256",
        "sha-256=5",
    ],
)
def test_a_digest_that_is_unknown_or_malformed_is_ignored(alice: Client, value: str) -> None:
    create_by_draft(alice, VIDEO, complete=True, headers={"Content-Digest": value}, status=201)


def test_of_two_digests_the_stronger_counts(alice: Client) -> None:
    both = {"Content-Digest": f"sha-256=:{digest(VIDEO)}:, sha-512=:AAAA:"}
    create_by_draft(alice, VIDEO, complete=True, headers=both, status=460)


def test_an_upload_can_be_cancelled(alice: Client, config: Config) -> None:
    path = begun(alice, VIDEO[:1000])
    alice._request("DELETE", path, INTEROP, status=204)
    alice.head(path, INTEROP, status=404)
    assert stored_files(config.data) == []


def test_a_limit_of_the_size_is_kept(make_app: MakeApp) -> None:
    client = Client(make_app(max_upload_bytes=5000)).sign_up("alice")
    create_by_draft(client, VIDEO, status=413)
    create_by_draft(client, headers={"Upload-Length": "5001"}, status=413)
    path = begun(client, VIDEO[:4000])
    append_by_draft(client, path, 4000, VIDEO[4000:5001], status=413)
    assert offset_of(client, path) == 4000


@pytest.mark.parametrize("begins_with_tus", [True, False])
def test_one_half_goes_up_in_one_dialect_and_the_other_in_the_other(
    alice: Client, begins_with_tus: bool
) -> None:
    half = len(VIDEO) // 2
    if begins_with_tus:
        path = created(alice, len(VIDEO), VIDEO[:half])
        assert alice.head(path, INTEROP).headers["Upload-Offset"] == str(half)
        answer = append_by_draft(alice, path, half, VIDEO[half:], complete=True, status=201)
        assert answer.json["size"] == len(VIDEO)
    else:
        path = begun(alice, VIDEO[:half], Upload_Length=str(len(VIDEO)))
        assert offset_of(alice, path) == half
        answer = append(alice, path, half, VIDEO[half:], status=204)
        assert answer.headers["Video-Location"].endswith("/api/videos/1")
    assert alice.get("/api/videos/1/stream").body == VIDEO
    for dialect in (VERSION, INTEROP):
        assert alice.head(path, dialect).headers["Upload-Complete"] == "?1"
