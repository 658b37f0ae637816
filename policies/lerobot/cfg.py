"""What lerobot's policies can be told: the fields and the defaults of lerobot 0.4.4, under lerobot's names.

Left out is what is decided elsewhere: optimiser and learning rate by the trainer, device and compilation at run time,
temporal ensembling by the executor. Fields of the image encoders come with images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from policies.samplers import ONE_STEP_SAMPLERS
from robostack.errors import ConfigError
from robostack.registry import Registry
from robostack.runtime.protocols import Horizon

KINDS = ("VISUAL", "STATE", "ENV", "ACTION")
MODES = ("MEAN_STD", "MIN_MAX", "IDENTITY")


@dataclass(frozen=True)
class Direct:
    """The only way in which ACT acts: its chunk is one evaluation at the mean of the latent."""


ACT_SAMPLERS: Registry[Direct] = Registry("sampler")
ACT_SAMPLERS.add("direct", Direct())


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"unknown {name} '{value}': use one of {', '.join(known)}")


def _at_least(cfg: object, minimum: int, *names: str) -> None:
    for name in names:
        if getattr(cfg, name) < minimum:
            raise ConfigError(f"{name}={getattr(cfg, name)} must be at least {minimum}")


def _check_normalization(mapping: Mapping[str, str]) -> None:
    for kind, mode in mapping.items():
        _one_of("kind of feature in normalization_mapping", kind, KINDS)
        _one_of(f"normalization of {kind}", mode, MODES)


@dataclass(frozen=True)
class LerobotDiffusionCfg:
    """lerobot's ``DiffusionConfig``.

    Attributes:
        n_obs_steps, horizon, n_action_steps: observation, prediction and execution steps.
        normalization_mapping: ``MIN_MAX``, ``MEAN_STD`` or ``IDENTITY`` per kind of feature. A kind that is not named
            is not normalised, which by lerobot's default is the environment state (``ENV``).
        drop_n_last_frames: rows at the end of each episode that are never the current one in training.
        down_dims, kernel_size, n_groups, diffusion_step_embed_dim, use_film_scale_modulation: the U-Net.
        noise_scheduler_type: ``DDPM`` or ``DDIM``: how the policy acts unless another sampler is asked for.
        num_train_timesteps, beta_schedule, beta_start, beta_end: the noise.
        prediction_type: ``epsilon`` or ``sample``.
        clip_sample, clip_sample_range: bounds of the clean chunk while sampling.
        num_inference_steps: steps of the default sampler; None for all.
        do_mask_loss_for_padding: whether actions beyond the end of an episode do not count in the loss.
    """

    n_obs_steps: int = 2
    horizon: int = 16
    n_action_steps: int = 8
    normalization_mapping: Mapping[str, str] = field(
        default_factory=lambda: {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"}
    )
    drop_n_last_frames: int = 7
    down_dims: Sequence[int] = (512, 1024, 2048)
    kernel_size: int = 5
    n_groups: int = 8
    diffusion_step_embed_dim: int = 128
    use_film_scale_modulation: bool = True
    noise_scheduler_type: str = "DDPM"
    num_train_timesteps: int = 100
    beta_schedule: str = "squaredcos_cap_v2"
    beta_start: float = 0.0001
    beta_end: float = 0.02
    prediction_type: str = "epsilon"
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    num_inference_steps: int | None = None
    do_mask_loss_for_padding: bool = False

    def __post_init__(self):
        object.__setattr__(self, "down_dims", tuple(int(d) for d in self.down_dims))
        object.__setattr__(self, "normalization_mapping", dict(self.normalization_mapping))
        self._check_steps()
        self._check_network()
        self._check_noise()
        _check_normalization(self.normalization_mapping)

    @property
    def steps(self) -> Horizon:
        """The three horizons under our names."""
        return Horizon(To=self.n_obs_steps, Tp=self.horizon, Ta=self.n_action_steps)

    def _check_steps(self) -> None:
        _at_least(self, 1, "n_obs_steps", "n_action_steps")
        _at_least(self, 0, "drop_n_last_frames")
        if self.n_action_steps > self.horizon - self.n_obs_steps + 1:
            raise ConfigError(
                f"n_obs_steps={self.n_obs_steps}, horizon={self.horizon}, n_action_steps={self.n_action_steps} do not "
                "fit: needs n_action_steps <= horizon - n_obs_steps + 1"
            )

    def _check_network(self) -> None:
        if not self.down_dims or any(d < 1 or d % self.n_groups for d in self.down_dims):
            raise ConfigError(f"down_dims={self.down_dims} must be widths divisible by n_groups={self.n_groups}")
        factor = 2 ** len(self.down_dims)
        if self.horizon % factor:
            raise ConfigError(
                f"horizon={self.horizon} is not divisible by {factor}, which the {len(self.down_dims)} levels of "
                f"down_dims need: use {-(-self.horizon // factor) * factor}, or fewer levels"
            )
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size={self.kernel_size} must be odd: an even one changes the chunk's length")
        if self.diffusion_step_embed_dim < 4 or self.diffusion_step_embed_dim % 2:
            raise ConfigError(f"diffusion_step_embed_dim={self.diffusion_step_embed_dim} must be even, at least 4")

    def _check_noise(self) -> None:
        _one_of("noise_scheduler_type", self.noise_scheduler_type, ("DDPM", "DDIM"))
        _one_of("prediction_type", self.prediction_type, ("epsilon", "sample"))
        _one_of("beta_schedule", self.beta_schedule, ("squaredcos_cap_v2", "linear", "scaled_linear"))
        _at_least(self, 2, "num_train_timesteps")
        if self.num_inference_steps is not None and not 1 <= self.num_inference_steps <= self.num_train_timesteps:
            raise ConfigError(
                f"num_inference_steps={self.num_inference_steps} must be 1 to num_train_timesteps="
                f"{self.num_train_timesteps}, or null for all"
            )

    def require_sampler(self, name: str) -> None:
        """Raise UnknownName or ConfigError for a sampler that cannot act with such a policy."""
        ONE_STEP_SAMPLERS[name].evaluations(self.num_train_timesteps)


@dataclass(frozen=True)
class LerobotActCfg:
    """lerobot's ``ACTConfig``: Action Chunking with Transformers (Zhao et al., arXiv 2304.13705).

    Attributes:
        chunk_size, n_action_steps: prediction and execution steps; it observes one step.
        normalization_mapping: as in ``LerobotDiffusionCfg``.
        pre_norm, dim_model, n_heads, dim_feedforward, feedforward_activation, n_encoder_layers, n_decoder_layers,
            dropout: the transformer.
        use_vae: whether training encodes the chunk into a latent, which is 0 when acting.
        latent_dim, n_vae_encoder_layers: size of the latent and of its encoder.
        kl_weight: weight of the latent's divergence from a standard normal in the loss.
    """

    chunk_size: int = 100
    n_action_steps: int = 100
    normalization_mapping: Mapping[str, str] = field(
        default_factory=lambda: {"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
    )
    pre_norm: bool = False
    dim_model: int = 512
    n_heads: int = 8
    dim_feedforward: int = 3200
    feedforward_activation: str = "relu"
    n_encoder_layers: int = 4
    n_decoder_layers: int = 1
    use_vae: bool = True
    latent_dim: int = 32
    n_vae_encoder_layers: int = 4
    dropout: float = 0.1
    kl_weight: float = 10.0

    def __post_init__(self):
        object.__setattr__(self, "normalization_mapping", dict(self.normalization_mapping))
        sizes = ("n_heads", "dim_feedforward", "n_encoder_layers", "n_decoder_layers", "latent_dim")
        _at_least(self, 1, "chunk_size", "n_action_steps", "n_vae_encoder_layers", *sizes)
        _at_least(self, 0, "kl_weight")
        if self.n_action_steps > self.chunk_size:
            raise ConfigError(f"n_action_steps={self.n_action_steps} must be at most chunk_size={self.chunk_size}")
        if self.dim_model < 2 or self.dim_model % 2 or self.dim_model % self.n_heads:
            raise ConfigError(f"dim_model={self.dim_model} must be even and divisible by n_heads={self.n_heads}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout={self.dropout} must be in [0, 1)")
        _one_of("feedforward_activation", self.feedforward_activation, ("relu", "gelu"))
        _check_normalization(self.normalization_mapping)

    @property
    def steps(self) -> Horizon:
        """The three horizons under our names."""
        return Horizon(To=1, Tp=self.chunk_size, Ta=self.n_action_steps)
