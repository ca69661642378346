"""The compiled parts of the harmonic regenerator. Import through ``harmonic._kernels`` only: it pulls in numba.

Arrays of a level have a border of one pixel on each side: images are float32 (H + 2, W + 2, 3), luma, Cb and Cr in grey
levels; conductances float32 (H + 2, W + 2). ``across[i, j]`` belongs to the link between (i, j) and (i, j + 1),
``down[i, j]`` to that between (i, j) and (i + 1, j). Links into the border are 0, so that loops need no bounds checks.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from escort_codec.workers import kernel

Plane = NDArray[np.float32]
Image = NDArray[np.float32]

_PLANE = nb.float32[:, ::1]
_IMAGE = nb.float32[:, :, ::1]
_EDGES = nb.boolean[:, ::1]


@kernel(nb.void(_EDGES, nb.float32, _PLANE, _PLANE))
def link(edges: NDArray[np.bool_], weak: np.float32, across: Plane, down: Plane) -> None:
    """The finest level's links, into zeroed planes: 1, or ``weak`` where one of the two pixels is an edge."""
    height, width = edges.shape
    one = np.float32(1)
    for i in range(height):
        for j in range(width):
            here = edges[i, j]
            if j + 1 < width:
                across[i + 1, j + 1] = weak if here or edges[i, j + 1] else one
            if i + 1 < height:
                down[i + 1, j + 1] = weak if here or edges[i + 1, j] else one


@kernel(nb.void(_PLANE, _PLANE, _PLANE, _PLANE))
def coarsen(across: Plane, down: Plane, coarse_across: Plane, coarse_down: Plane) -> None:
    """The links of the level of half the size, into zeroed planes.

    Between the centres of two coarse pixels lie half a link, a link and half a link in series; the two rows (or
    columns) side by side are averaged. Beyond an odd size the last row or column is repeated.
    """
    height, width = across.shape[0] - 2, across.shape[1] - 2
    rows, columns = coarse_across.shape[0] - 2, coarse_across.shape[1] - 2
    one, half, two = np.float32(1), np.float32(0.5), np.float32(2)
    for i in range(1, rows + 1):
        top = 2 * i - 1
        bottom = min(top + 1, height)
        for j in range(1, columns + 1):
            left = 2 * j - 1
            right = min(left + 1, width)
            if j < columns:
                total = np.float32(0)
                for y in (top, bottom):
                    inner = across[y, left + 2] if left + 3 <= width else one
                    total += two / (half / across[y, left] + one / across[y, left + 1] + half / inner)
                coarse_across[i, j] = half * total
            if i < rows:
                total = np.float32(0)
                for x in (left, right):
                    inner = down[top + 2, x] if top + 3 <= height else one
                    total += two / (half / down[top, x] + one / down[top + 1, x] + half / inner)
                coarse_down[i, j] = half * total


@kernel(nb.void(_IMAGE, _PLANE, _PLANE, _IMAGE, nb.float32, nb.float32, nb.int64))
def relax(
    image: Image, across: Plane, down: Plane, target: Image, pull: np.float32, pull_chroma: np.float32, sweeps: int
) -> None:
    """Red-black Gauss-Seidel sweeps on the sum of link |difference|^2 + pull |image - target|^2.

    ``target`` has no border. Written out by channel, which is twice as fast as a loop over them.
    """
    height, width = image.shape[0] - 2, image.shape[1] - 2
    one = np.float32(1)
    for half_sweep in range(2 * sweeps):
        for i in range(1, height + 1):
            for j in range(1 + (i + half_sweep) % 2, width + 1, 2):
                left, right, above, below = across[i, j - 1], across[i, j], down[i - 1, j], down[i, j]
                links = left + right + above + below
                share = one / (links + pull)
                share_chroma = one / (links + pull_chroma)
                image[i, j, 0] = share * (
                    left * image[i, j - 1, 0]
                    + right * image[i, j + 1, 0]
                    + above * image[i - 1, j, 0]
                    + below * image[i + 1, j, 0]
                    + pull * target[i - 1, j - 1, 0]
                )
                image[i, j, 1] = share_chroma * (
                    left * image[i, j - 1, 1]
                    + right * image[i, j + 1, 1]
                    + above * image[i - 1, j, 1]
                    + below * image[i + 1, j, 1]
                    + pull_chroma * target[i - 1, j - 1, 1]
                )
                image[i, j, 2] = share_chroma * (
                    left * image[i, j - 1, 2]
                    + right * image[i, j + 1, 2]
                    + above * image[i - 1, j, 2]
                    + below * image[i + 1, j, 2]
                    + pull_chroma * target[i - 1, j - 1, 2]
                )


@kernel(nb.void(_IMAGE, _PLANE, _PLANE, _IMAGE))
def enlarge(coarse: Image, across: Plane, down: Plane, fine: Image) -> None:
    """A level's first guess: the coarser image twice as large, bilinear, but not across edges."""
    quarter = np.float32(0.25)
    for i in range(1, fine.shape[0] - 1):
        y = (i + 1) // 2
        y_other = y - 1 if i % 2 else y + 1
        for j in range(1, fine.shape[1] - 1):
            x = (j + 1) // 2
            x_other = x - 1 if j % 2 else x + 1
            sideways = quarter * across[y, min(x, x_other)]
            upright = quarter * down[min(y, y_other), x]
            stay = np.float32(1) - sideways - upright
            for c in range(3):
                fine[i, j, c] = (
                    stay * coarse[y, x, c] + sideways * coarse[y, x_other, c] + upright * coarse[y_other, x, c]
                )


@kernel(inline=True)
def _rounded(value: np.float32) -> np.uint8:
    return np.uint8(min(np.float32(255), max(np.float32(0), value + np.float32(0.5))))


@kernel(nb.void(_IMAGE, _EDGES, nb.uint8[:, :, ::1]))
def finish(image: Image, edges: NDArray[np.bool_], pixels: NDArray[np.uint8]) -> None:
    """Edge pixels become the mean of their neighbours without edges; luma and chroma (JFIF) become RGB, 0..255."""
    height, width = edges.shape
    for i in range(height):
        for j in range(width):
            weight = np.float32(0)
            luma, blue, red = np.float32(0), np.float32(0), np.float32(0)
            if edges[i, j]:
                for y in range(max(0, i - 1), min(height, i + 2)):
                    for x in range(max(0, j - 1), min(width, j + 2)):
                        if not edges[y, x]:
                            weight += np.float32(1)
                            luma += image[y + 1, x + 1, 0]
                            blue += image[y + 1, x + 1, 1]
                            red += image[y + 1, x + 1, 2]
            if weight > 0:
                luma, blue, red = luma / weight, blue / weight, red / weight
            else:
                luma, blue, red = image[i + 1, j + 1, 0], image[i + 1, j + 1, 1], image[i + 1, j + 1, 2]
            pixels[i, j, 0] = _rounded(luma + np.float32(1.402) * red)
            pixels[i, j, 1] = _rounded(luma - np.float32(0.344136) * blue - np.float32(0.714136) * red)
            pixels[i, j, 2] = _rounded(luma + np.float32(1.772) * blue)
