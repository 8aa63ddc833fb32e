"""Settings of the tests of saving models: no network, one thread, the client quiet."""

from __future__ import annotations

import os

import torch

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_UPDATE_CHECK="1")
torch.set_num_threads(1)
