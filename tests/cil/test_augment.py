import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from escort_cil.augment import Transform, augment, normalise, transforms
from escort_cil.augment import transform as transform_module
from escort_cil.augment.crop import crop_offsets, crop_padded
from escort_cil.augment.operations import brightness
from escort_codec.errors import UnknownNameError


def photographs(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth images with dark and light parts, uint8 (count, 3, height, width)."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        noise = rng.integers(0, 256, (height // 10 + 2, width // 10 + 2, 3), np.uint8)
        images.append(np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def restored(batch: Tensor, transform: Transform) -> Tensor:
    """Normalised images back as 0..255."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (transform.mean, transform.std))
    return (batch * std + mean) * 255


def test_padded_crops_are_slices_of_the_padded_image() -> None:
    images = photographs(3, 16, 16)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    crops = crop_padded(images, torch.tensor([[0, 0], [4, 1], [3, 4]]), torch.tensor([False, True, False]), 2, 16)
    assert (crops[0].numpy() == padded[0, :, 0:16, 0:16]).all()
    assert (crops[1].numpy() == padded[1, :, 4:20, 1:17][:, :, ::-1]).all()
    assert (crops[2].numpy() == padded[2, :, 3:19, 4:20]).all()


def test_offsets_are_uniform_and_reach_both_ends() -> None:
    offsets = crop_offsets(torch.rand(9000, 2, generator=generator(0)), 8)
    counts = torch.bincount(offsets.flatten(), minlength=9)
    assert counts.shape == (9,)
    assert (counts - 2000).abs().max() < 250  # 5.9 standard deviations
    assert crop_offsets(torch.tensor([[0.0, 1 - 2**-24]]), 8).tolist() == [[0, 8]]


def test_brightness_is_pillows() -> None:
    images = photographs(5, 16, 16)
    factors = torch.tensor([0.75, 1.0, 1.2470588, 0.0, 1.9])
    for image, factor, found in zip(images, factors, brightness(images, factors), strict=True):
        expected = ImageEnhance.Brightness(pillow(image)).enhance(factor.item())
        assert (found == tensor(expected)).all()


def test_normalise_is_per_channel() -> None:
    transform = transforms.get("small")(4)
    found = normalise(torch.full((2, 3, 4, 4), 51, dtype=torch.uint8), transform)
    for channel in range(3):
        expected = (0.2 - transform.mean[channel]) / transform.std[channel]
        assert found[:, channel].flatten().tolist() == pytest.approx([expected] * 32, abs=1e-6)


@pytest.mark.parametrize("size", [16, 24])
def test_small_is_a_crop_of_the_padded_image_mirrored_or_not_and_lit(size: int) -> None:
    transform = transforms.get("small")(size)
    assert transform.padding == size // 8
    assert transform.one_store
    images = photographs(24, size, size) // 2 + 64  # no zeros, and no value that brightness cuts off
    found = restored(augment(images, torch.ones(24), transform, generator(3)), transform)
    padded = torch.nn.functional.pad(images.float(), (transform.padding,) * 4)
    mirrored = 0
    for image, result in zip(padded, found, strict=True):
        best, flip = min(
            (spread(view[:, y : y + size, x : x + size], result), flipped)
            for flipped, view in ((False, image), (True, image.flip(2)))
            for y in range(2 * transform.padding + 1)
            for x in range(2 * transform.padding + 1)
        )
        # One factor explains every pixel; it is cut off to whole values, so it is known to 1 / 64.
        assert best < 1 / 60
        mirrored += flip
    assert 5 <= mirrored <= 19


def spread(crop: Tensor, result: Tensor) -> float:
    """How far the factors between the pixels of two images differ; infinity where their zeros do."""
    if not torch.equal(crop == 0, result.round() == 0):
        return float("inf")
    factors = (result[crop > 0]) / crop[crop > 0]
    return float(factors.max() - factors.min())


@pytest.mark.parametrize("preset", transforms.names())
def test_the_generator_decides_everything(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transform = transforms.get(preset)(32)
    images = photographs(20, transform.stored_side, transform.stored_side)
    aspects = torch.linspace(0.5, 2, 20)
    torch.manual_seed(1)
    np.random.seed(1)
    outside = torch.get_rng_state().clone(), np.random.get_state()[1].copy()  # type: ignore[index]
    source = generator(5)
    state = source.get_state()
    first = augment(images, aspects, transform, source)
    second = augment(images, aspects, transform, source)
    source.set_state(state)
    monkeypatch.setattr(transform_module, "_PIECE_BYTES", 7 * 12 * 32 * 32)
    again = augment(images, aspects, transform, source)
    assert torch.equal(first, again)  # in pieces of 7 images, too
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), outside[0])
    assert (np.random.get_state()[1] == outside[1]).all()  # type: ignore[index]


@pytest.mark.parametrize("preset", transforms.names())
def test_what_is_given_is_left_alone_and_out_is_filled(preset: str) -> None:
    transform = transforms.get(preset)(32)
    images = photographs(6, transform.stored_side, transform.stored_side)
    before = images.clone()
    out = torch.empty(6, 3, 32, 32)
    assert augment(images, torch.ones(6), transform, generator(0), out=out) is out
    assert torch.equal(images, before)
    assert torch.equal(out, augment(images, torch.ones(6), transform, generator(0)))
    views = images[:, :, :32, :32]
    assert normalise(views, transform, out=out) is out
    assert torch.equal(out, normalise(views.contiguous(), transform))
    assert augment(images[:0], torch.ones(0), transform, generator(0)).shape == (0, 3, 32, 32)


def test_names_and_sizes_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="small"):
        transforms.get("smal")
    with pytest.raises(ValueError, match="at least 1"):
        transforms.get("small")(0)
