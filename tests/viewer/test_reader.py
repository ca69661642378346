"""The viewer's reader, the second implementation of the spec, in node: golden files, refused files, coded maps."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from escort_codec.coding import EdgeMap, codings
from escort_codec.errors import CodingError
from tests.viewer.node import needs_node, run_node

VECTORS = Path(__file__).parents[2] / "spec" / "vectors"
GOLDEN = sorted(VECTORS.glob("*.escx"))
REFUSED = sorted((VECTORS / "refuse").glob("*.escx"))

pytestmark = needs_node


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the reader makes of all golden and refused files, by path."""
    return run_node("files", tmp_path_factory.mktemp("node"), *GOLDEN, *REFUSED)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_it_reads_the_golden_files(path: Path, answers: dict[str, Any]) -> None:
    golden = json.loads(path.with_suffix(".json").read_text("utf-8"))
    answer = answers[str(path)]
    assert answer["source"] == golden["source"]
    assert len(answer["exemplars"]) == len(golden["exemplars"])
    for found, wanted in zip(answer["exemplars"], golden["exemplars"], strict=True):
        if "image" in wanted:
            wanted["payload"] = wanted.pop("image")
        assert {key: found.get(key) for key in wanted} == wanted


def random_maps() -> list[EdgeMap]:
    """Maps of many shapes and densities; some with noise beside emptiness, which quiet blocks meet."""
    rng = np.random.default_rng(7)
    found = []
    for _ in range(60):
        height, width = (int(side) for side in rng.integers(0, 90, 2))
        edges = rng.random((height, width)) < rng.choice([0.003, 0.05, 0.2, 0.5, 0.97])
        edges[:, : int(rng.integers(0, 60))] &= bool(rng.integers(0, 2))
        found.append(edges)
    found.append(np.zeros((3, 1000), np.bool_))
    found.append(np.ones((200, 200), np.bool_))
    return found


def spoilt(data: bytes, rng: np.random.Generator) -> bytes:
    """``data`` with a byte changed, taken away, or put in."""
    at = int(rng.integers(0, len(data) + 1))
    byte = bytes([int(rng.integers(0, 256))])
    kind = int(rng.integers(0, 4))
    if kind == 0:
        return data[:at] + byte + data[at + 1 :]
    if kind == 1:
        return data[:at] + data[at + 1 :]
    return data[:at] if kind == 2 else data[:at] + byte + data[at:]


def test_it_decodes_maps_as_the_library_does_and_refuses_what_the_library_refuses(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    cases = []
    for edges in random_maps():
        for coding in codings:
            data = coding.encode(edges)
            cases += [(coding, edges.shape, each) for each in (data, *(spoilt(data, rng) for _ in range(6)))]
    wanted: list[list[str] | None] = []
    for coding, shape, data in cases:
        try:
            wanted.append(["".join(".#"[int(v)] for v in line) for line in coding.decode(data, shape)])
        except CodingError:
            wanted.append(None)
    listing = [[c.number, *shape, base64.b64encode(data).decode()] for c, shape, data in cases]
    (tmp_path / "maps.json").write_text(json.dumps(listing))
    found = run_node("maps", tmp_path, tmp_path / "maps.json")["maps"]
    assert [None if isinstance(each, dict) else each for each in found] == wanted
    assert 200 < wanted.count(None) < len(wanted) - 200
    assert all(each["rule"] in ("M32", "M33", "M34", "M35", "M36") for each in found if isinstance(each, dict))
