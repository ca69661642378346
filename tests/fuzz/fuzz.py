"""Coverage-guided fuzzing of everything that reads a stranger's file (needs ``pip install atheris``).

    python -m tests.fuzz.fuzz CORPUS [-max_total_time=600 and other options of libFuzzer]

CORPUS is a folder that grows; an empty or missing one is filled first. A finding is written to ``crash-<hash>`` in the
current folder and stops the run; ``python -m tests.fuzz.fuzz FILE`` tries it again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris

# numba compiles the kernels from their bytecode, which must not be instrumented: import them first.
from escort_codec.coding import context_kernels, rle_kernels  # noqa: F401
from escort_codec.latent import kernels  # noqa: F401

with atheris.instrument_imports(include=["escort_codec", "escort_cil", "tests.fuzz.targets", "tests.fuzz.run_targets"]):
    from tests.fuzz import corpus, targets


def main() -> None:
    """Fills the corpus if it is empty, and fuzzes."""
    os.fsync = lambda fd: None  # nothing here needs to outlast a power cut, and syncing takes most of the time
    for place in map(Path, (a for a in sys.argv[1:2] if not a.startswith("-"))):
        if not place.is_file() and not (place.is_dir() and any(place.iterdir())):
            print(f"{place}: {corpus.write(place)} inputs to begin with")
    atheris.Setup(sys.argv, targets.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
