"""Print the first shell block below a heading of the README: ``readme.py HEADING``."""

import re
import sys
from pathlib import Path

text = Path("README.md").read_text(encoding="utf-8")
section = text.partition(f"\n## {sys.argv[1]}\n")[2].partition("\n## ")[0]
block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
if block is None:
    sys.exit(f"README.md has no shell block below the heading {sys.argv[1]!r}")
sys.stdout.write(block[1])
