"""``harmonic``: the colour hint spread by diffusion inside the edge map's outlines.

A stand-in that needs no weights and no GPU. It restores a blurred picture with sharp outlines and adds nothing that is
not in the hint and the edges; do not compare it with ControlNet's output.

Method: the image u minimises  sum over links c |grad u|^2 + sum over pixels p |u - t|^2  (compare the diffusion curves
of Orzan et al. 2008, and the edge-based compression of Mainberger and Weickert 2009). A link between 4-neighbours has
c = 1, or ``weak`` if one of the two is an edge pixel; t is the enlarged hint. It is solved from coarse to fine with
red-black Gauss-Seidel sweeps. On each level t is corrected by the difference between the hint and the image averaged
over the hint's pixels (iterative back-projection, Irani and Peleg 1991), so that edges sharpen and means stay.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import ModuleType
from typing import ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from escort_codec.coding import EdgeMap
from escort_codec.errors import EscortError, RegenerationError
from escort_codec.exemplar import Exemplar
from escort_codec.recipe import Recipe
from escort_codec.regenerate.base import Job, JobResult, Regenerator, RGBImage
from escort_codec.regenerate.harmonic_variation import Variation, plain_hint, resized, warp
from escort_codec.settings import check, setting
from escort_codec.workers import compiling, usable_cores

VERSION: Final = "1"
"""Increases when the same exemplar and seed give another image; part of the recipe."""

MAX_SOLVED: Final = 1 << 22
"""Most pixels on which the equations are solved; a larger edge map is halved, the image enlarged at the end."""

MAX_TOGETHER: Final = 8
"""Most seeds of one exemplar per task; they share its links."""

IN_FLIGHT: Final = 512 << 20
"""The most bytes of images that are being made or wait for the caller; a larger image is alone."""

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Solver:
    """How the equations are solved. The defaults were best on photographs of about 300 x 240 pixels."""

    weak: float = 0.003
    """Conductance of a link at an edge pixel."""
    pull: float = 0.4
    """The hint's pull p on a level of its own size; in proportion to a pixel's area on the others."""
    rounds: tuple[int, ...] = (1, 4, 8)
    """Corrections of t: on the finest level, the one above, and all others."""
    sweeps: int = 2
    """Gauss-Seidel sweeps per round."""


@dataclass(frozen=True, slots=True)
class HarmonicOptions:
    """The harmonic regenerator's options."""

    workers: int | None = setting(None, "Threads that make and save images; one per core if left out.", least=1)

    def __post_init__(self) -> None:
        check(self)


class Harmonic(Regenerator):
    """The harmonic regenerator.

    Deterministic: the same exemplar and seed give the same bytes on one machine, and on others the same image within
    one grey level. An exemplar without a hint becomes a shaded line drawing on a plain colour that the seed
    chooses. A seed varies brightness, contrast, colour, and warps the picture a little (``variation``).
    """

    name: ClassVar[str] = "harmonic"
    options_class: ClassVar[type] = HarmonicOptions

    def __init__(
        self, options: HarmonicOptions | None = None, near: str | None = None, solver: Solver | None = None
    ) -> None:
        options = options or HarmonicOptions()
        self.workers: int = options.workers or usable_cores()
        self.solver: Solver = solver or Solver()

    def recipe(self, exemplar: Exemplar) -> Recipe:
        """The preset, and as ``extra`` the versions of this method, numpy and OpenCV; nothing else applies."""
        facts = (("harmonic", VERSION), ("numpy", np.__version__), ("opencv", cv2.__version__))
        return Recipe(preset=exemplar.recipe.preset, extra=facts)

    def regenerate(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        """One result for each job, in the jobs' order; reads at most a few jobs per thread ahead."""
        _kernels()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="harmonic")
        ahead: deque[tuple[int, Future[list[JobResult]]]] = deque()
        try:
            for group in _grouped(jobs):
                if self.stopping:
                    break
                size = len(group) * _bytes_of(group[0].exemplar)
                while ahead and (len(ahead) > 2 * self.workers or size + sum(each for each, _ in ahead) > IN_FLIGHT):
                    yield from ahead.popleft()[1].result()
                ahead.append((size, pool.submit(self._make, group)))
            while ahead:
                yield from ahead.popleft()[1].result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _make(self, jobs: list[Job]) -> list[JobResult]:
        """The images of one exemplar. An error becomes the result of all its jobs."""
        exemplar = jobs[0].exemplar
        recipe = self.recipe(exemplar)
        try:
            scene = Scene.of(exemplar, self.solver)
            return [JobResult(job, scene.image(job.seed), recipe) for job in jobs]
        except (EscortError, MemoryError, ValueError, cv2.error) as exc:
            error = RegenerationError(f"{exemplar.key}: {exc}")
            error.__cause__ = exc
            return [JobResult(job, None, recipe, error) for job in jobs]


