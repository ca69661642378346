"""What is remembered of one image: Exemplar."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from escort_codec.coding import EdgeMap, codings
from escort_codec.coding.base import check_edges
from escort_codec.errors import EscortError
from escort_codec.recipe import EdgeSettings, Recipe

Kind = Literal["prompt", "real"]


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
