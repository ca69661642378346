from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from escort_codec.coding import EdgeMap
from escort_codec.errors import RegenerationError, UsageError
from escort_codec.exemplar import Exemplar
from escort_codec.hint import encode_hint
from escort_codec.regenerate import DEFAULT, Job, RGBImage, make_regenerator, regenerators
from escort_codec.regenerate import harmonic as module
from escort_codec.regenerate.harmonic import Harmonic, HarmonicOptions, Scene, Solver
from escort_codec.regenerate.harmonic_variation import MODES, TO_YCC, WARP, Variation, _field, plain_hint, resized, warp

ONE = HarmonicOptions(workers=1)
STILL = Variation(1, 0, 1, (0, 0), 0, np.zeros((2, MODES, MODES), np.float32), np.zeros((MODES, MODES), np.float32),
                  np.random.default_rng(0))  # fmt: skip


def _scene() -> RGBImage:
    """A blue square on orange, 120 x 160: flat colours, so that all that is lost is in the outline."""
    rgb = np.full((120, 160, 3), (220, 130, 40), np.uint8)
    rgb[33:91, 47:111] = (30, 60, 190)
    return rgb


def _exemplar(rgb: RGBImage, *, hint: bool = True, **options: Any) -> Exemplar:
    edges = cv2.Canny(rgb, 100, 200) > 0
    return Exemplar.from_edges(edges, label="a", name="b.png", hint=encode_hint(rgb, 32) if hint else None, **options)


def _psnr(one: NDArray[Any], two: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - two) ** 2)))


def _as_it_is(exemplar: Exemplar, solver: Solver | None = None) -> RGBImage:
    """The image without a seed's variation."""
    scene = Scene.of(exemplar, solver or Solver())
    hint = scene.hint.astype(np.float32) @ TO_YCC.T
    pixels = np.empty((*scene.edges.shape, 3), np.uint8)
    module._kernels().finish(scene._solve(hint), scene.edges, pixels)
    return pixels


def test_it_is_the_default_and_needs_no_torch() -> None:
    assert DEFAULT == "harmonic"
    assert regenerators.get(DEFAULT)() is Harmonic
    assert make_regenerator(DEFAULT).name == "harmonic"


def test_outlines_are_as_sharp_as_the_edge_map() -> None:
    """A 32-pixel thumbnail enlarged smears the outline over some five pixels; with edges it must be within one."""
    rgb = _scene()
    image = _as_it_is(_exemplar(rgb))
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[60].astype(int)  # 146 outside, 66 inside
    between = np.flatnonzero((luma > 86) & (luma < 126))
    assert set(between) <= {45, 46, 47, 48, 109, 110, 111, 112}
    hint = Scene.of(_exemplar(rgb), Solver()).hint
    enlarged = cv2.resize(hint, (160, 120), interpolation=cv2.INTER_CUBIC)
    assert _psnr(image, rgb) > _psnr(enlarged, rgb) + 3


def test_the_image_keeps_the_hints_brightness_pixel_for_pixel() -> None:
    rgb = _scene()
    exemplar = _exemplar(rgb)
    hint = Scene.of(exemplar, Solver()).hint
    back = cv2.resize(_as_it_is(exemplar), (hint.shape[1], hint.shape[0]), interpolation=cv2.INTER_AREA)
    assert np.abs((back.astype(int) - hint) @ TO_YCC[0]).mean() < 2.5
    assert np.abs(back.mean(axis=(0, 1)) - hint.mean(axis=(0, 1))).max() < 2


def test_no_edges_give_the_enlarged_hint() -> None:
    """Without outlines nothing stops the diffusion: within a few grey levels of bilinear enlargement."""
    y, x = np.mgrid[0:96, 0:128]
    rgb = np.stack([2 * y, 2 * x, 255 - y - x], axis=2).astype(np.uint8)
    exemplar = Exemplar.from_edges(np.zeros((96, 128), bool), label="a", hint=encode_hint(rgb))
    assert np.abs(_as_it_is(exemplar).astype(int) - rgb)[8:-8, 8:-8].mean() < 5


