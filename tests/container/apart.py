"""What runs in spawned processes: a module that is quick to import."""

from __future__ import annotations

from typing import Any

from escort_codec.container.reader import Reader


def read_round(reader: Reader, start: int) -> list[str]:
    """The keys in order, once every exemplar has been read from ``start`` on round the file."""
    keys = {i % len(reader): reader[i % len(reader)].key for i in range(start, start + len(reader))}
    return [keys[i] for i in range(len(reader))]


class Memory:
    """A reader as a member of a torch data set of the map style, as a user writes it."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, i: int) -> tuple[int, bytes, Any]:
        exemplar = self.reader[i]
        return i, exemplar.payload, exemplar.edges.sum() if exemplar.kind == "prompt" else -1
