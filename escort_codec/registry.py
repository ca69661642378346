"""Registries: members by name, each registered by one explicit line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Generic, TypeVar

from escort_codec.errors import UnknownNameError

T = TypeVar("T")


class Registry(Generic[T]):
    """Members of one kind by name, in the order of registration.

    ``kind`` is the word used in messages: ``Registry("coding")``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._members: dict[str, T] = {}

    def add(self, name: str, member: T) -> T:
        """Registers and returns ``member``. Raises ValueError if the name is taken."""
        if name in self._members:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._members[name] = member
        return member

    def get(self, name: str) -> T:
        """The member of that name. Raises UnknownNameError, which suggests the nearest name."""
        try:
            return self._members[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._members, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownNameError(
                f"no {self.kind} is called {name!r}{hint} (there are: {', '.join(self._members)})"
            ) from None

    def names(self) -> tuple[str, ...]:
        """All names, in the order of registration."""
        return tuple(self._members)

    def __iter__(self) -> Iterator[T]:
        return iter(self._members.values())

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members
