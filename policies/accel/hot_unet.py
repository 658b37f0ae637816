"""The temporal U-Net's denoising as native programs.

Activations lie rows first, with zero rows before and after a lane's own. A convolution along time is then a linear
layer on windows of rows; one of stride two, or a transposed one, is such a layer on every other row. What joins a skip
is written next to it, so that nothing is copied. The scales and biases of all residual blocks are one linear layer of
the condition, applied once per decision, and a table of the diffusion step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from policies.accel.bac import Instruction
from policies.accel.hot import HotNetwork, Level, Session
from policies.accel.native import Epilogue, Program, Weights
from policies.networks.unet1d import ConditionalUnet1D, Conv1dBlock, ResidualBlock


@dataclass(frozen=True)
class _Conv:
    """``Conv1dBlock``: the number of its convolution, half its width, and its normalisation."""

    conv: int
    reach: int
    groups: int
    affine: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, weights: Weights, block: Conv1dBlock) -> _Conv:
        conv, norm = cast(nn.Conv1d, block.block[0]), cast(nn.GroupNorm, block.block[1])
        number = weights.convolution(conv.weight, conv.bias)
        return cls(number, conv.kernel_size[0] // 2, norm.num_groups, (norm.weight.detach(), norm.bias.detach()))

    @property
    def width(self) -> int:
        """Channels that it returns."""
        return len(self.affine[0])


@dataclass(frozen=True)
class _Block:
    """``ResidualBlock``: its convolutions, and the number of that around them if the widths differ."""

    convs: tuple[_Conv, _Conv]
    around: int | None

    @classmethod
    def of(cls, weights: Weights, block: nn.Module) -> _Block:
        assert isinstance(block, ResidualBlock), type(block)
        first, second = (cast(Conv1dBlock, b) for b in block.blocks)
        conv = _Conv.of(weights, first)
        residual = block.residual_conv
        around = weights.convolution(residual.weight, residual.bias) if isinstance(residual, nn.Conv1d) else None
        return cls((conv, _Conv.of(weights, second)), around)


@dataclass(frozen=True)
class _Level:
    """Two residual blocks, and the numbers of the layers for odd and for even rows that change the resolution."""

    blocks: tuple[_Block, _Block]
    resample: tuple[int, int] | None

    @classmethod
    def of(cls, weights: Weights, modules: nn.Module) -> _Level:
        first, second, *resample = cast(nn.ModuleList, modules)
        blocks = (_Block.of(weights, first), _Block.of(weights, second))
        conv = getattr(resample[0], "conv", None) if resample else None
        if conv is None:
            return cls(blocks, None)
        if isinstance(conv, nn.ConvTranspose1d):  # Output 2 m + 1 sees rows m and m + 1, output 2 m rows m - 1 and m.
            w = conv.weight.detach().transpose(0, 1)
            pair = (weights.convolution(w[..., [2, 0]], conv.bias), weights.convolution(w[..., [3, 1]], conv.bias))
        else:  # Output m sees rows 2 m - 1 and 2 m + 1, and row 2 m.
            w = conv.weight.detach()
            pair = (weights.convolution(w[..., [0, 2]], conv.bias), weights.convolution(w[..., [1]]))
        return cls(blocks, pair)


class HotUnet(HotNetwork):
    """Packed weights of a U-Net."""

    def __init__(self, net: ConditionalUnet1D, dtype: torch.dtype = torch.float32):
        films = net.films()
        super().__init__(films[0].weight.device, dtype)
        self.net, weights = net, self.weights
        self.downs = [_Level.of(weights, level) for level in net.down_modules]
        self.mid = _Level.of(weights, net.mid_modules)
        self.ups = [_Level.of(weights, level) for level in net.up_modules]
        first, last = cast(tuple[Conv1dBlock, nn.Conv1d], tuple(net.final_conv))
        self.final, self.head = _Conv.of(weights, first), weights.convolution(last.weight, last.bias)
        self.Da, self.pad = last.out_channels, max(1, self.final.reach)
        step_dim = net.step_dim
        seen, bias = (torch.cat([getattr(film, name) for film in films]) for name in ("weight", "bias"))
        self.film = weights.add(seen[:, step_dim:], bias, exact=True)
        self.film_width, self.cond_width = seen.shape[0], seen.shape[1] - step_dim
        self._levels: dict[Level, Tensor] = {}

    def condition(self, steps: Float[Tensor, "B To Do"], context: Float[Tensor, "B C"]) -> Float[Tensor, "B cond"]:
        """Features that the residual blocks are scaled by."""
        return nn.functional.mish(torch.cat([steps.flatten(1), context], dim=1))

    def opened(self, lanes: int, actions: int) -> UnetSession:
        """A new session for a shape."""
        return UnetSession(self, lanes, actions)

    def level(self, k: Level) -> Float[Tensor, " F"]:
        """The diffusion step's share of the scales and biases of all residual blocks."""
        if k not in self._levels:
            self._levels[k] = torch.cat(self.net.level(torch.tensor([k])), dim=1)[0]
        return self._levels[k]


