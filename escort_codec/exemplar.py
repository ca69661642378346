"""What is remembered: Exemplar, and the two records that say how it was made and is regenerated."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import msgpack

from escort_codec.coding import EdgeMap, codings
from escort_codec.coding.base import check_edges
from escort_codec.errors import EscortError, LimitError

Kind = Literal["prompt", "real"]


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """How an edge map was made of its image (spec section "How the map was made").

    ``low`` and ``high`` are Canny's thresholds (0..65535); ``blur`` is the sigma of the Gaussian that went before,
    in pixels of the map, kept to 1/100 (0 is none); contours of fewer than ``min_contour`` pixels were left out
    (0 is none). The scale is the map's size over the image's: see ``Exemplar.map_shape``.
    """

    low: int = 100
    high: int = 200
    blur: float = 0.0
    min_contour: int = 0

    def to_map(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def describe(self) -> str:
        """For people: ``Canny 100/200``, and what else was done."""
        blur = f", blur {self.blur:g}" if self.blur else ""
        contour = f", contours of at least {self.min_contour}" if self.min_contour else ""
        return f"Canny {self.low}/{self.high}{blur}{contour}"


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a regenerator needs beside the exemplar and the seed. Stored in the file.

    ``preset`` is ``hires`` or ``lowres``. None means: the preset's own value, or for models the default. A
    regenerator fills in what it used (``dataclasses.replace``) before it writes the recipe to a manifest, so that
    an image can be traced to it; ``digest`` names the whole.
    """

    preset: str = "hires"
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
    """Further facts as sorted (key, text) pairs, such as library versions."""

    def __post_init__(self) -> None:
        for name in ("guidance", "control_strength", "hint_strength"):
            if isinstance(value := getattr(self, name), int):  # 7 is meant as 7.0, and stored as such
                object.__setattr__(self, name, float(value))
        object.__setattr__(self, "extra", tuple(sorted(self.extra)))

    def to_map(self) -> dict[str, Any]:
        """Only what is set, with ``extra`` as a map: what the file and the manifest hold."""
        values = {k: v for k, v in asdict(self).items() if v is not None and k != "extra"}
        return values | ({"extra": dict(self.extra)} if self.extra else {})

    @classmethod
    def from_map(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of ``to_map``; raises LimitError for a key or a type that a recipe does not have."""
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
            kind = str(known[key].type)
            right = (
                isinstance(value, str)
                if "str" in kind
                else isinstance(value, int) and not isinstance(value, bool)
                if "int" in kind
                else isinstance(value, int | float) and not isinstance(value, bool)
            )
            if not right:
                raise LimitError(f"a recipe's {key!r} cannot be {value!r}")
            clean[key] = value
        return cls(**clean)

    def differences(self, other: Recipe) -> str:
        """The fields in which two recipes differ, for messages: ``preset: hires and lowres``."""
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


def smallest(edges: EdgeMap, coding: str) -> tuple[str, bytes]:
    """(coding, bits) of the shortest form of an edge map under ``coding`` and the codings of a lower number.

    Of equally short forms the lowest number is taken. ``packed`` is not tried where its known length is beaten.
    """
    wanted = codings.get(coding)
    best = wanted.name, wanted.encode(edges)
    for simpler in sorted((c for c in codings if c.number < wanted.number), key=lambda c: -c.number):
        if simpler.number == 0 and (edges.size + 7) // 8 > len(best[1]):
            continue
        bits = simpler.encode_within(edges, len(best[1]))
        if bits is not None:
            best = simpler.name, bits
    return best


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One remembered image: a **prompt** (edge map, text, seeds, perhaps a hint) or a **real** image's file.

    ``size`` is the source image's (height, width) in pixels. ``name`` is its path relative to the class folder,
    ``""`` where there is none. ``payload`` holds the edge map's coded bits under the coding ``coding`` (a prompt)
    or the image file's own bytes (real; ``coding`` is then ``""``). ``map_shape`` is the edge map's (H, W).
    ``hint`` is a colour hint as ``escort_codec.hint`` writes it. Use ``from_edges`` and ``from_image``.
    """

    kind: Kind
    label: str
    name: str
    size: tuple[int, int]
    prompt: str
    seeds: tuple[int, ...]
    payload: bytes = field(repr=False)
    coding: str = ""
    map_shape: tuple[int, int] = (0, 0)
    hint: bytes | None = field(default=None, repr=False)
    made: EdgeSettings | None = None
    recipe: Recipe = Recipe()

    @classmethod
    def from_edges(
        cls,
        edges: EdgeMap,
        *,
        label: str,
        name: str = "",
        size: tuple[int, int] | None = None,
        prompt: str | None = None,
        seeds: tuple[int, ...] = (),
        hint: bytes | None = None,
        made: EdgeSettings | None = None,
        recipe: Recipe | None = None,
        coding: str = "context",
    ) -> Exemplar:
        """A prompt exemplar of an edge map (bool, (H, W)).

        Coded with ``coding``, or with one of a lower number (a simpler one) where that is smaller. ``size`` is the
        map's own shape if left out, ``prompt`` the label.
        """
        edges = check_edges(edges)
        shape = (edges.shape[0], edges.shape[1])
        coding, payload = smallest(edges, coding)
        return cls(
            kind="prompt",
            label=label,
            name=name,
            size=size or shape,
            prompt=label if prompt is None else prompt,
            seeds=tuple(int(seed) for seed in seeds),
            payload=payload,
            coding=coding,
            map_shape=shape,
            hint=hint,
            made=made or EdgeSettings(),
            recipe=recipe or Recipe(),
        )

    @classmethod
    def from_image(
        cls,
        data: bytes,
        *,
        label: str,
        name: str,
        size: tuple[int, int],
        prompt: str | None = None,
        seeds: tuple[int, ...] = (),
        recipe: Recipe | None = None,
    ) -> Exemplar:
        """A real exemplar: ``data`` is the image file as it is, ``size`` its (height, width) as shown."""
        return cls(
            kind="real",
            label=label,
            name=name,
            size=size,
            prompt=label if prompt is None else prompt,
            seeds=tuple(int(seed) for seed in seeds),
            payload=data,
            recipe=recipe or Recipe(),
        )

    @property
    def key(self) -> str:
        """``label/name``: what the exemplar is found by."""
        return f"{self.label}/{self.name}"

    @property
    def edges(self) -> EdgeMap:
        """The edge map, bool (H, W), decoded anew at each access; raises EscortError for a real exemplar."""
        if self.kind != "prompt":
            raise EscortError(f"{self.key} is a real exemplar: it has an image, no edge map")
        return codings.get(self.coding).decode(self.payload, self.map_shape)

    @property
    def image(self) -> bytes:
        """A real exemplar's image file, its own bytes; raises EscortError for a prompt."""
        if self.kind != "real":
            raise EscortError(f"{self.key} is a prompt: it has an edge map, no image")
        return self.payload
