"""Whatever a program does behind the fence, and whatever a file tells ffmpeg to do, it stays behind it."""

import contextlib
import ctypes
import dataclasses
import errno
import http.server
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.containers import signatures
from streamer.errors import FfmpegFailed, Stopped
from streamer.ffmpeg import fence
from tests.ffmpeg import clips, hostile, stand_ins
from tests.live import disks
from tests.live.harness import Background, eventually, needs_proc, require

MIB = 2**20
LIMITS = fence.Limits(seconds=30, cpu_seconds=20, memory_bytes=2048 * MIB, file_bytes=16 * MIB)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


class Runner:
    """Runs stand-ins in a folder."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self.folder = folder

    def __call__(self, name: str, *arguments: str, **options: Any) -> bytes:
        changed = {name: options.pop(name) for name in fence.Limits.__slots__ if name in options}
        limits = dataclasses.replace(LIMITS, **changed)
        program = self._programs / name
        if not program.exists():  # what another thread starts just now cannot be written
            stand_ins.make(self._programs, name)
        return fence.run(str(program), arguments, folder=self.folder, limits=limits, **options)

    def fails(self, code: str, name: str, *arguments: str, **options: Any) -> str:
        """Run a stand-in that has to fail with a code; the detail."""
        with pytest.raises(FfmpegFailed) as caught:
            self(name, *arguments, **options)
        assert caught.value.code == code, caught.value.detail
        return caught.value.detail

    def told(self, name: str) -> int:
        """What a stand-in has told so far, waited for."""
        eventually((self.folder / name).exists, f"the program has told its {name}")
        return int((self.folder / name).read_text())


@pytest.fixture
def run(tmp_path: Path, folder: Path) -> Runner:
    programs = tmp_path / "programs"
    programs.mkdir()
    return Runner(programs, folder)


def is_running(pid: int) -> bool:
    """Whether there is such a process that has not ended, even if nobody has asked for its status."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def zombies() -> list[str]:
    """The children of this process that nobody has asked for their status."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) == os.getpid():
                found.append(path.parent.name)
    return found


# how it ends


def test_what_it_prints_is_returned_where_it_is_wanted(run: Runner) -> None:
    assert run("succeeds", keep_output=5) == b"done\n"
    assert run("succeeds") == b""


def test_arguments_reach_it_as_they_are(run: Runner) -> None:
    arguments = ["", "-i", "a b", "$HOME;|&", "--", "é", os.fsdecode(b"\xff"), "x" * 100_000]
    assert run("says", *arguments, keep_output=MIB) == b"".join(os.fsencode(f"{one}\n") for one in arguments)


def test_failure_is_told_with_its_last_words(run: Runner) -> None:
    assert run.fails("ffmpeg_failed", "fails") == "it went wrong\nexit status 1"


def test_crash_is_told(run: Runner) -> None:
    assert "Segmentation fault" in run.fails("ffmpeg_failed", "crashes")


def test_time_is_limited(run: Runner) -> None:
    began = time.monotonic()
    assert "0 seconds" in run.fails("timed_out", "sleeps", seconds=0.4)
    assert time.monotonic() - began < 10
    assert not is_running(run.told("pid"))


@pytest.mark.parametrize("name", ["spins", "spins_on"])
def test_processor_time_is_limited(run: Runner, name: str) -> None:
    assert "processor" in run.fails("timed_out", name, cpu_seconds=1)


def test_memory_is_limited(run: Runner) -> None:
    run.fails("too_much_memory", "eats_memory")


def test_being_killed_by_the_system_is_told(run: Runner) -> None:
    run.fails("killed", "is_killed")


def test_files_are_limited(run: Runner) -> None:
    run.fails("output_too_large", "fills_the_disk", file_bytes=MIB)
    assert (run.folder / "out").stat().st_size <= MIB


def test_full_disk_is_told(run: Runner) -> None:
    run.fails("disk_full", "reports_a_full_disk")


def test_disk_that_becomes_full_is_told(tmp_path: Path, run: Runner) -> None:
    with disks.small_disk(tmp_path / "disk", MIB):
        run.folder = tmp_path / "disk"
        run.fails("disk_full", "fills_the_disk")
        assert disks.free_bytes(run.folder) == 0


def test_flood_of_messages_ends_and_is_not_kept(run: Runner) -> None:
    detail = run.fails("ffmpeg_failed", "floods_messages")
    assert detail.splitlines()[-1] == "it wrote messages without end"
    assert detail.splitlines()[-2] == "all is lost, all is lost, again"
    assert len(detail) <= 1000


def test_flood_of_output_ends_and_is_not_kept(run: Runner) -> None:
    assert "1000 bytes" in run.fails("output_too_large", "floods_output", keep_output=1000)
    assert run("floods_output") == b""


def test_one_that_ignores_sigterm_is_killed(run: Runner) -> None:
    began = time.monotonic()
    run.fails("timed_out", "ignores_sigterm", seconds=0.5)
    assert time.monotonic() - began < fence.GRACE_SECONDS + 10
    assert not is_running(run.told("pid"))


def test_one_that_obeys_sigterm_ends_in_its_own_way(run: Runner) -> None:
    run.fails("timed_out", "obeys_sigterm", seconds=0.5)
    assert run.told("obeyed")


@needs_proc
@pytest.mark.parametrize("name", ["forks", "forks_and_waits"])
def test_its_children_end_with_it(run: Runner, name: str) -> None:
    with contextlib.suppress(FfmpegFailed):
        run(name, seconds=0.5, keep_output=10)
    eventually(lambda: not is_running(run.told("pid")), "the child is gone", 5)


def test_closing_its_pipes_is_not_its_end(run: Runner) -> None:
    assert run("closes_its_pipes", keep_output=10) == b""
    assert run.told("went_on")


@pytest.mark.parametrize("make", ["missing", "not executable", "a folder", "no program"])
def test_program_that_cannot_be_run_is_told(tmp_path: Path, folder: Path, make: str) -> None:
    program = tmp_path / "ffmpeg"
    if make == "a folder":
        program.mkdir()
    elif make != "missing":
        program.write_bytes(b"\x7fnot a program")
        program.chmod(0o755 if make == "no program" else 0o644)
    with pytest.raises(FfmpegFailed) as caught:
        fence.run(str(program), [], folder=folder, limits=LIMITS)
    assert caught.value.code == "ffmpeg_missing"
    assert str(tmp_path) not in caught.value.detail


def test_folder_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(FfmpegFailed) as caught:
        fence.run("/bin/true", [], folder=tmp_path / "missing", limits=LIMITS)
    assert caught.value.code == "ffmpeg_failed"


# wanted no more


def test_it_ends_when_it_is_to_stop(run: Runner) -> None:
    pid = run.folder / "pid"
    with pytest.raises(Stopped):
        run("sleeps", should_stop=pid.exists)
    assert not is_running(run.told("pid"))


def test_whether_to_stop_is_asked_at_least_twice_a_second_but_not_without_end(run: Runner) -> None:
    asked = itertools.count()
    run.fails("timed_out", "sleeps", seconds=1, should_stop=lambda: next(asked) < 0)
    assert 3 <= next(asked) <= 8


def test_failure_of_one_that_is_to_stop_is_no_failure(run: Runner) -> None:
    """Who ends a group of processes may end ffmpeg first."""
    answers = iter([False])
    with pytest.raises(Stopped):
        run("fails", should_stop=lambda: next(answers, True))


def test_it_ends_when_the_caller_raises(run: Runner) -> None:
    def refuse(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("progresses", on_progress=refuse)
    assert zombies() == []


@needs_proc
def test_it_dies_with_its_parent(run: Runner) -> None:
    parent = """
