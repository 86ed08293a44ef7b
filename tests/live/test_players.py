"""Players seek and download managers fetch in pieces: the real programs, signed in by a header."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.conftest import StartServer, shown_second
from tests.live.harness import MIB, Logged, Server, eventually, stream_path

Program = Callable[[str], str]
Run = Callable[..., subprocess.CompletedProcess[bytes]]

HOUR_SECONDS = 3600
SEEK_SECONDS = 1834
CONTAINERS = ["mp4", "mkv", "webm"]


@pytest.fixture(scope="module")
def cinema(start_shared_server: StartServer) -> Server:
    return start_shared_server()


@pytest.fixture(scope="module")
def paths(cinema: Server, films: dict[str, Path]) -> dict[str, str]:
    """The path of each film on the server."""
    return {
        name: stream_path(cinema.api.upload(file.read_bytes(), f"?filename={file.name}"))
        for name, file in films.items()
    }


@pytest.fixture
def run(clean_environment: dict[str, str]) -> Run:
    """Runs a program to its end, which must be a good one."""

    def run_program(*command: str) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=clean_environment,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
        return done

    return run_program


def _authorization(server: Server) -> str:
    return f"Authorization: Bearer {server.api.token}"


def _finished(server: Server, path: str, earlier: int) -> list[Logged]:
    """The downloads of a film since then, when none of them runs any more."""
    eventually(lambda: not server.open_media(), "no download is running")
    return server.logged(path)[earlier:]


def _assert_only_parts(lines: list[Logged], film: Path, most: float = 0.5) -> None:
    """No more than a part of the film left the server, by ranges."""
    size = film.stat().st_size
    assert any(line.status == 206 for line in lines), lines
    # what a player drops when it seeks on has been sent as far as the buffers on the way were wide
    assert sum(line.sent for line in lines) < size * most, f"{lines} of {size}"


def test_the_films_are_what_the_tests_need(films: dict[str, Path]) -> None:
    boxes = films["mp4"].read_bytes()
    assert boxes.rindex(b"moov") > boxes.index(b"mdat"), "the index is not at the end"
    assert all(film.stat().st_size > 10 * MIB for film in films.values())


@pytest.mark.parametrize("name", CONTAINERS)
def test_ffprobe_reads_the_duration(
    cinema: Server, paths: dict[str, str], films: dict[str, Path], program: Program, run: Run, name: str
) -> None:
    earlier = len(cinema.logged(paths[name]))
    printed = run(
        program("ffprobe"),
        *("-v", "error", "-headers", f"{_authorization(cinema)}\r\n"),
        *("-show_entries", "format=duration", "-of", "csv=p=0", f"{cinema.url}{paths[name]}"),
    ).stdout
    assert round(float(printed)) == HOUR_SECONDS
    _assert_only_parts(_finished(cinema, paths[name], earlier), films[name])


@pytest.mark.parametrize("name", CONTAINERS)
def test_ffmpeg_seeks_to_the_right_picture(
    cinema: Server, paths: dict[str, str], films: dict[str, Path], program: Program, run: Run, name: str
) -> None:
    earlier = len(cinema.logged(paths[name]))
    picture = run(
        program("ffmpeg"),
        *("-v", "error", "-nostdin", "-headers", f"{_authorization(cinema)}\r\n"),
        *("-ss", str(SEEK_SECONDS), "-i", f"{cinema.url}{paths[name]}"),
        *("-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"),
    ).stdout
    assert shown_second(picture) == SEEK_SECONDS
    _assert_only_parts(_finished(cinema, paths[name], earlier), films[name])


@pytest.mark.parametrize("name", ["mp4", "mkv"])  # these have sound
def test_mpv_plays_from_the_middle(
    cinema: Server, paths: dict[str, str], films: dict[str, Path], program: Program, run: Run, name: str
) -> None:
    earlier = len(cinema.logged(paths[name]))
    printed = run(
        program("mpv"),
        *("--no-config", "--no-video", "--ao=null", "--ytdl=no", "--no-resume-playback"),
        *(f"--start={SEEK_SECONDS}", "--length=1"),
        *("--msg-level=statusline=v", "--term-status-msg=at ${=time-pos}"),
        *(f"--http-header-fields={_authorization(cinema)}", "--cache=no"),
        f"{cinema.url}{paths[name]}",
    ).stderr.decode()
    assert f"at {SEEK_SECONDS}." in printed, printed
    # it may read on to the end in that second, but nothing between the start and the middle
    _assert_only_parts(_finished(cinema, paths[name], earlier), films[name], most=0.9)


@pytest.mark.parametrize("fraction", [0.0001, 0.5, 0.9999])
def test_curl_resumes(
    cinema: Server,
    paths: dict[str, str],
    films: dict[str, Path],
    program: Program,
    run: Run,
    tmp_path: Path,
    fraction: float,
) -> None:
    whole = films["mp4"].read_bytes()
    had = int(len(whole) * fraction)
    target = tmp_path / "film.mp4"
    target.write_bytes(whole[:had])
    earlier = len(cinema.logged(paths["mp4"]))
    options = ["--silent", "--show-error", "--fail", "--header", _authorization(cinema)]
    run(program("curl"), *options, "-C", "-", "--output", str(target), f"{cinema.url}{paths['mp4']}")
    assert target.read_bytes() == whole
    [line] = _finished(cinema, paths["mp4"], earlier)
    assert (line.status, line.sent) == (206, len(whole) - had)


def test_wget_resumes(
    cinema: Server,
    paths: dict[str, str],
    films: dict[str, Path],
    program: Program,
    run: Run,
    tmp_path: Path,
) -> None:
    whole = films["mkv"].read_bytes()
    target = tmp_path / "film.mkv"
    target.write_bytes(whole[: 5 * MIB])
    earlier = len(cinema.logged(paths["mkv"]))
    options = ["--no-config", "--quiet", f"--header={_authorization(cinema)}", "--tries=1"]
    run(program("wget"), *options, "-c", "-O", str(target), f"{cinema.url}{paths['mkv']}")
    assert target.read_bytes() == whole
    [line] = _finished(cinema, paths["mkv"], earlier)
    assert (line.status, line.sent) == (206, len(whole) - 5 * MIB)


def test_aria2c_fetches_in_sixteen_pieces(
    cinema: Server,
    paths: dict[str, str],
    films: dict[str, Path],
    program: Program,
    run: Run,
    tmp_path: Path,
) -> None:
    earlier = len(cinema.logged(paths["mp4"]))
    options = ["--no-conf", "--quiet", "-x16", "-s16", "-k1M", f"--header={_authorization(cinema)}"]
    run(program("aria2c"), *options, "-d", str(tmp_path), "-o", "film.mp4", f"{cinema.url}{paths['mp4']}")
    assert (tmp_path / "film.mp4").read_bytes() == films["mp4"].read_bytes()
    lines = _finished(cinema, paths["mp4"], earlier)
    assert sum(line.status == 206 for line in lines) >= 8, lines
