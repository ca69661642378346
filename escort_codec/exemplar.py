"""Exemplar: what is kept of one image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from escort_codec.coding import DEFAULT, EdgeMap, codings
from escort_codec.coding.base import check_edges
from escort_codec.errors import EscortError
from escort_codec.recipe import EdgeSettings, Recipe

Kind = Literal["prompt", "real"]


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
    recipe: Recipe = field(default_factory=Recipe)

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
        coding: str = DEFAULT,
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
