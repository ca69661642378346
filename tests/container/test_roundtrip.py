"""What goes in comes out: every field of every kind of exemplar, by number, name, class and slice."""

from __future__ import annotations

import dataclasses
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import escort_codec
from escort_codec import EdgeSettings, Exemplar, Reader, Recipe, Writer, pack
from escort_codec.coding import codings
from escort_codec.container import assembler
from escort_codec.container.verify import verify
from escort_codec.errors import EscortError, LimitError, OutputError
from escort_codec.limits import MAX_HINT_SIDE, MAX_LABEL, MAX_NAME, MAX_PAYLOAD, MAX_PROMPT, MAX_SEEDS, MAX_SOURCE
from tests.container.strategies import contents
from tests.helpers import HINTS, assert_whole, draw_edges, make_exemplars, quick_folder, read_all


def write(path: Path, exemplars: list[Exemplar], source: str = "") -> Path:
    with Writer(path, source=source, overwrite=True) as writer:
        for exemplar in exemplars:
            writer.add(exemplar)
    return path


def assert_holds(path: Path, stored: list[Exemplar]) -> None:
    """The file holds exactly ``stored``, however it is asked."""
    with escort_codec.open(path) as reader:
        assert len(reader) == len(stored)
        assert list(reader) == stored
        assert [reader[i] for i in range(len(stored))] == stored
        assert [reader[-i - 1] for i in range(len(stored))] == stored[::-1]
        assert reader[1:-1] == stored[1:-1]
        assert reader[::-2] == stored[::-2]
        labels = {e.label: sum(f.label == e.label for f in stored) for e in stored}
        assert reader.labels == labels
        assert list(reader.labels) == list(labels)
        for label in labels:
            assert reader.of_label(label) == [i for i, e in enumerate(stored) if e.label == label]
        assert reader.seeds == tuple(sorted({s for e in stored for s in e.seeds}))
        assert list(reader.recipes) == list(dict.fromkeys(e.recipe for e in stored))
        for exemplar in stored:
            if exemplar.name:
                assert reader[exemplar.key] == exemplar
                assert exemplar.key in reader  # type: ignore[comparison-overlap]


@settings(max_examples=60, deadline=None)
@given(stored=contents, block=st.sampled_from([1, 2, 5, 256]), source=st.text(max_size=20).filter(str.isprintable))
def test_stored_exemplars_are_read_back(stored: list[Exemplar], block: int, source: str) -> None:
    with quick_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembler, "BLOCK_EXEMPLARS", block)
        path = write(folder / "f.escx", stored, source)
        assert path.read_bytes() == pack(stored, source=source)
        assert_holds(path, stored)
        assert assert_whole(path) == len(stored)
        with escort_codec.open(path) as reader:
            assert reader.source == source
            for exemplar in reader:
                if exemplar.kind == "prompt":
                    assert exemplar.edges.shape == exemplar.map_shape


def test_the_largest_number_of_seeds(tmp_path: Path) -> None:
    stored = [_prompt(name=str(i), seeds=tuple(range(i, 2 * MAX_SEEDS + i, 2))) for i in range(40)]
    path = write(tmp_path / "f.escx", stored)
    assert read_all(path) == stored
    assert_whole(path)


