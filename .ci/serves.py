"""Start the installed ``streamer``, ask it for its contract, stop it: ``serves.py DATA_FOLDER``."""

import json
import subprocess
import sys
from urllib.request import urlopen

with subprocess.Popen(
    [sys.executable, "-m", "streamer", "serve", "--port", "0", "--data", sys.argv[1]],
    stdout=subprocess.PIPE,
    text=True,
) as server:
    assert server.stdout is not None
    url = server.stdout.readline().split()[-1]
    with urlopen(f"{url}/openapi.json") as answer:
        contract = json.load(answer)
    server.terminate()

assert contract["openapi"].startswith("3.1"), contract["openapi"]
assert server.returncode == 0, server.returncode
print(f"the wheel serves {len(contract['paths'])} paths")
