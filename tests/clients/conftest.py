"""Judges of scenes say as much about what they expected as tests do."""

import pytest

pytest.register_assert_rewrite("tests.clients.scenes")