import sys
from pathlib import Path
from streamer.ffmpeg import fence
limits = fence.Limits(seconds=600, cpu_seconds=600, memory_bytes=2**31, file_bytes=2**20)
fence.run(sys.argv[1], [], folder=Path(sys.argv[2]), limits=limits, on_progress=print)
"""
    program = stand_ins.make(run.folder.parent, "ignores_sigterm")
    process = subprocess.Popen([sys.executable, "-c", parent, program, str(run.folder)])
    try:
        pid = run.told("pid")
        assert is_running(pid)
    finally:
        process.kill()
        process.wait(20)
    eventually(lambda: not is_running(pid), "the program is gone", 2)


# what it says


def test_progress_is_told_in_seconds(run: Runner) -> None:
    times: list[float] = []
    run("progresses", on_progress=times.append)
    assert times == [0, 0.5, 1.5]


def test_nonsense_as_progress_is_ignored(run: Runner) -> None:
    times: list[float] = []
    run("reports_nonsense", on_progress=times.append)
    assert times == [2.0]


@pytest.mark.parametrize(
    ("words", "detail"),
    [
        ("", ""),
        ("[mov,mp4,m4a @ 0x55d0c8a3c0] moov atom not found", "[mov,mp4,m4a] moov atom not found"),
        ("[in#0/mov @ 0x7f] [dec:h264 @ 0x1] no", "[in#0/mov] [dec:h264] no"),
        ("/data/videos/7f3a.mp4: Invalid data", "the file: Invalid data"),
        ("file:/data/videos/7f3a: Invalid data", "the file: Invalid data"),
        ("Impossible to open '/etc/passwd'", "Impossible to open 'the file'"),
        ("{folder}/out.mp4: no", "the file/out.mp4: no"),
        ("{program}: error while loading", "the file: error while loading"),
        ("{input}: Invalid data", "the file: Invalid data"),
        ("Error opening input file:{input}.", "Error opening input the file."),
        ("at 25/1 fps, 1/2 and N/A", "at 25/1 fps, 1/2 and N/A"),
        ("see http://127.0.0.1:80/a/b", "see http://127.0.0.1:80/a/b"),
        ("a\x1b[31mred\x07\x01 \u202etxt", "a [31mred    txt"),
        ("frame=1\rframe=2\r\n\n  frame=3  ", "frame=1\nframe=2\nframe=3"),
        ("\n".join(map(str, range(20))), "\n".join(map(str, range(13, 20)))),
        ("é \udcff", "é \ufffd"),
    ],
)
def test_last_words_are_told_without_what_tells_about_the_machine(
    run: Runner, tmp_path: Path, words: str, detail: str
) -> None:
    original = str(tmp_path / "my videos" / "a b.mp4")
    program = stand_ins.make(tmp_path, "complains")
    known = {"{folder}": str(run.folder), "{program}": program, "{input}": original}
    for name, value in known.items():
        words = words.replace(name, value)
    arguments = [words, "-i", f"file:{original}"]
    with pytest.raises(FfmpegFailed) as caught:
        fence.run(program, arguments, folder=run.folder, limits=LIMITS)
    assert caught.value.detail == f"{detail}\nexit status 1".lstrip()


def test_last_words_are_bounded(run: Runner) -> None:
    assert len(run.fails("ffmpeg_failed", "complains", "x y " * 20_000)) == 1000


# what it has


@pytest.fixture
def surroundings(run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a program finds itself in that may read one file, and knows of another."""
    monkeypatch.setenv("STREAMER_SECRET_KEY", "secret " * 10)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "input").write_text("input")
    with (tmp_path / "secret").open() as held:
        os.set_inheritable(held.fileno(), True)
        given = ["-i", f"file:{tmp_path / 'input'}", str(tmp_path / "input"), str(tmp_path / "secret")]
        answer = run("looks_around", *given, "/etc/passwd", "/proc/1/environ", keep_output=MIB)
    found: dict[str, Any] = json.loads(answer)
    return found


