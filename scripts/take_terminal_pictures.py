"""Takes the pictures of terminals in README.md and docs/how-to/terminal.md, from a run in tmux.

    python scripts/take_terminal_pictures.py

The run is model-free, seed 5; what the pictures show differs in seconds, and in how far it was.
"""

import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
# No font from elsewhere: pages show the pictures without any request.
FORMAT = re.sub(r"<!--.*?-->|@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
SERVER = f"pictures-{time.monotonic_ns()}"
# Name of a picture, size of its terminal, what is on it by then, how many seconds later it is
# taken, and the command.
Scene = tuple[str, tuple[int, int], str, float, str]
SCENES: list[Scene] = [
    ("run", (120, 36), "champion", 40.0, "run circle_packing --seed 5 --run-dir runs/circles"),
    ("narrow", (72, 20), "champion", 10.0, "attach circles"),
    ("archive", (72, 28), "across", 1.0, "archive circles --map radius_spread border_share"),
]


def main() -> None:
    """Runs each command in a terminal of its own and takes its picture."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            for scene in SCENES:
                take_picture(scene, Path(folder))
        finally:
            ask_tmux("kill-server", check=False)


def take_picture(scene: Scene, folder: Path) -> None:
    """Takes a picture of a command, which runs on."""
    name, (width, height), words, seconds, command = scene
    script = f"{sys.executable} -m evolve {command}; sleep 600"
    geometry = ("-x", str(width), "-y", str(height))
    ask_tmux("-f", "/dev/null", "new-session", "-d", "-s", name, *geometry, "-c", folder, script)
    while words not in ask_tmux("capture-pane", "-p", "-t", name):
        time.sleep(0.2)
    time.sleep(seconds)
    shown = ask_tmux("capture-pane", "-p", "-e", "-t", name)
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown.rstrip("\n")), no_wrap=True)
    title = f"evolve {command}"
    path = PICTURES / f"{name}.svg"
    path.write_text(console.export_svg(title=title, code_format=FORMAT, unique_id=name))


def ask_tmux(*words: object, check: bool = True) -> str:
    """Returns what tmux prints."""
    done = subprocess.run(
        ["tmux", "-u", "-L", SERVER, *map(str, words)],  # noqa: S607
        capture_output=True,
        text=True,
        check=check,
    )
    return done.stdout


if __name__ == "__main__":
    main()