def _dense_solution(edges: EdgeMap, hint: NDArray[np.float64], solver: Solver) -> NDArray[np.float64]:
    """The finest level's equations written down as a matrix, and solved by numpy."""
    height, width = edges.shape
    n = height * width
    pull = solver.pull * hint.shape[0] * hint.shape[1] / n
    matrix = np.eye(n) * pull
    for i in range(height):
        for j in range(width):
            for y, x in ((i, j + 1), (i + 1, j)):
                if y < height and x < width:
                    c = solver.weak if edges[i, j] or edges[y, x] else 1.0
                    a, b = i * width + j, y * width + x
                    matrix[a, a] += c
                    matrix[b, b] += c
                    matrix[a, b] -= c
                    matrix[b, a] -= c
    target = cv2.resize(hint, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.linalg.solve(matrix, pull * target.reshape(n, -1)).reshape(height, width, -1)


def test_the_solver_solves_its_equations() -> None:
    """Without corrections and with many sweeps it must find what a direct solver finds."""
    rng = np.random.default_rng(3)
    edges = rng.random((21, 30)) < 0.15
    edges[10] = True
    hint = np.full((6, 8, 3), 0.0)  # luma; chroma has pulls of its own
    hint[:, :, 0] = rng.integers(0, 256, (6, 8))
    exemplar = Exemplar.from_edges(edges, label="a", hint=encode_hint(hint.astype(np.uint8)))
    solver = Solver(weak=0.05, rounds=(1, 1, 1), sweeps=400)
    scene = Scene.of(exemplar, solver)
    found = scene._solve(hint.astype(np.float32))[1:-1, 1:-1]
    # The upper levels' corrections change the target; with none there, the fixed point is the plain equations'.
    assert len(scene.levels) > 1
    wanted = _dense_solution(edges, hint, solver)
    lacking = cv2.resize(found.astype(np.float64), (8, 6), interpolation=cv2.INTER_AREA) - hint
    assert np.abs(found - wanted).max() < 255 * 0.5
    single = Scene(scene.edges, scene.hint, False, (21, 30), solver, scene.levels[:1])
    exact = single._solve(hint.astype(np.float32))[1:-1, 1:-1]
    assert np.abs(exact - wanted).max() < 0.05
    # ... and the corrections bring the image's means nearer to the hint.
    plain = cv2.resize(exact.astype(np.float64), (8, 6), interpolation=cv2.INTER_AREA) - hint
    assert np.abs(lacking).mean() < np.abs(plain).mean()


def test_links_of_a_coarser_level_by_hand() -> None:
    """Four pixels in a row, an edge at the second: 0.1, 0.1, 1. Coarse: half of 0.1, 0.1, half of 1 in series."""
    kernels = module._kernels()
    across, down = np.zeros((2, 3, 6), np.float32)
    kernels.link(np.array([[False, True, False, False]]), np.float32(0.1), across, down)
    assert across[1].tolist() == pytest.approx([0, 0.1, 0.1, 1, 0, 0])
    assert not down.any()
    coarse_across, coarse_down = np.zeros((2, 3, 4), np.float32)
    kernels.coarsen(across, down, coarse_across, coarse_down)
    assert coarse_across[1].tolist() == pytest.approx([0, 2 / (0.5 / 0.1 + 1 / 0.1 + 0.5 / 1), 0, 0])
    assert not coarse_down.any()


def test_edge_pixels_become_the_mean_of_their_neighbours() -> None:
    edges = np.zeros((3, 3), bool)
    edges[:, 1] = True
    image = np.zeros((5, 5, 3), np.float32)  # luma alone: grey
    image[1:4, 1:4, 0] = 10, 255, 20.4
    pixels = np.empty((3, 3, 3), np.uint8)
    module._kernels().finish(image, edges, pixels)
    assert pixels[1].tolist() == [[10] * 3, [15] * 3, [20] * 3]


def test_the_same_seed_is_the_same_to_the_bit_whatever_runs_beside_it() -> None:
    exemplars = [_exemplar(_scene()), _exemplar(_scene()[:, :90].copy(), hint=False), _exemplar(_scene()[::2].copy())]
    jobs = [Job(e, s, key=(i, s)) for i, e in enumerate(exemplars) for s in range(3)]
    alone = {job.key: Harmonic(ONE).image(job.exemplar, job.seed).tobytes() for job in jobs}
    several = {r.job.key: r for r in Harmonic(HarmonicOptions(workers=3)).regenerate(reversed(jobs))}
    assert {key: r.image.tobytes() for key, r in several.items() if r.image is not None} == alone
    assert len(set(alone.values())) == len(jobs)


def test_seeds_are_visibly_different_and_yet_the_same_scene() -> None:
    rgb = _scene()
    exemplar = _exemplar(rgb)
    images = [Harmonic(ONE).image(exemplar, seed) for seed in range(6)]
    for i, one in enumerate(images):
        assert _psnr(one, rgb) > 15
        for two in images[i + 1 :]:
            assert np.abs(one.astype(int) - two).mean() > 5
            a, b = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).ravel() for image in (one, two))
            assert np.corrcoef(a, b)[0, 1] > 0.8


