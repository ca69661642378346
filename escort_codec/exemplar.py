"""Exemplar: one remembered image."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from escort_codec.coding import DEFAULT, EdgeMap, codings
from escort_codec.coding.base import check_edges
from escort_codec.errors import CodingError, EscortError
from escort_codec.hint import decode_hint, hint_size
from escort_codec.latent.picture import Latents, decode_latent, latent_head, read_latents
from escort_codec.recipe import HINT_CODECS, EdgeSettings, Recipe

Kind = Literal["prompt", "real", "latent"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
"""The kinds of exemplars; the place of each is its number in files."""


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
    """One remembered image: a **prompt** (edge map, text, seeds, perhaps a hint), a **real** file or a **latent**.

    ``size`` is (height, width) of the source image in pixels. ``name`` is its path relative to the class folder, or
    ``""``. ``payload`` holds the coded edge map of a prompt, the bytes of a real exemplar's image file, or the coded
    latents of a learned picture, whose first byte is the number of the model. A prompt has a ``coding``, the
    ``map_shape`` (H, W) of its edge map, ``edge_settings``, and perhaps a ``hint`` under ``hint_codec``: ``vp8`` as
    ``escort_codec.hint`` writes it, or ``latent``. A coding or codec that this version does not know is its number as
    text. Create exemplars with ``from_edges``, ``from_image`` and ``from_latents``.
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
    hint_codec: str = HINT_CODECS[0]
    edge_settings: EdgeSettings | None = None
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        if self.hint is None:  # as in a file, where no hint means no codec, so that digests agree
            object.__setattr__(self, "hint_codec", HINT_CODECS[0])

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
        hint_codec: str = HINT_CODECS[0],
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
            hint_codec=hint_codec,
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

    @classmethod
    def from_latents(
        cls,
        data: bytes,
        *,
        label: str,
        name: str = "",
        size: tuple[int, int],
        prompt: str | None = None,
        seeds: tuple[int, ...] = (),
        recipe: Recipe | None = None,
    ) -> Exemplar:
        """A latent exemplar: ``data`` are coded latents, the first byte the number of their model."""
        real = cls.from_image(data, label=label, name=name, size=size, prompt=prompt, seeds=seeds, recipe=recipe)
        return replace(real, kind="latent")

    @property
    def key(self) -> str:
        """``label/name``, unique in a file unless the name is empty."""
        return f"{self.label}/{self.name}"

    @property
    def edges(self) -> EdgeMap:
        """The edge map, bool (H, W), decoded at each access.

        Raises EscortError for another kind than a prompt, CodingError for bytes that are not a map and for a coding
        that this version does not know.
        """
        if self.kind != "prompt":
            raise EscortError(f"{self.key} is a {self.kind} exemplar: it has no edge map")
        if self.coding not in codings:
            raise CodingError(f"its edge map is under coding {self.coding}, which needs a newer escort")
        return codings.get(self.coding).decode(self.payload, self.map_shape)

    @property
    def image(self) -> bytes:
        """The bytes of a real exemplar's image file. Raises EscortError for another kind."""
        if self.kind != "real":
            raise EscortError(f"{self.key} is a {self.kind} exemplar: it has no image file")
        return self.payload

    @property
    def hint_pixels(self) -> NDArray[np.uint8] | None:
        """The hint, uint8 RGB (h, w, 3), decoded at each access; None without a hint.

        Raises LimitError and DamagedError as ``decode_hint`` does, CodingError for a codec that this version does not
        know.
        """
        if self.hint is None:
            return None
        if self.hint_codec not in HINT_CODECS:
            raise CodingError(f"its hint is under codec {self.hint_codec}, which needs a newer escort")
        return decode_latent(self.hint) if self.hint_codec == HINT_CODECS[1] else decode_hint(self.hint)

    @property
    def hint_size(self) -> tuple[int, int] | None:
        """(height, width) of the hint in pixels, read from its head; None without a hint. Raises as ``hint_pixels``."""
        if self.hint is None:
            return None
        if self.hint_codec not in HINT_CODECS:
            raise CodingError(f"its hint is under codec {self.hint_codec}, which needs a newer escort")
        return latent_head(self.hint).size if self.hint_codec == HINT_CODECS[1] else hint_size(self.hint)

    @property
    def latents(self) -> Latents:
        """A latent exemplar's integers, decoded at each access. Raises as ``picture``."""
        if self.kind != "latent":
            raise EscortError(f"{self.key} is a {self.kind} exemplar: it has no latents")
        return read_latents(self.payload)

    def picture(self, seed: int | None = None) -> NDArray[np.uint8]:
        """A latent exemplar's picture, uint8 RGB (h, w, 3), at each call; a ``seed`` varies it (``decode_latent``).

        Raises EscortError for another kind, LimitError and DamagedError for bytes that are no learned picture.
        """
        if self.kind != "latent":
            raise EscortError(f"{self.key} is a {self.kind} exemplar: it has no latents")
        return decode_latent(self.payload, seed)
