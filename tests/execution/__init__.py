"""Tests of the engine. The contract's assertions are rewritten like those of test modules."""

import pytest

pytest.register_assert_rewrite("tests.execution.contract")