@pytest.mark.parametrize("shape", [(0, 0), (0, 9), (9, 0), (1, 1), (65535, 1), (1, 65535), (300, 500)])
def test_maps_of_every_shape(tmp_path: Path, shape: tuple[int, int]) -> None:
    edges = np.zeros(shape, np.bool_)
    edges[: shape[0] // 2] = True
    stored = [Exemplar.from_edges(edges, label="a", name=c, coding=c) for c in codings.names()]
    path = write(tmp_path / "f.escx", stored)
    assert all((e.edges == edges).all() for e in read_all(path))
    assert_whole(path)


def test_a_map_may_have_another_size_than_its_image(tmp_path: Path) -> None:
    made = Exemplar.from_edges(draw_edges(64, 128), label="a", size=(375, 500), coding="rle")
    (back,) = read_all(write(tmp_path / "f.escx", [made]))
    assert (back.size, back.map_shape, back.edges.shape) == ((375, 500), (64, 128), (64, 128))


def test_many_recipes_each_kept_with_its_exemplars(tmp_path: Path) -> None:
    stored = [
        Exemplar.from_edges(draw_edges(5, 5), label="a", name=str(i), recipe=Recipe(steps=i // 2 % 40, guidance=7))
        for i in range(120)
    ]
    path = write(tmp_path / "f.escx", stored)
    assert read_all(path) == stored
    with Reader(path) as reader:
        assert [r.steps for r in reader.recipes] == list(range(40))
    assert_whole(path)


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "f.escx", [])
    assert_holds(path, [])
    assert assert_whole(path) == 0
    with Reader(path) as reader:
        assert reader.of_label("x") == []
        with pytest.raises(IndexError):
            _ = reader[0]


def test_asking_for_missing_exemplars(tmp_path: Path) -> None:
    path = write(tmp_path / "f.escx", make_exemplars(10))
    with Reader(path) as reader:
        for number in (10, -11):
            with pytest.raises(IndexError, match="holds 10 exemplars"):
                _ = reader[number]
        for key in ("", "class-0", "class-0/", "class-0/sub", "zzz/a", "class-0/sub/image-000000.JPG"):
            with pytest.raises(KeyError):
                _ = reader[key]
            assert key not in reader  # type: ignore[comparison-overlap]
        with pytest.raises(TypeError):
            _ = reader[1.5]  # type: ignore[call-overload]
        assert 3 not in reader  # type: ignore[comparison-overlap]
        assert reader[np.int64(3)] == reader[3]
    with pytest.raises(EscortError, match="closed"):
        _ = Reader.__getitem__(reader, 0)
    with pytest.raises(EscortError, match="cannot be opened"):
        Reader(tmp_path / "none.escx")
    with pytest.raises(EscortError, match="null byte"):
        Reader("a\0b")


def test_exemplars_without_a_name_may_repeat_and_are_found_by_number(tmp_path: Path) -> None:
    stored = [Exemplar.from_edges(draw_edges(9, 9, i), label="a") for i in range(5)]
    path = write(tmp_path / "f.escx", stored)
    assert read_all(path) == stored
    assert_whole(path)


def test_a_repeated_name_is_refused_and_more_can_be_added(tmp_path: Path) -> None:
    first, other = make_exemplars(2)
    with Writer(tmp_path / "f.escx") as writer:
        writer.add(first)
        with pytest.raises(LimitError, match=r"class-0/sub/image-000000\.jpg: there is already an exemplar"):
            writer.add(first)
        writer.add(other)
    assert read_all(tmp_path / "f.escx") == [first, other]


def _prompt(**changes: Any) -> Exemplar:
    base = Exemplar.from_edges(draw_edges(8, 8), label="a", name="b", coding="rle")
    return dataclasses.replace(base, **changes)


def _real(**changes: Any) -> Exemplar:
    return dataclasses.replace(Exemplar.from_image(b"image", label="a", name="b", size=(3, 4)), **changes)


BAD = {
    "a label above the cap": _prompt(label="x" * (MAX_LABEL + 1)),
    "a label above the cap in bytes": _prompt(label="ä" * (MAX_LABEL // 2 + 1)),
    "no label": _prompt(label=""),
    "a label with a slash": _prompt(label="a/b"),
    "a label with a backslash": _prompt(label="a\\b"),
    "a label of dots": _prompt(label=".."),
    "a label with a drive": _prompt(label="C:evil"),
    "a label with a line end": _prompt(label="a\nb"),
    "a label with NUL": _prompt(label="a\0"),
    "a label that is no UTF-8": _prompt(label="a\udcff"),
    "a label that is no text": _prompt(label=b"a"),
    "a name above the cap": _prompt(name="x" * (MAX_NAME + 1)),
    "an absolute name": _prompt(name="/etc/passwd"),
    "a name that goes up": _prompt(name="a/../../b"),
    "a name with an empty part": _prompt(name="a//b"),
    "a name that ends in a slash": _prompt(name="a/"),
    "a name with a backslash": _prompt(name="a\\b"),
    "a name with a drive": _prompt(name="c:/b"),
    "a name with NUL": _prompt(name="a\0b"),
    "a name that is no UTF-8": _prompt(name="a\udc80"),
    "a prompt above the cap": _prompt(prompt="x" * (MAX_PROMPT + 1)),
    "a prompt that is no UTF-8": _prompt(prompt="\ud800"),
    "a side above the cap": _prompt(size=(65536, 1)),
    "too many pixels": _prompt(size=(65535, 65535)),
    "a negative side": _prompt(size=(-1, 5)),
    "a size in floats": _prompt(size=(8.0, 8.0)),
    "a size in numpy's integers": _prompt(size=(np.int64(8), np.int64(8))),
    "a map with too many pixels": _prompt(map_shape=(10000, 10000)),
    "an empty map of another size": _prompt(map_shape=(0, 8)),
    "too many seeds": _prompt(seeds=tuple(range(MAX_SEEDS + 1))),
    "seeds that fall": _prompt(seeds=(2, 1)),
    "a seed twice": _prompt(seeds=(1, 1)),
    "a negative seed": _prompt(seeds=(-1,)),
    "a seed of 33 bits": _prompt(seeds=(1 << 32,)),
    "a seed in numpy's integers": _prompt(seeds=(np.int64(1),)),
    "an empty hint": _prompt(hint=b""),
    "a hint that is none": _prompt(hint=b"hint, a small picture"),
    "a hint above the cap": _prompt(hint=HINTS[0] + bytes(1 << 16)),
    "a hint with a side above the cap": _prompt(
        hint=HINTS[0][:6] + (MAX_HINT_SIDE + 1).to_bytes(2, "little") + bytes(9)
    ),
    "a coding that is not there": _prompt(coding="zip"),
    "a prompt without its settings": _prompt(edge_settings=None),
    "a threshold above the cap": _prompt(edge_settings=EdgeSettings(high=65536)),
    "a negative threshold": _prompt(edge_settings=EdgeSettings(low=-1)),
    "a threshold in floats": _prompt(edge_settings=EdgeSettings(low=1.5)),  # type: ignore[arg-type]
    "a blur that is no number": _prompt(edge_settings=EdgeSettings(blur=float("nan"))),
    "a payload that is no bytes": _prompt(payload=bytearray(b"x")),
    "another kind": _prompt(kind="other"),
    "a real one with a hint": _real(hint=HINTS[0]),
    "a real one with a coding": _real(coding="rle"),
    "a real one with a map": _real(map_shape=(1, 1)),
    "a real one with settings": _real(edge_settings=EdgeSettings()),
    "an empty image file": _real(payload=b""),
    "a recipe that is a number": _prompt(recipe=Recipe(steps=2.5)),  # type: ignore[arg-type]
    "a recipe with no number": _prompt(recipe=Recipe(guidance=float("nan"))),
    "a recipe above the cap": _prompt(recipe=Recipe(negative_prompt="x" * (1 << 14))),
    "a recipe with a key twice": _prompt(recipe=Recipe(extra=(("a", "1"), ("a", "2")))),
    "a recipe that is no UTF-8": _prompt(recipe=Recipe(model="\ud800")),
    "a recipe with a number of 65 bits": _prompt(recipe=Recipe(steps=1 << 64)),
    "no recipe": _prompt(recipe=None),
}


@pytest.mark.parametrize("what", BAD)
def test_exemplars_above_a_cap_are_refused_before_anything_is_lost(tmp_path: Path, what: str) -> None:
    good = make_exemplars(5)
    with Writer(tmp_path / "f.escx") as writer:
        for exemplar in good[:3]:
            writer.add(exemplar)
        with pytest.raises(LimitError) as caught:
            writer.add(BAD[what])
        assert "\n" not in str(caught.value)
        assert len(writer) == 3
        for exemplar in good[3:]:
            writer.add(exemplar)
    assert read_all(tmp_path / "f.escx") == good
    assert_whole(tmp_path / "f.escx")


def test_a_payload_above_the_cap_is_refused_and_one_at_the_cap_is_stored(tmp_path: Path) -> None:
    largest = _real(payload=bytes(MAX_PAYLOAD))
    path = tmp_path / "f.escx"
    with Writer(path) as writer:
        writer.add(largest)
        with pytest.raises(LimitError, match="above the cap"):
            writer.add(_real(name="c", payload=bytes(MAX_PAYLOAD + 1)))
    with Reader(path) as reader:
        assert len(reader) == 1
        assert len(reader[0].payload) == MAX_PAYLOAD


def test_a_source_above_the_cap_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="source"):
        Writer(tmp_path / "f.escx", source="x" * (MAX_SOURCE + 1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cap", "value", "fields"),
    [
        ("MAX_EXEMPLARS", 5, {}),
        ("MAX_RECIPES", 5, {"recipe": lambda i: Recipe(steps=i)}),
        ("MAX_RECIPE_BYTES", 80, {"recipe": lambda i: Recipe(steps=i)}),
        ("MAX_INDEX_SEEDS", 5, {"seeds": lambda i: (7 * i,)}),
        ("MAX_LABELS", 5, {"label": lambda i: f"class {i}"}),
        ("MAX_INDEX", (1 << 20) + 2000, {"label": lambda i: f"{i:0200d}"}),
    ],
)
def test_too_much_for_a_file_is_one_clear_error_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cap: str, value: int, fields: dict[str, Any]
) -> None:
    monkeypatch.setattr(assembler, cap, value)
    monkeypatch.setattr(assembler, "BLOCK_EXEMPLARS", 2)
    stored: list[Exemplar] = []
    with Writer(tmp_path / "f.escx") as writer:
        for i in range(50):
            exemplar = _prompt(name=str(i), **{name: make(i) for name, make in fields.items()})
            try:
                writer.add(exemplar)
            except LimitError as exc:
                said = str(exc)
                break
            stored.append(exemplar)
    assert "cannot hold more" in said
    assert 2 <= len(stored) < 20
    assert read_all(tmp_path / "f.escx") == stored
    assert_whole(tmp_path / "f.escx")


def test_pack_is_what_the_writer_writes_across_blocks(tmp_path: Path) -> None:
    stored = make_exemplars(700)
    path = write(tmp_path / "f.escx", stored, "DATA")
    assert pack(iter(stored), source="DATA") == path.read_bytes()
    with Reader(path) as reader:
        assert len(reader.state.index.offsets) >= 3
        assert reader.size == path.stat().st_size
    assert_holds(path, stored)


def test_a_block_is_closed_at_half_a_mebibyte_of_payloads(tmp_path: Path) -> None:
    stored = [_real(name=str(i), payload=bytes([i]) * 150_000) for i in range(10)]
    with Reader(write(tmp_path / "f.escx", stored)) as reader:
        assert reader.state.index.counts == [4, 4, 2]
        assert list(reader) == stored


@pytest.mark.parametrize(("named", "most"), [(True, 16), (False, 8)])
def test_an_exemplar_costs_few_bytes_beside_its_payloads(named: bool, most: int) -> None:
    """Sizes, lengths and names as various as those of photographs; everything in the file is counted."""
    draw = random.Random(1)
    stored: list[Exemplar] = []
    for i in range(1024):
        size = draw.randrange(180, 320), draw.randrange(200, 400)
        stored.append(
            Exemplar(
                kind="prompt",
                label=f"class-{i // 64:02}",
                name=f"n0{i // 64:07}_{draw.randrange(10**5)}.JPEG" if named else "",
                size=size,
                prompt=f"class-{i // 64:02}",
                seeds=(0, 1, 2, 3, 4),
                payload=draw.randbytes(draw.randrange(700, 1500)),
                coding="context",
                map_shape=size,
                hint=HINTS[i % len(HINTS)],
                edge_settings=EdgeSettings(),
            )
        )
    stored = list({exemplar.key if named else id(exemplar): exemplar for exemplar in stored}.values())
    payloads = sum(len(e.payload) + len(e.hint or b"") for e in stored)
    assert len(pack(stored)) - payloads <= most * len(stored)


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "f.escx"
    with Writer(path) as writer:
        writer.add(make_exemplars(1)[0])
        assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["f.escx"]
    with pytest.raises(LimitError), Writer(path, overwrite=True) as writer:
        writer.add(BAD["no label"])
    assert read_all(path) == make_exemplars(1)
    assert [p.name for p in tmp_path.iterdir()] == ["f.escx"]
    with pytest.raises(OutputError, match="exists already"):
        Writer(path)
    writer.close()
    with pytest.raises(OutputError, match="closed"):
        writer.add(make_exemplars(1)[0])


def test_a_reader_is_pickled_as_the_file_was(tmp_path: Path) -> None:
    path = write(tmp_path / "f.escx", make_exemplars(9))
    with Reader(path) as reader:
        pickled = pickle.dumps(reader)
        with Writer(path, append=True) as writer:
            writer.add(_prompt())
        with pickle.loads(pickled) as back:
            assert list(back) == make_exemplars(9)
        write(path, make_exemplars(9, start=50))
        with pytest.raises(EscortError, match=r"replaced|is missing|trailer"):
            pickle.loads(pickled)
        write(path, [])
        with pytest.raises(EscortError, match="replaced"):
            pickle.loads(pickled)
        assert list(reader) == make_exemplars(9)  # the open file is the old one still


def test_how_a_reader_and_an_exemplar_describe_themselves(tmp_path: Path) -> None:
    with Reader(write(tmp_path / "f.escx", make_exemplars(9))) as reader:
        assert repr(reader) == f"<Reader of {str(tmp_path / 'f.escx')!r}: 9 exemplars in 3 classes>"
        prompt, real = reader[0], reader[3]
        assert prompt.key == "class-0/sub/image-000000.jpg"
        with pytest.raises(EscortError, match="is a prompt exemplar"):
            _ = prompt.image
        with pytest.raises(EscortError, match="is a real exemplar"):
            _ = real.edges
        assert real.image == real.payload
    assert verify(tmp_path / "f.escx").blocks == 1
