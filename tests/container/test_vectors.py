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
from escort_codec.container.block import number_of_coding, number_of_hint_codec
from escort_codec.container.verify import verify
from tests.container import reference_reader
from tests.container.test_cases import level_of, reference_level

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
            payload = base64.b64encode(e.payload).decode()
            if e.kind != "prompt":
                row["image" if e.kind == "real" else "latents"] = payload
            else:
                assert e.edge_settings is not None
                row["coding"] = number_of_coding(e.coding)
                row["map_size"] = list(e.map_shape)
                known = e.coding in codings
                row["edges"] = ["".join(".#"[int(v)] for v in line) for line in e.edges] if known else None
                row |= {} if known else {"bits": payload}
                row["made"] = e.edge_settings.to_map()
                row["hint"] = base64.b64encode(e.hint).decode() if e.hint else None
                row |= {"hint_codec": number_of_hint_codec(e.hint_codec)} if e.hint else {}
            rows.append(row)
        return {"source": reader.source, "exemplars": rows}


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_the_library_reads_the_golden_files(path: Path) -> None:
    verdict = verify(path)
    if path.stem == "unknown":
        assert "odd/coding.png: its edge map is under coding 65000, which needs a newer escort" in str(verdict.fault)
    else:
        assert verdict.fault is None
    assert bool(verdict.note) == (path.stem == "later")
    assert library(path) == golden(path)


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_a_reader_written_from_the_spec_reads_the_same(path: Path) -> None:
    assert reference_reader.read(path) == golden(path)


def test_the_golden_files_cover_the_format() -> None:
    rows = [row for path in VECTORS for row in golden(path)["exemplars"]]
    assert {row["kind"] for row in rows} == {"prompt", "real", "latent"}
    prompts = [row for row in rows if row["kind"] == "prompt"]
    assert {row["coding"] for row in prompts} == {coding.number for coding in codings} | {65_000}
    assert {row.get("hint_codec") for row in prompts} == {None, 0, 1, 200}
    assert {bool(row["hint"]) for row in prompts} == {True, False}
    for coding in codings:
        shapes = {tuple(row["map_size"]) for row in prompts if row["coding"] == coding.number}
        assert {(0, 0), (0, 5), (7, 0), (1, 1), (17, 9)} <= shapes
    later = reference_reader.chunks((SPEC / "vectors" / "later.escx").read_bytes())
    assert sum(kind == "abcD" for _, kind, _ in later) == 3
    with escort_codec.open(SPEC / "vectors" / "wide.escx") as reader:
        (table,) = reader.tables()
        assert [getattr(c, "itemsize", 0) for c in (table.payload_length, table.width)] == [4, 2]
        keys = table.all_keys()
        assert table.key_range()[1] == max(keys) != max(keys, key=lambda key: key.encode("utf-16-be"))
    tails = [kind for _, kind, _ in reference_reader.chunks((SPEC / "vectors" / "appended.escx").read_bytes())]
    assert tails.count("TAIL") == 2


REFUSE = SPEC / "vectors" / "refuse"
RULES: dict[str, dict[str, str]] = json.loads((REFUSE / "rules.json").read_text("utf-8"))


@pytest.mark.parametrize("name", RULES)
def test_both_readers_refuse_what_the_spec_refuses(name: str) -> None:
    """The library as far as the file says, and the reader written from the spec with the number of the rule, too."""
    path, rule = REFUSE / name, RULES[name]
    assert level_of(path) == rule["level"]
    assert reference_level(path.read_bytes()) == (rule["level"], rule["rule"])


def test_there_is_a_file_for_each_rule_that_a_file_can_break() -> None:
    assert {path.name for path in REFUSE.glob("*.escx")} == set(RULES)
    text = (SPEC / "FORMAT.md").read_text("utf-8")
    demanded = set(re.findall(r"\((M\d+)\)", text))
    of_writers_and_of_what_is_accepted = {
        "M3",
        "M5",
        "M18",
        "M20",
        "M24",
        "M25",
        "M27",
        "M30",
        "M44",
        "M48",
        "M51",
        "M52",
    }
    assert {rule["rule"] for rule in RULES.values()} == demanded - of_writers_and_of_what_is_accepted


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
