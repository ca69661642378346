"""Tables on the terminal, and numbers as people read them."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table on stdout: the first column to the left, the others to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.show_header = any(columns)
    for number, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if number == 0 else "right", no_wrap=number > 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 160  # a file or a pipe has no width to keep to
    console.print(table)


def format_bytes(count: float) -> str:
    """``1,234,567 B``."""
    return f"{count:,.0f} B"


def format_ratio(part: float, whole: float) -> str:
    """``1 in 41.3``: how many times ``part`` goes into ``whole``."""
    return f"1 in {whole / part:,.1f}" if part and whole else "-"


def format_share(part: float, whole: float) -> str:
    """``12.3 %``."""
    return f"{100 * part / whole:.1f} %" if whole else "-"
