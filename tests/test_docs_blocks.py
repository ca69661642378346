"""Every block of code on every page runs as a test, or is listed with the reason why it cannot; commands parse."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.commands import commands, parse_command, unknown_flags
from tests.pages import (
    DOCTESTED,
    NOT_RUN,
    OTHERS_RUN,
    PROMPTS,
    ROOT,
    SHELL,
    SHELL_RUN,
    Block,
    blocks,
    inline_code,
    pages,
)

PAGES = pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())


def runner_of(block: Block) -> str:
    """The test that runs a block; empty for none."""
    if block.reason:
        return ""
    if block.language in SHELL:
        return SHELL_RUN.get(block.page, "")
    if block.language in PROMPTS and block.text.startswith(">>> "):  # with prompts: a doctest
        return DOCTESTED.get(block.page, "")
    return OTHERS_RUN.get((block.page, block.language), "")


def code_of(page: Path) -> list[str]:
    """Blocks and inline code."""
    return [*(block.text for block in blocks(page)), *inline_code(page)]


@PAGES
def test_every_block_runs_or_has_a_reason(page: Path) -> None:
    silent = [f"{block.page}:{block.line}" for block in blocks(page) if not runner_of(block) and not block.reason]
    assert silent == [], "neither run nor in NOT_RUN of tests/pages.py"


def test_every_reason_is_of_a_block() -> None:
    used = {(block.page, block.listed) for page in pages() for block in blocks(page)}
    assert {(page, key) for page, listed in NOT_RUN.items() for key in listed} - used == set()


def test_every_runner_takes_its_page() -> None:
    runners = {*DOCTESTED.items(), *SHELL_RUN.items(), *((page, test) for (page, _), test in OTHERS_RUN.items())}
    for page, test in runners:
        text = (ROOT / test).read_text("utf-8")
        assert Path(page).name in text or "SHELL_RUN" in text, (page, test)


@PAGES
def test_no_command_hides_in_an_indented_block(page: Path) -> None:
    outside = re.sub(r"^( *)```.*?^\1```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"^ {4,}(?:escort|python|pip|>>>) .*$", outside, re.MULTILINE) == []


@PAGES
def test_commands_of_blocks_that_do_not_run_are_what_escort_takes(page: Path) -> None:
    for block in blocks(page):
        if block.reason:
            for words in commands(block.text):
                parse_command(words)


@PAGES
def test_flags_of_inline_commands_exist(page: Path) -> None:
    for code in inline_code(page):
        for words in commands(code):
            assert unknown_flags(words) == [], code


@PAGES
def test_scripts_configurations_targets_and_extras_exist(page: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for code in code_of(page):
        for script, rest in re.findall(r"python3? ((?:benchmarks|training|configs)/\w+\.py)([^\n`]*)", code):
            source = (ROOT / script).read_text("utf-8")
            assert [flag for flag in re.findall(r"(--[a-z-]+)", rest) if f'"{flag}"' not in source] == [], code
        for path in re.findall(r"configs/[\w/-]+\.json", code):
            assert (ROOT / path).is_file(), code
        for target in re.findall(r"^make ([a-z-]+)", code):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), code
        for names in re.findall(r"escort\[([a-z,]+)\]", code):
            assert set(names.split(",")) <= set(extras), code


@pytest.mark.parametrize(
    "line",
    [
        "escort encoed DATA out.escx",
        "escort encode DATA",
        "escort encode DATA out.escx --hints 32",
        "escort encode DATA out.escx --hint many",
        "escort encode DATA out.escx --as latnet",
        "torchrun --nproc-per-node 2 -m escort_cli train DATA --bugdet 2MB",
        "escort train DATA --budget two",
        "escort train DATA --method icarl --set method.temprature=2",
        "escort decode out.escx --regenerator controlnet --set setps=3",
        "escort decode out.escx --format gif",
    ],
)
def test_a_wrong_command_is_refused(line: str) -> None:
    (words,) = commands(line)
    with pytest.raises(Exception, match=r".+"):
        parse_command(words)


def test_commands_are_found_behind_launchers_and_over_lines() -> None:
    text = "escort view a.escx  # look\naccelerate launch x \\\n  -m escort_cli train d --seed 1\nrun escort.py --b\n"
    assert list(commands(text)) == [["view", "a.escx"], ["train", "d", "--seed", "1"]]


def test_a_block_that_nothing_runs_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\nls\n```\n\n- a\n\n  ```text\n  b\n  ```\n")
    found = blocks(page)
    assert [(block.language, block.first, block.line, runner_of(block)) for block in found] == [
        ("sh", "ls", 2, ""),
        ("text", "  b", 8, ""),
    ]
