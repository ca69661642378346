"""The options of an export: which files, and how they are saved. The command line reads its flags from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from escort_codec.errors import UsageError
from escort_codec.settings import check, setting

QUALITIES: Final[dict[str, int | None]] = {"jpg": 95, "png": None, "webp": 90}
"""Each format's default quality; PNG is lossless and has none."""

LONGEST: Final = {"jpg": 65_500, "png": 65_535, "webp": 16_383}
"""The most pixels that a side of an image has in each format, as its library writes it."""

MOST_FILES: Final = 200_000
MOST_PIXELS: Final = 50 * 10**9
"""The most that is written without ``yes``. A file of a kilobyte can ask for four million large images."""

_GROUP: Final = "Files"
_CLUSTER: Final = "Cluster"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Which files to write, and how. Raises UsageError for a value that is not valid.

    ``seeds`` None: those that each exemplar records. ``plain``: learned pictures without a seed, and no images of
    prompts. ``images`` False: edge maps alone. ``labels``: only these classes.
    ``names``: only exemplars whose name or ``label/name`` equals or matches one of these: ``*`` stands for any text,
    ``?`` for one character, and everything else, brackets too, for itself.
    """

    seeds: tuple[int, ...] | None = None
    plain: bool = False
    images: bool = True
    edges: bool = setting(False, "Write the edge maps too, as 1-bit PNG.", group=_GROUP, shown=True)
    labels: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    limit: int | None = setting(None, "At most N exemplars, the first ones.", group=_GROUP, shown=True, least=1)
    overwrite: bool = setting(False, "Make existing files again.", group=_GROUP, shown=True)
    yes: bool = setting(
        False, f"Write more than {MOST_FILES:,} files or {MOST_PIXELS // 10**9} gigapixels.", group=_GROUP, shown=True
    )
    format: str = setting("jpg", "jpg, png or webp.", group=_GROUP, shown=True, choices=tuple(QUALITIES))
    quality: int | None = setting(
        None,
        "1 to 100; 95 for jpg and 90 for webp if left out. The paper's are 75.",
        group=_GROUP,
        shown=True,
        least=1,
        most=100,
    )
    engine: str = setting(
        "local",
        "local: this process; ray: Ray on this machine's cores; ray://HOST:PORT: a Ray cluster.",
        group=_CLUSTER,
        shown=True,
        metavar="ENGINE",
    )
    gpus_per_worker: float = setting(
        0.0, "GPUs of each of Ray's workers; 0: a worker for each core.", group=_CLUSTER, shown=True, least=0
    )
    workers: int = setting(2, "Threads that save while the regenerator works.", least=1)

    @property
    def used_quality(self) -> int | None:
        """The quality of the images' files; None for PNG."""
        return QUALITIES[self.format] if self.quality is None else self.quality

    def __post_init__(self) -> None:
        check(self)
        if self.quality is not None and self.format == "png":
            raise UsageError("png is lossless and has no quality", setting="quality", value=self.quality)
        if not self.images and not self.edges:
            raise UsageError("there is nothing to write: without images, set `edges`")
