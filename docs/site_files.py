"""A hook of MkDocs: the pages of ``spec/`` and ``benchmarks/`` belong to the site, and links to them lead there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]


def shown() -> Iterator[Path]:
    """The pages beside ``docs/``, and the files that they link to."""
    for folder in ("spec", "benchmarks/results"):
        yield from sorted(path for path in (ROOT / folder).glob("*") if path.is_file())
    yield ROOT / "benchmarks" / "README.md"


def on_files(files: Files, *, config: Any) -> Files:
    """Adds them where they lie in the repository."""
    for path in shown():
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """In the repository these folders lie beside ``docs/``, in the site below it."""
    if page.file.src_uri.startswith(("spec/", "benchmarks/")):
        return markdown.replace("](../docs/", "](../").replace("](../../docs/", "](../../")
    return markdown.replace("](../spec/", "](spec/").replace("](../benchmarks/", "](benchmarks/")
