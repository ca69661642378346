"""The viewer's reader, the second implementation of the spec, in node: golden files, refused files, coded maps."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from escort_cli.view_server import ViewServer
from escort_codec.coding import EdgeMap, codings
from escort_codec.errors import CodingError, EscortError
from escort_codec.latent.picture import decode_latent, encode_latent, read_latents
from tests.viewer.files import write_many
from tests.viewer.node import NODE, needs_node, run_node

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "spec" / "vectors"
GOLDEN = sorted([*VECTORS.glob("*.escx"), *(VECTORS / "latent").glob("*.escx")])
REFUSED = sorted((VECTORS / "refuse").glob("*.escx"))
LEVELS = ("open", "read", "use", "check")
"""How far a reader gets with a file that is to be refused (spec/FORMAT.md, "Golden files")."""

NOT_HERE = {"M29-hint-cut.escx": "node decodes no WebP; tests/viewer/test_browser.py has it"}
OTHER_RULE = {"M50-small-chunk-crc.escx": "M4"}
"""Files that break two rules at once, and the one that this reader names."""

pytestmark = needs_node


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the reader makes of all golden and refused files, by path."""
    return run_node("files", tmp_path_factory.mktemp("node"), *GOLDEN, *REFUSED)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_it_reads_the_golden_files(path: Path, answers: dict[str, Any]) -> None:
    golden = json.loads(path.with_suffix(".json").read_text("utf-8"))
    answer = answers[str(path)]["read"]
    assert answer["source"] == golden["source"]
    assert len(answer["exemplars"]) == len(golden["exemplars"])
    for found, wanted in zip(answer["exemplars"], golden["exemplars"], strict=True):
        for key in ("image", "latents", "bits"):
            if key in wanted:
                wanted["payload"] = wanted.pop(key)
        assert {key: found.get(key) for key in wanted} == wanted


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_it_finds_no_fault_but_what_it_does_not_know(path: Path, answers: dict[str, Any]) -> None:
    verdict = answers[str(path)]["verdict"]
    golden = json.loads(path.with_suffix(".json").read_text("utf-8"))
    if path.stem == "unknown":
        assert "65000, which this viewer does not know" in verdict["error"]
    else:
        minor = answers[str(path)]["opened"]["minor"]
        assert (verdict["exemplars"], verdict["later"]) == (len(golden["exemplars"]), minor)


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_it_refuses_what_breaks_a_rule_and_names_the_rule(path: Path, answers: dict[str, Any]) -> None:
    if path.name in NOT_HERE:
        pytest.skip(NOT_HERE[path.name])
    rule = json.loads((path.parent / "rules.json").read_text("utf-8"))[path.name]
    answer = answers[str(path)]
    assert answer["verdict"].get("rule") == OTHER_RULE.get(path.name, rule["rule"]), answer["verdict"]
    opened, read = "error" not in answer["opened"], answer["read"] and "error" not in answer["read"]
    level = "open" if not opened else "read" if not read else "use"
    if level == "use" and not any("fault" in exemplar for exemplar in answer["read"]["exemplars"]):
        level = "check"
    assert level == rule["level"]


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


def test_the_example_of_the_documentation_reads_over_a_network(tmp_path: Path) -> None:
    """It runs as it stands, with the address of a server here."""
    page = (ROOT / "docs" / "view.md").read_text("utf-8")
    (example,) = re.findall(r"```js\n(.*?)```", page, re.DOTALL)
    path = write_many(tmp_path / "many.escx", 1000)
    with ViewServer([path]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        example = example.replace("https://…/memory.escx", f"{server.address}files/0.escx")
        example = example.replace("'./viewer/", f"'{ROOT.as_uri()}/viewer/")
        (tmp_path / "example.mjs").write_text(
            f"{example}console.log(JSON.stringify([file.source.requests, file.source.bytes]));\n"
        )
        done = subprocess.run([str(NODE), "example.mjs"], cwd=tmp_path, capture_output=True, text=True, check=False)
        server.shutdown()
        thread.join()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1000 {")
    assert "name: '000000.png'" in done.stdout
    assert "Uint8Array" in done.stdout
    requests, size = json.loads(done.stdout.splitlines()[-1])
    assert requests == 3
    assert size < path.stat().st_size


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


def test_it_decodes_learned_pictures_as_the_library_does_and_refuses_what_the_library_refuses(tmp_path: Path) -> None:
    """The latents are equal; pixels differ by a grey level at most."""
    rng = np.random.default_rng(4)
    pictures = []
    for height, width in ((1, 1), (8, 8), (9, 17), (64, 48), (33, 129), (40, 40)):
        coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
        pixels = coarse.repeat(8, 0).repeat(8, 1)[:height, :width].astype(int) + rng.integers(
            -40, 40, (height, width, 3)
        )
        pictures.append(np.clip(pixels, 0, 255).astype(np.uint8))
    whole = [encode_latent(pixels, quality=int(rng.integers(0, 64))) for pixels in pictures]
    whole.append(encode_latent(rng.integers(0, 256, (16, 16, 3), np.uint8), quality=63))  # magnitudes beyond 14
    cases = [*whole, *(spoilt(data, rng) for data in whole[1:] for _ in range(40)), b"", b"\1", b"\1\x20\x80\0\0"]
    listing = [[base64.b64encode(data).decode(), number < len(whole)] for number, data in enumerate(cases)]
    (tmp_path / "latents.json").write_text(json.dumps(listing))
    found = run_node("latents", tmp_path, tmp_path / "latents.json")["latents"]
    refused = 0
    for data, (_, draw), answer in zip(cases, listing, found, strict=True):
        try:
            wanted = read_latents(data)
        except EscortError:
            refused += 1
            assert answer["rule"] in ("L1", "L2", "L3", "M38"), answer
            continue
        assert answer.get("size") == list(wanted.head.size), answer
        assert base64.b64decode(answer["latents"]) == wanted.values.astype("<i2").tobytes()
        if draw:
            drawn = np.frombuffer(base64.b64decode(answer["pixels"]), np.uint8).reshape(*wanted.head.size, 4)
            assert np.abs(drawn[:, :, :3].astype(int) - decode_latent(data)).max() <= 1
            assert (drawn[:, :, 3] == 255).all()
    assert 100 < refused < len(cases) - len(whole)


def test_a_task_that_comes_while_all_workers_are_prepared_has_its_turn_afterwards() -> None:
    assert NODE is not None
    command = [NODE, str(Path(__file__).with_name("pool.mjs"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "answered\n"), done.stderr
