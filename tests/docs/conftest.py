"""The waiting command line that all pages of a test run share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.docs.running import warm_environment


@pytest.fixture(scope="session")
def environment() -> Iterator[dict[str, str]]:
    with warm_environment() as found:
        yield found