class UnetSession(Session):
    """Activations of a U-Net: (B, pad + rows + pad, channels), or columns of such."""

    def __init__(self, hot: HotUnet, lanes: int, actions: int):
        pad = hot.pad
        super().__init__(lanes, actions + 2 * pad, hot.Da, slice(pad, pad + actions))
        self.hot, self.B, self.T = hot, lanes, actions
        self._buffers: dict[tuple, Tensor] = {}
        self.cond, self.films = torch.zeros(lanes, hot.cond_width), torch.zeros(lanes, hot.film_width)
        self._observe = Program()
        self._observe.linear(self.cond, hot.weights[hot.film], self.films)

    def observe(self, condition: Float[Tensor, "B cond"], threads: int) -> None:
        """Take a decision's features in."""
        self.cond.copy_(condition)
        self._observe.run(threads)

    def evaluation(self, program: Program, k: Level, instructions: tuple[Instruction, ...] | None) -> None:
        """Append ``pred = network(x, k)``."""
        assert instructions is None, "a U-Net has no blocks to cache"
        hot, films, h = self.hot, self._films(k), self.x
        for i, level in enumerate(hot.downs):
            h = self._pair(program, level, films, h, self._skip(i))
            h = self._halved(program, level, h, i)
        h = self._pair(program, hot.mid, films, h, self._rising(len(hot.downs) - 1))
        for i, level in zip(range(len(hot.downs) - 1, 0, -1), hot.ups, strict=True):
            width = level.blocks[1].convs[1].width
            h = self._pair(program, level, films, self._joined(i), self._buffer("up", self.T >> i, width))
            h = self._doubled(program, level, h, self._rising(i - 1))
        out = self._buffer("final", self.T, hot.final.width)
        self._conv(program, hot.final, h, out)
        program.linear(self._inside(out), hot.weights[hot.head], self._inside(self.pred))

    # Where activations lie.

    def _buffer(self, use: str, rows: int, width: int) -> Tensor:
        key = (use, rows, width)
        if key not in self._buffers:
            self._buffers[key] = torch.zeros(self.B, rows + 2 * self.hot.pad, width)
        return self._buffers[key]

    def _joined(self, i: int) -> Tensor:
        """What rises to level i, and the skip of level i next to it."""
        return self._buffer(f"joined {i}", self.T >> i, 2 * self._width(i))

    def _rising(self, i: int) -> Tensor:
        return self._joined(i)[..., : self._width(i)]

    def _skip(self, i: int) -> Tensor:
        return self._joined(i)[..., self._width(i) :]

    def _width(self, i: int) -> int:
        return self.hot.downs[i].blocks[1].convs[1].width

    def _inside(self, h: Tensor, reach: int = 0) -> Tensor:
        """A lane's own rows, and ``reach`` more on either side."""
        pad = self.hot.pad - reach
        return h[:, pad : h.shape[1] - pad]

    # What is done to them.

    def _films(self, k: Level) -> Iterator[tuple[Tensor, Tensor]]:
        """Shares of the diffusion step and of the condition for every residual block, in the order of their use."""
        level, at = self.hot.level(k), 0
        for film in self.hot.net.films():
            here = slice(at, at + film.out_features)
            yield level[here], self.films[:, here]
            at = here.stop

    def _pair(
        self, program: Program, level: _Level, films: Iterator[tuple[Tensor, Tensor]], h: Tensor, out: Tensor
    ) -> Tensor:
        first, second = level.blocks
        rows = h.shape[1] - 2 * self.hot.pad
        between = self._buffer("between", rows, first.convs[1].width)
        self._block(program, first, next(films), h, between)
        self._block(program, second, next(films), between, out)
        return out

    def _block(self, program: Program, block: _Block, film: tuple[Tensor, Tensor], h: Tensor, out: Tensor) -> None:
        first, second = block.convs
        inner = self._buffer("inner", h.shape[1] - 2 * self.hot.pad, first.width)
        self._conv(program, first, h, inner, film=film)
        around = self._inside(h)
        if block.around is not None:
            around = self._inside(out)
            program.linear(self._inside(h), self.hot.weights[block.around], around)
        self._conv(program, second, inner, out, add=around)

    def _conv(
        self,
        program: Program,
        conv: _Conv,
        h: Tensor,
        out: Tensor,
        add: Tensor | None = None,
        film: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        to = self._inside(out)
        raw = self._inside(self._buffer("raw", to.shape[1], conv.width))
        program.linear(self._inside(h, conv.reach), self.hot.weights[conv.conv], raw)
        program.groupnorm(raw, conv.groups, conv.affine, to, add, film)

    def _halved(self, program: Program, level: _Level, h: Tensor, i: int) -> Tensor:
        if level.resample is None:
            return h
        odd, even = (self.hot.weights[number] for number in level.resample)
        out = self._buffer("halved", self.T >> (i + 1), h.shape[2])
        rows, to = self._inside(h, 1), self._inside(out)
        program.linear(rows[:, ::2], odd, to)
        program.linear(rows[:, 1:-1:2], even, to, Epilogue.ACCUMULATE)
        return out

    def _doubled(self, program: Program, level: _Level, h: Tensor, out: Tensor) -> Tensor:
        assert level.resample is not None, level
        odd, even = (self.hot.weights[number] for number in level.resample)
        rows, to = self._inside(h, 1), self._inside(out)
        program.linear(rows[:, 1:], odd, to[:, 1::2])
        program.linear(rows[:, :-1], even, to[:, ::2])
        return out
