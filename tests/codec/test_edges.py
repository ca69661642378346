"""Edge maps: Canny's, and without their short contours."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from skimage.data import coffee

from escort_codec.edges import Contours, edge_map
from escort_codec.recipe import EdgeSettings

PHOTOGRAPH = np.asarray(coffee())[:120, :160]


def _map(rows: str) -> np.ndarray:
    return np.array([[mark == "#" for mark in row] for row in rows.split()])


def test_the_default_map_is_cannys() -> None:
    assert np.array_equal(edge_map(PHOTOGRAPH), cv2.Canny(PHOTOGRAPH, 100, 200) > 0)


def test_contours_are_numbered_only_where_short_ones_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """To number them takes half of Canny's time."""
    calls = []
    number = cv2.connectedComponentsWithStats

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return number(*args, **kwargs)

    monkeypatch.setattr(cv2, "connectedComponentsWithStats", counted)
    none, one = (edge_map(PHOTOGRAPH, settings=EdgeSettings(min_contour=pixels)) for pixels in (0, 1))
    assert not calls
    assert np.array_equal(none, one)
    assert edge_map(PHOTOGRAPH, settings=EdgeSettings(min_contour=20)).sum() < none.sum()
    assert calls


def test_contours_by_hand() -> None:
    edges = _map("##...# #....# ....#. ...... ......")
    contours = Contours.of(edges)
    assert sorted(contours.lengths[1:]) == [3, 3]  # pixels that touch at a corner belong together
    assert np.array_equal(contours.at_least(3), edges)
    assert not contours.at_least(4).any()
    edges[4, 0] = True
    assert np.array_equal(Contours.of(edges).at_least(2), _map("##...# #....# ....#. ...... ......"))
