"""How all tests run: hypothesis's profile, which files are marked ``slow`` or ``browser``, which run in one process.

``make test-fast`` runs what is not marked. A new file is unmarked: list it here when it trains, starts other programs,
compiles, or takes more than about three seconds. A single slow test in a quick file is marked there.
"""

from __future__ import annotations

import os
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once
# Before anything imports torch: its threads wait actively, which costs the other processes of a test run their time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("escort", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("escort")

TESTS = Path(__file__).parent
FAST = "not slow and not browser"  # as in the Makefile
MARKED = {
    "browser": ("cli/test_report_browser.py", "viewer/test_browser.py"),
    "slow": (
        *("cil/data/test_images.py", "cil/data/test_pictures.py", "cil/data/test_store.py"),
        *("cil/memory/test_avalanche.py", "cil/memory/test_hub_datasets.py", "cil/memory/test_kinds.py"),
        *("cil/memory/test_synthetic.py", "cil/run/*", "cil/test_adapters.py", "cil/test_augment.py"),
        *("cil/test_auto.py", "cil/test_bench.py", "cil/test_continue.py", "cil/test_devices.py"),
        *("cil/test_docs_adapters.py", "cil/test_evaluation.py", "cil/test_evaluator.py", "cil/test_learners*.py"),
        *("cil/test_machines.py", "cil/test_networks.py", "cil/test_precheck.py", "cil/test_presets.py"),
        *("cil/test_pretrained.py", "cil/test_report.py", "cil/test_trainer.py"),
        *("cli/test_cli_encode.py", "cli/test_decode.py", "cli/test_docs_*.py", "cli/test_evaluate.py"),
        *("cli/test_streams.py", "cli/test_sweep.py", "cli/test_terminal.py", "cli/test_train.py"),
        *("codec/test_compiling.py", "codec/test_docs_library.py", "codec/test_processes.py", "codec/test_rate.py"),
        *("codec/test_workers.py", "container/test_concurrent.py", "container/test_damage.py"),
        *("container/test_hostile.py", "container/test_kill.py", "container/test_large.py", "demo/*", "engine/*"),
        *("export/test_learned.py", "export/test_tree.py", "fuzz/*", "imports/*", "regenerate/test_controlnet_*.py"),
        *("source/test_docs_data.py", "store/*", "test_cases.py", "test_extending.py", "test_packaging.py"),
        *("viewer/test_reader.py", "viewer/test_view.py"),
    ),
}
"""By mark, the files that have it, below ``tests``."""
ONE_PROCESS = (
    *("cil/run/test_checkpoint.py", "cil/run/test_untrusted.py", "cil/test_report.py", "cli/test_report_browser.py"),
    *("demo/test_command.py", "engine/test_ray.py", "test_packaging.py", "viewer/test_browser.py"),
)
"""Files whose tests share what takes seconds to make: one of pytest's processes runs them all."""


def marks_of(path: Path) -> list[str]:
    """The marks of a test file."""
    if not path.is_relative_to(TESTS):
        return []
    name = path.relative_to(TESTS).as_posix()
    return [mark for mark, patterns in MARKED.items() if any(fnmatch(name, pattern) for pattern in patterns)]


def group_of(path: Path) -> str:
    """The name of a test file in ``ONE_PROCESS``; else empty."""
    name = path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else ""
    return name if name in ONE_PROCESS else ""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files that ``make test-fast`` leaves out are not even imported."""
    wanted = config.option.markexpr == FAST and collection_path.is_file()
    return True if wanted and marks_of(collection_path) else None


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of the files in ``MARKED`` and ``ONE_PROCESS``."""
    for item in items:
        for mark in marks_of(item.path):
            item.add_marker(mark)
        if group := group_of(item.path):
            item.add_marker(pytest.mark.xdist_group(group))
