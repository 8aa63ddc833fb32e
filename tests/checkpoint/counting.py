"""A run in which every tensor holds the number of the step."""

from __future__ import annotations

from typing import Any

import torch

import perdure


class Counting(torch.optim.Optimizer):
    """Writes the number of the step into every parameter, and into a state of its own: no two steps look alike."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state.setdefault("moment", torch.zeros_like(parameter)).add_(1)
                parameter.add_(1)


class Run:
    """A model and its optimizer, and the State of the two."""

    def __init__(self, sizes: tuple[tuple[int, ...], ...] = ((3, 5), (7,))) -> None:
        self.model = torch.nn.ParameterList(torch.zeros(size) for size in sizes)
        self.optimizer = Counting(self.model.parameters())
        self.state = perdure.State(model=self.model, optimizer=self.optimizer)

    def values(self) -> set[float]:
        moments = [state["moment"] for state in self.optimizer.state.values()]
        return {float(value) for tensor in (*self.model, *moments) for value in tensor.detach().unique()}
