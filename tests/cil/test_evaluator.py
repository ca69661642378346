"""Class means, distances and views, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from escort_cil.predictions import class_means, distances, predictions


def test_class_means_by_hand() -> None:
    # Class 0: (1, 0) and (0, 1), whatever their lengths: the mean (1/2, 1/2) normalised.
    # Class 1: none. Class 2: (0, 1).
    features = torch.tensor([[3.0, 0.0], [0.0, 5.0], [0.0, 0.1]])
    means = class_means(features, torch.tensor([0, 0, 2]), 3)
    half = math.sqrt(0.5)
    assert means[0].tolist() == pytest.approx([half, half])
    assert bool(means[1].isnan().all())
    assert means[2].tolist() == pytest.approx([0, 1])
    found = distances(torch.tensor([[7.0, 0.0]]), means)[0]
    # |(1, 0) - (h, h)|^2 = (1 - h)^2 + h^2 = 2 - 2 h
    assert found[0] == pytest.approx(2 - 2 * half)
    assert found[1] == float("inf")
    assert found[2] == pytest.approx(2)


def test_views() -> None:
    logits = {"real": torch.tensor([[2.0, 1.0, 0.0]]), "regenerated": torch.tensor([[0.0, 1.5, 3.0]])}
    features = torch.ones(1, 2)
    said = predictions(torch.tensor([1]), {view: (each, features) for view, each in logits.items()}, None)
    assert list(said) == ["real", "regenerated", "both"]
    assert said["real"].top.tolist() == [[0, 1, 2]]
    assert said["regenerated"].top.tolist() == [[2, 1, 0]]
    mean = sum(np.exp(each[0].numpy()) / np.exp(each[0].numpy()).sum() for each in logits.values()) / 2
    assert said["both"].top.tolist() == [np.argsort(-mean).tolist()]
    assert said["both"].nearest is None
    assert list(predictions(torch.tensor([1]), {"real": (logits["real"], features)}, None)) == ["real"]


def test_both_views_of_the_nearest_mean() -> None:
    means = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    near = {"real": torch.tensor([[1.0, 0.8]]), "regenerated": torch.tensor([[-0.9, 1.0]])}
    said = predictions(torch.tensor([1]), {view: (torch.zeros(1, 3), each) for view, each in near.items()}, means)
    assert said["real"].nearest is not None
    assert said["regenerated"].nearest is not None
    assert said["both"].nearest is not None
    assert said["real"].nearest[0, 0] == 0
    assert said["regenerated"].nearest[0, 0] == 1
    assert said["both"].nearest[0, 0] == 1  # 2 - 2 (0.62 + 0.74) / 2 is less than with 0.78 and -0.67


def test_equal_scores_rank_by_number() -> None:
    said = predictions(torch.tensor([0]), {"real": (torch.zeros(1, 8), torch.ones(1, 2))}, None)
    assert said["real"].top.tolist() == [[0, 1, 2, 3, 4]]
