"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes is the machine's affair, not the code's.
settings.register_profile("uploaderd", deadline=None)
settings.load_profile("uploaderd")