def test_it_gets_an_environment_without_anything_of_ours(run: Runner, surroundings: dict[str, Any]) -> None:
    assert surroundings["environment"] == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LC_ALL": "C",
        "HOME": str(run.folder),
        "TMPDIR": str(run.folder),
        "MALLOC_ARENA_MAX": "2",
    }


def test_it_works_in_its_folder_for_nobody_else(run: Runner, surroundings: dict[str, Any]) -> None:
    assert surroundings["folder"] == str(run.folder)
    assert surroundings["umask"] == 0o077
    assert surroundings["write_inside"] == "done"


def test_it_has_a_session_of_its_own_and_nothing_to_read_from(surroundings: dict[str, Any]) -> None:
    assert surroundings["leads_its_session"]
    assert surroundings["stdin"] == 0
    assert surroundings["blocked"] == 0


def test_it_inherits_no_descriptors(run: Runner, surroundings: dict[str, Any]) -> None:
    assert surroundings["descriptors"] == [0, 1, 2]
    answer = json.loads(run("looks_around", on_progress=print, keep_output=MIB))
    progress = int(answer["arguments"][1].removeprefix("pipe:"))
    assert answer["descriptors"] == [0, 1, 2, progress]


def test_everybody_else_comes_first(surroundings: dict[str, Any]) -> None:
    assert surroundings["niceness"] == 19
    if sys.platform == "linux":
        assert surroundings["io_class"] == 3


