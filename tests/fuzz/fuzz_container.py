"""Fuzzes open, read, verify and recover. Only EscortError may be raised.

By hand, ten minutes, from the repository's root::

    python tests/fuzz/golden_inputs.py CORPUS
    python tests/fuzz/fuzz_container.py -max_total_time=600 CORPUS/container

Thousands of small files are written and synced: ``TMPDIR=/dev/shm`` makes it quicker. New inputs that reach new code
are added to that folder. A crash stops the run and leaves its input in ``./crash-...``:
``python tests/fuzz/fuzz_container.py crash-...`` shows it again. A crash is any exception other than EscortError, a
warning, more than 512 MiB of address space, more than 20 seconds for one input, and an answer that contradicts
another: a file that verifies but cannot be read, or that loses something in recovery, or a recovered file that does
not verify. ``mutator.py`` keeps checksums and compression right, so that what is behind them is tried too.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["escort_codec.container", "escort_codec.exemplar", "escort_codec.hint"]):
    from escort_codec.container.parts import recover
    from escort_codec.container.reader import Reader
    from escort_codec.container.verify import verify
    from escort_codec.exemplar import Exemplar

from escort_codec.coding import codings
from escort_codec.errors import EscortError
from escort_codec.hint import decode_hint
from tests.fuzz.harness import fuzz
from tests.fuzz.mutator import mutate

MOST_PIXELS = 1 << 22  # decoded for one input: maps at the cap are right, but take their time
FOLDER = Path(tempfile.mkdtemp())


def decode_all(exemplars: list[Exemplar]) -> bool:
    """Decodes all maps and hints; whether that worked for all."""
    whole = True
    for exemplar in exemplars:
        try:
            if exemplar.kind == "prompt":
                _ = exemplar.edges
                if exemplar.hint is not None:
                    decode_hint(exemplar.hint)
        except EscortError:
            whole = False
    return whole


def read_all(path: Path, *, recovering: bool) -> list[Exemplar] | None:
    """Reads everything, each exemplar in several ways; None if the file is refused."""
    try:
        with Reader(path, recover=recovering) as reader:
            _ = repr(reader), reader.labels, reader.seeds, reader.source, reader.writer
            exemplars = list(reader)
            assert len(exemplars) == len(reader) == sum(reader.labels.values())
            for number, exemplar in enumerate(exemplars[:50]):
                assert reader[number] == exemplar
                assert reader[reader.find(exemplar.key)].key == exemplar.key
            for label in list(reader.labels)[:3]:
                assert len(reader.of_label(label)) == reader.labels[label]
            return exemplars
    except EscortError:
        return None


def test_one_input(data: bytes) -> None:
    """Writes ``data`` to a file and does all with it that users do with a file that they were given."""
    path, good = FOLDER / "f.escx", FOLDER / "good.escx"
    path.write_bytes(data)
    whole = read_all(path, recovering=False)
    saved = read_all(path, recovering=True)
    if whole is not None:
        assert saved == whole
    if sum(e.map_shape[0] * e.map_shape[1] for e in saved or ()) > MOST_PIXELS:
        return
    decoded = decode_all(saved or [])
    verdict = verify(path)
    if verdict.fault is None:
        assert whole is not None
        assert decoded
        assert verdict.exemplars == len(whole)
    try:
        result = recover(path, good, overwrite=True)
    except EscortError:
        assert verdict.fault is not None or not whole
        return
    after = read_all(good, recovering=False)
    assert after is not None
    assert len(after) == result.saved
    if verdict.fault is None:
        assert (after, result.lost) == (whole, [])
    elif decoded:
        assert verify(good).fault is None


if __name__ == "__main__":
    for coding in codings:
        coding.prepare()
    fuzz(test_one_input, mutate)
