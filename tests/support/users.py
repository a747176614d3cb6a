"""Tests that are other users for a moment, as only root can be."""

import os

import pytest

# .ci/run counts on all of them: there they fail where they can't be run.
as_root = pytest.mark.skipif(
    os.geteuid() != 0 and "NO_SKIPS" not in os.environ, reason="becomes other users"
)
