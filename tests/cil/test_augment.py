import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from escort_cil.augment import Transform, augment, cpu, normalise, transforms
from escort_cil.augment.cpu import Picture
from escort_cil.augment.crops import ATTEMPTS, crop_boxes, crop_offsets, crop_padded, crop_pictures
from escort_cil.augment.operations import brightness
from escort_cil.augment.policy import IMAGENET_POLICY, apply_policy, draw_policy, image_operations
from escort_cil.data.pictures import training_store
from escort_cil.data.store import ImageStore
from escort_codec.errors import UnknownNameError


def photographs(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth images with dark and light parts, uint8 (count, 3, height, width)."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        noise = rng.integers(0, 256, (height // 10 + 2, width // 10 + 2, 3), np.uint8)
        images.append(np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def stored(transform: Transform, count: int) -> Tensor | list[Picture]:
    """Photographs as the store hands them out: squares, or pictures of several sizes."""
    if transform.crop == "padded":
        return photographs(count, transform.size, transform.size)
    sizes = [(40 + 7 * n, 60 - 3 * n) for n in range(count)]
    return [np.array(pillow(photographs(1, *size, seed=n)[0])) for n, size in enumerate(sizes)]


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The compiled loops, and what a GPU does instead."""
    if request.param == "torch":
        monkeypatch.setattr(cpu, "on_cpu", lambda images: False)
    return str(request.param)


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


def test_normalise_is_per_channel(way: str) -> None:
    transform = transforms.get("small")(4)
    found = normalise(torch.full((2, 3, 4, 4), 51, dtype=torch.uint8), transform)
    for channel in range(3):
        expected = (0.2 - transform.mean[channel]) / transform.std[channel]
        assert found[:, channel].flatten().tolist() == pytest.approx([expected] * 32, abs=1e-6)
    assert normalise(torch.empty(0, 3, 4, 4, dtype=torch.uint8), transform).shape == (0, 3, 4, 4)
    columns_last = torch.empty(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert torch.equal(normalise(torch.full((2, 3, 4, 4), 51, dtype=torch.uint8), transform, out=columns_last), found)


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
    images = stored(transform, 20)
    aspects = torch.linspace(0.5, 2, 20)
    torch.manual_seed(1)
    np.random.seed(1)
    outside = torch.get_rng_state().clone(), np.random.get_state()[1].copy()  # type: ignore[index]
    source = generator(5)
    state = source.get_state()
    first = augment(images, aspects, transform, source)
    second = augment(images, aspects, transform, source)
    source.set_state(state)
    monkeypatch.setattr(cpu, "_PIECE_BYTES", 7 * 12 * 32 * 32)
    again = augment(images, aspects, transform, source)
    assert torch.equal(first, again)  # in pieces of 7 images, too
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), outside[0])
    assert (np.random.get_state()[1] == outside[1]).all()  # type: ignore[index]


@pytest.mark.parametrize("preset", transforms.names())
def test_what_is_given_is_left_alone_and_out_is_filled(preset: str) -> None:
    transform = transforms.get(preset)(32)
    images = stored(transform, 6)
    before = copy.deepcopy(images)
    out = torch.empty(6, 3, 32, 32)
    assert augment(images, torch.ones(6), transform, generator(0), out=out) is out
    assert all(np.array_equal(one, two) for one, two in zip(images, before, strict=True))
    assert torch.equal(out, augment(images, torch.ones(6), transform, generator(0)))
    views = photographs(6, 40, 40)[:, :, :32, :32]
    assert normalise(views, transform, out=out) is out
    assert torch.equal(out, normalise(views.contiguous(), transform))
    assert augment(images[:0], torch.ones(0), transform, generator(0)).shape == (0, 3, 32, 32)


@pytest.mark.parametrize("preset", transforms.names())
def test_any_number_of_threads_gives_the_same_and_is_left_as_it_was(preset: str) -> None:
    transform = transforms.get(preset)(32)
    images = stored(transform, 11)
    before = torch.get_num_threads()
    try:
        results = []
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(augment(images, torch.ones(11), transform, generator(0)))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)


@pytest.mark.parametrize("preset", transforms.names())
def test_a_part_is_transformed_as_among_the_others(preset: str) -> None:
    transform = transforms.get(preset)(32)
    images = stored(transform, 9)
    aspects = torch.linspace(0.5, 2, 9)
    together = augment(images, aspects, transform, generator(2))
    for part in (slice(0, 4), slice(4, 9)):
        alone = augment(images[part], aspects, transform, generator(2), part=part)
        assert torch.equal(alone, together[part])


def test_names_and_sizes_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="small"):
        transforms.get("smal")
    with pytest.raises(ValueError, match="at least 1"):
        transforms.get("small")(0)


SIGNED = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Color", "Contrast", "Brightness", "Sharpness"}
GREY = (128, 128, 128)


def by_pillow(name: str, image: Image.Image, m: float) -> Image.Image:
    """The single operations, written with Pillow as the paper's code calls it."""
    w, h = image.size
    affine, bicubic = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    match name:
        case "ShearX":
            return image.transform((w, h), affine, (1, m, 0, 0, 1, 0), bicubic, fillcolor=GREY)
        case "ShearY":
            return image.transform((w, h), affine, (1, 0, 0, m, 1, 0), bicubic, fillcolor=GREY)
        case "TranslateX":
            return image.transform((w, h), affine, (1, 0, m * w, 0, 1, 0), fillcolor=GREY)
        case "TranslateY":
            return image.transform((w, h), affine, (1, 0, 0, 0, 1, m * h), fillcolor=GREY)
        case "Rotate":
            return image.rotate(m, fillcolor=GREY)
        case "Color" | "Contrast" | "Brightness" | "Sharpness":
            return getattr(ImageEnhance, name)(image).enhance(m)  # type: ignore[no-any-return]
        case "Posterize":
            return ImageOps.posterize(image, round(m))
        case "Solarize":
            return ImageOps.solarize(image, m)  # type: ignore[arg-type]
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
        case "Invert":
            return ImageOps.invert(image)
    raise AssertionError(name)


def awkward_images() -> Tensor:
    """Photographs, noise, a narrow range, flat channels, and black: uint8 (8, 3, 37, 52)."""
    smooth = photographs(3, 37, 52)
    noise = torch.randint(0, 256, (1, 3, 37, 52), generator=generator(0), dtype=torch.uint8)
    narrow = photographs(1, 37, 52, seed=1) // 9 + 100
    flat_channel = photographs(1, 37, 52, seed=2)
    flat_channel[:, 1] = 77
    few = (photographs(1, 37, 52, seed=3) > 127).to(torch.uint8) * 200 + 3
    return torch.cat([smooth, noise, narrow, flat_channel, few, torch.zeros(1, 3, 37, 52, dtype=torch.uint8)])


@pytest.mark.parametrize("name", image_operations.names())
def test_operations_are_pillows_at_every_level(name: str, way: str) -> None:
    operation = image_operations.get(name)
    assert operation.signed == (name in SIGNED)
    images = awkward_images()
    for level in range(10):
        for sign in (-1.0, 1.0):
            magnitudes = torch.full((len(images),), operation.magnitude(level, sign))
            before = images.clone()
            found = operation.apply(images, magnitudes)
            assert torch.equal(images, before)
            assert found.dtype == torch.uint8
            for image, result in zip(images, found, strict=True):
                expected = tensor(by_pillow(name, pillow(image), magnitudes[0].item()))
                if name.startswith("Shear"):
                    # Sums in another order: now and then a value lies on the other side of an integer.
                    difference = (result.int() - expected.int()).abs()
                    assert difference.max() <= 1
                    assert (difference > 0).float().mean() < 0.001
                else:
                    assert torch.equal(result, expected), (level, sign)


def test_each_image_has_its_own_magnitude(way: str) -> None:
    images = awkward_images()
    order = torch.randperm(len(images), generator=generator(1))
    for operation in image_operations:
        magnitudes = torch.tensor([operation.magnitude(i, (-1.0) ** i) for i in range(len(images))])
        together = operation.apply(images, magnitudes)
        assert torch.equal(operation.apply(images[order], magnitudes[order]), together[order])
        for i in range(len(images)):
            assert torch.equal(operation.apply(images[i : i + 1], magnitudes[i : i + 1])[0], together[i])


def test_the_policy_has_25_pairs_of_known_operations() -> None:
    assert len(IMAGENET_POLICY) == 25
    for pair in IMAGENET_POLICY:
        for name, chance, level in pair:
            assert name in image_operations
            assert 0 <= chance <= 1
            assert 0 <= level <= 9
    # Table 9's pairs are 20 different ones.
    assert len(set(IMAGENET_POLICY)) == 20


def test_the_policy_is_drawn_as_its_table_says() -> None:
    count = 100_000
    draws = draw_policy(torch.rand(count, 5, generator=generator(2)))
    names = image_operations.names()
    for stage in (0, 1):
        expected: dict[str | None, float] = dict.fromkeys([*names, None], 0.0)
        for pair in IMAGENET_POLICY:
            name, chance, _ = pair[stage]
            expected[name] += chance / 25
            expected[None] += (1 - chance) / 25
        counts = torch.bincount(draws.operations[:, stage] + 1, minlength=len(names) + 1) / count
        for index, share in enumerate(counts.tolist()):
            assert share == pytest.approx(
                expected[names[index - 1] if index else None], abs=0.008
            )  # 5 standard deviations
    turned = draws.magnitudes[draws.operations[:, 1] == names.index("Rotate"), 1]
    assert {round(v, 3) for v in turned.tolist()} == {-30.0, round(-30 * 8 / 9, 3), round(30 * 8 / 9, 3), 30.0}
    assert (turned > 0).float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_images_go_through_their_own_policies_as_in_pillow(way: str) -> None:
    images = photographs(200, 24, 24)
    draws = draw_policy(torch.rand(200, 5, generator=generator(4)))
    names = image_operations.names()
    expected = []
    for image, chosen, magnitudes in zip(images, draws.operations.tolist(), draws.magnitudes.tolist(), strict=True):
        result = pillow(image)
        for index, magnitude in zip(chosen, magnitudes, strict=True):
            if index >= 0:
                result = by_pillow(names[index], result, magnitude)
        expected.append(tensor(result))
    found = apply_policy(images, draws)
    different = (found != torch.stack(expected)).flatten(1).any(1)
    sheared = (draws.operations == names.index("ShearX")).any(1)
    assert not (different & ~sheared).any()
    assert 0 < int(sheared.sum()) < 20


@pytest.mark.parametrize("aspect", [0.5, 1.0, 1.5, 3.0])
def test_boxes_are_of_the_areas_and_ratios_asked_for(aspect: float) -> None:
    draws = torch.rand(4000, 2 * ATTEMPTS + 2, generator=generator(6))
    left, top, width, height = crop_boxes(draws, torch.full((4000,), aspect), (0.08, 1.0), (3 / 4, 4 / 3)).unbind(1)
    assert (torch.stack([left, top, width, height]) >= 0).all()
    assert (left + width <= 1 + 1e-6).all()
    assert (top + height <= 1 + 1e-6).all()
    assert (width * height >= 0.08 - 1e-6).all()
    ratios = width * aspect / height  # of the original's pixels
    assert (ratios >= 3 / 4 - 1e-5).all()
    assert (ratios <= 4 / 3 + 1e-5).all()
    if aspect == 1.0:
        assert ratios.log().mean().abs() < 0.01
        # Small boxes always fit: their areas stay uniform.
        areas = width * height
        assert ((areas < 0.31).sum() / (areas < 0.54).sum()).item() == pytest.approx(0.5, abs=0.04)


def test_boxes_are_torchvisions() -> None:
    """RandomResizedCrop.get_params, step by step, on an image so large that whole pixels do not matter."""
    draws = torch.rand(300, 2 * ATTEMPTS + 2, generator=generator(8)).double()
    aspects = torch.linspace(0.3, 3, 300).double()
    found = crop_boxes(draws, aspects, (0.5, 1.0), (3 / 4, 4 / 3))
    fallbacks = 0
    for numbers, aspect, box in zip(draws.tolist(), aspects.tolist(), found.tolist(), strict=True):
        image_width, image_height = 1e6 * aspect, 1e6
        for attempt in range(ATTEMPTS):
            area = image_width * image_height * (0.5 + 0.5 * numbers[attempt])
            ratio = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * numbers[ATTEMPTS + attempt])
            width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if width <= image_width and height <= image_height:
                left, top = (image_width - width) * numbers[-2], (image_height - height) * numbers[-1]
                break
        else:
            fallbacks += 1
            width, height = image_width, image_height
            if aspect < 3 / 4:
                height = image_width / (3 / 4)
            elif aspect > 4 / 3:
                width = image_height * (4 / 3)
            left, top = (image_width - width) / 2, (image_height - height) / 2
        expected = [left / image_width, top / image_height, width / image_width, height / image_height]
        assert box == pytest.approx(expected, abs=1e-6)
    assert 20 < fallbacks < 280


@pytest.mark.parametrize(
    ("aspect", "box"), [(4.0, [1 / 3, 0, 1 / 3, 1]), (0.25, [0, 1 / 3, 1, 1 / 3]), (1.2, [0, 0, 1, 1])]
)
def test_where_no_box_fits_the_largest_centred_one_is_taken(aspect: float, box: list[float]) -> None:
    # Areas of all of the image and the widest ratio fit none of these images.
    draws = torch.ones(1, 2 * ATTEMPTS + 2)
    if aspect == 4.0 or aspect == 0.25:
        draws[:, ATTEMPTS : 2 * ATTEMPTS] = 0.5
    found = crop_boxes(draws, torch.tensor([aspect]), (0.08, 1.0), (3 / 4, 4 / 3))
    assert found[0].tolist() == pytest.approx(box, abs=1e-6)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (150, 225), (700, 401), (3, 500)])
