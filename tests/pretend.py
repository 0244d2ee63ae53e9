"""A GPU that is not there: tensors that say ``gpu`` and hold their numbers on the processor.

Code under `on_a_gpu` may ask for ``device="gpu"``; what a real GPU would refuse is refused (tensors of two devices in one
operation, a generator of the other device, a look at the memory by numpy), and everything else computes. So a rehearsal
finds a forgotten ``.to(device)`` where no GPU is, and its numbers can be compared with those of the processor.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = "gpu"
# Those that take tensors of two devices: copies, and indices, which a GPU takes from the processor.
_BETWEEN = {
    "aten::copy_",
    "aten::_to_copy",
    "aten::index.Tensor",
    "aten::index_put_",
    "aten::_index_put_impl_",
}


class OnGPU(torch.Tensor):
    """A tensor that says it is on the GPU."""

    @staticmethod
    def __new__(cls: type, held: torch.Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(),
            dtype=held.dtype, device=torch.device(GPU, 0), requires_grad=False,
        )  # fmt: skip

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    def __format__(self, spec: str) -> str:
        return format(self.held, spec)

    def tolist(self) -> Any:
        return self.held.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGPU({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name + (f".{func._schema.overload_name}" if func._schema.overload_name else "")
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, OnGPU)]
    here = [tensor for tensor in tensors if not isinstance(tensor, OnGPU) and tensor.dim() > 0]
    if there and here and not name.startswith(tuple(_BETWEEN)):
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device, got gpu and cpu")
    asked = kwargs.get("device")
    gpu = bool(there) if asked is None else torch.device(asked).type == GPU
    if name.startswith("aten::copy_"):
        gpu = isinstance(args[0], OnGPU)
    generator = kwargs.get("generator")
    if generator is not None and gpu:
        raise RuntimeError(
            f"{name}: Expected a 'gpu' device type for generator but found '{generator.device}'"
        )
    kwargs = {**kwargs, "device": torch.device("cpu")} if asked is not None else kwargs
    plain = tree_map(lambda value: value.held if isinstance(value, OnGPU) else value, (args, kwargs))
    result = func(*plain[0], **plain[1])
    if func._schema.is_mutable and tensors:  # in place: the tensor that was handed in
        inner = {id(tensor.held): tensor for tensor in there}
        return tree_map(lambda value: inner.get(id(value), value), result)
    if not gpu:
        return result
    return tree_map(lambda value: OnGPU(value) if isinstance(value, torch.Tensor) else value, result)


@functools.cache
def register() -> None:
    """Take torch's place for a device that Python implements; before the first gradient, when torch counts its devices."""
    backend_registration._setup_privateuseone_for_python_backend(rename=GPU)


@contextmanager
def on_a_gpu() -> Iterator[torch.device]:
    """In here the device ``gpu`` is one like any other."""
    register()
    before = torch._C._only_lift_cpu_tensors()  # torch.tensor(…, device=…) is made here, then moved
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with _Mode(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield torch.device(GPU, 0)
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
