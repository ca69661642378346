from __future__ import annotations

import errno
import io
import json
import os
import stat
import threading
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import escort_codec
from escort_codec.container import Reader
from escort_codec.errors import EscortError, OutputError, RegenerationError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.export.file_data import encode_image
from escort_codec.export.manifest import read_manifest, repair
from escort_codec.export.options import ExportOptions
from escort_codec.export.plan import ExportPlan, make_plan, missing_tasks
from escort_codec.export.tree import Outcome, export_file, prepare_tree, write_tree
from escort_codec.hint import encode_hint
from escort_codec.names import SUFFIXES, fold
from escort_codec.progress import Progress
from escort_codec.recipe import Recipe
from escort_codec.regenerate import Job, JobResult, Regenerator, image_digest
from escort_codec.regenerate.harmonic import Harmonic, HarmonicOptions
from escort_codec.source import FORMATS

EDGES = np.zeros((12, 16), bool)
EDGES[3:9, 5] = EDGES[3, 5:11] = True
HINT = encode_hint(np.full((12, 16, 3), (200, 90, 30), np.uint8))


def _prompt(label: str = "cat", name: str = "a.jpg", seeds: tuple[int, ...] = (0, 1), **more: Any) -> Exemplar:
    return Exemplar.from_edges(EDGES, label=label, name=name, seeds=seeds, **({"hint": HINT} | more))


def _real(label: str = "cat", name: str = "r.png", grey: int = 77) -> Exemplar:
    file = io.BytesIO()
    Image.fromarray(np.full((5, 7, 3), grey, np.uint8)).save(file, "PNG")
    return Exemplar.from_image(file.getvalue(), label=label, name=name, size=(5, 7))


def _escx(path: Path, exemplars: Iterable[Exemplar]) -> Reader:
    with escort_codec.Writer(path) as writer:
        for exemplar in exemplars:
            writer.add(exemplar)
    return escort_codec.open(path)


def _decode(
    reader: Reader, out: Path, options: ExportOptions | None = None, regenerator: Regenerator | None = None, **more: Any
) -> tuple[ExportPlan, Outcome]:
    options = options or ExportOptions()
    regenerator = regenerator or Harmonic(HarmonicOptions(workers=1))
    plan = make_plan(reader, out, options, regenerator)
    prepare_tree(out)
    return plan, write_tree(reader, out, plan, regenerator, options, **more)


def _paths(reader: Reader, out: Path, options: ExportOptions | None = None, **more: Any) -> list[str]:
    """The paths of the missing files; the plan counts as many."""
    options = options or ExportOptions()
    plan = make_plan(reader, out, options, more.get("regenerator"))
    paths = [task.path for task in missing_tasks(reader, out, options, **more)]
    assert plan.missing.files == len(paths)
    return paths


def _files(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and p.name != "manifest.jsonl")


def _lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text("utf-8").splitlines()]


# The tree


def test_the_tree_of_a_small_file(tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt(), _prompt("dog", "x/b.c.png", (7, 123)), _real()])
    plan, outcome = _decode(reader, tmp_path / "out", ExportOptions(edges=True))
    assert _files(tmp_path / "out") == [
        "cat/a_edges.png",
        "cat/a_seed00.jpg",
        "cat/a_seed01.jpg",
        "cat/r.png",
        "dog/x/b_c_edges.png",
        "dog/x/b_c_seed07.jpg",
        "dog/x/b_c_seed123.jpg",
    ]
    assert (outcome.images, outcome.edges, outcome.real, outcome.failed) == (4, 2, 1, 0)
    assert plan.exemplars == 3
    assert (tmp_path / "out/cat/r.png").read_bytes() == reader["cat/r.png"].image
    with Image.open(tmp_path / "out/cat/a_edges.png") as edges:
        assert edges.mode == "1"
        assert np.array_equal(np.asarray(edges), EDGES)
    with Image.open(tmp_path / "out/cat/a_seed01.jpg") as image:
        assert image.format == "JPEG"
        assert image.size == (16, 12)
        made = Harmonic(HarmonicOptions(workers=1)).image(reader["cat/a.jpg"], 1)
        assert np.abs(np.asarray(image, int) - made).mean() < 6


