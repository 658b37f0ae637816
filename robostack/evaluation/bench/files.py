"""The files of a comparison: written, read, and joined where its tasks were run apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError

from robostack.errors import ConfigError, DataError
from robostack.evaluation.bench.page import write_bench_page
from robostack.evaluation.bench.plots import write_overview
from robostack.evaluation.bench.result import BenchResult
from robostack.evaluation.schema import write_json_atomic

RESULT, PICTURE, PAGE = "bench.json", "bench.png", "report.html"


def write_comparison(folder: Path, result: BenchResult) -> None:
    """Write the record, the page and the picture."""
    write_json_atomic(folder / RESULT, result)
    write_bench_page(folder / PAGE, result)
    write_overview(folder / PICTURE, result.rows)


def read_comparison(path: Path) -> BenchResult:
    """Read a record, or the one in a folder.

    Raises:
        DataError: no such file, or none that this version wrote.
    """
    path = path / RESULT if path.is_dir() else path
    try:
        return BenchResult.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}: pass a {RESULT}, or the folder of a  bench policies") from error
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(str(part) for part in found["loc"])
        raise DataError(
            f"{path} is not a {RESULT} ({where or 'file'}: {found['msg']}): run the comparison again"
        ) from error


def join_comparisons(results: Sequence[BenchResult]) -> BenchResult:
    """One comparison of all their tasks.

    Times of different machines stand side by side then; ``machine`` names them all.

    Raises:
        ConfigError: nothing to join, a task twice, or tasks that were not measured alike.
    """
    if not results:
        raise ConfigError(f"nothing to join: pass results=[<a {RESULT}>,<another>]")
    for name in ("suite", "margin", "threads", "episodes"):
        values = _distinct(str(getattr(result, name)) for result in results)
        if len(values) > 1:
            raise ConfigError(f"comparisons that differ in {name} cannot be joined: {', '.join(values)}")
    tasks = [task for result in results for task in result.outcomes]
    twice = next((task for task in tasks if tasks.count(task) > 1), None)
    if twice:
        raise ConfigError(f"task '{twice}' is in two of the comparisons: leave one of them out")
    return results[0].model_copy(
        update={
            "robostack": ", ".join(_distinct(result.robostack for result in results)),
            "machine": "; ".join(_distinct(result.machine for result in results)),
            "rows": tuple(row for result in results for row in result.rows),
            "outcomes": {task: cells for result in results for task, cells in result.outcomes.items()},
        }
    )


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
