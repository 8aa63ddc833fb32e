"""What every test shares: no network beyond this machine, no telemetry, a seed."""

from __future__ import annotations

import os
import signal

# Before any library reads them at its import. Tests that speak with a hub of their own say so: HF_HUB_OFFLINE=0.
os.environ.update(
    HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_UPDATE_CHECK="1", TOKENIZERS_PARALLELISM="false"
)

from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background by a shell, which says so to all of us
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("perdure", deadline=None)  # nothing about speed is asserted in a test
settings.load_profile("perdure")
