"""Which columns of an action say something of their own.

Every column that CARP predicts has an autoencoder and a token for each of its codes. That is wasted on a column that
never changes, and on one that another one already says: of the six numbers of the rotation of a gripper that only
turns about the vertical, two are constant and two repeat the others. Such columns are found in the data, left out of
the networks, and filled in afterwards. The paper predicts all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

_EPS = 1e-4  # In network units: a column that changes less is constant, two that differ less are the same.


@dataclass(frozen=True)
class ActionColumns:
    """Columns that are predicted, and how all columns follow from them: ``kept[source] * sign + constant``.

    Attributes:
        kept: the columns that are predicted; at least one.
        source: for every column the index in ``kept`` of the one that says it.
        sign: 1 or -1, and 0 for a column that is constant.
        constant: its value in network units; 0 for columns that change.
    """

    kept: tuple[int, ...]
    source: tuple[int, ...]
    sign: tuple[float, ...]
    constant: tuple[float, ...]

    @classmethod
    def all(cls, Da: int) -> ActionColumns:
        """Every column is predicted."""
        return cls(tuple(range(Da)), tuple(range(Da)), (1.0,) * Da, (0.0,) * Da)

    @classmethod
    def of(cls, actions: Float[Tensor, "*N Da"]) -> ActionColumns:
        """What actions in network units show."""
        columns = actions.flatten(0, -2).unbind(-1)
        low, high = actions.flatten(0, -2).aminmax(dim=0)
        moving = (high - low > _EPS).tolist()
        kept = [] if any(moving) else [0]
        source, sign, constant = [0] * len(columns), [0.0] * len(columns), ((low + high) / 2).tolist()
        for d in (d for d, moves in enumerate(moving) if moves):
            same = ((i, s) for i, k in enumerate(kept) for s in (1.0, -1.0) if _same(columns[d], s * columns[k]))
            source[d], sign[d] = next(same, (len(kept), 1.0))
            constant[d] = 0.0
            if source[d] == len(kept):
                kept.append(d)
        return cls(tuple(kept), tuple(source), tuple(sign), tuple(constant))

    def narrow(self, actions: Float[Tensor, "*N Da"]) -> Float[Tensor, "*N D"]:
        """The columns that are predicted."""
        return actions[..., self.kept]

    def widen(self, predicted: Float[Tensor, "*N D"]) -> Float[Tensor, "*N Da"]:
        """All columns."""
        return predicted[..., self.source] * predicted.new_tensor(self.sign) + predicted.new_tensor(self.constant)

    def to_dict(self) -> dict[str, list]:
        """Plain YAML values."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ActionColumns:
        """Inverse of ``to_dict``."""
        return cls(**{name: tuple(values[name]) for name in ("kept", "source", "sign", "constant")})


def _same(a: Float[Tensor, " N"], b: Float[Tensor, " N"]) -> bool:
    return bool((a - b).abs().max() <= _EPS)
