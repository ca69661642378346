"""The base class of regenerators, their jobs and results, and the registry."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from escort_codec.errors import RegenerationError, UsageError
from escort_codec.registry import Registry
from escort_codec.settings import build, settings_of, unknown

if TYPE_CHECKING:  # the command line imports this module for --help: no numpy
    import numpy as np
    from numpy.typing import NDArray

    from escort_codec.exemplar import Exemplar
    from escort_codec.recipe import Recipe

RGBImage: TypeAlias = "NDArray[np.uint8]"


@dataclass(frozen=True, slots=True)
class Job:
    """One image to make: a prompt exemplar and a seed. ``key`` belongs to the caller and comes back unchanged."""

    exemplar: Exemplar
    seed: int
    key: Any = None


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a job: ``image`` is uint8 RGB of shape (*exemplar.size, 3), or None with the reason in ``error``.
    ``recipe`` is the job's recipe with every value that the regenerator used."""

    job: Job
    image: RGBImage | None
    recipe: Recipe
    error: RegenerationError | None = None


class Regenerator(ABC):
    """Turns prompt exemplars into images. Use it in a ``with`` block: it may hold a model.

    An image depends only on the exemplar, the seed and the options: not on other jobs, their order, the batch or the
    number of processes (except through a backend's kernels, as each regenerator documents).
    """

    name: ClassVar[str]
    options_class: ClassVar[type]
    """The frozen dataclass of its settings (``escort_codec.settings``)."""
    stopping: bool = False

    def __init__(self, options: Any = None, near: str | None = None) -> None:
        """``options`` is an ``options_class`` object; see ``make_regenerator``."""

    @abstractmethod
    def recipe(self, exemplar: Exemplar) -> Recipe:
        """The exemplar's recipe with every value that this regenerator uses. Loads no model."""

    def wanted(self, recipes: Iterable[Recipe]) -> list[str]:
        """Models that ``recipes`` name and the user has not agreed to load, in words for a question.

        ``check`` and ``regenerate`` refuse them; the setting ``trust_recipe`` allows them.
        """
        return []

    def check(self, recipes: Iterable[Recipe]) -> None:
        """Raises the errors that would stop all exemplars with one of ``recipes``, before a model is loaded.

        Such as a device that does not exist, or a model that the user has not allowed. Raises EscortError.
        """

    @abstractmethod
    def regenerate(self, jobs: Iterable[Job]) -> Iterator[JobResult]:
        """One result for each job, in any order. A failed job gives a result with an error; the others continue.

        ``jobs`` is read on demand, to its end unless it was stopped.
        """

    def image(self, exemplar: Exemplar, seed: int) -> RGBImage:
        """One image, uint8 RGB (H, W, 3) of the source image's size; raises RegenerationError."""
        (result,) = self.regenerate([Job(exemplar, seed)])
        if result.image is None:
            raise result.error or RegenerationError(f"{exemplar.key}: no image was made")
        return result.image

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds spent so far on anything but images, by purpose (loading or compiling a model)."""
        return {}

    def stop(self) -> None:
        """Ends ``regenerate`` after the images in flight; jobs that have not begun get no result.

        May be called from a signal handler or another thread.
        """
        self.stopping = True

    def close(self) -> None:
        """Frees the model and the threads."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def image_digest(exemplar: Exemplar, seed: int | None = None, regenerator: str = "", recipe: Any = None) -> str:
    """A digest of 32 hexadecimal digits over the inputs of an image: the exemplar's content, the seed, the recipe.

    It does not depend on the exemplar's name, label and recorded seeds, nor on versions of libraries in ``recipe``
    (``Recipe.to_map``), whose effect is not visible, but on the regenerator's own version in ``extra``. Without a seed
    it is that of the exemplar: of the file of a real one, or of an edge map.
    """
    values = {key: value for key, value in (recipe or {}).items() if key != "extra"}
    extra = (recipe or {}).get("extra")
    version = extra.get(regenerator) if isinstance(extra, dict) else None
    made_by = json.dumps([regenerator, version, values], sort_keys=True)
    numbers = [*map(int, (*exemplar.map_shape, *exemplar.size)), None if seed is None else int(seed)]
    shapes = (exemplar.kind, exemplar.coding, exemplar.hint_codec, numbers)
    digest = hashlib.sha256()
    for part in (
        made_by.encode(),
        repr(shapes).encode(),
        exemplar.prompt.encode(),
        exemplar.payload,
        exemplar.hint or b"",
    ):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:32]


regenerators: Registry[Callable[[], type[Regenerator]]] = Registry("regenerator")
"""Functions that import and return a regenerator's class, so that only the one in use is imported."""


def make_regenerator(
    name: str, options: Any = None, *, near: str | None = None, workers: int | None = None
) -> Regenerator:
    """A regenerator by name. ``options`` is a map of its settings (texts are parsed), its options object, or None.

    ``near`` is the device that uses the images; it is the default for ``device``. ``workers`` is the default for the
    setting of that name, if the regenerator has it. Raises UsageError.
    """
    kind = regenerators.get(name)()
    if options is None or isinstance(options, Mapping):
        known = settings_of(kind.options_class)
        for key, value in (options or {}).items():
            if key not in known:
                message = unknown(f"the {name} regenerator has no such setting", key, known)
                raise UsageError(message, setting=key, value=value)
        common = {"workers": workers} if "workers" in known else {}
        options = build(kind.options_class, {**common, **(options or {})})
    return kind(options, near)
