"""The contact sheet's pixels."""

from __future__ import annotations

import numpy as np
import pytest

from escort_cil.demo.sheet import SheetCell, SheetRow, SheetStyle, contact_sheet, fitted

RED, BLUE = (200, 10, 20), (10, 20, 200)


def plain(height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def columns_of(image: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """The box (top, bottom, left, right) of the pixels of a colour; the ends are inside."""
    rows, columns = np.nonzero((image[:, :, :3] == colour).all(axis=2))
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


def test_pictures_keep_their_shape_and_stand_in_rows_and_columns() -> None:
    rows = [
        SheetRow("wide", [SheetCell(plain(20, 80, RED), "20 bytes"), SheetCell(plain(10, 80, BLUE))]),
        SheetRow("one", [SheetCell(plain(300, 150, (9, 99, 9)))]),
    ]
    sheet = np.asarray(contact_sheet(rows, [("red", ""), ("blue", "")], SheetStyle(cell=100)))
    top, bottom, left, right = columns_of(sheet, RED)
    assert (bottom - top + 1, right - left + 1) == (25, 100)
    b_top, b_bottom, b_left, b_right = columns_of(sheet, BLUE)
    assert (b_bottom - b_top + 1, b_right - b_left + 1) in ((12, 100), (13, 100))
    assert b_left > right
    assert abs((b_top + b_bottom) - (top + bottom)) <= 1  # in the middle of its row, which is as high as the red one
    g_top, g_bottom, g_left, g_right = columns_of(sheet, (9, 99, 9))
    assert (g_bottom - g_top + 1, g_right - g_left + 1) == (100, 50)
    assert 15 < g_top - bottom < 50  # one caption below the row, not the room of a square cell
    assert abs((g_left + g_right) - (left + right)) <= 1
    assert g_bottom < sheet.shape[0]
    assert b_right < sheet.shape[1]


def test_captions_heads_and_labels_are_written() -> None:
    def ink(label: str = "", head: str = "", below: str = "", caption: str = "") -> int:
        rows = [SheetRow(label, [SheetCell(plain(50, 50, RED), caption)])]
        sheet = np.asarray(contact_sheet(rows, [(head, below)], SheetStyle(cell=50, paper=(0, 0, 0, 0))))
        return int((sheet[:, :, 3] > 0).sum())

    empty = ink()
    assert empty == 50 * 50  # the paper is transparent
    assert all(ink(**{name: "words"}) > empty + 30 for name in ("label", "head", "below", "caption"))


@pytest.mark.parametrize("label", ["x" * 500, "猫" * 300, "wörter\n\x1b[31m", ""])
def test_any_label_leaves_the_sheet_small(label: str) -> None:
    style = SheetStyle(cell=100)
    sheet = contact_sheet([SheetRow(label, [SheetCell(plain(9, 9, RED))])], [("a", "b")], style)
    assert sheet.width <= 100 + 0.75 * 100 + 4 * 8
    assert sheet.height < 200


def test_no_rows() -> None:
    assert contact_sheet([], [("a", "b")]).width > 100


@pytest.mark.parametrize("side", [97, 300, 1000, 3001])
def test_lines_of_a_large_map_stay_dark_and_its_paper_white(side: int) -> None:
    edges = np.zeros((side, side), np.bool_)
    edges[side // 3], edges[:, side // 4] = True, True
    small = np.asarray(fitted(edges, 100))
    assert small.shape == (100, 100, 3)
    assert small[:, :, 0].min(axis=0).max() < 140  # every column crosses the line
    assert small[:, :, 0].min(axis=1).max() < 140
    assert (small == 255).all(axis=2).mean() > 0.85


def test_a_small_map_keeps_its_pixels() -> None:
    edges = np.eye(10, dtype=np.bool_)
    assert (np.asarray(fitted(edges, 100))[:, :, 0] == np.where(edges.repeat(10, 0).repeat(10, 1), 0, 255)).all()
