"""The golden files: what the library reads, what a second reader written from the spec reads, and what was stored."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

import escort_codec
from escort_codec.coding import codings
from escort_codec.container.verify import verify
from tests.container import reference_reader

SPEC = Path(__file__).parents[2] / "spec"
VECTORS = sorted([*(SPEC / "vectors").glob("*.escx"), *(SPEC / "vectors" / "latent").glob("*.escx")])


def golden(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.with_suffix(".json").read_text("utf-8")))


def library(path: Path) -> dict[str, Any]:
    with escort_codec.open(path) as reader:
        rows = []
        for e in reader:
            row: dict[str, Any] = {"kind": e.kind, "class": e.label, "name": e.name, "size": list(e.size)}
            row |= {"prompt": e.prompt, "seeds": list(e.seeds), "recipe": e.recipe.to_map()}
            if e.kind != "prompt":
                row["image" if e.kind == "real" else "latents"] = base64.b64encode(e.payload).decode()
            else:
                assert e.edge_settings is not None
                row["coding"] = codings.get(e.coding).number
                row["map_size"] = list(e.map_shape)
                row["edges"] = ["".join(".#"[int(v)] for v in line) for line in e.edges]
                row["made"] = e.edge_settings.to_map()
                row["hint"] = base64.b64encode(e.hint).decode() if e.hint else None
                row |= {"hint_codec": e.hint_codec} if e.hint_codec != "vp8" else {}
            rows.append(row)
        return {"source": reader.source, "exemplars": rows}


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_the_library_reads_the_golden_files(path: Path) -> None:
    assert verify(path).fault is None
    assert library(path) == golden(path)


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_a_reader_written_from_the_spec_reads_the_same(path: Path) -> None:
    assert reference_reader.read(path) == golden(path)


def test_the_golden_files_cover_the_format() -> None:
    rows = [row for path in VECTORS for row in golden(path)["exemplars"]]
    assert {row["kind"] for row in rows} == {"prompt", "real", "latent"}
    prompts = [row for row in rows if row["kind"] == "prompt"]
    assert {row["coding"] for row in prompts} == {coding.number for coding in codings}
    assert {bool(row["hint"]) for row in prompts} == {True, False}
    for coding in codings:
        shapes = {tuple(row["map_size"]) for row in prompts if row["coding"] == coding.number}
        assert {(0, 0), (0, 5), (7, 0), (1, 1), (17, 9)} <= shapes
    tails = [kind for _, kind, _ in reference_reader.chunks((SPEC / "vectors" / "appended.escx").read_bytes())]
    assert tails.count("TAIL") == 2


def test_the_worked_example_is_the_file_byte_for_byte() -> None:
    text = (SPEC / "FORMAT.md").read_text("utf-8")
    example = text[text.index("## Worked example") : text.index("## Golden files")]
    lines = re.findall(r"^([0-9A-F]{4})  ((?:[0-9A-F]{2} ?)+)", example, re.MULTILINE)
    data = bytearray()
    for offset, octets in lines:
        assert int(offset, 16) == len(data)
        data += bytes.fromhex(octets)
    assert bytes(data) == (SPEC / "vectors" / "tiny.escx").read_bytes()


def test_the_tables_of_the_worked_example_are_those_of_the_file() -> None:
    text = (SPEC / "FORMAT.md").read_text("utf-8")
    example = text[text.index("## Worked example") : text.index("## Golden files")]
    shown = [bytes.fromhex(block) for block in re.findall(r"^```msgpack\n([0-9A-F\s]+?)```", example, re.MULTILINE)]
    found = reference_reader.chunks((SPEC / "vectors" / "tiny.escx").read_bytes())
    import zstandard

    unpack = zstandard.ZstdDecompressor().decompress
    block = next(payload for _, kind, payload in found if kind == "BLCK")
    index = next(payload for _, kind, payload in found if kind == "INDX")
    length = int.from_bytes(block[:4], "little")
    assert shown == [unpack(block[8 : 8 + length]), unpack(index)]
