"""The frame of the command line: settings become flags, and every way to start it is the same command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import escort_codec
from escort_cli.app import COMMANDS, Command, app
from escort_cli.flags import RENAMED, with_flags
from escort_codec.errors import ConfigError, DamagedError, EscortError, TrainingError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import Recipe

EDGES = np.eye(9, dtype=bool)
ROOT = Path(__file__).parents[2]
GROUP = typer.main.get_command(app)


def command(name: str) -> Command:
    found = GROUP.commands[name]  # type: ignore[attr-defined]
    assert isinstance(found, Command)
    return found


@pytest.mark.parametrize(
    ("name", "error", "line"),
    [
        ("encode", UsageError("at least 1", setting="workers", value=0), "--workers 0: at least 1"),
        ("encode", UsageError("raise or skip", setting="on_error", value="no"), "--on-error no: raise or skip"),
        ("encode", UsageError("give one", setting="shard"), "--shard: give one"),
        ("encode", UsageError("no such folder", setting="data", value="x/y"), "DATA x/y: no such folder"),
        ("encode", UsageError("not with `resume`", setting="force", value=True), "--force: not with --resume"),
        ("decode", UsageError("one is enough", setting="seeds", value=(1, 2)), "--seeds 1,2: one is enough"),
        ("train", ConfigError("not", setting="method.lr", value=-1.5), "--set method.lr=-1.5: not"),
        ("train", ConfigError("0 is none", setting="method.temperature"), "--set method.temperature: 0 is none"),
        ("train", ConfigError("is none", setting="prompts_file", value="a b.escx"), "--memory 'a b.escx': is none"),
        ("train", TrainingError("r: `seeds`, `continued` or `continue`"), "r: --seeds, --continue or --continue"),
        ("train", TrainingError("`escort recover` and `edges`"), "`escort recover` and `edges`"),
        ("verify", UsageError("at least 1", setting="workers", value=0), "workers = 0: at least 1"),
    ],
)
def test_settings_become_flags(name: str, error: EscortError, line: str) -> None:
    assert with_flags(error, command(name)) == line


def test_every_renamed_flag_exists() -> None:
    for name, flags in RENAMED.items():
        assert set(flags.values()) <= {flag for param in command(name).params for flag in param.opts}


def test_each_command_is_listed_once_with_a_line_of_help() -> None:
    assert list(GROUP.commands) == [each.__name__ for each in COMMANDS]  # type: ignore[attr-defined]
    assert all(command(each.__name__).get_short_help_str() for each in COMMANDS)


HOSTILE = "\x1b[31m\u202e\nx"
SHOWN = r"\x1b[31m\u202e"


@pytest.mark.parametrize(
    "words",
    [
        (HOSTILE,),
        (f"--{HOSTILE}",),
        ("inspect", f"--{HOSTILE}"),
        ("inspect", "a", HOSTILE),
        ("inspect", HOSTILE),
        ("verify", HOSTILE),
        ("decode", HOSTILE),
        ("encode", HOSTILE, "out.escx"),
        ("train", HOSTILE),
        ("evaluate", HOSTILE, "--data", HOSTILE),
        ("report", HOSTILE),
        ("recover", HOSTILE, "out.escx"),
        ("merge", HOSTILE, "--out", "out.escx"),
        ("extract", HOSTILE, "--out", "out.escx"),
    ],
)
def test_names_in_errors_are_escaped(words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell's * types the names of a stranger's files."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    assert result.exit_code in (1, 2)
    assert SHOWN in result.stderr
    assert not {"\x1b", "\u202e"} & set(result.output)


def test_a_strangers_file_is_shown_escaped(tmp_path: Path) -> None:
    """Class names, names, prompts, recipes and the data folder's name may hold what a terminal obeys."""
    label, path = "c\u202et\x9b31m", tmp_path / "m.escx"
    with escort_codec.Writer(path, source=HOSTILE) as writer:
        recipe = Recipe(model=HOSTILE, extra=((HOSTILE, HOSTILE),))
        writer.add(
            Exemplar.from_edges(EDGES, label=label, name="a\u2066.png", prompt=HOSTILE, seeds=(0,), recipe=recipe)
        )
    for words in (
        ("inspect", path, "--classes"),
        ("inspect", path, "--json"),
        ("verify", path),
        ("split", path, "--by-class", "--out", tmp_path / "parts"),
        ("extract", path, "--class", label, "--out", tmp_path / "sub.escx"),
        ("decode", path, "--class", "cat", "--out", tmp_path / "out"),
        ("decode", path, "--out", tmp_path / "out"),
        ("decode", path, "--out", tmp_path / "out", "--json", "--force"),
    ):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert not {"\x1b", "\x9b", "\u202e", "\u2066"} & set(result.output), words
    values = json.loads(CliRunner().invoke(app, ["inspect", str(path), "--json"]).stdout)
    assert values["source"] == HOSTILE
    assert values["classes"] == {label: 1}


def test_a_damaged_file_points_to_recover(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(**options: object) -> None:
        error = DamagedError("a checksum is wrong", chunk="BLCK", offset=8)
        error.path = "x.escx"
        raise error

    verify = command("verify")
    monkeypatch.setattr(verify, "callback", fail)
    with pytest.raises(SystemExit) as caught:
        verify.main(["x.escx"])
    assert caught.value.code == 1
    line = "escort verify: x.escx: a checksum is wrong (BLCK chunk at byte 8) (`escort recover` saves what is whole)\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("start", [["cli.py"], ["-m", "escort_cli"]])
def test_a_checkout_starts_without_installing(start: list[str]) -> None:
    done = subprocess.run([sys.executable, *start, "--version"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"escort {escort_codec.__version__}\n"


def test_help_imports_no_heavy_package() -> None:
    """Help takes as long as its imports: most of it is typer's."""
    script = (
        "import sys\nfrom escort_cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "encode" in done.stdout
    heavy = {"numpy", "cv2", "PIL", "numba", "torch", "rich.console", "matplotlib", "jinja2", "zstandard"}
    assert heavy & set(done.stderr.split()) == set()
