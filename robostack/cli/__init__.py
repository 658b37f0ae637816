"""The command line: the only place where the kernel meets simgen and policies, through the targets in ``configs/``."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from robostack import __version__
from robostack.cli.help import main_help, verb_help
from robostack.cli.verbs import SUB_VERBS, VERBS, Verb, find_verb
from robostack.errors import ConfigError, RobostackError, StorageError

_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EROFS: "the file system is read-only",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 a bug, 2 an error of the user, 130 interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(args)
        sys.stdout.flush()
        return code
    except RobostackError as error:
        return _refuse(error)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to resume", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) went away; keep the interpreter's last flush from complaining too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            return _refuse(_storage_error(error))
        return _report_bug()
    except Exception:  # the boundary: whatever else arrives here is our mistake, and is shown in full
        return _report_bug()


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(main_help())
        return 0
    if args[0] in ("-V", "--version"):
        print(f"robostack {__version__}")
        return 0
    name, rest = args[0], args[1:]
    if name not in VERBS:
        close = difflib.get_close_matches(name, VERBS, n=1, cutoff=0.5)
        guess = f" did you mean '{close[0]}'?" if close else ""
        raise ConfigError(f"unknown verb '{name}':{guess} Available: {', '.join(VERBS)}. See  robostack --help")
    key, rest = _sub_verb(VERBS[name], rest)
    if any(arg in ("-h", "--help") for arg in rest):
        print(verb_help(find_verb(key)))
        return 0
    _default_environment()
    return importlib.import_module(f"robostack.cli.{key}").execute(rest)


def _sub_verb(verb: Verb, rest: list[str]) -> tuple[str, list[str]]:
    """The key of the verb that is meant, and its arguments: one bare word after a verb names a sub-verb."""
    subs = {v.name.split()[1]: key for key, v in SUB_VERBS.items() if v.name.startswith(f"{verb.name} ")}
    if not rest or not subs or not rest[0].isidentifier():
        return verb.key, rest
    if rest[0] not in subs:
        close = difflib.get_close_matches(rest[0], subs, n=1, cutoff=0.5)
        guess = f" did you mean '{close[0]}'?" if close else ""
        raise ConfigError(
            f"unknown sub-verb '{rest[0]}' of {verb.name}:{guess} Available: {', '.join(subs)}; a sentence is written "
            f"in quotes, see  robostack {verb.name} --help"
        )
    return subs[rest[0]], rest[1:]


def _default_environment() -> None:
    """Headless rendering and local datasets, unless the user said otherwise; both are read at import time."""
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _refuse(error: RobostackError) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _storage_error(error: OSError) -> StorageError:
    where = f" at {error.filename}" if error.filename else ""
    return StorageError(
        f"{_DISK_ERRORS[error.errno or 0]}{where}: make room or pass out=<a writable folder>, "
        "then run the same command again to resume"
    )


def _report_bug() -> int:
    traceback.print_exc()
    print("This is a bug in robostack: please report it with the lines above and your command.", file=sys.stderr)
    return 1