def test_the_manifest_says_what_each_image_was_made_of(tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt(seeds=(4,)), _real()])
    _decode(reader, tmp_path / "out", ExportOptions(edges=True))
    recipe = Harmonic().recipe(reader[0])
    same = {"seed": None, "regenerator": None, "recipe": None, "quality": None}
    lines = sorted(_lines(tmp_path / "out"), key=lambda line: str(line["image"]))
    assert lines == [
        {
            "image": "cat/a_edges.png",
            "exemplar": "cat/a.jpg",
            "label": "cat",
            "number": 0,
            "kind": "edges",
            "digest": image_digest(reader[0]),
            **same,
        },
        {
            "image": "cat/a_seed04.jpg",
            "exemplar": "cat/a.jpg",
            "label": "cat",
            "number": 0,
            "kind": "image",
            "seed": 4,
            "regenerator": "harmonic",
            "recipe": recipe.to_map(),
            "digest": image_digest(reader[0], 4, "harmonic", recipe.to_map()),
            "quality": 95,
        },
        {
            "image": "cat/r.png",
            "exemplar": "cat/r.png",
            "label": "cat",
            "number": 1,
            "kind": "real",
            "digest": image_digest(reader[1]),
            **same,
        },
    ]


@pytest.mark.parametrize(("file_format", "pillow"), [("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_formats(file_format: str, pillow: str) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    file = encode_image(rgb, ExportOptions(format=file_format))
    with Image.open(io.BytesIO(file)) as image:
        assert image.format == pillow
        assert image.size == (30, 40)
        if file_format == "png":
            assert np.array_equal(np.asarray(image), rgb)
    if file_format != "png":
        assert len(encode_image(rgb, ExportOptions(format=file_format, quality=30))) < len(file)


@pytest.mark.parametrize(
    "options",
    [
        {"format": "bmp"},
        {"format": "png", "quality": 90},
        {"quality": 0},
        {"format": "webp", "quality": 101},
        {"workers": 0},
        {"format": "JPG"},
    ],
)
def test_formats_that_are_not_valid(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ExportOptions(**options)


def test_the_quality_of_a_file_is_recorded_and_kept(tmp_path: Path) -> None:
    with _escx(tmp_path / "a.escx", [_prompt(seeds=(0,)), _real()]) as reader:
        out, edges = tmp_path / "out", ExportOptions(quality=75, edges=True)
        _decode(reader, out, edges)
        assert {line["kind"]: line["quality"] for line in _lines(out)} == {"image": 75, "edges": None, "real": None}
        assert _paths(reader, out, edges, regenerator=Harmonic(HarmonicOptions(workers=1))) == []
        with pytest.raises(OutputError, match="was saved with quality 75, not 95: choose another folder"):
            _decode(reader, out)
        _decode(reader, out, ExportOptions(overwrite=True))
        assert {entry.quality for entry in read_manifest(out).values() if entry.kind == "image"} == {95}
        _decode(reader, tmp_path / "png", ExportOptions(format="png"))
        assert [line["quality"] for line in _lines(tmp_path / "png")] == [None, None]


# Resume


def test_existing_files_are_not_made_again(tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt(), _prompt(name="b.jpg"), _real()])
    out = tmp_path / "out"
    _decode(reader, out, ExportOptions(seeds=(0,)))
    (out / "cat/a_seed00.jpg").write_bytes(b"the user's own")
    before = (out / "cat/b_seed00.jpg").stat()
    plan, outcome = _decode(reader, out, ExportOptions(seeds=(0, 1)))
    assert plan.skipped == 3
    assert outcome.images == 2
    assert (out / "cat/a_seed00.jpg").read_bytes() == b"the user's own"
    assert (out / "cat/b_seed00.jpg").stat() == before
    assert sorted(line["image"] for line in _lines(out)) == _files(out)


def test_nothing_is_opened_if_nothing_is_missing(tmp_path: Path) -> None:
    class Lazy(Harmonic):
        def regenerate(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
            raise AssertionError("the regenerator was started")

    reader = _escx(tmp_path / "m.escx", [_prompt()])
    _decode(reader, tmp_path / "out")
    assert export_file(reader, tmp_path / "out", ExportOptions(), Lazy())[1] == Outcome()


def test_an_empty_file_is_made_again_and_overwrite_makes_all(tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt()])
    out = tmp_path / "out"
    _decode(reader, out)
    (out / "cat/a_seed00.jpg").write_bytes(b"")
    assert _paths(reader, out, regenerator=Harmonic()) == ["cat/a_seed00.jpg"]
    plan, _ = _decode(reader, out)
    assert plan.missing.images == 1
    plan, _ = _decode(reader, out, ExportOptions(overwrite=True))
    assert plan.missing.images == 2
    repair(out)
    assert len(_lines(out)) == 2


def test_another_regenerators_images_are_not_mixed_in(tmp_path: Path) -> None:
    class Other(Harmonic):
        name = "other"

    reader = _escx(tmp_path / "m.escx", [_prompt()])
    _decode(reader, tmp_path / "out", ExportOptions(seeds=(0,)))
    with pytest.raises(OutputError, match="holds images by the harmonic"):
        make_plan(reader, tmp_path / "out", ExportOptions(seeds=(0, 1)), Other())
    _, outcome = _decode(reader, tmp_path / "out", ExportOptions(seeds=(0, 1), overwrite=True), Other())
    assert outcome.images == 2
    repair(tmp_path / "out")
    assert {line["regenerator"] for line in _lines(tmp_path / "out")} == {"other"}


class Stepped(Harmonic):
    """Harmonic with a recipe of its own."""

    def __init__(self, **recipe: Any) -> None:
        super().__init__(HarmonicOptions(workers=1))
        self.values = recipe

    def recipe(self, exemplar: Exemplar) -> Recipe:
        return Recipe(**self.values)

    def regenerate(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        for result in super().regenerate(jobs):
            yield replace(result, recipe=self.recipe(result.job.exemplar))


def test_images_of_another_recipe_are_refused(tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt()])
    out = tmp_path / "out"
    _decode(reader, out, regenerator=Stepped(steps=20, extra=(("torch", "1"),)))
    for same in (Stepped(steps=20, extra=(("torch", "2"),)), Stepped(steps=20, model_revision="abc")):
        assert make_plan(reader, out, ExportOptions(), same).skipped == 2
    with pytest.raises(OutputError, match=r"cat/a_seed00.jpg: was made with another recipe \(steps 20, not 50\)"):
        make_plan(reader, out, ExportOptions(), Stepped(steps=50))
    _, outcome = _decode(reader, out, ExportOptions(overwrite=True), Stepped(steps=50))
    assert outcome.images == 2
    assert make_plan(reader, out, ExportOptions(), Stepped(steps=50)).skipped == 2


def test_another_version_of_the_regenerator_makes_its_images_anew(tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt()])
    _decode(reader, tmp_path / "out", regenerator=Stepped(extra=(("harmonic", "1"), ("numpy", "1"))))
    newer = Stepped(extra=(("harmonic", "2"), ("numpy", "1")))
    assert make_plan(reader, tmp_path / "out", ExportOptions(), newer).missing.images == 2


@pytest.mark.parametrize("change", ["edges", "hint", "prompt", "size", "real"])
def test_files_of_other_exemplars_of_the_same_names_are_made_anew(change: str, tmp_path: Path) -> None:
    """What `escort encode --force` of other images leaves in an old folder is never taken for the new."""
    options = ExportOptions(edges=True)
    old = [_prompt(), _prompt("dog", "b.jpg"), _real()]
    _decode(_escx(tmp_path / "m.escx", old), tmp_path / "out", options)
    new = {
        "edges": Exemplar.from_edges(~EDGES, label="cat", name="a.jpg", seeds=(0, 1), hint=HINT),
        "hint": _prompt(hint=None),
        "prompt": _prompt(prompt="a grey cat"),
        "size": _prompt(size=(24, 32)),
        "real": _prompt(),
    }[change]
    real = _real(grey=78) if change == "real" else _real()
    reader = _escx(tmp_path / "n.escx", [new, _prompt("dog", "b.jpg"), real])
    remade = 1 if change == "real" else 3
    plan, outcome = _decode(reader, tmp_path / "out", options)
    assert (plan.skipped, plan.missing.files) == (7 - remade, remade)
    assert (outcome.images, outcome.edges, outcome.real) == ((0, 0, 1) if change == "real" else (2, 1, 0))
    files = "1 existing file" if remade == 1 else "3 existing files"
    assert plan.notes == [f"{files} made of other exemplars with the same names: made anew"]
    assert make_plan(reader, tmp_path / "out", options, Harmonic()).skipped == 7
    fresh = tmp_path / "fresh"
    _decode(reader, fresh, options)
    for file in _files(fresh):
        assert (fresh / file).read_bytes() == (tmp_path / "out" / file).read_bytes()


def test_files_of_other_names_and_of_nobody_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _decode(_escx(tmp_path / "m.escx", [_prompt()]), out)
    with pytest.raises(OutputError, match=r"cat/a_seed00\.jpg: was made of cat/a\.jpg"):
        make_plan(_escx(tmp_path / "n.escx", [_prompt(name="a.png")]), out, ExportOptions(), Harmonic())
    (out / "manifest.jsonl").unlink()
    with pytest.raises(OutputError, match=r"cat/a_seed00\.jpg: is not in manifest\.jsonl"):
        make_plan(escort_codec.open(tmp_path / "m.escx"), out, ExportOptions(), Harmonic())


# Strangers' files


def test_real_exemplars_are_written_as_images_only(tmp_path: Path) -> None:
    exemplars = [
        _real(".git", "config"),
        _real("c", ".ssh/authorized_keys"),
        _real("c", "conftest.py"),
        _real("c", "x.pdf.exe"),
        _real("c", "r.jpg"),
        Exemplar.from_image(b"[core]\n\tfsmonitor = touch x\n", label=".git", name="HEAD", size=(5, 7)),
        Exemplar.from_image(b"ref: x", label=".git", name="refs/heads/main", size=(5, 7)),
        Exemplar.from_image(b"\xff\xd8\xff and no more", label="c", name="torn.jpg", size=(5, 7)),
        Exemplar.from_image(b"BMx", label="c", name="setup.py", size=(5, 7)),
        replace(_real("c", "large.png"), size=(5, 8)),
    ]
    plan, outcome = _decode(_escx(tmp_path / "m.escx", exemplars), tmp_path / "out")
    assert _files(tmp_path / "out") == [
        "_git/config.png",
        "c/_ssh/authorized_keys.png",
        "c/conftest.png",
        "c/r.png",
        "c/x_pdf.png",
    ]
    assert (outcome.real, outcome.failed, plan.failed) == (5, 3, 2)
    unknown = "is not an image of a known format (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF, JPEG2000 and PPM)"
    said = "\n".join(plan.failures + sorted(outcome.failures))
    assert said.splitlines() == [
        f".git/HEAD: {unknown}",
        f".git/refs/heads/main: {unknown}",
        "c/large.png: c/large.png: declares 8 x 5 pixels, but its file has 7 x 5",
        "c/setup.bmp: c/setup.py: is not an image",
        "c/torn.jpg: c/torn.jpg: is not an image",
    ]


@pytest.mark.parametrize("kind", sorted(SUFFIXES))
def test_every_format_of_the_spec_is_written(kind: str, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((5, 7, 3), 77, np.uint8)).save(file, kind)
    reader = _escx(tmp_path / "m.escx", [Exemplar.from_image(file.getvalue(), label="c", name="x.exe", size=(5, 7))])
    _, outcome = _decode(reader, tmp_path / "out")
    assert outcome.failures == []
    assert _files(tmp_path / "out") == [f"c/x{SUFFIXES[kind][0]}"]
    assert (tmp_path / "out" / _files(tmp_path / "out")[0]).read_bytes() == file.getvalue()
    assert set(SUFFIXES) == set(FORMATS)


def test_every_exemplar_of_a_valid_file_is_decoded(tmp_path: Path) -> None:
    """Names that become the same file once they are made safe, or that no system takes."""
    names = [
        "xx.png",
        "yy.png",
        "a/b.png",
        "..png",
        ".png",
        "...",
        "c/" * 500 + "d",
        "CON",
        "con.",
        "nul.jpg",
        "-r",
        "*",
    ]
    exemplars = [_prompt("c", name, (0, 5)) for name in names]
    exemplars += [
        _real("c", name) for name in ("xx:seed05.jpg", "yy<edges.png", "a", "a/b_seed00.jpg", "?", ":", "A.png/x")
    ]
    exemplars += [_prompt(label, "x", (0,)) for label in ("manifest.1.jsonl", "manifest.jsonl", "C", "c.", "c ", "...")]
    exemplars += [_prompt("c", "", (0,)), _prompt("c", "", (0,))]
    plan, outcome = _decode(_escx(tmp_path / "m.escx", exemplars), tmp_path / "out", ExportOptions(edges=True))
    assert (plan.exemplars, plan.failures, outcome.failures) == (27, [], [])
    written = _files(tmp_path / "out")
    assert len(written) == outcome.images + outcome.edges + outcome.real == 12 * 3 + 7 + 6 * 2 + 2 * 2
    assert len({fold(path) for path in written}) == len(written)
    assert sorted(line["image"] for line in _lines(tmp_path / "out")) == written


def test_work_that_the_file_chooses_needs_a_word(tmp_path: Path) -> None:
    """A file of some hundred bytes asks for four million images of 64 megapixels."""
    path = tmp_path / "m.escx"
    small = Exemplar.from_edges(np.zeros((8, 8), bool), label="c", seeds=tuple(range(4096)))
    large = replace(small, size=(8192, 8192), map_shape=(8192, 8192))
    with escort_codec.Writer(path) as writer:
        for _ in range(1024):
            writer.add(large)
    assert path.stat().st_size < 2000
    reader = escort_codec.open(path)
    with pytest.raises(UsageError) as caught:
        make_plan(reader, tmp_path / "out", ExportOptions())
    assert str(caught.value) == (
        f"{path} asks for 4,194,304 images, 281,475 gigapixels, about 84,442,493 MB: above 200,000 files or "
        "50 gigapixels set `yes`, or choose fewer (`seeds`, `limit`)"
    )
    assert make_plan(reader, tmp_path / "out", ExportOptions(limit=1, seeds=(0,))).missing.pixels == 1 << 26
    assert make_plan(reader, tmp_path / "out", ExportOptions(yes=True)).missing.images == 1 << 22
    assert not (tmp_path / "out").exists()


def test_memory_does_not_grow_with_the_tasks(tmp_path: Path) -> None:
    """Nor does the time until the first one."""
    edges = np.zeros((8, 8), bool)
    exemplars = [Exemplar.from_edges(edges, label="c", seeds=tuple(range(4096))) for _ in range(100)]
    reader = _escx(tmp_path / "m.escx", exemplars)
    options = ExportOptions(yes=True)
    tracemalloc.start()
    try:
        assert make_plan(reader, tmp_path / "out", options).missing.images == 409_600
        assert sum(1 for _ in islice(missing_tasks(reader, tmp_path / "out", options), 50_000)) == 50_000
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()


# The manifest


def test_names_in_any_script_stand_in_the_manifest(tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt("猫", "été\u2028.jpg", (0,))])
    _decode(reader, tmp_path / "out")
    assert list(read_manifest(tmp_path / "out")) == ["猫/été__seed00.jpg"]
    assert json.loads((tmp_path / "out/manifest.jsonl").read_bytes())["exemplar"] == "猫/été\u2028.jpg"
    assert "猫" in (tmp_path / "out/manifest.jsonl").read_text("utf-8")


# Choosing a part


def test_choosing_a_part(tmp_path: Path) -> None:
    exemplars = [_prompt(label, f"{n}.jpg", (0,)) for n in range(3) for label in ("cat", "dog", "bird")]
    reader = _escx(tmp_path / "m.escx", exemplars)

    def paths(**choice: Any) -> list[str]:
        return _paths(reader, tmp_path / "out", ExportOptions(**choice))

    assert len(paths()) == 9
    assert paths(labels=("dog",)) == [f"dog/{n}_seed00.jpg" for n in range(3)]
    assert paths(labels=("dog", "bird"), names=("1.jpg",)) == ["dog/1_seed00.jpg", "bird/1_seed00.jpg"]
    assert paths(names=("cat/?.j*", "bird/0.jpg")) == [
        "cat/0_seed00.jpg",
        "bird/0_seed00.jpg",
        "cat/1_seed00.jpg",
        "cat/2_seed00.jpg",
    ]
    assert paths(limit=2, seeds=(3, 5)) == [f"{c}/0_seed0{s}.jpg" for c in ("cat", "dog") for s in (3, 5)]
    assert paths(images=False, edges=True, limit=1) == ["cat/0_edges.png"]
    assert paths(labels=("bird",), limit=1, format="png") == ["bird/0_seed00.png"]


def test_brackets_in_names_stand_for_themselves(tmp_path: Path) -> None:
    reader = _escx(
        tmp_path / "m.escx", [_prompt("z", name, (0,)) for name in ("[a]1.png", "a2.png", "b.png", "a+.png")]
    )

    def paths(*names: str) -> list[str]:
        return _paths(reader, tmp_path / "out", ExportOptions(names=names))

    assert paths("[a]*") == paths("z/[a]1.png") == ["z/[a]1_seed00.jpg"]
    assert paths("a+.png", "z/?.png") == ["z/b_seed00.jpg", "z/a+_seed00.jpg"]


@pytest.mark.parametrize(
    "choice",
    [
        {"labels": ("cta",)},
        {"names": ("nothing",)},
        {"limit": 0},
        {"images": False},
    ],
)
def test_choices_that_are_not_valid(choice: dict[str, Any], tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt()])
    with pytest.raises(UsageError) as caught:
        make_plan(reader, tmp_path / "out", ExportOptions(**choice))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_near_class_name_is_offered(tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt("elephant")])
    with pytest.raises(UsageError, match="did you mean 'elephant'"):
        make_plan(reader, tmp_path / "out", ExportOptions(labels=("elefant",)))


