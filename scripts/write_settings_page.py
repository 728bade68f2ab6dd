"""Writes `docs/reference/settings.md` from the settings themselves."""

# A paragraph of the page stands on one line.
# ruff: noqa: E501

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evolve.settings import known_keys
from evolve.toml import write_value

if TYPE_CHECKING:
    import dataclasses

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
_HEAD = """\
# Settings

Set each with `--set KEY=VALUE`, in a TOML file (`--settings FILE`, `[section]` and `name`), or with `EVOLVE_SET_SECTION__NAME=VALUE` in the environment. An option such as `--workers` overrides `--set`, which overrides the environment, which overrides the file. Values are TOML; anything that is not valid TOML is taken as text. `parameters.NAME` sets a parameter of the problem; `temperature.ROLE` and `effort.ROLE` are sent with the requests of a role (`planner`, `editor`, `summarizer`, `leap`, or `all`); `prices` and `endpoints` are tables by model ([models.md](models.md)). A run keeps its settings in its `settings.toml`.

| key | default | what it is |
|---|---|---|
"""


def write_page() -> str:
    """Returns the page."""
    rows = [_write_row(key, item) for key, item in known_keys().items()]
    return _HEAD + "".join(rows)


def _write_row(key: str, item: dataclasses.Field[Any]) -> str:
    default = "" if item.default in (None, "", ()) else f"`{write_value(item.default)}`"
    about = item.metadata["about"]
    if choices := item.metadata.get("choices"):
        about += f" ({', '.join(f'`{choice}`' for choice in choices)})"
    low, high = item.metadata.get("low"), item.metadata.get("high")
    if low is not None:
        about += f" (at least {low})" if high is None else f" ({low} to {high})"
    return f"| `{key}` | {default} | {about} |\n"


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
