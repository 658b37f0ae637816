"""Name -> record tables with closest-name errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from robostack.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """One record per name; refuses duplicates, and answers an unknown name with the known ones."""

    def __init__(self, kind: str):
        self.kind = kind
        self._records: dict[str, T] = {}

    def add(self, name: str, record: T) -> T:
        """Register ``record``; a second registration of the same name is a programmer's mistake."""
        assert name not in self._records, f"{self.kind} '{name}' is registered twice"
        self._records[name] = record
        return record

    def __getitem__(self, name: str) -> T:
        try:
            return self._records[name]
        except KeyError:
            raise UnknownName(self.kind, name, self._records) from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._records))

    def __contains__(self, name: object) -> bool:
        return name in self._records

    def __len__(self) -> int:
        return len(self._records)