def test_exemplars_without_seeds(tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt(seeds=()), _prompt(name="b.jpg", seeds=(1,))])
    plan = make_plan(reader, tmp_path / "out", ExportOptions())
    assert _paths(reader, tmp_path / "out") == ["cat/b_seed01.jpg"]
    assert plan.notes[0] == "1 exemplar without recorded seeds, so without images: give `seeds`, such as 0-4"
    lone = _escx(tmp_path / "n.escx", [_prompt(seeds=())])
    with pytest.raises(UsageError, match="give `seeds`, such as 0-4"):
        make_plan(lone, tmp_path / "out", ExportOptions())


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_shares_are_all_tasks_and_none_twice(world: int, tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt(name=f"{n}.jpg", seeds=tuple(range(7))) for n in range(19)])
    options, out = ExportOptions(edges=True), tmp_path / "out"
    _decode(reader, out, ExportOptions(seeds=(3,)))
    plan = make_plan(reader, out, options, Harmonic(), world=world)
    shares = [
        [task.path for task in missing_tasks(reader, out, options, Harmonic(), rank=rank, world=world)]
        for rank in range(world)
    ]
    assert [len(share) for share in shares] == plan.shares
    assert sum(plan.shares) == plan.missing.files == 19 * 7
    fresh = make_plan(reader, tmp_path / "new", options, Harmonic(), world=world)
    assert max(fresh.shares) - min(fresh.shares) <= 4
    whole = [task.path for task in missing_tasks(reader, out, options, Harmonic())]
    assert sorted(path for share in shares for path in share) == sorted(whole)
    assert len(set(whole)) == 133


