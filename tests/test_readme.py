"""The README and the code say the same. Its commands are run by ``live/test_readme`` and by CI."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from streamer.app import Application
from streamer.config import Config

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_every_setting_is_in_the_readme_and_the_other_way_round() -> None:
    documented = re.findall(r"^\| `STREAMER_([A-Z_]+)`", README, re.MULTILINE)
    assert sorted(documented) == sorted(setting.name.upper() for setting in fields(Config))


def test_every_route_is_in_the_readme(app: Application) -> None:
    paths = [re.sub(r"\{\w+\}", "{id}", template) for template in app.routes]
    assert [path for path in paths if f"{path}`" not in README and path != "/"] == []


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\]\(([\w./]+)\)", README))))
def test_every_file_that_the_readme_names_is_there(name: str) -> None:
    assert (Path(__file__).parent.parent / name).is_file()


def test_every_file_for_deployment_is_in_the_readme() -> None:
    folder = Path(__file__).parent.parent / "deploy"
    assert [path.name for path in folder.iterdir() if f"(deploy/{path.name})" not in README] == []


def test_the_embedding_example_works(tmp_path: Path) -> None:
    embedding = README.partition("\n## Embedding\n")[2]
    block = re.search(r"```python\n(.*?)```", embedding, re.DOTALL)
    assert block
    namespace: dict[str, object] = {}
    exec(block[1].replace("/srv/videos", str(tmp_path)), namespace)
    assert callable(namespace["application"])