def test_its_limits_are_set_for_good(surroundings: dict[str, Any]) -> None:
    wanted = {"AS": 2048 * MIB, "CORE": 0, "CPU": 20, "FSIZE": 16 * MIB, "NOFILE": 64}
    assert surroundings["limits"] == {name: [value, value] for name, value in wanted.items()}


def landlock_version() -> int:
    """That of the kernel, as landlock_create_ruleset(2) tells it: negative where there is none."""
    return int(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1))


def kernel_hides_files() -> bool:
    """Whether the kernel has Landlock, and it is on."""
    return sys.platform == "linux" and landlock_version() > 0


def test_it_sees_its_inputs_and_no_other_file(tmp_path: Path, surroundings: dict[str, Any]) -> None:
    require(kernel_hides_files(), "needs a kernel with Landlock")
    denied = "PermissionError"
    assert surroundings["write_outside"] == denied
    files = {name: outcome for name, outcome in surroundings["files"].items() if name.startswith("/")}
    assert files == {
        str(tmp_path / "input"): "done",
        str(tmp_path / "secret"): denied,
        "/etc/passwd": denied,
        "/proc/1/environ": denied,
    }


def test_it_can_make_no_socket(surroundings: dict[str, Any]) -> None:
    require(sys.platform == "linux" and os.uname().machine in {"x86_64", "aarch64"}, "needs seccomp")
    assert surroundings["socket"] == "PermissionError"


needs_x86_64 = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64",
    reason="is about other tables of system calls, which x86_64 has: run this test there",
)


@needs_x86_64
def test_it_ends_when_it_makes_system_calls_of_32_bits(run: Runner) -> None:
    assert "ended by a signal" in run.fails("ffmpeg_failed", "calls_as_32_bits")


@needs_x86_64
def test_it_can_make_no_system_calls_of_x32(run: Runner) -> None:
    assert run("calls_as_x32", keep_output=20) == f"-1 {errno.EACCES}\n".encode()


def test_no_child_of_it_leaves_its_group(surroundings: dict[str, Any]) -> None:
    require(sys.platform == "linux" and os.uname().machine in {"x86_64", "aarch64"}, "needs seccomp")
    assert surroundings["session_of_its_own"] == errno.EACCES
    assert surroundings["group_of_its_own"] == errno.EACCES


def test_it_can_neither_signal_others_nor_limit_them(surroundings: dict[str, Any]) -> None:
    require(sys.platform == "linux" and os.uname().machine in {"x86_64", "aarch64"}, "needs seccomp")
    assert surroundings["limits_of_parent"] == "PermissionError"
    assert surroundings["signal_to_itself"] == "done"
    if landlock_version() >= 6:
        assert surroundings["signal_to_parent"] == "PermissionError"


@needs_proc
def test_kernel_ends_it_first_when_memory_runs_out(run: Runner) -> None:
    scores = []

    def look() -> bool:
        if (run.folder / "pid").exists():
            scores.append(Path(f"/proc/{run.told('pid')}/oom_score_adj").read_text())
        return bool(scores)

    with pytest.raises(Stopped):
        run("sleeps", should_stop=look)
    assert scores == ["1000\n"]


@needs_proc
def test_nothing_is_left_of_many_runs(run: Runner) -> None:
    def resources() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    run("succeeds", keep_output=10)
    before = resources()
    for name in ("succeeds", "fails", "floods_output", "sleeps", "progresses", "forks"):
        with contextlib.suppress(FfmpegFailed):
            run(name, seconds=0.5, keep_output=10, on_progress=print)
    with pytest.raises(FfmpegFailed):
        fence.run("/bin/true", [], folder=run.folder / "missing", limits=LIMITS)
    assert resources() == before
    assert zombies() == []


