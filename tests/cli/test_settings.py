"""The settings as people see them: ``escort train --help``, ``--settings``, and docs/settings.md.

``python -m tests.cli.test_settings`` writes the table of docs/settings.md anew.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from escort_cil.run.settings import TrainConfig
from escort_cli.app import app
from escort_cli.flags import settings_table
from escort_codec.settings import settings_of

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
BEGIN = "<!-- made from the code: python -m tests.cli.test_settings -->\n"
END = "<!-- end -->\n"


def printed(*arguments: str, columns: int = 80) -> str:
    result = CliRunner().invoke(app, ["train", *arguments], env={"COLUMNS": str(columns)}, prog_name="escort")
    assert result.exit_code == 0, result.output
    return result.stdout


def documented() -> str:
    """The tables of docs/settings.md."""

    def lines() -> Iterator[str]:
        from escort_cil.learners import learners

        groups = settings_table(settings_of(TrainConfig).values())
        icarl = settings_of(learners.get("icarl").hyperparameters).values()
        groups |= {"The method's settings (here icarl's)": settings_table(icarl, "method.")[""]}
        for name, rows in groups.items():
            yield f"\n### {name}\n"
            yield "| setting | type | default | |"
            yield "|---|---|---|---|"
            for key, kind, default, text in rows:
                yield f"| `{key}` | {kind} | {default} | {text} |"

    return "\n".join(lines()) + "\n\n"


def test_the_page_has_every_setting() -> None:
    text = PAGE.read_text("utf-8")
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == documented(), "python -m tests.cli.test_settings"


@pytest.mark.parametrize(("columns", "lines"), [(80, 50), (110, 50)])
def test_the_help_is_one_screen(columns: int, lines: int) -> None:
    text = printed("--help", columns=columns)
    assert len(text.splitlines()) <= lines
    assert max(map(len, text.splitlines())) <= columns
    groups = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert groups == [
        "Data",
        "Classes and phases",
        "Network and training",
        "Memory",
        "Prompts and synthetic images",
        "Machine",
        "Run",
    ]
    flags = re.findall(r"^  (?:-h, )?(--[a-z-]+)", text, re.MULTILINE)
    assert {"--memory", "--budget", "--keep", "--set", "--settings", "--continue", "--help"} <= set(flags)
    assert 20 <= len(flags) <= 26
    assert "[1993]" in text
    assert "--seed N" in text


def test_settings_are_listed_with_defaults_and_help() -> None:
    text = printed("--settings", "--method", "der")
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    declared = {name for name in settings_of(TrainConfig) if not name.endswith("_options")}
    assert declared <= set(rows)
    assert set(rows) - declared >= {"method.aux_weight", "regenerator.workers"}
    assert rows["canny_high"].split(maxsplit=3) == ["canny_high", "int", "200", "Canny's upper threshold."]
    assert rows["cache_memory"].split()[1:3] == ["bytes", "-"]
    assert rows["method.milestones"].split()[1:3] == ["list", "80,120,150"]
    assert all(len(row.split(maxsplit=3)) == 4 for row in rows.values())  # every setting has a help


def test_help_imports_neither_torch_nor_opencv() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from escort_cli.app import app; "
        "assert CliRunner().invoke(app, ['train', '--help']).exit_code == 0; "
        "sys.exit(len({'torch', 'cv2', 'rich', 'PIL'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


if __name__ == "__main__":
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(before + BEGIN + documented() + END + rest.partition(END)[2], "utf-8")
