"""Makes the fuzzers' first inputs of the golden files: ``python tests/fuzz/golden_inputs.py CORPUS``."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from escort_codec.coding import codings
from escort_codec.container.reader import Reader

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"


def make_corpus(folder: Path) -> None:
    """``folder/container``: the golden files; ``folder/codings``: their maps under each coding, and their hints."""
    for part in ("container", "codings"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for path in sorted(VECTORS.glob("*.escx")):
        (folder / "container" / path.name).write_bytes(path.read_bytes())
        with Reader(path) as reader:
            prompts = [e for e in reader if e.coding in codings]
        for exemplar in prompts:
            if exemplar.hint:
                _write(folder / "codings", b"\x03" + exemplar.hint)
            height, width = exemplar.map_shape
            if max(height, width) <= 255:
                for coding in codings:
                    bits = coding.encode(exemplar.edges)
                    _write(folder / "codings", bytes([coding.number, height, width]) + bits)


def _write(folder: Path, data: bytes) -> None:
    (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tests/fuzz/golden_inputs.py CORPUS")
    make_corpus(Path(sys.argv[1]))
