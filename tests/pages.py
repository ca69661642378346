"""The blocks of code on the repository's pages, what runs them, and what cannot run.

A block marked ``sh``, ``shell``, ``python``, ``pycon`` or ``js`` runs as a test. A block that cannot is in ``NOT_RUN``
with its reason; its commands are at least parsed (``tests/commands.py``).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from typer.testing import CliRunner

from escort_cli.app import app

ROOT: Final = Path(__file__).parents[1]
SHELL: Final = ("sh", "shell")
PROMPTS: Final = ("python", "pycon")

DOCTESTED: Final = {
    "docs/data.md": "tests/source/test_docs_data.py",
    "docs/library.md": "tests/codec/test_docs_library.py",
    "docs/memory-adapters.md": "tests/cil/test_docs_adapters.py",
    "docs/scale.md": "tests/cli/test_docs_commands.py",
}
"""By page, the test that runs its Python blocks, which are written with prompts."""

SHELL_RUN: Final = {
    "docs/training.md": "tests/cli/test_docs_training.py",
    **dict.fromkeys(
        (
            "README.md",
            "docs/choose.md",
            "docs/formats.md",
            "docs/index.md",
            "docs/rate.md",
            "docs/regeneration.md",
            "docs/scale.md",
            "docs/view.md",
        ),
        "tests/cli/test_docs_commands.py",
    ),
}
"""By page, the test that runs its shell blocks."""

OTHERS_RUN: Final = {
    ("docs/view.md", "js"): "tests/viewer/test_reader.py",
}
"""By page and language, the test that runs other blocks."""

GPU: Final = "wants ControlNet's weights (6 GB) and a GPU"
SEVERAL: Final = "wants several GPUs or machines"
SET_UP: Final = "makes a virtual environment and installs into it: CI does that"
NOT_RUN: Final = {
    "README.md": {
        "make demo": SET_UP,
        "python3 -m venv .venv &&…": SET_UP,
        "make test": "runs these tests",
        " source files…": "output of the commands above it, on photographs",
        "phase 5 finished…": "output of the command above it, on photographs",
    },
    "CONTRIBUTING.md": {
        "make test-fast": "runs these tests",
        "pip install pyright &&…": "installs pyright",
    },
    "REPRODUCE.md": {
        "escort train DATA --config configs/…": "trains on a data set",
        "escort encode DATA prompts.escx --hint 0 --seeds 0-4": GPU,
    },
    "docs/architecture.md": {
        "data folder ──source──>…": "a drawing",
        "cli.py…": "a list; tests/test_structure.py checks it",
    },
    "docs/choose.md": {
        "escort train DATA --budget 200KB --keep auto --out runs/auto": "takes minutes; see tests/cil/test_auto.py",
    },
    "docs/memory-adapters.md": {
        "self._data_memory, self._targets_memory = pycil_memory(": "a line for PyCIL's code",
        "from escort_cil.memory.avalanche_buffer import EscxBuffer, EscxReplay": (
            "wants avalanche-lib; tests/cil/memory/test_avalanche.py has the buffer"
        ),
        "from datasets import load_dataset": "downloads a data set; tests/cil/memory/test_hub_datasets.py has the rest",
    },
    "docs/regeneration.md": {
        "escort decode memory.escx --seeds 0-4 --regenerator controlnet": GPU,
        "escort train ./data --regenerator controlnet…": GPU,
        "hf download…": "downloads weights",
        "accelerate launch --multi_gpu…": GPU,
    },
    "docs/scale.md": {
        "pip install 'escort[remote]'": "wants a store; tests/store/test_urls.py reads and writes S3 and HTTP",
        "pip install 'escort[ray]'": "wants a cluster; tests/engine/test_ray.py starts Ray here",
        "torchrun --nproc-per-node 8…": SEVERAL,
        "torchrun --nnodes 2…": SEVERAL,
        "#!/bin/bash": "wants Slurm",
        "from ray.train import ScalingConfig": "wants a Ray cluster with GPUs",
    },
    "docs/training.md": {
        "pip install 'escort[pretrained]'": "downloads pretrained models; tests/cil/test_pretrained.py has them",
        "escort train data --track tensorboard --out runs/watched": "TensorBoard serves until it is stopped",
        "accelerate launch --multi_gpu…": SEVERAL,
    },
    "docs/view.md": {
        "escort view memory.escx": "serves until Ctrl-C; tests/viewer/test_view.py starts it",
    },
}
"""By page and by the first line of a block (with … by how it begins), why it does not run."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its page below the root, language (may be empty), text, and the number of its first line."""

    page: str
    language: str
    text: str
    line: int

    @property
    def first(self) -> str:
        """The first line, by which ``NOT_RUN`` knows the block."""
        return self.text.partition("\n")[0].rstrip()

    @property
    def listed(self) -> str:
        """Its key in ``NOT_RUN``; empty if it has none."""
        keys = NOT_RUN.get(self.page, {})
        return next((key for key in keys if self.first == key or _begins(self.first, key)), "")

    @property
    def reason(self) -> str:
        """Why it does not run; empty if it does."""
        return NOT_RUN[self.page][self.listed] if self.listed else ""


def _begins(line: str, key: str) -> bool:
    return key.endswith("…") and line.startswith(key[:-1])


def pages() -> list[Path]:
    """The pages whose blocks run."""
    names = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "REPRODUCE.md", "benchmarks/README.md")
    return [*(ROOT / name for name in names), *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, languages: Sequence[str] = (), *, run: bool = False) -> list[Block]:
    """The fenced blocks of a page in order; of these ``languages`` alone, and ``run`` for those that run."""
    text = page.read_text("utf-8")
    name = page.relative_to(ROOT).as_posix() if page.is_relative_to(ROOT) else page.name
    found = [
        Block(name, match[2], match[3], text.count("\n", 0, match.start()) + 2)
        for match in re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    ]
    return [each for each in found if (not languages or each.language in languages) and not (run and each.reason)]


def inline_code(page: Path) -> list[str]:
    """What stands between backquotes outside of blocks, with its line breaks as spaces."""
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


SHELL_ONLY: Final = ("<<", " &", "$", "|", ">", ";", "`", "*")


def run_block(block: Block, shorten: Callable[[list[str]], list[str]] = list) -> str:
    """Runs a shell block in the current folder and returns what it printed on stdout; fails where it fails.

    Lines that are one ``escort`` command run in this process, as importing torch a dozen times would take longer than
    most of them; ``shorten`` may change their words. Every other block is bash's.
    """
    lines = [line for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]
    bare = [re.sub(r"'[^']*'|\"[^\"]*\"", "", line.partition(" #")[0]) for line in lines]
    if any(not line.startswith("escort ") or any(mark in line for mark in SHELL_ONLY) for line in bare):
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            ["bash", "-e", "-c", block.text], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{block.page}:{block.line}\n{block.text}\n{done.stderr}"
        return done.stdout
    printed = ""
    for line in lines:
        result = CliRunner().invoke(app, shorten(shlex.split(line, comments=True)[1:]))
        assert result.exit_code == 0, f"{block.page}:{block.line}\n{line}\n{result.output}"
        printed += result.stdout
    return printed
