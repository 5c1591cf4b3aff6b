"""What the drivers of schedulers and of executors share: a thread that reads events."""

import logging
import threading
import time
from typing import Optional

from mezzo.errors import Disconnected, NotReady, Unreachable

_log = logging.getLogger("mezzo")


class Driver:
    """Runs `_loop` in a thread of its own."""

    def __init__(self, name: str):
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._stopping = threading.Event()
        self._failure: Optional[BaseException] = None

    def start(self) -> None:
        """Begins to subscribe, and returns at once."""
        self._thread.start()

    def join(self, timeout: Optional[float] = None) -> bool:
        """Waits for the end. False if it has not come in time, in seconds.

        Raises what ended the driver, if that was not `stop`: `Ended`, `SubscriptionRefused`, or
        what a method of the application raised.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        if self._failure is not None:
            raise self._failure
        return True

    def run(self) -> None:
        """Starts and waits for the end."""
        self.start()
        # In pieces, so that Ctrl-C is heard.
        while not self.join(3600.0):
            pass

    def _main(self) -> None:
        try:
            self._loop()
        except Exception as error:  # Told to whoever joins.
            if not self._stopping.is_set():
                self._failure = error
                _log.debug("the driver ends: %s", error)
        finally:
            self._stopping.set()
            self._finished()

    def _loop(self) -> None:
        raise NotImplementedError

    def _finished(self) -> None:
        """The loop is over."""

    def _retry(self, attempt, backoff, deadline: Optional[float]):
        """What `attempt` returns, tried again while servers are away; until `deadline`, of the
        monotonic clock. None when the driver is stopped meanwhile."""
        while not self._stopping.is_set():
            try:
                return attempt()
            except (Unreachable, NotReady, Disconnected) as error:
                pause = backoff.next_pause()
                if deadline is not None and time.monotonic() + pause > deadline:
                    raise
                _log.debug("trying again in %.3f s: %s", pause, error)
            self._stopping.wait(pause)
        return None
