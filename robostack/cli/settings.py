"""From arguments to settings: split, compose with Hydra, check, and hand out plain values.

OmegaConf ends here: what leaves ``load_settings`` is a dict of dicts, lists and scalars.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from robostack.cli.limits import check_choices, check_numbers, check_types
from robostack.cli.verbs import find_verb
from robostack.errors import ConfigError, UnknownName
from robostack.paths import config_dir

Settings = dict[str, Any]

FREE_TEXT = (
    "sentence",
    "out",
    "task",
    "dataset",
    "checkpoint",
    "folder",
    "library",
    "against",
    "report",
    "file",
    "name",
    "licence",
    "data",
    "lerobot",
)
"""Values that never meet Hydra's grammar: a sentence or a path may hold quotes, commas, braces, ``=``."""


@dataclass(frozen=True)
class Request:
    """The arguments of one command, sorted by how they are read.

    Attributes:
        overrides: ``key=value`` arguments for Hydra's grammar, in order.
        text: free-text values by key.
    """

    verb: str
    overrides: tuple[str, ...]
    text: Mapping[str, str]


def load_settings(verb: str, args: Sequence[str]) -> Settings:
    """Compose ``configs/<verb>.yaml`` with the arguments and check every value.

    Raises:
        ConfigError: for an unknown key, a wrong type, a number out of range, or a missing value.
        UnknownName: for an option that a group, or a setting with fixed choices, does not have.
    """
    request = split_arguments(verb, args)
    try:
        return _compose_checked(request)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"cannot compose the configuration of {verb}: {_first_line(error)}") from error


def split_arguments(verb: str, args: Sequence[str]) -> Request:
    """Separate the sentence, the free-text settings and the overrides."""
    overrides: list[str] = []
    text: dict[str, str] = {}
    for arg in args:
        key, equals, value = arg.partition("=")
        if equals and key.startswith("-") and " " not in key:
            raise ConfigError(f"unknown option '{arg}': settings are written without dashes, {arg.lstrip('-')}")
        if not equals:
            name, value = _positional(verb, arg, text)
            text[name] = value
        elif key in FREE_TEXT:
            if not value.strip():
                raise ConfigError(f"{key} is empty: write  {key}=<value>  or leave it out")
            text[key] = value
        else:
            overrides.append(arg)
    return Request(verb, tuple(overrides), text)


def _positional(verb: str, arg: str, text: Mapping[str, str]) -> tuple[str, str]:
    found = find_verb(verb)
    if arg.startswith("-"):
        raise ConfigError(f"unknown option '{arg}': settings are written key=value, see  robostack {found.name} --help")
    if not found.positional:
        raise ConfigError(f"unexpected argument '{arg}': settings of {found.name} are written key=value")
    if found.positional in text:
        fix = "put the whole sentence in quotes, as one argument" if found.positional == "sentence" else "one is enough"
        raise ConfigError(f"unexpected argument '{arg}': {fix}")
    if not arg.strip():
        raise ConfigError(f"the {found.positional} is empty: write  {found.examples[0]}")
    return found.positional, arg


def _compose_checked(request: Request) -> Settings:
    parsed = [_parse(argument) for argument in request.overrides]
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        plain = _defaults(request.verb, str(config_dir()))
        groups = [o for o in parsed if is_group(o.key_or_group) and o.key_or_group in plain]
        for override in groups:
            _check_option(override)
        base = _plain(compose(request.verb, [str(o.input_line) for o in groups]) if groups else plain)
        _check_keys(request, parsed, base)
        more = len(parsed) > len(groups)
        settings = _plain(compose(request.verb, [str(o.input_line) for o in parsed])) if more else dict(base)
    for key, value in request.text.items():
        settings[key] = value
    before, after = flatten(base), flatten(settings)
    check_types(before, after)
    check_choices(after)
    check_numbers(before, after)
    _check_complete(request, after)
    return settings


@cache
def _defaults(verb: str, directory: str) -> Any:
    """What is composed without arguments. It takes a tenth of a second, and is asked for several times."""
    del directory  # Unused: it tells one composition from another.
    return compose(verb)


def _parse(argument: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException as error:
        key, _, value = argument.partition("=")
        raise ConfigError(f"cannot read '{argument}': quote the value, as in  {key}=\"'{value}'\"") from error
    if override.type is not OverrideType.CHANGE:
        raise ConfigError(f"cannot use '{argument}': settings are changed with key=value only")
    if override.is_sweep_override():
        raise ConfigError(f"cannot use '{argument}': several values need several commands, one value each")
    return override


def is_group(key: str) -> bool:
    """Whether ``configs/<key>/`` holds options to choose from."""
    return bool(group_options(key))


def group_options(group: str) -> list[str]:
    """The options of a config group, sorted."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml")) if group else []


def _check_option(override: Override) -> None:
    group, option = override.key_or_group, str(override.value())
    if option not in group_options(group):
        raise UnknownName(f"option of {group}", option, group_options(group))


def _check_keys(request: Request, parsed: Sequence[Override], base: Mapping[str, Any]) -> None:
    known = flatten(base)
    sections = {key.rpartition(".")[0] for key in known} - {""}
    wanted = [o.key_or_group for o in parsed if not (is_group(o.key_or_group) and o.key_or_group in base)]
    for key in (*wanted, *request.text):
        if key in sections:
            inside = [name for name in known if name.startswith(f"{key}.")]
            raise ConfigError(f"'{key}' is a section, not a setting: set one of {', '.join(inside)}")
        if key not in known:
            raise ConfigError(unknown_key_message(request.verb, key, list(known)))


def unknown_key_message(verb: str, key: str, known: Sequence[str]) -> str:
    """For example ``unknown config key 'polcy.steps': did you mean 'policy.steps'?`` and where to look."""
    last = key.rpartition(".")[2]
    same_end = [name for name in known if name.rpartition(".")[2] == last]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6) or same_end[:1]
    close = close or difflib.get_close_matches(last, known, n=1, cutoff=0.6)
    guess = f" did you mean '{close[0]}'?" if close else ""
    return f"unknown config key '{key}':{guess} robostack {find_verb(verb).name} --help  lists the settings"


def _check_complete(request: Request, settings: Mapping[str, Any]) -> None:
    verb = find_verb(request.verb)
    for key, value in settings.items():
        if value == "???" and key not in request.text:
            raise ConfigError(f"{verb.name} needs {key}: write  robostack {verb.usage}")
    if verb.positional == "sentence" and settings["sentence"] is None:
        raise ConfigError(f"{verb.name} needs a sentence: write  {verb.examples[0]}")


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> leaf; lists are leaves, and so are empty sections."""
    leaves: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            leaves.update(flatten(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def _plain(config: Any) -> Settings:
    # Missing values stay "???" here: the free-text settings are filled in afterwards.
    values = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    assert isinstance(values, dict), type(values)
    return {str(key): value for key, value in values.items()}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
