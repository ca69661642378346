"""Commands as pages have them, parsed as ``escort`` would parse them: a renamed flag or a wrong value is refused."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final

import typer
from typer.testing import CliRunner

from escort_cil.run.command import configure
from escort_cil.run.settings import TrainConfig
from escort_cli.app import app
from escort_cli.flags import parse_settings
from escort_codec.encode.copies import parse_copy
from escort_codec.export.options import ExportOptions
from escort_codec.recipe import EdgeSettings, EncodeOptions
from escort_codec.regenerate import regenerators
from escort_codec.seeds import parse_seeds
from escort_codec.settings import build, settings_of


def commands(text: str) -> Iterator[list[str]]:
    """The words of each escort command in ``text``, from the command's name on, also behind a launcher."""
    for line in text.replace("\\\n", " ").splitlines():
        if match := re.search(r"(?:^|[\s/])(?:escort|-m escort_cli) +([a-z].*)", line):
            yield shlex.split(match[1], comments=True)


@cache
def known_commands() -> dict[str, Any]:
    """The commands of ``escort`` by name."""
    group: Any = typer.main.get_command(app)
    commands: dict[str, Any] = group.commands
    return commands


def parse_command(words: Sequence[str]) -> None:
    """Parses a command as ``escort`` would, its settings' values too, and runs nothing. Raises what it refuses."""
    name, *rest = words
    assert name in known_commands(), f"there is no command {name}"
    if {"--help", "--settings", "--version"} & set(rest):
        assert CliRunner().invoke(app, list(words)).exit_code == 0, words
        return
    with known_commands()[name].make_context(name, rest) as context:
        check: Callable[[dict[str, Any]], None] | None = _VALUES.get(name)
        if check is not None:
            check(context.params)


def _of(cls: type, params: dict[str, Any]) -> dict[str, Any]:
    """What was typed for the settings of a class."""
    return {key: params[key] for key in settings_of(cls) if params.get(key) is not None}


def _check_train(params: dict[str, Any]) -> None:
    typed = {**parse_settings(params["set_"] or []), **_of(TrainConfig, params)}
    typed.setdefault("data", "data")
    typed.pop("class_order", None)
    parse_seeds(typed.pop("seed", "0"))
    for keep in str(typed.pop("keep", "")).split(","):
        configure({**typed, **({"keep": keep.strip()} if keep else {})})


def _check_encode(params: dict[str, Any]) -> None:
    build(EdgeSettings, _of(EdgeSettings, params))
    options = build(EncodeOptions, {key: value for key, value in _of(EncodeOptions, params).items() if key != "shard"})
    parse_copy(options.kind, 1000 if options.budget else options.bytes_per_exemplar)


def _check_decode(params: dict[str, Any]) -> None:
    seeds = params["seeds"]
    if seeds not in (None, "none", "plain"):
        parse_seeds(seeds)
    build(ExportOptions, {key: value for key, value in _of(ExportOptions, params).items() if key != "seeds"})
    options = regenerators.get(params["regenerator"])().options_class
    typed = {**parse_settings(params["set_"] or []), **_of(options, params)}
    build(options, {key: value for key, value in typed.items() if key != "workers"})


_VALUES: Final = {"train": _check_train, "encode": _check_encode, "decode": _check_decode}


def unknown_flags(words: Sequence[str]) -> list[str]:
    """The flags of a command that it does not have. The command need not be whole. Raises for an unknown command."""
    assert words[0] in known_commands(), f"there is no command {words[0]}"
    known = {flag for each in known_commands()[words[0]].params for flag in (*each.opts, *each.secondary_opts)}
    return [word for word in words[1:] if word.startswith("--") and word.partition("=")[0] not in {*known, "--help"}]
