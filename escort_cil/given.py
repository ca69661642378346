"""Copies that were made before: the images of a folder that ``escort decode`` wrote, found by its manifest."""

from __future__ import annotations

from pathlib import Path

from escort_codec.errors import SourceError
from escort_codec.exemplar import Exemplar
from escort_codec.regenerate.manifest import read_manifest


class GivenCopies:
    """The copies in a folder. ``regenerators`` are the names of those that made them, sorted.

    Raises SourceError where the folder has no manifest.
    """

    def __init__(self, folder: Path) -> None:
        entries = read_manifest(folder)
        if not entries:
            raise SourceError(f"{folder}: has no manifest.jsonl: give a folder that `escort decode` wrote")
        self.folder = folder
        self.regenerators = tuple(sorted({entry.regenerator for entry in entries.values() if entry.regenerator}))
        self._places = {(entry.exemplar, entry.seed): folder / entry.image for entry in entries.values()}

    def find(self, exemplar: Exemplar, seed: int) -> Path | None:
        """The image of an exemplar (by ``label/name``) and a seed; None where it is not there."""
        path = self._places.get((exemplar.key, seed))
        return path if path is not None and path.is_file() else None
