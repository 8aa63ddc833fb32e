"""Bring a tensor's bytes to the host: from a device, or into row-major order."""

from __future__ import annotations

import torch


class Fetcher:
    """Copies tensors as they were when they were `expect`ed, whatever has been queued on their devices since.

    On CUDA each copy runs on a stream of its own behind the work that was queued before, so that it neither sees later
    work nor holds it up; who is to change a tensor must wait until its copy is there.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, tuple[torch.cuda.Stream, torch.cuda.Event]] = {}

    def expect(self, tensor: torch.Tensor) -> None:
        """`tensor` will be asked for, as the work queued so far leaves it."""
        device = tensor.device
        if device.type == "cuda" and device not in self._streams:
            with torch.cuda.device(device):
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record()
                self._streams[device] = torch.cuda.Stream(device), event  # type: ignore[no-untyped-call]

    @property
    def on_device(self) -> bool:
        """Whether any tensor is on a device."""
        return bool(self._streams)

    def queue(self, tensor: torch.Tensor, target: memoryview) -> torch.cuda.Event:
        """Queue the copy of a device tensor's bytes, row-major, into pinned memory; returns what tells of its end."""
        stream, event = self._streams[tensor.device]
        with torch.cuda.stream(stream):
            stream.wait_event(event)
            here = tensor.resolve_conj().resolve_neg().contiguous()
            torch.frombuffer(target, dtype=torch.uint8).copy_(here.reshape(-1).view(torch.uint8), non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(stream)
        return done

    def hold_back(self) -> None:
        """Have what is queued on each device from now on wait for the copies; the caller does not wait."""
        for device, (stream, _) in self._streams.items():
            torch.cuda.current_stream(device).wait_stream(stream)

    def __call__(self, tensor: torch.Tensor) -> memoryview:
        """The tensor's bytes, row-major, in new host memory; complete on return."""
        if tensor.device.type != "cuda":
            host = tensor.to("cpu", copy=True).resolve_conj().resolve_neg().contiguous()
        else:
            stream, event = self._streams[tensor.device]
            with torch.cuda.stream(stream):
                stream.wait_event(event)
                here = tensor.resolve_conj().resolve_neg().contiguous()
                host = torch.empty(here.shape, dtype=here.dtype, pin_memory=True)
                host.copy_(here, non_blocking=True)
            stream.synchronize()
        return host.reshape(-1).view(torch.uint8).numpy().data