def test_without_a_hint_a_line_drawing_in_the_seeds_colour() -> None:
    exemplar = _exemplar(_scene(), hint=False)
    one, two = (Harmonic(ONE).image(exemplar, seed) for seed in (0, 1))
    moved = warp(np.repeat(exemplar.edges[:, :, None], 3, 2).astype(np.uint8) * 255, (120, 160), Variation.of(0))
    lines = moved[:, :, 0] > 128
    assert one[lines].mean() < one[~lines].mean() - 40
    assert np.abs(one.mean(axis=(0, 1)) - two.mean(axis=(0, 1))).max() > 20


def test_a_plain_hint_is_darker_where_edges_are() -> None:
    edges = np.zeros((64, 64), bool)
    edges[32:, ::2] = True
    shade = plain_hint(edges)
    assert shade.shape == (32, 32, 3)
    assert shade[4, 4, 0] == 205
    assert shade[28, 4, 0] == pytest.approx(205 - 150 * 0.5**0.5, abs=1)


@pytest.mark.parametrize(
    ("map_shape", "size"),
    [((60, 80), (240, 320)), ((256, 320), (200, 250)), ((64, 64), (63, 1)), ((5, 7), (300, 9)), ((90, 30), (30, 90))],
)
def test_the_image_has_its_sources_size(map_shape: tuple[int, int], size: tuple[int, int]) -> None:
    rgb = resized(_scene(), size, cv2.INTER_AREA)
    edges = cv2.Canny(cv2.resize(rgb, (map_shape[1], map_shape[0])), 100, 200) > 0
    exemplar = Exemplar.from_edges(edges, label="a", size=size, hint=encode_hint(rgb))
    image = Harmonic(ONE).image(exemplar, 1)
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8


def test_a_small_map_is_enlarged_to_the_same_scene() -> None:
    rgb = _scene()
    small = cv2.Canny(cv2.resize(rgb, (80, 60), interpolation=cv2.INTER_AREA), 100, 200) > 0
    exemplar = Exemplar.from_edges(small, label="a", size=(120, 160), hint=encode_hint(rgb))
    image = warp(_as_it_is(exemplar), exemplar.size, STILL)
    assert _psnr(image, rgb) > 22


@given(
    hnp.arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))),
    st.tuples(st.integers(1, 50), st.integers(1, 50)),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_any_map_of_any_size_gives_an_image(edges: EdgeMap, size: tuple[int, int], hinted: bool, seed: int) -> None:
    hint = encode_hint(np.full((*size, 3), (200, 40, 90), np.uint8)) if hinted else None
    image = Harmonic(ONE).image(Exemplar.from_edges(edges, label="a", size=size, hint=hint), seed)
    assert image.shape == (*size, 3)
    if hinted:
        assert image[:, :, 0].mean() > image[:, :, 1].mean() + 40


