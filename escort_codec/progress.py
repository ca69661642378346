"""How far a piece of work is: the one protocol between the library and whoever shows it.

Progress is numbers; text for people goes through ``logging``. The command line draws both (``escort_cli.progress``).
"""

from __future__ import annotations


class Progress:
    """Shows nothing. A subclass shows one piece of work at a time: ``begin``, some ``advance``, ``end``.

    ``advance`` may be called from any thread.
    """

    def begin(self, what: str, total: int | None = None, *, unit: str = "images") -> None:
        """A piece of work of ``total`` units begins; None: not known."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more units are done; ``note`` is shown beside the numbers until the next one."""

    def end(self) -> None:
        """The piece of work is over, or was given up."""
