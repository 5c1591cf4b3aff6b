"""Asking for the state of tasks until every one is answered.

As Mesos' docs/reconciliation.md describes it: the master does not answer for a task while it cannot
know, so what is left is asked for again, after pauses that grow.
"""

import threading
import time
from typing import Callable, Dict, Iterable, List, Optional, Tuple

from mezzo.backoff import Backoff
from mezzo.errors import MezzoError

_FIRST_PAUSE_S = 2.0

#: Agents of a large cluster take minutes to be back.
_LONGEST_PAUSE_S = 60.0

#: Tasks named in one call: well below a megabyte.
_BATCH = 10_000

Tasks = List[Tuple[str, Optional[str]]]


class Reconciliation:
    """A thread that asks when it is time. `ask` sends one RECONCILE; without tasks, for all."""

    def __init__(self, ask: Callable[[Tasks], None], implicit_every: Optional[float]):
        self._ask = ask
        self._every = implicit_every
        self._changed = threading.Condition()
        self._left: Dict[str, Optional[str]] = {}
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._due: Optional[float] = None
        self._implicit_due = None if implicit_every is None else time.monotonic() + implicit_every
        self._over = False
        self._thread = threading.Thread(target=self._run, name="mezzo-reconciliation", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()

    def begin(self, tasks: Iterable[Tuple[str, Optional[str]]]) -> bool:
        """Takes the place of what is under way. False if there is nothing to ask."""
        with self._changed:
            self._left = dict(tasks)
            self._start_over()
            return bool(self._left)

    def subscribed(self) -> None:
        """A new connection: what was asked on the old one may be lost."""
        with self._changed:
            self._start_over()

    def answered(self, task: str) -> bool:
        """An update came. True if it was the last one that was missing."""
        with self._changed:
            if task not in self._left:
                return False
            del self._left[task]
            return not self._left

    def _start_over(self) -> None:
        self._backoff.reset()
        self._due = time.monotonic() if self._left else None
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._over:
                    return
                now = time.monotonic()
                calls = self._calls(now)
                if not calls:
                    dues = [due for due in (self._due, self._implicit_due) if due is not None]
                    self._changed.wait(min(dues) - now if dues else None)
                    continue
            try:
                for tasks in calls:
                    self._ask(tasks)
            except MezzoError:
                pass  # Asked again when it is due, or at the next subscription.

    def _calls(self, now: float) -> List[Tasks]:
        calls: List[Tasks] = []
        if self._due is not None and self._due <= now:
            tasks = list(self._left.items())
            calls += [tasks[at : at + _BATCH] for at in range(0, len(tasks), _BATCH)]
            self._due = now + self._backoff.next_pause() if tasks else None
        if self._implicit_due is not None and self._implicit_due <= now:
            calls.append([])
            self._implicit_due = now + (self._every or 0.0)
        return calls
