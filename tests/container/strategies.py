"""What hypothesis draws exemplars from: every field over its whole range, with the odd corners in reach."""

from __future__ import annotations

import re

from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from escort_codec.exemplar import Exemplar
from escort_codec.limits import MAX_LABEL, MAX_NAME, MAX_PROMPT, MAX_SEED
from escort_codec.recipe import EdgeSettings, Recipe
from tests.helpers import HINTS


def _fits(cap: int) -> st.SearchStrategy[str]:
    texts = st.text(st.characters(codec="utf-8"), max_size=30)
    return st.one_of(texts, st.just("ä" * (cap // 2)), st.just("\U0001f600" * (cap // 4)))


def _plain(part: str) -> bool:
    return bool(part) and part not in (".", "..") and not re.search(r"[/\\\x00-\x1f\x7f]|^[A-Za-z]:", part)


_usual = ["cat", "dog", "Straße", "CON", "a b", "\uff43\uff41\uff54", "cafe\u0301"]
labels = st.one_of(_fits(MAX_LABEL), st.sampled_from(_usual)).filter(_plain)
names = st.one_of(
    st.just(""),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=12).filter(_plain), min_size=1, max_size=4)
    .map("/".join)
    .filter(lambda name: len(name.encode()) <= MAX_NAME),
    st.sampled_from(["x" * MAX_NAME, "a/b/c.jpg", "été.png", "...", "aa:b"]),
)
prompts = st.one_of(st.none(), _fits(MAX_PROMPT))
seeds = st.one_of(
    st.just(()),
    st.just((0, 1, 2, 3, 4)),
    st.lists(st.integers(0, MAX_SEED), max_size=8, unique=True).map(sorted).map(tuple),
    st.just((5, 6, 7, 9, MAX_SEED - 1, MAX_SEED)),
)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
recipes = st.one_of(
    st.just(Recipe()),
    st.builds(
        Recipe,
        preset=st.sampled_from(["hires", "lowres"]),
        prompt_suffix=st.none() | texts,
        negative_prompt=st.none() | texts,
        steps=st.none() | st.integers(0, 2**32 - 1),
        guidance=numbers,
        control_strength=numbers,
        resolution=st.none() | st.integers(0, 4096),
        model=st.none() | texts,
        extra=st.dictionaries(texts, texts, max_size=3).map(lambda d: tuple(d.items())),
    ),
)
settings_of_maps = st.builds(
    EdgeSettings,
    low=st.integers(0, 65535),
    high=st.integers(0, 65535),
    blur=st.integers(0, 65535).map(lambda v: v / 100),
    min_contour=st.integers(0, 65535),
)
edge_maps = hnp.arrays("bool", st.tuples(st.integers(0, 12), st.integers(0, 12)))
sizes = st.tuples(st.integers(1, 1000), st.integers(1, 65535))


@st.composite
def prompt_exemplars(draw: st.DrawFn) -> Exemplar:
    """A prompt exemplar of any map, one of its own size or of its image's."""
    edges = draw(edge_maps)
    return Exemplar.from_edges(
        edges,
        label=draw(labels),
        name=draw(names),
        size=None if edges.size == 0 else draw(st.none() | sizes),
        prompt=draw(prompts),
        seeds=draw(seeds),
        hint=draw(st.none() | st.sampled_from(HINTS)),
        edge_settings=draw(settings_of_maps),
        recipe=draw(recipes),
        coding=draw(st.sampled_from(["packed", "rle"])),
    )


real_exemplars = st.builds(
    Exemplar.from_image,
    st.binary(min_size=1, max_size=300),
    label=labels,
    name=names,
    size=sizes,
    prompt=prompts,
    seeds=seeds,
    recipe=recipes,
)
exemplars = prompt_exemplars() | real_exemplars
contents = st.lists(exemplars, max_size=12, unique_by=lambda e: e.key if e.name else id(e))
"""The exemplars of a file, without repeated names."""
