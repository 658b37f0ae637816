"""What ``--help`` prints. The knobs are the comments at the top of ``configs/<verb>.yaml``: one source."""

from __future__ import annotations

from robostack.cli.verbs import SENTENCE, SUB_VERBS, VERBS, Verb
from robostack.errors import ConfigError
from robostack.paths import config_dir


def main_help() -> str:
    """The text of ``robostack --help``."""
    verbs = "\n".join(f"  {verb.name:<8} {verb.summary}" for verb in VERBS.values())
    return f"""robostack: from a sentence to a verified task, demonstrations, a trained policy and its evaluation.

Usage: robostack <verb> [arguments] [key=value ...]

{verbs}

Quick start
  Is this machine ready?
    robostack doctor
  The whole loop; its last line is the path of report.html:
    robostack run "{SENTENCE}"
  The same as a quick rehearsal:
    robostack run "{SENTENCE}" demos.n=20 policy.steps=300 eval.n=10

Overrides
  key=value changes a setting: policy.lr=1e-4, policy.network.down_dims=[64,128], robot=ur5e.
  group=option swaps a whole block: sampler=ddpm100, logger=tensorboard.
  robostack <verb> --help  lists what a verb understands.

Outputs
  Every verb but doctor writes outputs/<verb>/<date>_<time>/ (or out=<folder>) with config.yaml and metrics.json.
  After Ctrl-C or a kill, the same command goes on where it stopped; fresh=true starts anew.

Environment
  ROBOSTACK_DATA    a folder with your own robots/, assets/ and tasks/; searched first
  MUJOCO_GL         how MuJoCo renders: egl (default on Linux, needs no display), osmesa or glfw
  OMP_NUM_THREADS   threads of one process
  HF_HUB_OFFLINE    1 (default): datasets are local, nothing is fetched

Exit codes: 0 done, 1 a bug in robostack, 2 an error that you can fix, 130 interrupted."""


def verb_help(verb: Verb) -> str:
    """The text of ``robostack <verb> --help``."""
    knobs = documented_knobs(verb.key) if verb.composed else verb.knobs
    examples = "\n".join(f"  {example}" for example in verb.examples)
    head = f"robostack {verb.name}: {verb.summary}\n\nUsage: robostack {verb.usage}"
    return f"{head}\n\n{_sub_verbs(verb)}{knobs}\n\nExamples\n{examples}"


def _sub_verbs(verb: Verb) -> str:
    """The verbs below a verb, with one line each; empty when there are none."""
    subs = [sub for sub in SUB_VERBS.values() if sub.name.startswith(f"{verb.name} ")]
    if not subs:
        return ""
    lines = "\n".join(f"  {sub.name:<13} {sub.summary}" for sub in subs)
    return f"Sub-verbs (robostack {subs[0].name} --help  and so on lists what each understands)\n{lines}\n\n"


def documented_knobs(verb: str) -> str:
    """The comment block at the top of the verb's primary config, without its comment signs."""
    path = config_dir() / f"{verb}.yaml"
    if not path.is_file():
        raise ConfigError(f"no config at {path}: the installation is incomplete, install robostack again")
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(lines)
