"""Pauses between attempts: doubling, capped, and spread so that not all clients return at once."""

import random


class Backoff:
    """Times are in seconds."""

    def __init__(self, first: float, longest: float):
        self._first = first
        self._longest = max(first, longest)
        self._next = first

    def next_pause(self) -> float:
        """Between half and all of what doubling gives."""
        pause = self._next
        self._next = min(pause * 2, self._longest)
        return pause * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """The next pause is the first again."""
        self._next = self._first
