"""Install a file of requirements with pip, in one line that says what it is at: `python -m system.install FILE`.

The Makefile runs it in a new environment, so it needs the standard library only.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator

PIP = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
_DOWNLOAD = re.compile(r"\s*Downloading (\S+) \((.*)\)")


def steps(lines: Iterable[str]) -> Iterator[str]:
    """pip's lines -> what it is at, in words: each package that it fetches, and the packages that it unpacks."""
    fetched = 0
    for line in lines:
        download = _DOWNLOAD.match(line)
        if line.startswith("Collecting "):
            yield f"looking up {line.split()[1]}"
        elif download and not download[1].endswith(".metadata"):
            fetched += 1
            yield f"package {fetched}: downloading {'-'.join(download[1].split('-')[:2])}, {download[2]}"
        elif line.startswith("Installing collected packages: "):
            yield f"unpacking {line.split(': ')[1].strip()}"


def main(argv: list[str]) -> int:
    """Install; returns pip's exit code. argv: files of requirements. pip's errors go to stderr, as it writes them."""
    files = [word for path in argv for word in ("-r", path)]
    print(f"installing {' and '.join(argv)} into {sys.prefix}", flush=True)
    with subprocess.Popen([*PIP, *files], stdout=subprocess.PIPE, text=True, errors="replace") as pip:
        assert pip.stdout is not None
        show(steps(pip.stdout))
    if pip.returncode == 0:
        print("installed")
    return pip.returncode


def show(messages: Iterable[str]) -> None:
    """Print messages: on a terminal each in the place of the one before, elsewhere a line each."""
    terminal = sys.stdout.isatty()
    for text in messages:
        print(f"\r\033[K{text[:78]}" if terminal else text, end="" if terminal else "\n", flush=True)
    if terminal:
        print("\r\033[K", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
