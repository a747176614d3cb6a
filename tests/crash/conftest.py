"""What the crash suites share."""

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Count no lines here: a story is told thousands of times, and counting takes a third of it.

    What is left untested is then what the other suites leave: more, and never less.
    """
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.no_cover)
