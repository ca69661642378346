"""Exemplar, one remembered image, and the two records kept with it: EdgeSettings and Recipe."""

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
    """How an edge map is made from its image (spec section "How the map was made"). The only home of the defaults.

    ``low`` and ``high`` are Canny's thresholds (0..65535). ``blur`` is the sigma of a Gaussian before Canny, in pixels
    of the map, stored to 1/100 (0: no blur). Contours of fewer than ``min_contour`` pixels are left out (0: keep all).
    """

    low: int = 100
    high: int = 200
    blur: float = 0.0
    min_contour: int = 0

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
    """All that a regenerator needs besides the exemplar and the seed. Stored in the file.

    ``preset`` is ``hires`` or ``lowres``. None means the preset's value, or for models the default. A regenerator fills
    in what it used (``dataclasses.replace``) before it writes the recipe to a manifest, so that every image can be
    traced to its recipe. ``digest`` identifies the recipe.
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

    A tie goes to the lowest number. ``packed`` is skipped if its known length is no shorter.
    """
    chosen = codings.get(coding)
    best = chosen.name, chosen.encode(edges)
    for simpler in sorted((c for c in codings if c.number < chosen.number), key=lambda c: -c.number):
        if simpler.number == 0 and (edges.size + 7) // 8 > len(best[1]):
            continue
        bits = simpler.encode_within(edges, len(best[1]))
        if bits is not None:
            best = simpler.name, bits
    return best


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One remembered image: a **prompt** (edge map, text, seeds, perhaps a hint) or a **real** image file.

    ``size`` is (height, width) of the source image in pixels. ``name`` is its path relative to the class folder, or
    ``""``. ``payload`` holds the coded edge map of a prompt, or the bytes of a real exemplar's image file. A prompt has
    a ``coding``, the ``map_shape`` (H, W) of its edge map, ``edge_settings``, and perhaps a ``hint`` as
    ``escort_codec.hint`` writes it. Create exemplars with ``from_edges`` and ``from_image``.
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
    edge_settings: EdgeSettings | None = None
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
        edge_settings: EdgeSettings | None = None,
        recipe: Recipe | None = None,
        coding: str = "context",
    ) -> Exemplar:
        """A prompt exemplar of an edge map (bool, (H, W)).

        Coded with ``coding``, or with a simpler one (of a lower number) if that is smaller. ``size`` defaults to the
        shape of the map, ``prompt`` to the label. Raises CodingError for an array that is not an edge map.
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
            edge_settings=edge_settings or EdgeSettings(),
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
        """A real exemplar: ``data`` are the bytes of the image file, ``size`` is (height, width) as displayed."""
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
        """``label/name``, unique in a file unless the name is empty."""
        return f"{self.label}/{self.name}"

    @property
    def edges(self) -> EdgeMap:
        """The edge map, bool (H, W), decoded at each access. Raises EscortError for a real exemplar."""
        if self.kind != "prompt":
            raise EscortError(f"{self.key} is a real exemplar: it has an image and no edge map")
        return codings.get(self.coding).decode(self.payload, self.map_shape)

    @property
    def image(self) -> bytes:
        """The bytes of a real exemplar's image file. Raises EscortError for a prompt."""
        if self.kind != "real":
            raise EscortError(f"{self.key} is a prompt: it has an edge map and no image")
        return self.payload
