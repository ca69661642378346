"""Which jobs share a batch, and how large it may be."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escort_codec.errors import UsageError
from escort_codec.regenerate.controlnet import session as module
from escort_codec.regenerate.controlnet.models import ModelChoice
from escort_codec.regenerate.controlnet.options import ControlNetOptions
from escort_codec.regenerate.controlnet.resolve import GenerationSettings
from escort_codec.regenerate.controlnet.session import (
    BatchSizes,
    JobGroups,
    ModelSession,
    is_out_of_memory,
    largest_batch,
)

GB = 1 << 30


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(1, 7))
def test_every_item_is_handed_out_once_with_its_key_in_order(keys: list[int], size: int) -> None:
    groups: JobGroups[int, int] = JobGroups(lambda key: size)
    full = [batch for number, key in enumerate(keys) for batch in groups.add(key, number)]
    rest = list(groups.rest())
    assert all(len(items) == size for _, items in full)
    assert all(0 < len(items) < size for _, items in rest)
    assert len({key for key, _ in rest}) == len(rest)
    for wanted in set(keys):
        found = [number for key, items in full + rest if key == wanted for number in items]
        assert found == [number for number, key in enumerate(keys) if key == wanted]
    assert not list(groups.rest())


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING", 5)
    groups: JobGroups[str, int] = JobGroups(lambda key: 100)
    handed = [batch for number, key in enumerate("ababa") for batch in groups.add(key, number)]
    assert handed == [("a", [0, 2, 4])]
    assert list(groups.rest()) == [("b", [1, 3])]


def test_sizes_are_what_was_asked_for_until_memory_runs_out() -> None:
    sizes = BatchSizes(12)
    assert sizes.known((512, 512))
    assert sizes.of((512, 512)) == 12
    assert sizes.ran_out((512, 512), 12) == 6
    assert sizes.of((512, 512)) == 6
    assert sizes.of((512, 768)) == 6  # larger images take no less
    assert sizes.of((256, 256)) == 12
    assert sizes.ran_out((512, 512), 1) == 0
    assert sizes.of((512, 512)) == 1


def test_sizes_that_are_measured() -> None:
    sizes = BatchSizes(None)
    assert not sizes.known((512, 512))
    sizes.measured((512, 512), 24)
    assert sizes.known((512, 512))
    assert sizes.of((512, 512)) == 24
    sizes.measured((64, 64), 10_000)
    assert sizes.of((64, 64)) == 64  # no more pay off


@pytest.mark.parametrize(
    ("fixed", "each", "free", "expected"),
    [
        (2 * GB, 3 * GB, 80 * GB, 16),  # (0.9 * 80 - 2) / 3 = 23.3: down to a multiple of 8
        (2 * GB, 3 * GB, 20 * GB, 5),  # (18 - 2) / 3
        (2 * GB, 3 * GB, 4 * GB, 1),
        (0, 1, 80 * GB, 64),
        (1 * GB, 0, 8 * GB, 64),
    ],
)
def test_the_largest_batch_that_fits(fixed: int, each: int, free: int, expected: int) -> None:
    made: list[int] = []

    def peak(count: int) -> int:
        made.append(count)
        return fixed + each * count

    assert largest_batch(peak, free) == expected
    assert set(made) <= {1, 2}


def test_what_says_that_memory_ran_out() -> None:
    class OutOfMemoryError(RuntimeError):  # as torch's
        pass

    assert is_out_of_memory(OutOfMemoryError())
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert is_out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("expected scalar type Half but found Float"))
    assert not is_out_of_memory(ValueError("out of memory"))


class Networks:
    """Something whose batches take a known amount of memory on a GPU that is not here."""

    def not_compiled(self) -> Any:
        return nullcontext()


def test_a_gpu_is_measured_once_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of a GPU with 40 GB free, of which a batch takes 1 GB and 2 GB an image (weights are held before)."""
    import torch

    from escort_codec.regenerate.controlnet import sampling

    held, peaks, made = 6 * GB, [0], []

    def warm_up(loaded: object, embeddings: object, settings: object, pictures: list[Any]) -> None:
        made.append(len(pictures))
        peaks[0] = held + GB + 2 * GB * len(pictures)

    monkeypatch.setattr(sampling, "warm_up", warm_up)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: held)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks[0])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40 * GB, 80 * GB))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    session: Any = ModelSession(ControlNetOptions())
    session._device = torch.device("cuda", 0)
    session._model = (Networks(), None)
    choice = ModelChoice("m", None, "c", None, "bf16")
    settings = GenerationSettings(choice, (512, 512), False, 20, 9.0, 1.0, "ddim", None)
    assert session.batch_size(settings) == 64
    session.measure(settings, object())
    assert session.batch_size(settings) == 16  # (36 - 1) / 2 = 17.5
    session.measure(settings, object())
    assert made == [1, 2]
    assert session.seconds["warm_up"] > 0


def test_a_cpu_takes_four_unless_told_otherwise() -> None:
    choice = ModelChoice("m", None, "c", None, "fp32")
    settings = GenerationSettings(choice, (512, 512), False, 20, 9.0, 1.0, "ddim", None)
    assert ModelSession(ControlNetOptions(device="cpu")).batch_size(settings) == 4
    assert ModelSession(ControlNetOptions(device="cpu"), near="cuda:99").batch_size(settings) == 4
    with pytest.raises(UsageError, match="cuda:99"):
        ModelSession(ControlNetOptions(), near="cuda:99").batch_size(settings)
    assert ModelSession(ControlNetOptions(device="cpu", batch_size=9)).batch_size(settings) == 9
