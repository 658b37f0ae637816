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
from dataclasses import dataclass
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
_HUGE, _LINE = 2 << 20, 64
_WEIGHTS = (torch.float32, torch.bfloat16)
_SIZES, _VALUES, _TENSORS = 12, 10, 9
_OP = np.dtype([("kind", "i8"), ("n", "i8", _SIZES), ("f", "f4", _VALUES), ("p", "u8", _TENSORS)])


class Kind(IntEnum):
    """Operations of ``native.cpp``, in its order."""

    LINEAR, LAYERNORM, SELF_ATTENTION, CROSS_ATTENTION, COPY, ADD, STEP, GROUPNORM = range(8)


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


@dataclass(frozen=True)
class Linear:
    """A packed linear layer, or a convolution: a linear layer on windows of rows."""

    weight: Float[Tensor, "panels K 16"]
    bias: Float[Tensor, " N"] | None


class Weights:
    """Linear layers by number. They are to be added in the order of their use, which is that of the memory.

    Attributes:
        dtype: what weights are kept in: float32, or bfloat16, which is half of what is to be read.
    """

    def __init__(self, dtype: torch.dtype = torch.float32):
        assert dtype in _WEIGHTS, dtype
        self.dtype = dtype
        self._tensors: list[Tensor] = []
        self._places: list[tuple[int, int | None]] = []
        self._linears: list[Linear] = []

    def add(self, weight: Float[Tensor, "N K"], bias: Float[Tensor, " N"] | None = None, *, exact: bool = False) -> int:
        """Take a layer in; returns its number. ``exact`` keeps its float32, for what is read once in a decision."""
        assert not self._linears, "the buffer is full"
        kept = packed(weight.detach()).to(torch.float32 if exact else self.dtype)
        parts = [kept, *([] if bias is None else [bias.detach()])]
        at = len(self._tensors)
        self._tensors += parts
        self._places.append((at, None if bias is None else at + 1))
        return len(self._places) - 1

    def convolution(self, weight: Float[Tensor, "N C taps"], bias: Float[Tensor, " N"] | None = None) -> int:
        """Take a convolution in; returns its number."""
        return self.add(weight.detach().transpose(1, 2).flatten(1), bias)

    def __getitem__(self, number: int) -> Linear:
        """The layer of a number; from the first on, all of them lie in one buffer of huge pages."""
        if not self._linears:
            views = _resident(self._tensors)
            self._tensors = []
            self._linears = [Linear(views[a], None if b is None else views[b]) for a, b in self._places]
        return self._linears[number]


def _resident(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies in one buffer of huge pages, in their order, each aligned to a cache line."""
    sizes = [-(-t.numel() * t.element_size() // _LINE) * _LINE for t in tensors]
    buffer, views, at = huge(sum(sizes) // 4).view(torch.uint8), [], 0
    for tensor, size in zip(tensors, sizes, strict=True):
        view = buffer[at : at + tensor.numel() * tensor.element_size()].view(tensor.dtype).view(tensor.shape)
        views.append(view.copy_(tensor))
        at += size
    return views


class Program:
    """Operations on tensors that it keeps alive; all of them on the CPU, and float32 unless they are weights."""

    def __init__(self) -> None:
        self._rows: list[tuple] = []
        self._alive: list[Tensor] = []
        self._ops = np.empty(0, _OP)

    def add(self, kind: Kind, sizes: Sequence[int], tensors: Sequence[Tensor | None], values: Sequence[float] = ()):
        """Append an operation; a None tensor is a null pointer."""
        for tensor in tensors:
            assert tensor is None or (tensor.dtype in _WEIGHTS and tensor.device.type == "cpu"), tensor
        self._alive += [tensor for tensor in tensors if tensor is not None]
        pointers = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]

        def wide(items: Sequence, width: int) -> list:
            return [*items, *[0] * (width - len(items))]

        row = (int(kind), wide(sizes, _SIZES), wide(values, _VALUES), wide(pointers, _TENSORS))
        self._rows.append(row)

    def linear(self, src: Tensor, layer: Linear, dst: Tensor, epilogue: Epilogue = Epilogue.STORE) -> None:
        """``dst = epilogue(windows of src W^T + bias)`` over the rows of (lanes, rows, columns) or (rows, columns).

        Where ``src`` has more rows than ``dst``, the layer is a convolution along the rows. Rows may lie anywhere.
        """
        if src.dim() == 2:
            src, dst = src[None], dst[None]
        (B, T, N), C, taps = dst.shape, src.shape[2], 1 + src.shape[1] - dst.shape[1]
        assert src.stride(2) == dst.stride(2) == 1, (src.stride(), dst.stride())
        assert len(src) == B, (src.shape, dst.shape)
        assert layer.weight.shape[:2] == (-(-N // LANES), taps * C), (layer.weight.shape, src.shape, dst.shape)
        half = int(layer.weight.dtype == torch.bfloat16)
        sizes = (B, T, N, C, taps, *src.stride()[:2], *dst.stride()[:2], int(epilogue), half)
        self.add(Kind.LINEAR, sizes, (src, layer.weight, layer.bias, dst))

    def groupnorm(
        self,
        src: Float[Tensor, "B T C"],
        groups: int,
        affine: tuple[Float[Tensor, " C"], Float[Tensor, " C"]],
        dst: Float[Tensor, "B T C"],
        add: Float[Tensor, "B T C"] | None = None,
        film: tuple[Float[Tensor, " F"], Float[Tensor, "B F"]] | None = None,
    ) -> None:
        """``dst = mish(norm(src)) * scale + shift + add``.

        Args:
            src: activations.
            groups: of channels.
            affine: gain and bias of the normalisation.
            dst: where to; may be ``add`` itself.
            add: what is added; None for nothing.
            film: two shares of (scales, shifts), F = 2 C: the diffusion step's and the condition's; None for 1 and 0.
        """
        B, T, C = src.shape
        level, seen = (None, None) if film is None else film
        assert all(t.stride(2) == 1 for t in (src, dst, *(() if add is None else (add,)))), "columns are contiguous"
        added, lane = (0, 0) if add is None else add.stride()[:2], 0 if seen is None else seen.stride(0)
        sizes = (B, T, groups, C // groups, *src.stride()[:2], *dst.stride()[:2], *added, lane)
        self.add(Kind.GROUPNORM, sizes, (src, *affine, dst, add, level, seen))

    def run(self, threads: int) -> None:
        """Run all operations."""
        if len(self._ops) != len(self._rows):
            self._ops = np.array(self._rows, _OP)
        library().run(self._ops.ctypes.data, len(self._ops), threads)
