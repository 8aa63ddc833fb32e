"""A loop of plain PyTorch that survives what happens to it: run it again, and it goes on where it was, bit for bit.

    python examples/plain_torch.py book.txt --output_dir runs/chars --steps 2000
    torchrun --nproc-per-node=4 examples/plain_torch.py book.txt --output_dir runs/chars --steps 2000

It learns to continue a text by characters, on as many processes as torchrun starts.
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import perdure

WINDOW = 32


class NextCharacter(torch.nn.Module):
    """A small recurrent network with dropout."""

    def __init__(self, characters: int, width: int = 64) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(characters, width)
        self.recurrent = torch.nn.GRU(width, width, batch_first=True)
        self.head = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.Linear(width, characters))

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        return self.head(self.recurrent(self.embed(text))[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--output_dir", default="runs/chars")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--save_steps", type=int, default=200)
    args = parser.parse_args()
    if "RANK" in os.environ:  # under torchrun
        dist.init_process_group("gloo")
    rank, size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    text = args.text.read_text()
    number = {character: index for index, character in enumerate(sorted(set(text)))}
    numbers = torch.tensor([number[character] for character in text])
    dataset = TensorDataset(numbers[: len(numbers) // (WINDOW + 1) * (WINDOW + 1)].view(-1, WINDOW + 1))
    sampler = DistributedSampler(dataset, size, rank)
    loader = DataLoader(dataset, batch_size=8, sampler=sampler)
    torch.manual_seed(rank)
    model = NextCharacter(len(number))
    wrapped = DistributedDataParallel(model) if size > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    state = perdure.State(model=wrapped, optimizer=optimizer, loader=loader)  # random generators are included
    every, keep = perdure.Every(steps=args.save_steps), perdure.Keep(last=2)
    with perdure.Checkpointer(args.output_dir, save=every, keep=keep) as ckpt:
        step = ckpt.restore(state)  # 0 when new
        while step < args.steps and not ckpt.stop_requested:
            sampler.set_epoch(step // len(loader))
            for (batch,) in loader:
                predicted = wrapped(batch[:, :-1])
                loss = torch.nn.functional.cross_entropy(predicted.flatten(0, 1), batch[:, 1:].flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
                ckpt.save(step, state, metrics={"loss": loss.item()}, force=step == args.steps)
                if step == args.steps or ckpt.stop_requested:  # a SIGTERM came, and its checkpoint is durable
                    break
    if rank == 0:
        print(f"step {step}: loss {loss.item():.6f}" if ckpt.saves else f"step {step}: nothing left to do")


if __name__ == "__main__":
    main()
