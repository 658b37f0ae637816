"""CARP: actions as tokens of growing time resolution, predicted scale by scale (Gong et al., arXiv 2412.06782)."""

from policies.carp.policy import CarpCfg, CarpPolicy
from policies.carp.sampling import TOKEN_SAMPLERS

__all__ = ["TOKEN_SAMPLERS", "CarpCfg", "CarpPolicy"]
