"""What all peers serve, and where: a folder on one file system, removed after the run."""

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from bench import pattern

VIDEO = "video.mp4"
SMALL = "small.json"
SMALL_BODY = b'{"status": "ok"}\n'
ROOT = Path(__file__).parent.parent
PROGRAMS = Path(__file__).parent / "programs"


class Unavailable(Exception):
    """A peer cannot be run on this machine; the reason is the message."""


@dataclass
class Site:
    """The folder of a run, and what was prepared in it."""

    folder: Path
    size: int
    """Of the file, in bytes."""
    video_id: int = 0
    """Of the file in our own library."""
    prepared: dict[str, Path | Unavailable] = field(default_factory=dict)

    @property
    def docroot(self) -> Path:
        return self.folder / "www"

    @property
    def video(self) -> Path:
        return self.docroot / VIDEO

    @property
    def data(self) -> Path:
        """The data folder of our own server."""
        return self.folder / "data"

    def make(self) -> None:
        """Write the files that peers serve."""
        self.folder.chmod(0o755)  # Apache reads as another user
        for folder in (self.docroot, self.folder / "put"):
            folder.mkdir()
            folder.chmod(0o755)
        (self.docroot / SMALL).write_bytes(SMALL_BODY)
        (self.docroot / SMALL).chmod(0o644)
        pattern.write(self.video, self.size)

    def warm(self) -> None:
        """Bring the files into the page cache."""
        for path in [self.video, *(self.data / "videos").glob("*")]:
            with path.open("rb", buffering=0) as file:
                buffer = bytearray(pattern.MIB)
                while file.readinto(buffer):
                    pass


def installed(*programs: str) -> str:
    """The reason why a peer cannot run: the programs that are missing; empty if all are there."""
    missing = [program for program in programs if not shutil.which(program)]
    return f"not installed: {', '.join(missing)}" if missing else ""


def build(site: Site, name: str, command: list[str], folder: Path) -> Path:
    """Run a command once per run of the bench, in a folder that is made for it. Raises Unavailable."""
    if name not in site.prepared:
        folder.mkdir(exist_ok=True)
        site.prepared[name] = folder
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            site.prepared[name] = Unavailable(f"{command[0]} took more than 300 s")
        except subprocess.CalledProcessError as error:
            site.prepared[name] = Unavailable(f"{command[0]} failed: {error.stderr.strip()[-200:]}")
    outcome = site.prepared[name]
    if isinstance(outcome, Unavailable):
        raise outcome
    return outcome
