"""One rule of import: a module imports only modules on lines above it (style.md, section 1)."""

import ast
from pathlib import Path

import falcon
import pytest

import streamer

ROOT = Path(streamer.__file__).parent
LAYERS = """
0  streamer  errors  clock  inputs
0  protocol  protocol.ranges  protocol.conditional  protocol.disposition  protocol.forwarded
0  protocol.multipart  protocol.sendfile  protocol.resumption  protocol.tus  protocol.draft  protocol.captions
1  config  logs  database  models  migrations  passwords  tokens
1  storage  storage.locks  storage.slices  storage.space  storage.local
1  containers  containers.signatures  containers.media  containers.bits  containers.video_codecs
1  containers.audio_codecs  containers.boxes  containers.sample_entries  containers.fragments
1  containers.tracks  containers.mp4
1  containers.ebml  containers.matroska_segment  containers.matroska_codecs  containers.matroska
1  containers.reading  playability
1  ffmpeg  ffmpeg.launch  ffmpeg.fence  ffmpeg.tools  ffmpeg.work  ffmpeg.filters  ffmpeg.pictures
1  ffmpeg.posters  ffmpeg.storyboards  ffmpeg.variants  ffmpeg.captions  ffmpeg.probe
2  throttle  accounts  access  facts  jobs  planning  videos  intake  digests  appends  uploads  cleanup
2  derived  processing  housekeeping
3  admission  resources  resources.errors  resources.representations  resources.bodies  resources.receptions
3  middleware  resources.auth  resources.media  resources.attachments  resources.videos  resources.pictures
3  resources.captions  resources.upload_bodies  resources.uploads  resources.system
4  worker  app  server.settings  server.loop  server.bodies  server.workers  server.parser  server.tasks
4  server.output  server.channel  server.listener  server  cli  __main__
"""
LAYER_OF = {name: int(line[0]) for line in LAYERS.split("\n") if line for name in line.split()[1:]}
ORDER = list(LAYER_OF)
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
    if path.parent.name != "migrations" or path.stem == "__init__"
}
FILES["streamer"] = FILES.pop("__init__")


def imports(path: Path) -> set[str]:
    """The dotted names that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name.removeprefix("streamer.") in FILES else str(node.module) for name in names}
    return found


def test_every_module_has_its_place() -> None:
    assert set(FILES) == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_module_imports_only_modules_before_it(name: str) -> None:
    ours = {found.removeprefix("streamer.") for found in imports(FILES[name]) if found.startswith("streamer")}
    assert ours <= set(ORDER[: ORDER.index(name)])


@pytest.mark.parametrize("name", [name for name, layer in LAYER_OF.items() if layer < 3])
def test_nothing_below_layer_three_imports_falcon(name: str) -> None:
    assert not {found for found in imports(FILES[name]) if found.split(".")[0] == falcon.__name__}


@pytest.mark.parametrize("path", sorted(ROOT.glob("migrations/[0-9]*.py")), ids=lambda path: path.stem)
def test_migration_imports_nothing_of_the_package(path: Path) -> None:
    assert not {found for found in imports(path) if found.startswith("streamer")}