def test_two_shares_make_the_tree_that_one_makes(tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt(name=f"{n}.jpg") for n in range(5)])
    _decode(reader, tmp_path / "one")
    plan = make_plan(reader, tmp_path / "two", ExportOptions(), Harmonic(), world=2)
    prepare_tree(tmp_path / "two")
    for rank in range(2):
        write_tree(reader, tmp_path / "two", plan, Harmonic(), ExportOptions(), rank=rank)
    assert len(list((tmp_path / "two").glob("manifest.*.jsonl"))) == 2
    prepare_tree(tmp_path / "two")
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    for file in _files(tmp_path / "one"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert sorted(map(str, _lines(tmp_path / "one"))) == sorted(map(str, _lines(tmp_path / "two")))


def test_names_do_not_depend_on_the_part_that_is_chosen(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "A.jpg", "b.jpg", "e\u0301.jpg", unicodedata.normalize("NFC", "e\u0301") + ".jpg"]
    exemplars = [_prompt(label, name, (0,)) for label in ("x", "X") for name in names]
    reader = _escx(tmp_path / "m.escx", exemplars)
    whole = _paths(reader, tmp_path / "out")
    assert len(set(map(fold, whole))) == 12
    parts = []
    for label in ("x", "X"):
        for name in names:
            parts += _paths(reader, tmp_path / "out", ExportOptions(labels=(label,), names=(name,)))
    assert parts == whole
    assert _paths(reader, tmp_path / "out", ExportOptions(limit=3)) == whole[:3]


# Links, files in the way, failures


@pytest.mark.parametrize("link", ["out/cat", "out/cat/a_seed00.jpg", "out/manifest.jsonl", "out/dog/x"])
def test_links_in_the_tree_are_refused(link: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tmp_path / link
    path.parent.mkdir(parents=True)
    path.symlink_to(outside if "." not in path.name else outside / "target", target_is_directory=True)
    reader = _escx(tmp_path / "m.escx", [_prompt(), _prompt("dog", "x/a.jpg")])
    with pytest.raises(OutputError, match="symbolic link"):
        _decode(reader, tmp_path / "out")
    assert list(outside.iterdir()) == []


def test_a_link_that_appears_while_writing_is_refused_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt()])
    plan = make_plan(reader, tmp_path / "out", ExportOptions(), Harmonic())
    prepare_tree(tmp_path / "out")
    (tmp_path / "outside").mkdir()

    class Linking(Harmonic):
        def regenerate(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
            for number, result in enumerate(super().regenerate(jobs)):
                if number == 0:
                    (tmp_path / "out/cat").symlink_to(tmp_path / "outside", target_is_directory=True)
                yield result

    outcome = write_tree(reader, tmp_path / "out", plan, Linking(), ExportOptions())
    assert outcome.failed == 2
    assert "symbolic link" in caplog.messages[0]
    assert list((tmp_path / "outside").iterdir()) == []


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real", target_is_directory=True)
    _, outcome = _decode(_escx(tmp_path / "m.escx", [_prompt()]), tmp_path / "out")
    assert outcome.images == 2


def test_a_file_where_the_folder_belongs(tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt()])
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        make_plan(reader, tmp_path / "out", ExportOptions())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/cat").write_text("")
    with pytest.raises(OutputError, match="cat"):
        make_plan(reader, tmp_path / "other", ExportOptions())


