"""A hook of MkDocs: the pages of ``spec/`` belong to the site, and links to them lead there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

SPEC = Path(__file__).parents[1] / "spec"


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the pages of ``spec/`` and the tables beside them."""
    for path in sorted(SPEC.iterdir()):
        if path.is_file():
            files.append(File.generated(config, f"spec/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """In the repository ``spec/`` lies beside ``docs/``, in the site below it."""
    return markdown.replace("](../spec/", "](spec/")
