"""A coding, a regenerator, a learner and a kind of exemplar, each added as docs/architecture.md says, and used."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

import escort_codec
from escort_cil import RunResult, train
from escort_cil.learners import Hyperparameters, Learner, learners
from escort_cil.memory.kinds import ExemplarKind, kinds
from escort_cil.memory.prompts import Prompts
from escort_cil.networks import Output
from escort_cli.app import app
from escort_codec.coding import Coding, EdgeMap, codings, decode_edges, encode_edges
from escort_codec.coding.base import check_edges, check_shape
from escort_codec.encode.copies import real_exemplar
from escort_codec.errors import CodingError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import Recipe
from escort_codec.regenerate import Job, JobResult, Regenerator, make_regenerator, regenerators
from escort_codec.registry import Registry
from escort_codec.settings import setting
from escort_codec.source import SourceImage
from tests.cil.small_runs import draw_small, quick


@contextmanager
def added(registry: Registry[Any], name: str, member: Any) -> Iterator[None]:
    """A member of a registry in the block, and not after it."""
    before = dict(registry._members)
    registry.add(name, member)
    try:
        yield
    finally:
        registry._members.clear()
        registry._members.update(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_small(tmp_path_factory.mktemp("data"))


def run_once(data: Path, out: Path, **options: Any) -> RunResult:
    """A run of one phase with all classes."""
    result = train(quick(data, increment=5, epochs=1, **options), out=out)
    assert len(result.records) == 1
    return result


# A coding.


class Rows(Coding):
    """Each row that differs from the one above it, packed, behind its number: small for vertical lines."""

    name = "rows"
    number = 77

    def encode(self, edges: EdgeMap) -> bytes:
        check_edges(edges)
        new = [y for y in range(len(edges)) if y == 0 or (edges[y] != edges[y - 1]).any()]
        return b"".join(struct.pack("<H", y) + np.packbits(edges[y]).tobytes() for y in new)

    def decode(self, data: bytes, shape: tuple[int, int]) -> EdgeMap:
        check_shape(shape)
        size = 2 + (shape[1] + 7) // 8
        if not data or len(data) % size:
            raise CodingError(f"a row has {size} bytes")
        edges = np.zeros(shape, np.bool_)
        for start in range(0, len(data), size):
            bits = np.frombuffer(data[start + 2 : start + size], np.uint8)
            edges[struct.unpack_from("<H", data, start)[0] :] = np.unpackbits(bits)[: shape[1]]
        return edges


def test_a_coding(tmp_path: Path) -> None:
    edges = np.tile(np.random.default_rng(1).random(90) < 0.3, (64, 1))
    path = tmp_path / "lines.escx"
    with added(codings, Rows.name, Rows()):
        assert (decode_edges(encode_edges(edges, "rows"), edges.shape, "rows") == edges).all()
        with escort_codec.Writer(path) as writer:
            writer.add(Exemplar.from_edges(edges, label="cat", name="1.jpg", coding="rows"))
        with escort_codec.open(path) as reader:
            assert reader["cat/1.jpg"].coding == "rows"
            assert (reader["cat/1.jpg"].edges == edges).all()
        assert CliRunner().invoke(app, ["verify", str(path)]).exit_code == 0
    assert "rows" not in codings
    result = CliRunner().invoke(app, ["verify", str(path)])
    assert result.exit_code == 1
    assert "77" in result.stderr


# A regenerator.


@dataclass(frozen=True, slots=True)
class GreyOptions:
    """Settings of the grey regenerator."""

    level: int = setting(128, "The grey level.", least=0, most=255)


class Grey(Regenerator):
    """Images of one grey level; the seed is added to it."""

    name: ClassVar[str] = "grey"
    options_class: ClassVar[type] = GreyOptions

    def __init__(self, options: GreyOptions | None = None, near: str | None = None) -> None:
        self.options = options or GreyOptions()

    def recipe(self, exemplar: Exemplar) -> Recipe:
        return Recipe(preset=exemplar.recipe.preset, extra=(("level", str(self.options.level)),))

    def regenerate(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        for job in jobs:
            image = np.full((*job.exemplar.size, 3), self.options.level + job.seed, np.uint8)
            yield JobResult(job, image, self.recipe(job.exemplar))


def test_a_regenerator(data: Path, tmp_path: Path) -> None:
    path, images = tmp_path / "prompts.escx", tmp_path / "images"
    escort_codec.encode_folder(str(data), path)
    with added(regenerators, Grey.name, lambda: Grey):
        with escort_codec.open(path) as reader, make_regenerator("grey", {"level": "7"}) as regenerator:
            assert (regenerator.image(reader[0], 2) == 9).all()
        shown = CliRunner().invoke(
            app,
            f"decode {path} --regenerator grey --set level=9 --format png --out {images} --seeds 1 --workers 2".split(),
        )
        assert shown.exit_code == 0, shown.stderr
        made = list(images.rglob("*_seed01.png"))
        assert len(made) == 40
        assert (np.asarray(Image.open(made[0])) == 10).all()
        result = run_once(data, tmp_path / "run", keep="prompt", regenerator="grey", regenerator_options={"level": 9})
        assert result.records[-1]["memory_prompt"] > 0
        assert (result.config.regenerator, result.config.regenerator_options) == ("grey", {"level": 9})
    assert "grey" not in regenerators


# A learner.


@dataclass(frozen=True, slots=True)
class SmoothHyperparameters(Hyperparameters):
    """Settings of the learner with smoothed labels."""

    smoothing: float = setting(0.1, "Share of the uniform distribution in the labels.", least=0, most=1)


class Smooth(Learner):
    """Replay with smoothed labels."""

    name = "smooth"
    hyperparameters = SmoothHyperparameters
    config: SmoothHyperparameters
    calls = 0

    def loss(self, output: Output, images: Tensor, targets: Tensor) -> Tensor:
        type(self).calls += 1
        return F.cross_entropy(output.logits, targets, label_smoothing=self.config.smoothing)


def test_a_learner(data: Path, tmp_path: Path) -> None:
    with added(learners, Smooth.name, Smooth):
        result = run_once(data, tmp_path / "run", method="smooth", method_options={"smoothing": 0.3})
        assert Smooth.calls > 0
        assert result.config.hyperparameters().smoothing == 0.3  # type: ignore[attr-defined]
        shown = CliRunner().invoke(app, ["train", str(data), "--method", "smooth", "--settings"])
        assert shown.exit_code == 0, shown.stderr
        assert "method.smoothing" in shown.stdout
        assert CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--data", str(data)]).exit_code == 0
    assert "smooth" not in learners


# A kind of exemplar.


@dataclass(frozen=True, slots=True)
class Grayscale(ExemplarKind):
    """The picture as a PNG file of grey levels."""

    name = "grayscale"
    stored = "real"
    is_copy = True

    def make(self, image: SourceImage, picture: Image.Image | None, prompts: Prompts) -> Exemplar:
        assert picture is not None
        file = io.BytesIO()
        picture.convert("L").save(file, "PNG")
        return real_exemplar(image, file.getvalue())


def test_a_kind_of_exemplar(data: Path, tmp_path: Path) -> None:
    with added(kinds, Grayscale.name, Grayscale):
        result = run_once(data, tmp_path / "run", budget="20KB", keep="60% grayscale + 40% prompt")
    last = result.records[-1]
    assert last["memory_real"] > 0
    assert last["memory_prompt"] > 0
    with escort_codec.open(tmp_path / "run" / "memory.escx") as reader:
        reals = [exemplar for exemplar in reader if exemplar.kind == "real"]
    assert {Image.open(io.BytesIO(exemplar.image)).mode for exemplar in reals} == {"L"}
    assert "grayscale" not in kinds
