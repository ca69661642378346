"""Learned pictures as files: seeds, the plain picture, mixtures, and what an existing tree holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import escort_codec
from escort_cli.app import app
from escort_codec.container import Reader
from escort_codec.errors import OutputError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.export.manifest import read_manifest
from escort_codec.export.options import ExportOptions
from escort_codec.export.tree import export_file
from escort_codec.latent.picture import encode_latent
from escort_codec.regenerate.harmonic import Harmonic, HarmonicOptions
from escort_codec.regenerate.latent import enlarged
from tests.helpers import draw_edges


def learned(name: str, seeds: tuple[int, ...] = (0, 1), shade: int = 0) -> Exemplar:
    y, x = np.mgrid[0:24, 0:32]
    rgb = np.stack([7 * x, 9 * y, np.full_like(x, shade)], axis=2).astype(np.uint8)
    data = encode_latent(rgb, quality=40)
    return Exemplar.from_latents(data, label="cat", name=name, size=(48, 64), seeds=seeds)


def written(path: Path, *exemplars: Exemplar) -> Reader:
    with escort_codec.Writer(path) as writer:
        for exemplar in exemplars:
            writer.add(exemplar)
    return escort_codec.open(path)


def files(out: Path) -> list[str]:
    return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and p.name != "manifest.jsonl")


HARMONIC = Harmonic(HarmonicOptions(workers=1))


def test_seeds_plain_pictures_and_none(tmp_path: Path) -> None:
    exemplars = learned("a.png"), learned("b.png", seeds=())
    with written(tmp_path / "f.escx", *exemplars) as reader:
        for options, wanted in (
            (ExportOptions(format="png"), ["cat/a_seed00.png", "cat/a_seed01.png", "cat/b_plain.png"]),
            (ExportOptions(plain=True, format="png"), ["cat/a_plain.png", "cat/b_plain.png"]),
            (ExportOptions(seeds=(7,), format="png"), ["cat/a_seed07.png", "cat/b_seed07.png"]),
        ):
            out = tmp_path / f"{wanted[0][4:-4]}{options.plain}"
            plan, outcome = export_file(reader, out, options, HARMONIC)
            assert (plan.missing.latent, outcome.latent, outcome.images, outcome.failed) == (len(wanted),) * 2 + (0, 0)
            assert files(out) == wanted
        with Image.open(tmp_path / "a_plainTrue" / "cat" / "a_plain.png") as shown:
            assert np.array_equal(np.asarray(shown), enlarged(exemplars[0]))
        entry = read_manifest(tmp_path / "a_seed07False")["cat/a_seed07.png"]
        assert (entry.kind, entry.seed, entry.regenerator) == ("latent", 7, "latent")
        _, outcome = export_file(reader, tmp_path / "none", ExportOptions(images=False, edges=True), HARMONIC)
        assert outcome.latent == outcome.edges == 0


def test_beside_prompts(tmp_path: Path) -> None:
    prompt = Exemplar.from_edges(draw_edges(12, 16), label="cat", name="p.png", seeds=(0,))
    with written(tmp_path / "f.escx", learned("a.png"), prompt) as reader:
        _, outcome = export_file(reader, tmp_path / "out", ExportOptions(edges=True), HARMONIC)
        assert (outcome.latent, outcome.images, outcome.edges, outcome.failed) == (2, 1, 1, 0)
        plan, outcome = export_file(reader, tmp_path / "plain", ExportOptions(plain=True), HARMONIC)
        assert files(tmp_path / "plain") == ["cat/a_plain.jpg"]
        assert plan.notes == ["1 exemplar without a plain picture: give `seeds`, such as 0-4"]
    with written(tmp_path / "p.escx", prompt) as reader, pytest.raises(UsageError, match="prompts alone"):
        export_file(reader, tmp_path / "p", ExportOptions(plain=True), HARMONIC)


def test_existing_pictures_are_kept_if_they_are_the_same(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with written(tmp_path / "f.escx", learned("a.png")) as reader:
        export_file(reader, out, ExportOptions(), HARMONIC)
        plan, outcome = export_file(reader, out, ExportOptions(), HARMONIC)
        assert (plan.skipped, outcome.latent) == (2, 0)
    with written(tmp_path / "g.escx", learned("a.png", shade=200)) as reader:
        plan, outcome = export_file(reader, out, ExportOptions(), HARMONIC)
        assert (plan.skipped, outcome.latent) == (0, 2)
        assert "other exemplars" in plan.notes[0]
    (out / "cat" / "a_plain.jpg").write_bytes(b"mine")
    with written(tmp_path / "h.escx", learned("a.png")) as reader, pytest.raises(OutputError, match="not from `escort"):
        export_file(reader, out, ExportOptions(plain=True), HARMONIC)


def test_damaged_latents_are_one_line_and_the_rest_is_written(tmp_path: Path) -> None:
    good = learned("a.png", seeds=(0,))
    bad = Exemplar.from_latents(good.payload + b"\0", label="cat", name="b.png", size=(48, 64), seeds=(0,))
    with written(tmp_path / "f.escx", bad, good) as reader:
        _, outcome = export_file(reader, tmp_path / "out", ExportOptions(), HARMONIC)
    assert (outcome.latent, outcome.failed) == (1, 1)
    assert outcome.failures == ["cat/b_seed00.jpg: the latents of a picture of 32 x 24 pixels are damaged"]


def test_from_the_shell(tmp_path: Path) -> None:
    data = tmp_path / "data" / "cat"
    data.mkdir(parents=True)
    for number in range(2):
        y, x = np.mgrid[0:50, 0:70]
        rgb = np.stack([3 * x, 4 * y, 90 * number + x], axis=2).astype(np.uint8)
        Image.fromarray(rgb).save(data / f"{number}.png")
    run = CliRunner().invoke
    file = str(tmp_path / "f.escx")
    made = run(app, ["encode", str(tmp_path / "data"), file, "--as", "latent:32:40", "--workers", "1"])
    assert made.exit_code == 0, made.stderr
    shown = run(app, ["decode", file, "--seeds", "plain", "--out", str(tmp_path / "out"), "--format", "png"])
    assert shown.exit_code == 0, shown.stderr
    assert "2 learned pictures" in shown.stdout
    assert files(tmp_path / "out") == ["cat/0_plain.png", "cat/1_plain.png"]
    for path in (tmp_path / "out").rglob("*.png"):
        with Image.open(path) as image:
            assert image.size == (70, 50)
    assert "2 latent" in run(app, ["inspect", file]).stdout
    assert run(app, ["verify", file]).exit_code == 0
