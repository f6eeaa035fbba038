"""Characters that make a text read differently from what it is."""

from __future__ import annotations

import re
from typing import Final

REORDERING: Final = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Characters after which text reads in another order than it is stored in, and runs in."""

UNSEEN: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""These, and marks of direction, which nobody sees: two names could look the same."""
