"""Executes the notebook of the manual.

python scripts/run_notebook.py           # fails where a cell fails, or shows another kind of thing
python scripts/run_notebook.py --write   # puts what the cells show into the notebook
"""

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial" / "notebook.ipynb"
_SECONDS = 120  # for one cell


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Returns the notebook as its cells run in an empty folder."""
    os.environ |= {"JUPYTER_RUNTIME_DIR": f"{folder}/.runtime", "IPYTHONDIR": f"{folder}/.ipython"}
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=_SECONDS, kernel_name="python3", resources=place).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if "outputs" in cell:
            cell.outputs = _join_streams(cell.outputs)
    return notebook


def _join_streams(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Returns outputs with what was printed in one piece: the kernel sends it in any number."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def kinds_of_outputs(notebook: nbformat.NotebookNode) -> list[list[str]]:
    """Returns what kinds of things each cell shows."""
    return [[output.output_type for output in cell.get("outputs", [])] for cell in notebook.cells]


def main() -> None:
    """Executes the notebook and compares it, or writes it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put in what the cells show")
    options = parser.parse_args()
    shown = kinds_of_outputs(nbformat.read(NOTEBOOK, as_version=4))
    with tempfile.TemporaryDirectory() as folder:
        found = execute(nbformat.read(NOTEBOOK, as_version=4), Path(folder))
    if options.write:
        nbformat.write(found, NOTEBOOK)
    elif kinds_of_outputs(found) != shown:
        raise SystemExit(
            f"{NOTEBOOK}: the notebook does not show what its cells give; run: "
            "python scripts/run_notebook.py --write"
        )


if __name__ == "__main__":
    main()