def test_many_run_at_once(run: Runner) -> None:
    run("succeeds")
    works = [Background(lambda: run("succeeds", keep_output=10)) for _ in range(8)]
    assert [work.outcome() for work in works] == [b"done\n"] * 8


# what files tell ffmpeg to do


class Secret:
    """A video that only its owner may see, and whoever opens it is noticed (inotify(7))."""

    COLOUR = (255, 0, 255)
    MARK = "a title that nobody may read"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._libc = ctypes.CDLL(None)
        self._watch = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._libc.inotify_add_watch(self._watch, os.fsencode(path), 0x20 | 0x01) > 0  # OPEN, ACCESS

    def was_opened(self) -> bool:
        """Whether anybody has opened it since this was asked the last time."""
        with contextlib.suppress(BlockingIOError):
            return bool(os.read(self._watch, 65536))
        return False

    def close(self) -> None:
        os.close(self._watch)


class Listener:
    """A web server on a loopback address that serves the secret and counts who comes."""

    def __init__(self, content: bytes) -> None:
        visits = self.visits = [0]

        class Handler(http.server.BaseHTTPRequestHandler):
            def setup(self) -> None:
                visits[0] += 1
                super().setup()

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/secret.ts"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def was_visited(self) -> bool:
        """Whether anybody has come since this was asked the last time."""
        visits, self.visits[0] = self.visits[0], 0
        return visits > 0

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


FFMPEGS: dict[str, Callable[[], str | None]] = {
    "of the system": lambda: shutil.which("ffmpeg"),
    "of imageio-ffmpeg": clips.packaged_ffmpeg,
}


@pytest.fixture(scope="module", params=FFMPEGS)
def ffmpeg(request: pytest.FixtureRequest) -> str:
    path = FFMPEGS[request.param]()
    require(path is not None, "needs ffmpeg on PATH")
    assert path is not None
    return path


