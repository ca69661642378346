"""Class orders, phases and data folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escort_cil.data.protocol import check_class_order, class_order, read_data, read_labels, split_phases
from escort_codec.errors import ConfigError, SourceError


def test_the_order_is_pycils() -> None:
    labels = ["d", "a", "c", "b", "e"]
    state = np.random.get_state()
    np.random.seed(1993)
    expected = [sorted(labels)[i] for i in np.random.permutation(5)]
    np.random.set_state(state)
    assert list(class_order(labels, 1993)) == expected


def test_the_order_of_seed_1993() -> None:
    # The first of np.random.permutation(100) after np.random.seed(1993), as PyCIL's logs print it for CIFAR-100.
    labels = [f"{i:02d}" for i in range(100)]
    assert [int(label) for label in class_order(labels, 1993)[:10]] == [68, 56, 78, 8, 23, 84, 90, 65, 74, 76]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_phases_cover_all_classes(classes: int, init: int, increment: int) -> None:
    if init > classes:
        with pytest.raises(ConfigError, match="init_cls"):
            split_phases(classes, init, increment)
        return
    sizes = split_phases(classes, init, increment)
    assert sum(sizes) == classes
    assert sizes[0] == init
    assert all(size == increment for size in sizes[1:-1])
    assert 1 <= sizes[-1] <= max(init, increment)


def test_leftovers_come_last() -> None:
    assert split_phases(20, 4, 4) == (4, 4, 4, 4, 4)
    assert split_phases(20, 10, 3) == (10, 3, 3, 3, 1)
    assert split_phases(7, 7, 0) == (7,)
    with pytest.raises(ConfigError, match="increment = 0"):
        split_phases(7, 3, 0)


def test_an_order_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "order.txt"
    path.write_text("b\n\n a \nc\n")
    assert check_class_order(read_labels(path), ["a", "b", "c"]) == ("b", "a", "c")
    for wrong, message in (
        ("a\nb\n", "'c' is a class of the data and is missing"),
        ("a\nb\nc\nx\n", "'x' is not a class"),
        ("a\na\nb\nc", "twice"),
    ):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=message):
            check_class_order(read_labels(path), ["a", "b", "c"])
    with pytest.raises(ConfigError, match="cannot be read"):
        read_labels(tmp_path / "none.txt")
    # Spaces, and what else breaks lines somewhere, belong to a name if a class is called so.
    path.write_text("a \r\n\u2028b\na\nc \n", "utf-8", newline="")
    assert check_class_order(read_labels(path), ["a", "a ", "\u2028b", "c"]) == ("a ", "\u2028b", "a", "c")


def test_train_and_test(small_data: Path) -> None:
    data = read_data(str(small_data))
    assert len(data.labels) == 5
    assert {len(group) for group in data.train.values()} == {8}
    assert {len(group) for group in data.test.values()} == {3}
    assert data.notes == ()
    assert data.layout == "layout: train/ (5 classes, 40 images), test/"


def test_a_part_is_held_out_where_there_is_no_test(small_data: Path) -> None:
    folder = str(small_data / "train")
    data = read_data(folder)
    assert {len(group) for group in data.train.values()} == {6}
    assert {len(group) for group in data.test.values()} == {2}
    for label in data.labels:
        assert not {i.name for i in data.train[label]} & {i.name for i in data.test[label]}
    assert read_data(folder) == data  # the same every time
    assert "held out" in data.notes[-1]
    assert {len(group) for group in read_data(folder, 0.5).test.values()} == {4}


def test_known_classes_are_not_learnt_again(small_data: Path) -> None:
    labels = read_data(str(small_data)).labels
    data = read_data(str(small_data), 0.2, labels[:2])
    assert data.labels == labels[2:]
    assert tuple(sorted(data.test)) == labels
    with pytest.raises(SourceError, match="nothing new"):
        read_data(str(small_data), 0.2, labels)


def test_folders_that_cannot_be_used(tmp_path: Path, small_data: Path) -> None:
    label = read_data(str(small_data)).labels[0]
    folder = tmp_path / "data"
    shutil.copytree(small_data / "test", folder / "test")
    shutil.copytree(small_data / "train", folder / "train")
    shutil.rmtree(folder / "train" / label)
    with pytest.raises(SourceError, match=f"{label}: there are no training images"):
        read_data(str(folder))
    single = tmp_path / "single" / "a"
    single.mkdir(parents=True)
    shutil.copy(next((small_data / "train" / label).iterdir()), single)
    with pytest.raises(SourceError, match="nothing can be held out"):
        read_data(str(tmp_path / "single"))