class Counter(Progress):
    """Counts, and calls ``then`` after each."""

    def __init__(self, then: Callable[[int], None] = lambda done: None) -> None:
        self.done = 0
        self._then = then

    def advance(self, count: int = 1, note: str = "") -> None:
        self.done += count
        self._then(self.done)


def test_a_failed_image_is_reported_and_the_rest_continues(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    exemplars = [_prompt(), _prompt(name="bad.jpg", hint=b"\x10\0\0\x9d\x01\x2a\x10\0\x10\0"), _prompt(name="c.jpg")]
    reader = _escx(tmp_path / "m.escx", exemplars)
    progress = Counter()
    _, outcome = _decode(reader, tmp_path / "out", progress=progress)
    assert (outcome.images, outcome.failed, progress.done) == (4, 2, 6)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert [line.partition(":")[0] for line in sorted(caplog.messages)] == ["cat/bad_seed00.jpg", "cat/bad_seed01.jpg"]
    assert sorted(line["image"] for line in _lines(tmp_path / "out")) == _files(tmp_path / "out")


def test_a_damaged_block_is_reported_once_and_the_rest_continues(tmp_path: Path) -> None:
    path = tmp_path / "m.escx"
    rng = np.random.default_rng(0)
    large = [
        Exemplar.from_edges(rng.random((200, 300)) < 0.5, label="cat", name=f"{n}", seeds=(0,)) for n in range(700)
    ]
    with _escx(path, large) as reader:
        block, row = reader._index.find(0)
        at = reader._index.offsets[block] + 2000
        blocks = len(reader._index.offsets)
        lost = reader._index.counts[block]
    assert (blocks > 1, row) == (True, 0)
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)
    plan = make_plan(escort_codec.open(path), tmp_path / "out", ExportOptions(labels=("cat",)))
    assert len(plan.failures) == 1
    assert plan.failures[0].startswith("exemplar 0: ")
    assert (plan.missing.files, plan.failed) == (700 - lost, lost)


