"""Each file of ``cases`` is accepted or refused by the library, at the level that the spec says, and by ``verify``."""

from __future__ import annotations

from pathlib import Path

import pytest

from escort_codec import Exemplar, Reader
from escort_codec.container.verify import verify
from escort_codec.errors import EscortError, FormatError
from tests.container import reference_reader
from tests.container.cases import CASES, Case


def use(exemplar: Exemplar) -> None:
    if exemplar.kind == "prompt":
        _ = exemplar.edges
    elif exemplar.kind == "latent":
        _ = exemplar.latents
    _ = exemplar.hint_pixels


def level_of(path: Path) -> str:
    """How far the library gets: where it first refuses, or ``accept``."""
    try:
        with Reader(path) as reader:
            try:
                found = list(reader)
            except FormatError:
                return "read"
    except FormatError:
        return "open"
    try:
        for exemplar in found:
            use(exemplar)
    except EscortError:
        return "use"
    return "check" if verify(path).fault else "accept"


@pytest.mark.must("M39", "M40", "M41", "M42", "M43", "M44", "M45", "M46", "M47", "M49", "M50", "M53")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_library_gets_as_far_as_the_spec_says(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "case.escx"
    path.write_bytes(case.data)
    assert level_of(path) == case.level
    fault = verify(path).fault
    assert (fault is None) == (case.level == "accept"), fault
    assert "\n" not in str(fault)


def reference_level(data: bytes) -> tuple[str, str]:
    """(how far the second reader gets, the rule that it names)."""
    level = "open"
    try:
        file = reference_reader.File(data)
        level = "read"
        rows = file.rows()
        level = "use"
        for row in rows:
            if row["kind"] != "real":
                reference_reader.decode(row)
        level = "check"
        file.check()
    except reference_reader.Refused as exc:
        return level, str(exc)
    return "accept", ""


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_reader_written_from_the_spec_gets_as_far_and_names_the_rule(case: Case) -> None:
    assert reference_level(case.data) == (case.level, case.rule)