def test_resized_crops_are_pillows(height: int, width: int) -> None:
    """Boxes that are enlarged, reduced, and both; Pillow rounds between its two passes."""
    picture = photographs(1, height, width)[0]
    boxes = torch.tensor([[0, 0, 1, 1], [0.1, 0.2, 0.5, 0.3], [0.61, 0.03, 0.39, 0.97], [0.25, 0.5, 0.5, 0.01]])
    flips = torch.tensor([False, True, False, True])
    pictures = [np.array(pillow(picture))] * 4
    found = crop_pictures(pictures, boxes, flips, torch.ones(4), 64).float()
    for box, flip, result in zip(boxes.tolist(), flips, found, strict=True):
        left, top = box[0] * width, box[1] * height
        area = (left, top, left + box[2] * width, top + box[3] * height)
        expected = tensor(pillow(picture).resize((64, 64), Image.Resampling.BILINEAR, area))
        difference = (result - (expected.flip(2) if flip else expected)).abs()
        assert difference.max() <= 1
        assert difference.mean() < 0.3


def test_crops_are_lit_as_pillow_lights_them() -> None:
    picture = np.array(pillow(photographs(1, 50, 70)[0]))
    boxes, factors = torch.tensor([[0.1, 0.1, 0.7, 0.7]] * 3), torch.tensor([1.0, 0.75, 1.24])
    plain, dark, light = crop_pictures([picture] * 3, boxes, torch.zeros(3, dtype=torch.bool), factors, 32)
    for factor, lit in ((0.75, dark), (1.24, light)):
        assert torch.equal(lit, tensor(ImageEnhance.Brightness(pillow(plain)).enhance(factor)))


