"""Copies that were made before: the images of a folder that ``escort decode`` wrote, found by its manifest."""

from __future__ import annotations

from pathlib import Path

from escort_cil.copies import Find
from escort_codec.errors import SourceError
from escort_codec.exemplar import Exemplar
from escort_codec.regenerate.manifest import read_manifest


def given_copies(folder: Path) -> Find:
    """Finds the image of an exemplar (by ``label/name``) and seed in ``folder``, None where it is not there.

    Raises SourceError where the folder has no manifest.
    """
    entries = read_manifest(folder)
    if not entries:
        raise SourceError(f"{folder}: has no manifest.jsonl: give a folder that `escort decode` wrote")
    places = {(entry.exemplar, entry.seed): folder / entry.image for entry in entries.values()}

    def find(exemplar: Exemplar, seed: int) -> Path | None:
        path = places.get((exemplar.key, seed))
        return path if path is not None and path.is_file() else None

    return find
