"""Progress: how the library reports the progress of a task. Text for users goes through ``logging``.

The command line shows both (``escort_cli.terminal``).
"""

from __future__ import annotations


class Progress:
    """Shows nothing. A subclass shows one task at a time: ``begin``, any number of ``advance``, ``end``.

    ``advance`` may be called from any thread.
    """

    def begin(self, what: str, total: int | None = None, *, unit: str = "images") -> None:
        """A task of ``total`` units begins; None: unknown."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more units are done. ``note`` is shown beside the numbers until the next note."""

    def end(self) -> None:
        """The task is finished or given up."""
