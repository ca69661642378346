"""The latent regenerator: the source's size, seeds, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from escort_codec.errors import RegenerationError
from escort_codec.exemplar import Exemplar
from escort_codec.latent.picture import decode_latent, encode_latent
from escort_codec.regenerate import Job, make_regenerator
from escort_codec.regenerate.latent import LearnedPictures, enlarged


def learned(size: tuple[int, int] = (90, 120), payload: bytes | None = None) -> Exemplar:
    rng = np.random.Generator(np.random.PCG64(1))
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    rgb = np.asarray(small.resize((64, 48), Image.Resampling.BICUBIC))
    return Exemplar.from_latents(payload or encode_latent(rgb, quality=40), label="a", name="b.png", size=size)


def test_images_have_the_sources_size_and_depend_on_the_seed_alone() -> None:
    exemplar = learned()
    with make_regenerator("latent", {"workers": 2}) as made:
        results = list(made.regenerate([Job(exemplar, seed, key=seed) for seed in (0, 1, 2, 0)]))
    assert [result.job.key for result in results] == [0, 1, 2, 0]
    images = [result.image for result in results]
    assert all(image is not None and image.shape == (90, 120, 3) for image in images)
    assert np.array_equal(images[0], images[3])  # type: ignore[arg-type]
    assert not np.array_equal(images[0], images[1])  # type: ignore[arg-type]
    assert dict(results[0].recipe.extra)["model"] == "1"


def test_the_plain_picture_is_the_decoded_one_enlarged() -> None:
    exemplar = learned((96, 128))
    plain = enlarged(exemplar)
    wanted = Image.fromarray(decode_latent(exemplar.payload)).resize((128, 96), Image.Resampling.BICUBIC)
    assert np.array_equal(plain, np.asarray(wanted))


def test_what_it_cannot_make_is_an_error_of_that_job() -> None:
    prompt = Exemplar.from_edges(np.ones((4, 4), np.bool_), label="a", name="p.png")
    damaged = learned(payload=learned().payload + b"\0")
    jobs = [Job(each, 0) for each in (prompt, damaged, learned(), learned((0, 5)))]
    results = list(LearnedPictures().regenerate(jobs))
    assert [result.image is None for result in results] == [True, True, False, True]
    assert all(isinstance(result.error, RegenerationError) for result in results if result.image is None)
    with pytest.raises(RegenerationError, match="no latents"):
        LearnedPictures().image(prompt, 0)


def test_it_stops() -> None:
    made = LearnedPictures()
    jobs = (Job(learned(), seed) for seed in range(1000))
    found = 0
    for _ in made.regenerate(jobs):
        found += 1
        made.stop()
    assert 1 <= found < 20
