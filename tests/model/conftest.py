"""Settings of the tests of saving models: one thread, whichever way they are run."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
