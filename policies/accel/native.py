"""Programs for ``native.cpp``: buffers, packed weights, operations, and the compiler that the machine has.

The library is compiled for this machine on first use (about a second) and kept in the user's cache directory under a
hash of source, compiler and processor.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from robostack.errors import DeviceUnavailable

LANES = 16
_SOURCE = Path(__file__).with_name("native.cpp")
_FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC", "-std=c++17")
_HUGE = 2 << 20
_OP = np.dtype([("kind", "i8"), ("n", "i8", 8), ("f", "f4", 8), ("p", "u8", 9)])


class Kind(IntEnum):
    """Operations of ``native.cpp``, in its order."""

    LINEAR, LAYERNORM, SELF_ATTENTION, CROSS_ATTENTION, COPY, ADD, STEP = range(7)


class Epilogue(IntEnum):
    """What becomes of a result, in the order of ``native.cpp``."""

    STORE, ACCUMULATE, GELU, MISH = range(4)


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL:
    """Load the kernel, compiling it where that has not been done.

    Raises:
        DeviceUnavailable: no C++ compiler, or one that cannot compile for this machine.
    """
    compiler = next((c for c in (os.environ.get("CXX"), "g++", "clang++", "c++") if c and shutil.which(c)), None)
    if compiler is None:
        raise DeviceUnavailable("accelerate=native needs a C++ compiler (g++ or clang++): install one, or use none")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    identity = (_SOURCE.read_text(), " ".join(_FLAGS), version, platform.machine(), _processor())
    name = hashlib.sha256("\0".join(identity).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robostack"
    target = cache / f"native_{name}.so"
    if not target.is_file():
        _compile(compiler, target)
    lib = ctypes.CDLL(str(target))
    lib.run.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32)
    lib.run.restype = None
    return lib


def _processor() -> str:
    """What ``-march=native`` depends on; a cache directory may be shared between machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "model name", "Features"))}))


def _compile(compiler: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made, built = Path(scratch) / "native.o", Path(scratch) / target.name
        # Linked without -ffast-math, which would make the whole process flush denormal numbers.
        for command in (
            [compiler, *_FLAGS, "-c", str(_SOURCE), "-o", str(made)],
            [compiler, "-shared", "-fopenmp", str(made), "-o", str(built)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = (done.stderr.strip() or "no message").splitlines()[0]
                raise DeviceUnavailable(f"accelerate=native: {compiler} failed ({reason}): use accelerate=none")
        built.replace(target)


def huge(floats: int) -> Float[Tensor, " n"]:
    """A zeroed float32 buffer, on huge pages where the system has them: page walks slow the streaming of weights."""
    size = -(-4 * floats // _HUGE) * _HUGE + _HUGE
    buffer = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return torch.from_numpy(np.frombuffer(buffer, np.float32, floats))


def packed(weight: Float[Tensor, "N K"]) -> Float[Tensor, "panels K 16"]:
    """Weights of a linear layer in panels of 16 outputs, the last padded with zeros."""
    N, K = weight.shape
    panels = -(-N // LANES)
    return torch.nn.functional.pad(weight, (0, 0, 0, panels * LANES - N)).view(panels, LANES, K).transpose(1, 2)


def resident(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies in one buffer of huge pages, in their order, each aligned to a cache line."""
    starts = np.cumsum([0, *(-(-t.numel() // LANES) * LANES for t in tensors)])
    buffer = huge(int(starts[-1]))
    views = [buffer[at : at + t.numel()].view(t.shape) for at, t in zip(starts, tensors, strict=False)]
    for view, tensor in zip(views, tensors, strict=True):
        view.copy_(tensor)
    return views


class Program:
    """Operations on tensors that it keeps alive; all of them contiguous, float32, on the CPU."""

    def __init__(self) -> None:
        self._rows: list[tuple] = []
        self._alive: list[Tensor] = []
        self._ops = np.empty(0, _OP)

    def add(self, kind: Kind, sizes: Sequence[int], tensors: Sequence[Tensor | None], values: Sequence[float] = ()):
        """Append an operation; a None tensor is a null pointer."""
        for tensor in tensors:
            assert tensor is None or (tensor.dtype == torch.float32 and tensor.device.type == "cpu"), tensor
        self._alive += [tensor for tensor in tensors if tensor is not None]
        pointers = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]

        def wide(items: Sequence, width: int) -> list:
            return [*items, *[0] * (width - len(items))]

        self._rows.append((int(kind), wide(sizes, 8), wide(values, 8), wide(pointers, 9)))

    def linear(
        self,
        src: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        dst: Tensor,
        epilogue: Epilogue = Epilogue.STORE,
        width: int | None = None,
    ) -> None:
        """``dst = epilogue(src W^T + bias)`` over the rows of 2-D views; ``width`` outputs, all of dst's by default."""
        assert src.stride(1) == dst.stride(1) == 1, (src.stride(), dst.stride())
        assert len(src) == len(dst), (src.shape, dst.shape)
        assert weight.shape[1] == src.shape[1], (weight.shape, src.shape)
        sizes = (len(src), width or dst.shape[1], src.shape[1], src.stride(0), dst.stride(0), int(epilogue))
        self.add(Kind.LINEAR, sizes, (src, weight, bias, dst))

    def run(self, threads: int) -> None:
        """Run all operations."""
        if len(self._ops) != len(self._rows):
            self._ops = np.array(self._rows, _OP)
        library().run(self._ops.ctypes.data, len(self._ops), threads)
