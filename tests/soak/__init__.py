"""Long repetitions against the whole console: ``pytest -m soak -n 0 tests/soak``."""