def test_a_full_disk_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real_sync = os.fsync
    calls = count()

    def full(file: int) -> None:  # in two threads
        if stat.S_ISREG(os.fstat(file).st_mode) and next(calls) in (1, 2):  # folders are synced too
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_sync(file)

    reader = _escx(tmp_path / "m.escx", [_prompt(name=f"{n}.jpg") for n in range(3)])
    monkeypatch.setattr(os, "fsync", full)
    _, outcome = _decode(reader, tmp_path / "out")
    assert (outcome.images, outcome.failed) == (4, 2)
    assert "No space left" in caplog.messages[0]
    assert len(_files(tmp_path / "out")) == 4
    monkeypatch.undo()
    plan, outcome = _decode(reader, tmp_path / "out")
    assert (plan.skipped, outcome.images) == (4, 2)
    assert sorted(line["image"] for line in _lines(tmp_path / "out")) == _files(tmp_path / "out")


def test_the_regenerators_own_failure_is_raised_and_what_was_made_stays(tmp_path: Path) -> None:
    class Breaks(Harmonic):
        def regenerate(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
            for number, result in enumerate(super().regenerate(jobs)):
                if number == 2:
                    raise RegenerationError("the model is gone")
                yield result

    reader = _escx(tmp_path / "m.escx", [_prompt(name=f"{n}.jpg") for n in range(9)])
    with pytest.raises(RegenerationError, match="the model is gone"):
        _decode(reader, tmp_path / "out", regenerator=Breaks(HarmonicOptions(workers=1)))
    assert len(_files(tmp_path / "out")) == 2


def test_a_fault_of_ours_is_not_swallowed(tmp_path: Path) -> None:
    class Wrong(Harmonic):
        def regenerate(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
            for result in super().regenerate(jobs):
                yield JobResult(result.job, "no image", result.recipe)  # type: ignore[arg-type]

    reader = _escx(tmp_path / "m.escx", [_prompt()])
    with pytest.raises(AttributeError):
        _decode(reader, tmp_path / "out", regenerator=Wrong())


def test_stop_ends_after_the_images_in_flight(tmp_path: Path) -> None:
    reader = _escx(tmp_path / "m.escx", [_prompt(name=f"{n}.jpg", seeds=tuple(range(20))) for n in range(40)])
    stop = threading.Event()
    regenerator = Harmonic(HarmonicOptions(workers=1))

    def after(done: int) -> None:
        if done == 5:
            stop.set()
            regenerator.stop()

    _, outcome = _decode(reader, tmp_path / "out", regenerator=regenerator, progress=Counter(after), stop=stop)
    assert 5 <= outcome.images < 200
    assert len(_files(tmp_path / "out")) == outcome.images == len(_lines(tmp_path / "out"))


def test_the_queue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a disk that hangs, the regenerator must stop rather than fill the memory."""
    go = threading.Event()
    made = 0

    class Counting(Harmonic):
        def regenerate(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
            nonlocal made
            for result in super().regenerate(jobs):
                made += 1
                yield result

    def hang(path: Path, data: bytes, before: object = None) -> None:
        go.wait(30)

    monkeypatch.setattr("escort_codec.export.tree.write_file", hang)
    reader = _escx(tmp_path / "m.escx", [_prompt(name=f"{n}.jpg", seeds=tuple(range(20))) for n in range(10)])
    thread = threading.Thread(
        target=_decode, args=(reader, tmp_path / "out", None, Counting(HarmonicOptions(workers=1)))
    )
    thread.start()
    for _ in range(100):
        before = made
        threading.Event().wait(0.05)
        if made == before > 0:
            break
    assert 1 <= made <= 10
    go.set()
    thread.join()


# Folders


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EscortError):
        prepare_tree(tmp_path / "file" / "out")


@pytest.mark.parametrize(("file_format", "longest"), [("jpg", 65_500), ("webp", 16_383), ("png", 65_535)])
def test_an_image_that_is_too_long_for_its_format(file_format: str, longest: int) -> None:
    options = ExportOptions(format=file_format)
    fits = np.zeros((1, longest, 3), np.uint8)
    assert Image.open(io.BytesIO(encode_image(fits, options))).size == (longest, 1)
    if file_format != "png":  # which takes the longest side that an exemplar may have
        with pytest.raises(OutputError, match=f"{file_format} takes {longest:,}: set `format` to png"):
            encode_image(np.zeros((longest + 1, 1, 3), np.uint8), options)
