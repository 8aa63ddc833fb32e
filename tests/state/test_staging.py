from __future__ import annotations

import threading

import pytest
import torch

from perdure.errors import SaveFailed
from perdure.io.digest import CHUNK
from perdure.state.staging import Spill, Staging


def staging(budget: int) -> Staging:
    spill = Spill(budget)
    spill.prepare(budget, pinned=False)
    return Staging(spill)


def content(extent: object, nbytes: int) -> bytes:
    out = bytearray(nbytes)
    extent.read_into(0, memoryview(out))  # type: ignore[attr-defined]
    return bytes(out)


TENSORS = {
    "plain": lambda: torch.arange(1000, dtype=torch.float32),
    "empty": lambda: torch.empty(0, 3),
    "scalar": lambda: torch.tensor(3.5, dtype=torch.bfloat16),
    "transposed": lambda: torch.arange(12.0).reshape(3, 4).t(),
    "channels last": lambda: torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "transposed, several chunks": lambda: torch.rand(500, CHUNK // 1000).t(),
    "one row of a matrix, transposed": lambda: torch.rand(1, 30, 40).transpose(1, 2),
    "every other": lambda: torch.arange(30.0)[::2],
    "conjugate number": lambda: torch.tensor(1 + 2j).conj(),
    "conjugate": lambda: torch.view_as_complex(torch.rand(5, 2)).conj(),
    "several chunks": lambda: torch.arange(CHUNK // 4 + 1000, dtype=torch.int32).repeat(2),
}


@pytest.mark.parametrize("drained", [False, True])
@pytest.mark.parametrize("name", TENSORS)
def test_bytes_are_of_the_moment_of_the_save(name: str, drained: bool) -> None:
    tensor = TENSORS[name]()
    expected = tensor.resolve_conj().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    here = staging(len(expected) + 4096)
    extent = here.extent(name, tensor, live=True)
    if drained:
        here.drain()
        tensor.zero_()
    assert extent.nbytes == len(expected)
    assert content(extent, len(expected)) == expected
    here.drain()
    here.check()
    assert here.free_at is not None or not expected


def test_what_has_to_be_put_in_order_is_so_a_few_rows_at_a_time() -> None:
    tensor = torch.rand(1000, 4 * CHUNK // 4000).t()
    here, fetched = staging(0), []
    extent, fetch = here.extent("w", tensor, live=True), here.fetch
    here.fetch = lambda rows: fetched.append(rows.nbytes) or fetch(rows)  # type: ignore[assignment,func-returns-value]
    assert content(extent, tensor.nbytes) == tensor.contiguous().view(torch.uint8).numpy().tobytes()
    assert sum(fetched) == tensor.nbytes
    assert max(fetched) <= CHUNK


def test_what_does_not_fit_is_waited_for() -> None:
    tensor = torch.arange(CHUNK // 4 * 3, dtype=torch.int32)
    expected = tensor.numpy().tobytes()
    here = staging(CHUNK)
    extent = here.extent("w", tensor, live=True)
    written = bytearray(len(expected))
    begin = threading.Event()

    def write() -> None:
        begin.wait(10)
        for start in range(0, len(expected), CHUNK):
            extent.read_into(start, memoryview(written)[start : start + CHUNK])

    writer = threading.Thread(target=write)
    writer.start()
    threading.Timer(0.05, begin.set).start()
    here.drain()
    tensor.zero_()
    writer.join()
    assert bytes(written) == expected
    here.check()


def test_a_writer_that_gives_up_lets_training_go_on() -> None:
    here = staging(0)
    here.extent("w", torch.zeros(10), live=True)
    threading.Timer(0.05, here.stop).start()
    assert here.drain() > 0


def test_a_change_that_was_not_held_back_fails_the_save() -> None:
    tensor = torch.zeros(10)
    here = staging(0)
    extent = here.extent("layer.weight", tensor, live=True)
    tensor.add_(1)
    content(extent, 40)
    with pytest.raises(SaveFailed, match=r"layer\.weight was changed"):
        here.check()


def test_a_change_before_the_step_fails_the_save_too() -> None:
    tensor = torch.zeros(10)
    here = staging(4096)
    here.extent("layer.weight", tensor, live=True)
    tensor.add_(1)
    here.drain()
    with pytest.raises(SaveFailed, match=r"layer\.weight was changed"):
        here.check()


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="waits for a CUDA device")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("room", [0, 1, 4], ids=["no room", "room for half", "room for all"])
def test_bytes_of_a_device_are_of_the_moment_of_the_save(room: int) -> None:
    tensor = torch.arange(CHUNK // 2, dtype=torch.int32, device="cuda")
    expected = tensor.cpu().numpy().tobytes()
    here = Staging(Spill(room * CHUNK))
    extents = [here.extent("w", tensor, live=True), here.extent("t", tensor.view(2, -1).t(), live=True)]
    writer = threading.Thread(target=lambda: out.extend(content(extent, len(expected)) for extent in extents))
    out: list[bytes] = []
    writer.start()
    here.drain()
    tensor.zero_()
    writer.join()
    assert out[0] == expected
    assert out[1] == torch.arange(CHUNK // 2, dtype=torch.int32).view(2, -1).t().contiguous().numpy().tobytes()


@pytest.mark.gpu
@needs_cuda
def test_the_processor_does_not_wait_for_a_device() -> None:
    tensor = torch.arange(CHUNK // 4, dtype=torch.int32, device="cuda")
    expected = tensor.cpu().numpy().tobytes()
    here = Staging(Spill(2 * CHUNK))
    here.make_room()
    torch.cuda._sleep(2**30)  # type: ignore[no-untyped-call]
    tensor.add_(0)
    extent = here.extent("w", tensor, live=True)
    here.drain()
    tensor.zero_()
    busy = torch.cuda.Event()  # type: ignore[no-untyped-call]
    busy.record()
    assert not busy.query(), "the device was waited for"
    assert content(extent, len(expected)) == expected
    torch.cuda.synchronize()
    assert not tensor.any()
