"""The two records of a prompt, EdgeSettings (how its edge map was made) and Recipe (how to regenerate it); options."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal, TypeAlias

import msgpack

from escort_codec.errors import LimitError, UsageError
from escort_codec.limits import MAX_HINT_SIDE, MAX_PAYLOAD, MAX_PIXELS, seeds_fault
from escort_codec.settings import check, setting, settings_of

HIRES: Final = "hires"
LOWRES: Final = "lowres"
PRESETS: Final = (HIRES, LOWRES)
"""The paper's two presets."""


HINT_CODECS: Final = ("vp8", "latent")
"""The codecs of hints; the place of each is its number in files."""

Colour: TypeAlias = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

WHITE: Final[Colour] = (255, 255, 255)


def parse_colour(text: str) -> Colour:
    """``white``, ``black`` or ``#rrggbb``; raises UsageError."""
    named = {"white": WHITE, "black": (0, 0, 0)}
    if text.lower() in named:
        return named[text.lower()]
    if not re.fullmatch("#[0-9A-Fa-f]{6}", text):
        raise UsageError("write white, black or #rrggbb, such as #808080", setting="background", value=text)
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """How an edge map is made from its image (spec section "How the map was made").

    ``low`` and ``high`` are Canny's thresholds. ``blur`` is the sigma of a Gaussian before Canny, in pixels of the map,
    stored to 1/100; 0 is none. ``min_contour`` is the least number of pixels of a contour that is kept; 0 keeps all.
    """

    low: int = setting(100, "Canny's lower threshold.", least=0, most=0xFFFF)
    high: int = setting(200, "Canny's upper threshold.", least=0, most=0xFFFF)
    blur: float = setting(0.0, "Sigma of a Gaussian before Canny, in pixels; makes maps smaller.", least=0, most=655.35)
    min_contour: int = setting(0, "Leave out contours of fewer pixels.", least=0, most=0xFFFF)

    def to_map(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    def describe(self) -> str:
        """For people: ``Canny 100/200``, with blur and contours if set."""
        blur = f", blur {self.blur:g}" if self.blur else ""
        contour = f", contours of at least {self.min_contour}" if self.min_contour else ""
        return f"Canny {self.low}/{self.high}{blur}{contour}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that a regenerator needs besides exemplar and seed. Stored in the file.

    ``preset`` is ``hires`` or ``lowres``. None means the preset's value, or for models the default. A regenerator fills
    in what it used (``dataclasses.replace``) before it writes the recipe to a manifest, so that every image can be
    traced to its recipe. ``digest`` identifies the recipe.
    """

    preset: str = HIRES
    prompt_suffix: str | None = None
    negative_prompt: str | None = None
    steps: int | None = None
    guidance: float | None = None
    control_strength: float | None = None
    scheduler: str | None = None
    resolution: int | None = None
    model: str | None = None
    model_revision: str | None = None
    controlnet: str | None = None
    controlnet_revision: str | None = None
    dtype: str | None = None
    hint_strength: float | None = None
    extra: tuple[tuple[str, str], ...] = ()
    """Further facts, such as library versions, as sorted (key, text) pairs."""

    def __post_init__(self) -> None:
        for name in ("guidance", "control_strength", "hint_strength"):
            if isinstance(value := getattr(self, name), int):  # 7 means 7.0 and is stored as such
                object.__setattr__(self, name, float(value))
        object.__setattr__(self, "extra", tuple(sorted(self.extra)))

    def to_map(self) -> dict[str, Any]:
        """The fields that are set, with ``extra`` as a map: what the file and the manifest hold."""
        values = {k: v for k, v in asdict(self).items() if v is not None and k != "extra"}
        return values | ({"extra": dict(self.extra)} if self.extra else {})

    @classmethod
    def from_map(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of ``to_map``. Raises LimitError for an unknown key or a wrong type."""
        known = {f.name: f for f in fields(cls)}
        clean: dict[str, Any] = {}
        for key, value in values.items():
            if key == "extra":
                if not isinstance(value, dict) or not all(
                    isinstance(k, str) and isinstance(v, str) for k, v in value.items()
                ):
                    raise LimitError("a recipe's 'extra' must map text to text")
                clean[key] = tuple(sorted(value.items()))
                continue
            if key not in known:
                raise LimitError(f"a recipe has no field {key!r}")
            type_name = str(known[key].type)
            allowed = str if "str" in type_name else int if "int" in type_name else int | float
            if not isinstance(value, allowed) or isinstance(value, bool):
                raise LimitError(f"a recipe's {key!r} cannot be {value!r}")
            clean[key] = value
        return cls(**clean)

    def differences(self, other: Recipe) -> str:
        """The differing fields of two recipes, for messages: ``preset: hires and lowres``."""
        ours, theirs = self.to_map(), other.to_map()
        return ", ".join(
            f"{key}: {ours.get(key)} and {theirs.get(key)}"
            for key in dict.fromkeys((*ours, *theirs))
            if ours.get(key) != theirs.get(key)
        )

    @property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of SHA-256 over the msgpack of ``to_map`` with sorted keys."""
        return hashlib.sha256(msgpack.packb(dict(sorted(self.to_map().items())))).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How a data folder is encoded.

    ``settings`` are Canny's. ``shard`` (k, n) takes the k-th of n parts, 1 <= k <= n; merged in order the parts equal
    the whole.
    """

    split: str = setting("train", "Which folder of DATA is encoded, if it has several.")
    layout: str = setting(
        "auto",
        "auto: split folders such as train/ are found; classes: every folder is a class.",
        choices=("auto", "classes"),
    )
    preset: str = setting(HIRES, "hires: edges at the image's size; lowres: at the generation size.", choices=PRESETS)
    settings: EdgeSettings = field(default_factory=EdgeSettings)
    kind: str = setting(
        "prompt",
        "What is kept of an image: prompt, latent:64 (latent:SIDE:QUALITY, latent:SIDE:250B), webp:64:20 or original.",
        metavar="KIND",
    )
    bytes_per_exemplar: int | None = setting(
        None,
        "Most bytes of an exemplar: of each image the prompt or picture that keeps most in them (docs/rate.md).",
        form="bytes",
        metavar="BYTES",
        least=32,
        most=MAX_PAYLOAD,
    )
    budget: int | None = setting(
        None,
        "Most bytes of the whole file, such as 1MB: the same for each image.",
        form="bytes",
        metavar="BYTES",
        least=1,
    )
    min_fidelity: float = setting(
        0.0, "Leave out images of which less is kept, 0 to 1: F of edge maps, SSIM of pictures.", least=0, most=1
    )
    seeds: tuple[int, ...] = setting((0, 1, 2, 3, 4), "Seeds of the regenerated images.", form="seeds")
    hint: int = setting(48, "Longer side of the colour hint in pixels; 0: none.", least=0, most=MAX_HINT_SIDE)
    hint_codec: str = setting(
        HINT_CODECS[1],
        "latent: the hint is a learned picture; vp8: a WebP frame, larger and quicker.",
        choices=HINT_CODECS,
    )
    hint_quality: int | None = setting(
        None, "Quality of the hint: for latent 0 to 63, 54 if left out; for vp8 0 to 100, 20.", least=0, most=100
    )
    background: str = setting("white", "Colour under transparent pixels: white, black or #rrggbb.")
    coding: str = setting("context", "Coding of the edge maps: context, rle or packed.")
    workers: int | None = setting(None, "Threads; one per core if left out.", least=1)
    engine: str = setting(
        "local",
        "local: threads; ray: Ray on this machine's cores; ray://HOST:PORT: a Ray cluster.",
        metavar="ENGINE",
    )
    on_error: Literal["raise", "skip"] = setting(
        "raise", "raise: stop at a bad image; skip: name it and go on.", choices=("raise", "skip")
    )
    max_pixels: int = setting(MAX_PIXELS, "Largest image, in pixels.", least=1, most=MAX_PIXELS)
    shard: tuple[int, int] | None = None
    overwrite: bool = setting(False, "Replace an existing file.")
    resume: bool = setting(False, "Continue what a killed run left.")

    @property
    def background_colour(self) -> Colour:
        """The colour under transparent pixels. Raises UsageError."""
        return parse_colour(self.background)

    @property
    def background_code(self) -> str:
        """The same as the file's head has it, such as ``#ffffff``."""
        return "#{:02x}{:02x}{:02x}".format(*self.background_colour)


def check_options(options: EncodeOptions) -> None:
    """Raises UsageError for options that are not valid; the coding is looked up when it is used."""
    check(options)
    check(options.settings)
    parse_colour(options.background)
    low, high = options.settings.low, options.settings.high
    if low > high:
        raise UsageError(f"Canny's lower threshold ({low}) is above the upper one ({high})")
    if fault := seeds_fault(options.seeds):
        raise UsageError(fault, setting="seeds")
    if options.hint_codec == HINT_CODECS[1] and (options.hint_quality or 0) > 63:
        raise UsageError("give a latent hint 0 to 63", setting="hint_quality", value=options.hint_quality)
    if options.bytes_per_exemplar is not None or options.budget is not None:
        _check_rate(options)
    if options.shard is not None and not 1 <= options.shard[0] <= options.shard[1]:
        raise UsageError("write 1/16 to 16/16", setting="shard", value="/".join(map(str, options.shard)))


def _check_rate(options: EncodeOptions) -> None:
    """Raises UsageError for settings that rate control chooses itself."""
    if options.bytes_per_exemplar is not None and options.budget is not None:
        raise UsageError("give `bytes_per_exemplar` or `budget`, not both", setting="budget", value=options.budget)
    rate = "bytes_per_exemplar" if options.budget is None else "budget"
    if options.shard is not None and options.budget is not None:
        raise UsageError(
            "applies to a whole file: set `bytes_per_exemplar` for shards", setting="budget", value=options.budget
        )
    default = EncodeOptions()
    for name in settings_of(EdgeSettings):
        if (value := getattr(options.settings, name)) != getattr(default.settings, name):
            raise UsageError(f"leave it out: `{rate}` chooses it for each image", setting=name, value=value)
    if options.hint not in (0, default.hint):
        raise UsageError(
            f"leave it out, or give 0: `{rate}` chooses it for each image", setting="hint", value=options.hint
        )
    if options.hint_quality is not None:
        message = f"leave it out: `{rate}` chooses it for each image"
        raise UsageError(message, setting="hint_quality", value=options.hint_quality)
