"""Any bytes lead every reader to data or to an error with words, in time: fuzzed, and tried on files made to hurt."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.hostile.mutations import contents
from tests.hostile.readers import READERS, obeys


@pytest.mark.parametrize("name", READERS)
def test_good_files_are_taken(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    for content in reader.good:
        (tmp_path / reader.file).write_bytes(content)
        assert obeys(reader.read, tmp_path / reader.file), content


def _fuzz(name: str, folder: Path, examples: int) -> None:
    reader = READERS[name]

    @settings(max_examples=examples, database=None)
    @given(st.data())
    def law(data: st.DataObject) -> None:
        path = folder / reader.file
        path.write_bytes(data.draw(contents(reader.good)))
        obeys(reader.read, path)

    law()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", READERS)
def test_any_bytes_are_data_or_an_error_in_words(name: str, tmp_path: Path) -> None:
    _fuzz(name, tmp_path, 12)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", READERS)
def test_many_bytes_are_data_or_an_error_in_words(name: str, tmp_path: Path) -> None:
    _fuzz(name, tmp_path, 250)
