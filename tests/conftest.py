"""What every test shares: no network beyond this machine, no telemetry, a seed."""

from __future__ import annotations

import os

# Before any library reads them at its import.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from hypothesis import settings

settings.register_profile("perdure", deadline=None)  # nothing about speed is asserted in a test
settings.load_profile("perdure")