def natural(height: int, width: int) -> Picture:
    """Noise with the spectrum of photographs: amplitudes fall with the frequency."""
    rng = np.random.default_rng(0)
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequencies[0, 0] = 1
    phases = np.exp(2j * np.pi * rng.random((3, *frequencies.shape)))
    values = np.fft.irfft2(phases / frequencies, s=(height, width)).transpose(1, 2, 0)
    return np.ascontiguousarray((128 + 45 * values / values.std()).clip(0, 255).astype(np.uint8))


def edge_energy(image: Tensor) -> float:
    """The mean squared difference of neighbouring pixels."""
    return float(sum(image.float().diff(dim=d).square().mean() for d in (-1, -2)))


@pytest.mark.parametrize(("height", "width"), [(150, 225), (900, 1200)])
def test_large_is_as_sharp_as_a_resized_crop_of_the_original(height: int, width: int) -> None:
    """Through the store against Pillow on the image itself, with the boxes that were drawn."""
    transform = replace(transforms.get("large")(112), auto_augment=False, brightness=0.0, flip=0.0)
    original = natural(height, width)
    store = training_store(transform)
    pixels, aspects = store.batch(store.add([original] * 30))
    assert aspects.tolist() == pytest.approx([width / height] * 30)
    assert max(each.shape[0] * each.shape[1] for each in pixels) <= transform.most_pixels
    found = restored(augment(pixels, aspects, transform, generator(7)), transform)
    draws = torch.rand(30, 2 * ATTEMPTS + 2, generator=generator(7))
    boxes = crop_boxes(draws, aspects, transform.scale, transform.ratio)
    for box, result in zip(boxes.tolist(), found, strict=True):
        left, top = box[0] * width, box[1] * height
        area = (left, top, left + box[2] * width, top + box[3] * height)
        expected = tensor(Image.fromarray(original).resize((112, 112), Image.Resampling.BILINEAR, area))
        if height * width <= transform.most_pixels:  # kept as it is
            assert (result - expected).abs().max() <= 1.01
        else:
            assert edge_energy(result) == pytest.approx(edge_energy(expected), rel=0.03)


def test_large_is_the_papers() -> None:
    transform = transforms.get("large")(224)
    assert (transform.short_side, transform.size) == (256, 224)
    # The narrowest box of 0.08 of the area and ratio 3 / 4 has 224 pixels in 836,267 = 224^2 / 0.06.
    assert transform.most_pixels == 836_267
    assert transform.auto_augment
    assert not transform.one_store
    assert ImageStore.for_evaluation(transform).side == 224
    assert transforms.get("small")(32).one_store