def make_video(path: Path, colour: str, *options: str) -> Path:
    source = ["-f", "lavfi", "-i", f"color={colour}:s=64x48:d=1:r=5"]
    quiet = [clips.packaged_ffmpeg(), "-v", "error", "-nostdin", "-y"]
    subprocess.run([*quiet, *source, "-c:v", "mpeg2video", *options, str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a secret video and one that anybody may see."""
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "secret.ts", "magenta", "-metadata", f"service_name={Secret.MARK}")
    make_video(folder / "open.mp4", "blue", "-c:v", "mpeg4")
    return folder


class Victim:
    """A machine with a secret file and a web server, on which ffmpeg is given the files of strangers."""

    def __init__(self, ffmpeg: str, videos: Path, folder: Path) -> None:
        self.ffmpeg = ffmpeg
        self.folder = folder / "work"
        self.folder.mkdir()
        self.secret = Secret(Path(shutil.copy(videos / "secret.ts", folder)))
        self.listener = Listener((videos / "secret.ts").read_bytes())
        self.targets = [str(self.secret.path), self.listener.url]

    def convert(self, *source: str, fenced: bool = True) -> str:
        """Let ffmpeg decode one picture, behind the fence or as any other program; what it complains of."""
        sink = ["-frames:v", "1", "-pix_fmt", "rgb24", "-f", "rawvideo", "out.rgb"]
        arguments = ["-v", "error", "-nostdin", "-y", *source, *sink]
        if not fenced:
            command = [self.ffmpeg, *arguments]
            done = subprocess.run(command, cwd=self.folder, capture_output=True, check=False, timeout=60)
            return done.stderr.decode("utf-8", "replace")
        try:
            fence.run(self.ffmpeg, arguments, folder=self.folder, limits=LIMITS)
        except FfmpegFailed as error:
            return str(error)
        return ""

    def was_touched(self) -> bool:
        """Whether the file or the server has been asked for anything."""
        touched = [self.secret.was_opened(), self.listener.was_visited()]
        return any(touched)

    def shows_secret(self) -> bool:
        """Whether what was made looks like the secret."""
        out = self.folder / "out.rgb"
        picture = out.read_bytes() if out.exists() else b""
        averages = [sum(picture[channel::3]) / max(len(picture) // 3, 1) for channel in range(3)]
        return all(
            abs(average - wanted) < 40 for average, wanted in zip(averages, Secret.COLOUR, strict=True)
        )

    def assert_kept(self, words: str) -> None:
        assert not self.was_touched()
        assert not self.shows_secret()
        assert Secret.MARK not in words

    def give(self, path: Path, container: signatures.Container) -> None:
        """Have a file read by ffmpeg with our arguments, as any other program and behind all of the fence."""
        for fenced in (False, True):
            words = self.convert(*fence.media_input(path, container), fenced=fenced)
            self.assert_kept(words)


@pytest.fixture
def victim(ffmpeg: str, videos: Path, tmp_path: Path) -> Iterator[Victim]:
    if sys.platform != "linux":
        pytest.skip("notices by inotify, which only Linux has: run this test on Linux")
    victim = Victim(ffmpeg, videos, tmp_path)
    yield victim
    victim.listener.close()
    victim.secret.close()


def test_video_is_read(victim: Victim, videos: Path) -> None:
    assert victim.convert(*fence.media_input(videos / "open.mp4", signatures.MP4)) == ""
    assert (victim.folder / "out.rgb").stat().st_size == 64 * 48 * 3
    assert not victim.shows_secret()


ENDLESS = ["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", "testsrc2=s=320x240"]


def work(ffmpeg: str, folder: Path, *arguments: str, **limits: Any) -> str:
    """Let ffmpeg do something that a limit stops; the code of the failure."""
    with pytest.raises(FfmpegFailed) as caught:
        fence.run(ffmpeg, arguments, folder=folder, limits=dataclasses.replace(LIMITS, **limits))
    return caught.value.code


def test_ffmpeg_tells_its_progress(ffmpeg: str, folder: Path) -> None:
    times: list[float] = []
    arguments = [*ENDLESS, "-t", "2", "-c:v", "mpeg4", "out.mp4"]
    fence.run(ffmpeg, arguments, folder=folder, limits=LIMITS, on_progress=times.append)
    assert times == sorted(times)
    assert 1.5 < times[-1] <= 2.1


def test_ffmpeg_is_held_to_the_limits(ffmpeg: str, folder: Path) -> None:
    raw = ["-f", "rawvideo", "out"]
    assert work(ffmpeg, folder, *ENDLESS, *raw, file_bytes=MIB) == "output_too_large"
    assert work(ffmpeg, folder, *ENDLESS, "-f", "null", "-", cpu_seconds=1) == "timed_out"
    assert work(ffmpeg, folder, *ENDLESS, "-f", "null", "-", seconds=0.5) == "timed_out"
    huge = ["-vf", "scale=16000:16000", "-frames:v", "1", *raw]
    assert work(ffmpeg, folder, *ENDLESS, *huge, memory_bytes=512 * MIB) == "too_much_memory"


def test_ffmpeg_writes_for_its_owner_only_and_ends_when_it_is_to_stop(ffmpeg: str, folder: Path) -> None:
    out = folder / "out"
    with pytest.raises(Stopped):
        fence.run(
            ffmpeg,
            [*ENDLESS, "-t", "3600", "-c:v", "mpeg4", "-f", "avi", "out"],
            folder=folder,
            limits=dataclasses.replace(LIMITS, file_bytes=2**40),
            should_stop=out.exists,
        )
    assert out.stat().st_mode & 0o777 == 0o600


def test_secret_would_be_seen(victim: Victim) -> None:
    assert victim.convert("-i", victim.targets[0], fenced=False) == ""
    assert victim.was_touched()
    assert victim.shows_secret()
    victim.convert("-i", victim.targets[1], fenced=False)
    assert victim.was_touched()


@pytest.mark.parametrize("start", [b"", hostile.FILE_TYPE], ids=["as it is", "behind a file type box"])
@pytest.mark.parametrize("name", hostile.TEXTS)
def test_text_that_names_files_opens_none(victim: Victim, tmp_path: Path, name: str, start: bytes) -> None:
    path = tmp_path / "upload.mp4"
    for target in victim.targets:
        path.write_bytes(start + hostile.TEXTS[name].format(target).encode())
        victim.give(path, signatures.MP4)


DEMUXED = ["MATROSKA", "AVI", "MPEG_TS", "MPEG_PS", "FLV", "OGG"]


@pytest.mark.parametrize("container", DEMUXED)
def test_text_opens_no_files_whatever_container_it_is_taken_for(
    victim: Victim, tmp_path: Path, container: str
) -> None:
    path = tmp_path / "upload"
    for text in (hostile.PLAYLIST, hostile.CONCAT_SCRIPT):
        path.write_text(text.format(victim.targets[0]))
        victim.give(path, getattr(signatures, container))


@pytest.mark.parametrize("container", ["MP4", "QUICKTIME"])
@pytest.mark.parametrize("reference", [hostile.url_reference, hostile.urn_reference, hostile.alias_reference])
def test_video_with_its_data_elsewhere_opens_no_other_file(
    victim: Victim, videos: Path, tmp_path: Path, reference: Callable[[str], bytes], container: str
) -> None:
    path = tmp_path / "upload"
    for target in (*victim.targets, f"file://{victim.targets[0]}", "secret.ts"):
        path.write_bytes(hostile.with_reference((videos / "open.mp4").read_bytes(), reference(target)))
        victim.give(path, getattr(signatures, container))


@pytest.mark.parametrize("name", hostile.TEXTS)
def test_text_inside_of_a_video_opens_no_file(victim: Victim, tmp_path: Path, name: str) -> None:
    text, avi, matroska = (tmp_path / name for name in ("text", "upload.avi", "upload.mkv"))
    for target in victim.targets:
        text.write_text(hostile.TEXTS[name].format(target))
        avi.write_bytes(hostile.avi_with_subtitles(text.read_bytes()))
        victim.give(avi, signatures.AVI)
    hostile.matroska_with_text(clips.packaged_ffmpeg(), matroska, text)
    victim.give(matroska, signatures.MATROSKA)


@pytest.mark.parametrize("name", ["secret%.ts", "s%dcret.ts", "secre?.ts", "sec*.ts", "concat:secret.ts"])
def test_name_of_a_file_is_no_pattern_and_no_address(victim: Victim, tmp_path: Path, name: str) -> None:
    victim.give(tmp_path / name, signatures.MPEG_TS)


@pytest.mark.parametrize(
    "name", ["-y.mp4", "concat:a|b", "http:x", "subfile,,start,0,end,0,,:x", "%03d.png", "a 'b\"\n\\c.mp4"]
)
def test_file_with_any_name_is_read(victim: Victim, videos: Path, tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(videos / "open.mp4", tmp_path / name))
    assert victim.convert(*fence.media_input(path, signatures.MP4)) == ""


BELIEVED: dict[str, tuple[str, list[str]]] = {
    "a playlist": ("list.m3u8", []),
    "a playlist of the network": ("list.m3u8", ["-protocol_whitelist", "file,http,tcp,crypto"]),
    "a concat script": ("list.txt", ["-f", "concat", "-safe", "0"]),
    "a data reference": ("list.mov", ["-enable_drefs", "1", "-use_absolute_path", "1"]),
}


@pytest.mark.parametrize("name", BELIEVED)
def test_ffmpeg_that_believes_files_is_still_behind_the_second_fence(
    victim: Victim, videos: Path, tmp_path: Path, name: str
) -> None:
    """Without our arguments it opens what it is told to: these tests can fail. Then the kernel refuses."""
    require(kernel_hides_files(), "needs a kernel with Landlock")
    file_name, options = BELIEVED[name]
    reference = hostile.alias_reference(victim.targets[0])
    contents = {
        "list.m3u8": hostile.PLAYLIST.format(victim.targets["network" in name]).encode(),
        "list.txt": hostile.CONCAT_SCRIPT.format(victim.targets[0]).encode(),
        "list.mov": hostile.with_reference((videos / "open.mp4").read_bytes(), reference),
    }
    path = tmp_path / file_name
    path.write_bytes(contents[file_name])
    source = [*options, "-i", f"file:{path}"]
    victim.convert(*source, fenced=False)
    assert victim.was_touched()
    (victim.folder / "out.rgb").unlink(missing_ok=True)
    victim.assert_kept(victim.convert(*source))