@dataclass(frozen=True, slots=True)
class Scene:
    """What the images of one exemplar share: ``edges`` bool (H, W) and its links on every level, ``hint`` uint8 RGB
    (h, w, 3), the images' ``size`` (height, width). ``drawn``: the exemplar has no hint, and the image is a drawing."""

    edges: EdgeMap
    hint: RGBImage
    drawn: bool
    size: tuple[int, int]
    solver: Solver
    levels: list[tuple[Plane, Plane]] = field(repr=False)

    @classmethod
    def of(cls, exemplar: Exemplar, solver: Solver) -> Scene:
        """Decodes edge map and hint; raises EscortError if they are damaged or have no pixels."""
        edges = exemplar.edges
        if not edges.size or 0 in exemplar.size:
            raise RegenerationError("the image has no pixels")
        while edges.size > MAX_SOLVED:
            edges = _halved(edges)
        drawn = exemplar.hint is None
        pixels = exemplar.hint_pixels
        hint = plain_hint(edges) if pixels is None else pixels
        height, width = min(hint.shape[0], edges.shape[0]), min(hint.shape[1], edges.shape[1])
        hint = resized(hint, (height, width), cv2.INTER_AREA)
        return cls(edges, hint, drawn, exemplar.size, solver, _levels(edges, (height, width), solver.weak))

    def image(self, seed: int) -> RGBImage:
        """The image of one seed, uint8 RGB (*size, 3)."""
        variation = Variation.of(seed)
        solved = self._solve(variation.recolour(self.hint, plain=self.drawn))
        pixels: RGBImage = np.empty((*self.edges.shape, 3), np.uint8)
        _kernels().finish(solved, self.edges, pixels)
        if self.drawn:
            _draw_lines(pixels, self.edges)
        return warp(pixels, self.size, variation)

    def _solve(self, hint: Plane) -> Plane:
        """The solution on the finest level, float32 (H + 2, W + 2, 3), of ``hint``: luma, Cb, Cr, float32 (h, w, 3).

        A hint's chroma has half the resolution of its luma. So its pull is a quarter and its corrections are coarser;
        else colours would leak over the outlines.
        """
        kernels = _kernels()
        target, shape = hint, (hint.shape[0], hint.shape[1])
        image: Plane | None = None
        for level in range(len(self.levels) - 1, -1, -1):
            across, down = self.levels[level]
            height, width = across.shape[0] - 2, across.shape[1] - 2
            pull = np.float32(self.solver.pull * shape[0] * shape[1] / (height * width))
            guess = np.zeros((height + 2, width + 2, 3), np.float32)
            if image is None:
                guess[1:-1, 1:-1] = resized(hint, (height, width), cv2.INTER_AREA)
            else:
                kernels.enlarge(image, *self.levels[level + 1], guess)
            image = guess
            finer = height > shape[0] and width > shape[1]
            rounds = self.solver.rounds[min(level, len(self.solver.rounds) - 1)] if finer else 1
            for number in range(rounds):
                enlarged = resized(target, (height, width), cv2.INTER_LINEAR)
                kernels.relax(image, across, down, enlarged, pull, pull / np.float32(4), self.solver.sweeps)
                if finer and (level or number + 1 < rounds):
                    difference = hint - resized(image[1:-1, 1:-1], shape, cv2.INTER_AREA)
                    difference[:, :, 1:] = _at_half(difference[:, :, 1:])
                    target = target + difference
        assert image is not None
        return image


@functools.cache
def _kernels() -> ModuleType:
    with compiling("the harmonic regenerator"):
        from escort_codec.regenerate import harmonic_kernels
    return harmonic_kernels


def _grouped(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Jobs that follow each other and have the same exemplar, ``MAX_TOGETHER`` a list, fewer of large images."""
    group: list[Job] = []
    for job in jobs:
        most = min(MAX_TOGETHER, IN_FLIGHT // 4 // _bytes_of(job.exemplar))
        if group and (job.exemplar is not group[0].exemplar or len(group) >= most):
            yield group
            group = []
        group.append(job)
    if group:
        yield group


def _bytes_of(exemplar: Exemplar) -> int:
    """Bytes of one image of an exemplar."""
    return max(1, 3 * exemplar.size[0] * exemplar.size[1])


def _levels(edges: EdgeMap, coarsest: tuple[int, int], weak: float) -> list[tuple[Plane, Plane]]:
    """The links of every level, the finest first, down to the first that is no larger than ``coarsest``."""
    kernels = _kernels()
    height, width = edges.shape
    across, down = np.zeros((2, height + 2, width + 2), np.float32)
    kernels.link(edges, np.float32(weak), across, down)
    levels = [(across, down)]
    while height > coarsest[0] or width > coarsest[1]:
        height, width = (height + 1) // 2, (width + 1) // 2
        planes = np.zeros((2, height + 2, width + 2), np.float32)
        kernels.coarsen(*levels[-1], planes[0], planes[1])
        levels.append((planes[0], planes[1]))
    return levels


def _at_half(image: Plane) -> Plane:
    """An image (h, w, C) at half its resolution and back."""
    height, width = image.shape[:2]
    return resized(
        resized(image, ((height + 1) // 2, (width + 1) // 2), cv2.INTER_AREA), (height, width), cv2.INTER_LINEAR
    )


def _halved(edges: EdgeMap) -> EdgeMap:
    """Half the size: a pixel is an edge if one of its four is."""
    height, width = edges.shape
    padded = np.pad(edges, ((0, height % 2), (0, width % 2)))
    return np.ascontiguousarray(padded.reshape((height + 1) // 2, 2, (width + 1) // 2, 2).any(axis=(1, 3)))


def _draw_lines(pixels: RGBImage, edges: EdgeMap) -> None:
    """Darkens the edge pixels, and their neighbours a little, in place."""
    line = cv2.GaussianBlur(edges.astype(np.float32), (3, 3), 0.6, borderType=cv2.BORDER_REPLICATE)
    np.multiply(pixels, (1 - 0.75 * line)[:, :, None], out=pixels, casting="unsafe")
