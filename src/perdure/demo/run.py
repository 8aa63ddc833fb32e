"""The stations of the demo, one after the other, on one machine and without a network."""

from __future__ import annotations

import logging
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import perdure
from perdure._optional import install_line
from perdure.demo.folder import DemoFolder, demo_folder
from perdure.demo.interrupt import Comparison, Undisturbed, compare, train_until_killed, undisturbed
from perdure.demo.isolation import isolated
from perdure.demo.model import END, answers, build_model, build_tokenizer
from perdure.demo.pull import Answer, pull_and_ask
from perdure.demo.questions import Pair, pairs
from perdure.demo.report import Report
from perdure.demo.train import SEED, attach, build_trainer, losses, one_thread

REPO, TAG, USER = "demo/python-answers", "v0.1.0", "demo"
EPOCHS = 24
EXAMPLE = "What does ENOENT mean?"
_LICENSE = {  # of the words that it learns by heart
    "license": "other",
    "license_name": "psf-2.0",
    "license_link": "https://docs.python.org/3/license.html",
}
_NEEDED = (
    "torch", "transformers", "trl", "tokenizers", "datasets", "accelerate", "huggingface_hub", "jinja2",
    "starlette", "uvicorn", "dulwich", "lz4",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What the demo did.

    Attributes:
        folder: Where everything lies.
        receipt: What was published, and where.
        endpoint: The hub's address while the demo ran; `perdure serve` on the same port brings it back.
        pairs: Source → how many questions came from it.
        parameters: The model's size.
        accuracy: Share of all questions answered exactly, before and after training.
        comparison: How the run that was killed compares with one that was not.
        answer: What the model said after it was loaded back by plain transformers.
        seconds: Station → wall time.
    """

    folder: DemoFolder
    receipt: perdure.Receipt
    endpoint: str
    pairs: dict[str, int]
    parameters: int
    accuracy: tuple[float, float]
    comparison: Comparison
    answer: Answer
    seconds: dict[str, float]


def run_demo(path: Path, *, port: int = 0, epochs: int = EPOCHS) -> Summary:
    """Fine-tune a small model on this Python's own documentation, killed once; finish, publish, and load it back.

    Changes this process's environment: for the rest of its life, Hugging Face libraries know only the demo's hub.

    Args:
        path: The demo's folder.
        port: The hub's port; 0 for any that is free.
        epochs: How often the model sees each question.

    Raises:
        MissingDependency: A library is not installed. Nothing was made.
        AlreadyExists: `path` holds something that is not the demo's. Nothing was touched.
        InvalidInput: The folder or the port cannot be used.
        HubError: The model is saved, but could not be published or loaded back.
    """
    check_dependencies()
    from perdure.hub.server import HubServer

    with demo_folder(path) as folder, HubServer(folder.hub, user=USER, port=port) as hub:
        assert hub.token is not None, "a new store makes a new token"
        folder.keep_token(hub.token)
        _isolate_this_process(hub.url, folder.caches / "training")
        return _Demo(folder=folder, endpoint=hub.url, token=hub.token, epochs=epochs).run()


def check_dependencies() -> None:
    """Before anything is made, and without importing what takes seconds to import."""
    for name in _NEEDED:
        try:
            found = find_spec(name) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise perdure.MissingDependency(
                f"`perdure demo` needs {name}, which is not installed. Nothing was made.",
                hint=f"Install all it needs with: {install_line('all')}",
            )


@dataclass(slots=True, kw_only=True)
class _Demo:
    folder: DemoFolder
    endpoint: str
    token: str = field(repr=False)
    epochs: int
    report: Report = field(default_factory=lambda: Report(6))

    def run(self) -> Summary:
        with self.report.station("questions", "Read questions and answers from this Python's own library"):
            learned = pairs()
            counts = dict(Counter(pair.source for pair in learned))
            self.report.say(f"{len(learned)} pairs: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
        with self.report.station("model", "Build a tokenizer and a small language model, and ask it everything"):
            self.report.say("importing PyTorch, transformers and TRL first")
            _silence_known_noise()
            one_thread()
            tokenizer = build_tokenizer(learned)
            model = build_model(tokenizer, seed=SEED)
            self.report.say(
                f"byte-level BPE of {len(tokenizer)} tokens, turns end with {END}; "
                f"Llama of {model.num_parameters() / 1e6:.1f} M parameters, random weights"
            )
            before = self.examine(model, tokenizer, learned)
        with undisturbed(self.folder, self.epochs) as other:
            title = f"Fine-tune it with TRL's SFTTrainer on the CPU, {self.epochs} epochs, and kill that half way"
            with self.report.station("train", title):
                self.report.say("perdure.attach(trainer), in a process of its own; another one trains undisturbed")
                killed = train_until_killed(self.folder, self.epochs, self.report.progress)
                self.report.say(f"SIGKILL at step {max(killed)}")
            with self.report.station("resume", "Go on from its newest checkpoint, and compare with the other run"):
                trainer = build_trainer(
                    model, tokenizer, learned, self.folder.model,
                    epochs=self.epochs, seed=SEED, progress=self.report.progress,
                )  # fmt: skip
                comparison = self.resume(trainer, killed, other)
                after = self.examine(model, tokenizer, learned)
        with self.report.station("finish", "perdure.finish: save, describe, publish privately, tag"):
            receipt = self.finish(trainer, after)
        with self.report.station("pull", "Load it back: plain transformers, a new process, an empty cache"):
            answer = self.pull(answers(model, tokenizer, [EXAMPLE])[0])
        return Summary(
            folder=self.folder,
            receipt=receipt,
            endpoint=self.endpoint,
            pairs=counts,
            parameters=model.num_parameters(),
            accuracy=(before, after),
            comparison=comparison,
            answer=answer,
            seconds=self.report.seconds,
        )

    def examine(self, model: Any, tokenizer: Any, learned: Sequence[Pair]) -> float:
        """Share of the questions that the model answers exactly: it learns them by heart, and that is examined."""
        said = answers(model, tokenizer, [pair.question for pair in learned])
        right = sum(pair.answer == answer for pair, answer in zip(learned, said, strict=True))
        shown = dict(zip((pair.question for pair in learned), said, strict=True))[EXAMPLE]
        self.report.say(f"answers exactly: {right} of {len(learned)} ({right / len(learned):.0%})")
        self.report.say(f"{EXAMPLE} → {_short(shown)}")
        return right / len(learned)

    def resume(self, trainer: Any, killed: Mapping[int, float], other: Undisturbed) -> Comparison:
        """Train to the end from the newest checkpoint; nothing of the run may differ from the undisturbed one."""
        run = attach(trainer)
        trainer.train(resume_from_checkpoint=True)
        if run.restored is None:
            raise perdure.NotFound(f"The run that was killed left no checkpoint in {self.folder.model}.")
        weights = perdure.save_model(trainer.model, self.folder.caches / "resumed").digests["model.safetensors"]
        both = compare(killed, losses(trainer), weights, other)
        self.report.say(f"went on from the checkpoint of step {run.restored.step}; compared: every step's loss, to the")
        self.report.say("last bit, of the run that nobody killed (left) and of this one (right), and all weights:")
        for step in (run.restored.step + 1, max(killed), max(both)):
            mine = losses(trainer)[step]
            self.report.say(f"  step {step:>4}  {both[step].hex()}  {mine.hex()}  {mine:.4f}")
        self.report.say(f"the same in all {len(both)} steps, bit for bit, and so are the weights at the end")
        return Comparison(killed_at=max(killed), resumed_from=run.restored.step, losses=both, weights=weights)

    def finish(self, trainer: Any, accuracy: float) -> perdure.Receipt:
        # What only the author of a card can say; `finish` leaves it as it is, and says the rest.
        card = perdure.Card.parse("").with_metadata(_LICENSE).with_results({"exact_match": accuracy})
        card.save(self.folder.model)
        done = perdure.finish(
            trainer, repo=REPO, tag=TAG, private=True, token=self.token, endpoint=self.endpoint, tags=["perdure-demo"],
            card_template=Path(__file__).with_name("card.md.jinja"),
        )  # fmt: skip
        checked = perdure.verify(done.path)
        checked.raise_for_problems()
        if done.receipt is None:
            raise perdure.HubError(f"The model is saved in {done.path}, but was not published: {done.push_error}")
        self.report.say(f"saved and verified: {checked.files} files, {checked.nbytes / 1e6:.1f} MB, card included")
        self.report.say(f"the embedded hub at {self.endpoint} took {REPO} as one private commit, tagged {TAG}")
        return done.receipt

    def pull(self, expected: str) -> Answer:
        answer = pull_and_ask(
            self.folder, repo=REPO, revision=TAG, question=EXAMPLE, endpoint=self.endpoint, token=self.token
        )
        if answer.answer != expected:
            raise perdure.Corrupt(
                f"Loaded back, the model answers {answer.answer!r}; before it was saved, it answered {expected!r}."
            )
        ended = f"stopped by itself at {END}" if answer.stopped_at_eos else "ran into the limit: give it more --epochs"
        self.report.say(f"{EXAMPLE} → {_short(answer.answer)}")
        self.report.say(f"the same answer as before it was saved; {answer.tokens} tokens, {ended}")
        return answer


def _isolate_this_process(endpoint: str, home: Path) -> None:
    """Libraries read the environment when they are imported, so this comes before."""
    environment = isolated(os.environ, endpoint=endpoint, home=home)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def _silence_known_noise() -> None:
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    # transformers 5.23 renamed the argument; those before it know only the old name
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # where it is installed, it misses its kernels


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= 60 else f'"{line[:56]} ..."'
