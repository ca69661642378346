"""The existing files of a tree, and whether they equal what would be written.

A file that was made of another exemplar with the same name is replaced. Files that were made with other options, or not
by escort, are an error: they may be hours of work.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from escort_codec.errors import OutputError, RegenerationError
from escort_codec.exemplar import Exemplar
from escort_codec.export.manifest import ManifestEntry, read_manifest
from escort_codec.export.options import ExportOptions
from escort_codec.names import MANIFEST, refuse_link, there_is
from escort_codec.regenerate.base import Regenerator, image_digest
from escort_codec.regenerate.latent import learned_digest

if TYPE_CHECKING:
    from escort_codec.export.plan import Task

LISTED: Final = 1 << 20
"""The most names of listed folders in memory; one folder is always kept."""

_ELSEWHERE: Final = "choose another folder (`out`), or set `overwrite`"


class ExistingFiles:
    """The files in the output folder; ``empty``: there is no such folder yet.

    ``other`` counts those that were made of other exemplars.
    """

    def __init__(self, out: Path, options: ExportOptions, regenerator: Regenerator | None) -> None:
        if there_is(out) and not out.is_dir():
            raise OutputError(f"{out} is a file: choose another folder (`out`)")
        self._out, self._options, self._regenerator = out, options, regenerator
        self.empty: bool = not there_is(out)
        self._entries: dict[str, ManifestEntry] = {} if self.empty else read_manifest(out)
        self._folders: OrderedDict[str, dict[str, bool]] = OrderedDict()
        self._names = 0
        self._recipe: tuple[Exemplar, dict[str, Any] | None] | None = None
        self.other: int = 0

    def has(self, task: Task) -> bool:
        """Whether the task's file exists, is not empty, and equals what would be written.

        Raises OutputError for a file that was made with other options.
        """
        folder, _, name = task.path.rpartition("/")
        if not self._list(folder).get(name, False) or self._options.overwrite:
            return False
        entry = self._entries.get(task.path)
        if entry is None:
            raise OutputError(
                f"{self._out / task.path}: is not in {MANIFEST}, so not from `escort decode`: {_ELSEWHERE}"
            )
        if (entry.exemplar, entry.kind, entry.seed) != (task.exemplar.key, task.kind, task.seed):
            raise OutputError(f"{self._out / task.path}: was made of {entry.exemplar}: {_ELSEWHERE}")
        if self._is_same(entry, task):
            if entry.quality not in (None, self._options.used_quality):
                facts = f"quality {entry.quality}, not {self._options.used_quality}"
                raise OutputError(f"{self._out / task.path}: was saved with {facts}: {_ELSEWHERE}")
            return True
        self.other += 1
        return False

    def _is_same(self, entry: ManifestEntry, task: Task) -> bool:
        """Whether an existing file is what the task would write; raises OutputError for another recipe."""
        if task.kind == "latent":
            return entry.digest == learned_digest(task.exemplar, task.seed)
        if task.kind != "image":
            return entry.digest == image_digest(task.exemplar)
        if self._regenerator is None:
            return entry.digest == image_digest(task.exemplar, task.seed, entry.regenerator or "", entry.recipe)
        if entry.regenerator != self._regenerator.name:
            raise OutputError(f"{self._out} holds images by the {entry.regenerator} regenerator: {_ELSEWHERE}")
        recipe = self._recipe_of(task.exemplar)
        if recipe is not None and entry.digest == image_digest(task.exemplar, task.seed, entry.regenerator, recipe):
            return True
        theirs = entry.recipe or {}
        if entry.digest != image_digest(task.exemplar, task.seed, entry.regenerator, theirs):
            return False  # of another exemplar
        if recipe is None:
            return True  # it cannot be made with these options, and the exemplar is the same
        for key in recipe.keys() & theirs.keys() - {"extra"}:
            if recipe[key] != theirs[key]:
                facts = f"{key} {theirs[key]!r:.60}, not {recipe[key]!r:.60}"
                raise OutputError(f"{self._out / task.path}: was made with another recipe ({facts}): {_ELSEWHERE}")
        # The revision of a model may be unknown now. Another version of the regenerator makes another image.
        return recipe.keys() != theirs.keys()

    def _recipe_of(self, exemplar: Exemplar) -> dict[str, Any] | None:
        """What the regenerator would use, or None if it cannot make this exemplar's images."""
        assert self._regenerator is not None
        if self._recipe is None or self._recipe[0] is not exemplar:
            try:
                self._recipe = (exemplar, self._regenerator.recipe(exemplar).to_map())
            except RegenerationError:
                self._recipe = (exemplar, None)
        return self._recipe[1]

    def _list(self, folder: str) -> dict[str, bool]:
        """The names in a folder of the tree, and whether each is a file that is not empty."""
        if folder in self._folders:
            self._folders.move_to_end(folder)
            return self._folders[folder]
        path = self._out
        found: dict[str, bool] = {}
        try:
            for part in folder.split("/"):
                path = path / part
                refuse_link(path)
            with os.scandir(path) as entries:
                found = {entry.name: self._whole(entry) for entry in entries}
        except FileNotFoundError:
            pass
        except OSError as exc:
            raise OutputError(f"{path}: cannot be listed ({exc.strerror})") from exc
        self._folders[folder] = found
        self._names += len(found)
        while self._names > LISTED and len(self._folders) > 1:
            self._names -= len(self._folders.popitem(last=False)[1])
        return found

    @staticmethod
    def _whole(entry: os.DirEntry[str]) -> bool:
        if entry.is_symlink():
            raise OutputError(f"{entry.path} is a symbolic link: remove it or choose another folder (`out`)")
        return entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_size > 0
