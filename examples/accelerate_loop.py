"""A loop written with Accelerate that survives what happens to it: run it again, and it goes on where it was.

    python examples/accelerate_loop.py Qwen/Qwen3-0.6B book.txt --output_dir runs/book --steps 500
    torchrun --nproc-per-node=2 examples/accelerate_loop.py Qwen/Qwen3-0.6B book.txt --cpu

It teaches a language model a text, with accumulated gradients.
"""

import argparse
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset
from transformers import AutoModelForCausalLM, AutoTokenizer, get_cosine_schedule_with_warmup, set_seed

import perdure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text", type=Path)
    parser.add_argument("--output_dir", default="runs/book")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--save_steps", type=int, default=100)
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--cpu", action="store_true")
    args = parser.parse_args()

    accelerator = Accelerator(gradient_accumulation_steps=2, cpu=args.cpu)
    set_seed(accelerator.process_index)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model)
    tokens = torch.tensor(tokenizer(args.text.read_text())["input_ids"])
    windows = tokens[: len(tokens) // args.window * args.window].view(-1, args.window)
    loader = DataLoader(TensorDataset(windows), batch_size=2, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5)
    scheduler = get_cosine_schedule_with_warmup(optimizer, 10, args.steps * accelerator.num_processes)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)

    state = perdure.State.from_accelerator(accelerator)  # all that was prepared, and random generators
    every, keep = perdure.Every(steps=args.save_steps), perdure.Keep(last=2)
    with perdure.Checkpointer(args.output_dir, save=every, keep=keep, tokenizer=tokenizer) as ckpt:
        step = ckpt.restore(state)  # 0 when new
        model.train()
        while step < args.steps and not ckpt.stop_requested:
            for (batch,) in loader:
                with accelerator.accumulate(model):
                    loss = model(input_ids=batch, labels=batch).loss
                    accelerator.backward(loss)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
                if accelerator.sync_gradients:  # a step is complete
                    step += 1
                    ckpt.save(step, state, metrics={"loss": loss.item()}, force=step == args.steps)
                    if step == args.steps or ckpt.stop_requested:  # a SIGTERM came, and its checkpoint is durable
                        break
    accelerator.print(f"step {step}")
    accelerator.end_training()


if __name__ == "__main__":
    main()