@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (2, 700)])
def test_long_and_thin(shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for exemplar in (_exemplar(rgb), _exemplar(rgb, hint=False)):
        assert Harmonic(ONE).image(exemplar, 0).shape == (*shape, 3)


def test_sides_that_remap_cannot_take_are_only_resized() -> None:
    exemplar = Exemplar.from_edges(np.zeros((1, 40_000), bool), label="a")
    assert Harmonic(ONE).image(exemplar, 0).shape == (1, 40_000, 3)


def test_a_large_map_is_halved_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SOLVED", 6_000)
    exemplar = _exemplar(_scene()[:119, :159].copy())
    assert Scene.of(exemplar, Solver()).edges.shape == (60, 80)
    image = Harmonic(ONE).image(exemplar, 0)
    assert image.shape == (119, 159, 3)
    assert _psnr(image, _scene()[:119, :159]) > 15


def test_halving_keeps_every_edge() -> None:
    edges = np.zeros((5, 3), bool)
    edges[4, 2] = edges[0, 1] = True
    assert module._halved(edges).tolist() == [[True, False], [False, False], [False, True]]


def test_the_warp_is_smooth_and_small() -> None:
    for seed in range(20):
        waves = Variation.of(seed).warp.astype(float)
        y = np.cos(np.pi * np.outer((np.arange(64) + 0.5) / 64, np.arange(MODES)))
        moved = y @ waves @ y.T
        assert np.sqrt((moved**2).sum(axis=0).mean()) == pytest.approx(WARP, rel=1e-3)
        assert np.abs(np.diff(moved, axis=1)).max() * 64 < 1  # no fold: less than a pixel a pixel


def test_a_field_is_the_product_of_its_modes() -> None:
    rng = np.random.default_rng(0)
    rows, waves, columns = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((7, 4), (4, 4), (9, 4)))
    assert np.allclose(_field(rows, waves, columns), rows @ waves @ columns.T, atol=1e-5)


def test_no_warp_is_the_image_itself() -> None:
    rgb = _scene()
    assert np.array_equal(warp(rgb, (120, 160), STILL), rgb)


def test_one_bad_exemplar_is_its_own_error_and_the_rest_goes_on() -> None:
    good = _exemplar(_scene())
    bad_hint = Exemplar.from_edges(good.edges, label="a", name="hint", hint=b"no hint at all")
    empty = Exemplar.from_edges(np.zeros((0, 4), bool), label="a", name="empty")
    real = Exemplar.from_image(b"x", label="a", name="real.png", size=(4, 4))
    results = list(Harmonic(ONE).regenerate([Job(e, 0) for e in (bad_hint, good, empty, real, good)]))
    assert [r.image is None for r in results] == [True, False, True, True, False]
    for result in results:
        if result.image is None:
            assert isinstance(result.error, RegenerationError)
            assert str(result.error).startswith(result.job.exemplar.key)
    with pytest.raises(RegenerationError, match="a/hint"):
        Harmonic(ONE).image(bad_hint, 0)


def test_jobs_are_taken_a_few_at_a_time() -> None:
    taken = 0
    exemplar = _exemplar(_scene()[:40, :40].copy())

    def jobs() -> Iterator[Job]:
        nonlocal taken
        for seed in range(1000):
            taken += 1
            yield Job(exemplar, seed)

    results = Harmonic(HarmonicOptions(workers=2)).regenerate(jobs())
    next(results)
    assert taken < 100
    threads = threading.active_count()
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() < threads


def test_stop_ends_after_the_images_in_flight() -> None:
    regenerator = Harmonic(HarmonicOptions(workers=2))
    exemplar = _exemplar(_scene()[:40, :40].copy())
    made = 0
    for result in regenerator.regenerate(Job(exemplar, seed) for seed in range(1000)):
        assert result.image is not None
        made += 1
        regenerator.stop()
    assert 1 <= made < 200


def test_the_recipe_names_the_method_and_nothing_of_a_diffusion_model() -> None:
    recipe = Harmonic(ONE).recipe(_exemplar(_scene()))
    assert recipe.preset == "hires"
    assert recipe.model is None
    assert dict(recipe.extra)["harmonic"] == module.VERSION


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"steps": 20}, {"use_hint": True}])
def test_options_of_others_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="the harmonic regenerator has no such setting") as caught:
        make_regenerator("harmonic", options)
    assert (caught.value.setting,) == tuple(options)


def test_a_near_option_is_offered_and_values_are_checked() -> None:
    with pytest.raises(UsageError, match="did you mean 'workers'"):
        make_regenerator("harmonic", {"worker": 2})
    with pytest.raises(UsageError, match="workers = 0: "):
        make_regenerator("harmonic", {"workers": 0})
    assert make_regenerator("harmonic", {"workers": "2"}).workers == 2  # type: ignore[attr-defined]
