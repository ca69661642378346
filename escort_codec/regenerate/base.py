"""What a regenerator is: one prompt exemplar and one seed into one image; and the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from escort_codec.errors import RegenerationError, UsageError
from escort_codec.exemplar import Exemplar, Recipe
from escort_codec.registry import Registry

RGBImage = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Job:
    """One image to make: a prompt exemplar and a seed. ``key`` is the caller's own, handed back untouched."""

    exemplar: Exemplar
    seed: int
    key: Any = None


@dataclass(frozen=True, slots=True)
class Regenerated:
    """What became of a job: ``image`` is uint8 RGB of shape (*exemplar.size, 3), or None, and then ``error``
    says why. ``recipe`` is the job's recipe with every value filled in that the regenerator used."""

    job: Job
    image: RGBImage | None
    recipe: Recipe
    error: RegenerationError | None = None


class Regenerator(ABC):
    """Turns prompt exemplars into images. Use as a context manager where it holds a model.

    An image depends on the exemplar, the seed and the options alone: never on the other jobs, their order, the
    batch or the number of processes (beyond what a backend's kernels do; each says so).
    """

    name: ClassVar[str]
    stopping: bool = False

    @abstractmethod
    def recipe(self, exemplar: Exemplar) -> Recipe:
        """The exemplar's recipe with every value filled in that this regenerator would use. Loads no model."""

    @abstractmethod
    def regenerate(self, jobs: Iterable[Job]) -> Iterator[Regenerated]:
        """One result for each job, in any order. A failed job is a result with an error; others go on."""

    def image(self, exemplar: Exemplar, seed: int) -> RGBImage:
        """One image, uint8 RGB (H, W, 3) of the source image's size; raises RegenerationError."""
        (result,) = self.regenerate([Job(exemplar, seed)])
        if result.image is None:
            raise result.error or RegenerationError(f"{exemplar.key}: no image was made")
        return result.image

    @property
    def seconds(self) -> dict[str, float]:
        """Time so far that went into no image, by what it went into (loading a model, compiling it)."""
        return {}

    def stop(self) -> None:
        """Asks ``regenerate`` to end after the images in flight; jobs not yet begun get no result.

        May be called from a signal handler or another thread.
        """
        self.stopping = True

    def close(self) -> None:
        """Gives back what the regenerator holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may choose for a regenerator; None leaves it to the exemplar's recipe or the preset.

    A regenerator raises UsageError for an option that is set and that it has no use for (``refuse_unused``), but for
    ``near``, which no user sets: the device of what the images are made for, taken where ``device`` is None.
    """

    device: str | None = None
    near: str | None = None
    workers: int | None = None  # threads that make or save images; None: one a core

    # A diffusion model's. Names and ranges are the recipe's; ``model`` and ``controlnet`` may end in ``@revision``.
    prompt_suffix: str | None = None
    negative_prompt: str | None = None
    steps: int | None = None
    guidance: float | None = None
    control_strength: float | None = None
    scheduler: str | None = None
    resolution: int | None = None
    use_hint: bool = False
    hint_strength: float | None = None
    fast: bool = False
    model: str | None = None
    controlnet: str | None = None
    dtype: str | None = None
    batch_size: int | None = None
    compile: bool = False


def refuse_unused(options: Options, name: str, *, used: tuple[str, ...]) -> None:
    """Raises UsageError where an option is set that is not in ``used``: regenerator ``name`` has no use for it."""
    for option in fields(options):
        if option.name not in (*used, "near") and getattr(options, option.name) != option.default:
            flag = "--" + option.name.replace("_", "-")
            raise UsageError(f"{flag} means nothing to the {name} regenerator: leave it out or choose another")


regenerators: Registry[Callable[[Options], Regenerator]] = Registry("regenerator")
