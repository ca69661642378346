"""Memory that threads hold together is bounded in bytes, not in images."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from escort_cil.data import decoding
from escort_codec.exemplar import Exemplar
from escort_codec.regenerate import Job, harmonic
from escort_codec.regenerate.controlnet import session
from escort_codec.workers import ByteGate


class Watched(ByteGate):
    """Remembers the most bytes and the most threads that were inside at once."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.inside: list[int] = []
        self.seen: list[tuple[int, int]] = []

    def take(self, count: int) -> None:
        super().take(count)
        if count:
            with self._change:
                self.inside.append(count)
                self.seen.append((sum(self.inside), len(self.inside)))

    def give(self, count: int) -> None:
        with self._change:
            if count:
                self.inside.remove(count)
        super().give(count)


def test_threads_together_stay_below_the_bound_and_a_larger_one_is_alone() -> None:
    gate = Watched(100)

    def work(count: int) -> None:
        with gate.holding() as ask:
            ask(count)
            time.sleep(0.001)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [40, 250, 10, 60, 40, 30, 250, 20, 100, 0] * 5))
    assert max(held for held, threads in gate.seen if threads > 1) <= 100
    assert [threads for held, threads in gate.seen if held >= 250] == [1] * 10
    assert gate.inside == []


def test_what_is_held_counts_once_and_is_given_back_after_an_error() -> None:
    gate = Watched(100)

    def fail() -> None:
        with gate.holding() as ask:
            ask(90)
            ask(95)  # instead of the 90
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert gate.seen == [(90, 1), (95, 1)]
    assert gate.inside == []


def test_images_are_decoded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen threads, but no more than two of the large ones at once, also while something is derived of them."""
    gate = Watched(2 * 400 * 400 * 8)
    monkeypatch.setattr(decoding, "DECODED", gate)
    file = io.BytesIO()
    Image.new("RGB", (400, 400)).save(file, "PNG")
    busy: list[int] = []

    def derive(i: int, picture: Image.Image) -> tuple[int, int]:
        busy.append(len(gate.inside))
        time.sleep(0.002)
        return picture.size

    assert decoding.decode_all([file.getvalue()] * 30, derive, workers=16) == [(400, 400)] * 30
    assert max(busy) <= 2
    assert max(threads for _, threads in gate.seen) == 2
    assert gate.inside == []


def test_the_harmonic_regenerator_does_not_pile_up_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = np.zeros((40, 40), bool)
    image = 3 * 40 * 40
    monkeypatch.setattr(harmonic, "IN_FLIGHT", 8 * image)
    read: list[int] = []

    def jobs() -> Iterator[Job]:
        for number in range(40):
            read.append(number)
            yield Job(Exemplar.from_edges(edges, label="c", name=str(number)), 0)

    made = 0
    with harmonic.Harmonic(harmonic.HarmonicOptions(workers=16)) as regenerator:
        for result in regenerator.regenerate(jobs()):
            assert result.image is not None
            made += 1
            assert len(read) - made <= 8 + 2
    assert made == 40
    one = Exemplar.from_edges(edges, label="c")
    groups = [len(group) for group in harmonic._grouped(Job(one, seed) for seed in range(7))]
    assert groups == [2, 2, 2, 1]


def test_waiting_jobs_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "WAITING_BYTES", 1000)
    groups: session.JobGroups[str, int] = session.JobGroups(lambda key: 100)
    assert [batch for n in range(9) for batch in groups.add("small", n, 10)] == []
    assert list(groups.add("large", 0, 900)) == []
    assert list(groups.add("small", 9, 10)) == []
    assert list(groups.add("small", 10, 10)) == [("large", [0])]
    assert list(groups.rest()) == [("small", list(range(11)))]


def test_a_gate_lets_the_next_one_in_as_soon_as_there_is_room() -> None:
    gate = ByteGate(10)
    gate.take(10)
    entered = threading.Event()

    def enter() -> None:
        gate.take(5)
        entered.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    assert not entered.wait(0.05)
    gate.give(6)
    assert entered.wait(5)
    waiting.join()
