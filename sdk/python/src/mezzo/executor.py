"""Executors: processes on an agent that run a framework's tasks in a way of their own."""

import logging
import threading
import time
import uuid
from typing import Dict, List, Optional, Sequence

from mezzo import v1
from mezzo.addresses import AGENT_PORT, Detector
from mezzo.backoff import Backoff
from mezzo.connection import Connection, open_any
from mezzo.driver import Driver
from mezzo.environment import Environment
from mezzo.errors import CallRefused, Disconnected, Ended, MezzoError

_log = logging.getLogger("mezzo")

_PATH = "/api/v1/executor"
_FIRST_PAUSE_S = 0.05

#: The agent that started this executor may be busy with others.
_PATIENCE_S = 15.0

#: More updates than any agent lets pile up: it confirms one when it is on its disk.
_MAX_UPDATES = 65_536

Call = v1.executor.Call
Event = v1.executor.Event


class Executor:
    """Override what concerns you. All methods are called one after the other, in the driver's
    thread: tasks run in threads or processes of their own. What a method raises ends the driver."""

    def subscribed(
        self,
        driver: "ExecutorDriver",
        executor: v1.ExecutorInfo,
        framework: v1.FrameworkInfo,
        agent: v1.AgentInfo,
    ) -> None:
        """The subscription stands, for the first time or again."""

    def launch(self, driver: "ExecutorDriver", task: v1.TaskInfo) -> None:
        """A task to run."""

    def launch_group(self, driver: "ExecutorDriver", tasks: Sequence[v1.TaskInfo]) -> None:
        """Tasks to run together: when one fails, all end."""

    def kill(
        self, driver: "ExecutorDriver", task_id: v1.TaskID, policy: Optional[v1.KillPolicy]
    ) -> None:
        """A task to end; a last update of it is expected."""

    def acknowledged(self, driver: "ExecutorDriver", task_id: v1.TaskID, uuid: bytes) -> None:
        """The agent has an update and will see to it that the framework hears of it."""

    def message(self, driver: "ExecutorDriver", data: bytes) -> None:
        """Data from the framework's scheduler."""

    def shutdown(self, driver: "ExecutorDriver") -> None:
        """All tasks are to end and then the executor, within `Environment.shutdown_grace`. The
        agent says so, or the driver when the agent stays away for too long."""

    def disconnected(self, driver: "ExecutorDriver", reason: str) -> None:
        """The connection is lost and will be made anew, for a time."""


class ExecutorDriver(Driver):
    """Subscribes the executor that this process was started as, and calls it.

    Updates are kept and repeated over reconnections until the agent has confirmed them. An executor
    whose framework checkpoints outlives its agent and waits for its return; another ends with it.
    Methods may be used from any thread.
    """

    def __init__(self, executor: Executor, environment: Optional[Environment] = None):
        super().__init__("mezzo-executor")
        self.environment = environment or Environment.read()
        self._executor = executor
        self._detector = Detector(self.environment.agent, AGENT_PORT)
        longest = max(self.environment.subscription_backoff_max, _FIRST_PAUSE_S)
        self._backoff = Backoff(_FIRST_PAUSE_S, longest)
        self._lock = threading.Lock()
        self._connection: Optional[Connection[Event]] = None
        #: Launched, and no update of theirs confirmed yet.
        self._tasks: Dict[str, v1.TaskInfo] = {}
        #: Not confirmed yet, by uuid, in order.
        self._updates: Dict[bytes, v1.TaskStatus] = {}
        #: Made since the latest SUBSCRIBE was written.
        self._untold: List[v1.TaskStatus] = []
        self._subscribed = False
        self._told_to_end = False

    def update(self, status: v1.TaskStatus) -> bytes:
        """Reports the state of a task, and returns the update's uuid. The uuid, the time, the
        source and the executor's id are filled in here. Raises `CallRefused` if the agent refuses
        the update. While there is no connection it is kept, and told as soon as there is one."""
        own = v1.TaskStatus()
        own.CopyFrom(status)
        own.uuid = uuid.uuid4().bytes
        own.timestamp = time.time()
        own.source = v1.TaskStatus.SOURCE_EXECUTOR
        own.executor_id.value = self.environment.executor_id
        with self._lock:
            if len(self._updates) >= _MAX_UPDATES:
                raise Disconnected(f"{_MAX_UPDATES} updates wait to be confirmed by the agent")
            self._updates[own.uuid] = own
            connection = self._connection if self._subscribed else None
            if connection is None:
                self._untold.append(own)
        if connection is not None:
            self._tell(connection, own)
        return own.uuid

    def unacknowledged(self) -> int:
        """How many updates the agent has not confirmed yet."""
        with self._lock:
            return len(self._updates)

    def message(self, data: bytes) -> None:
        """Sends data to the framework's scheduler, at best effort."""
        call = self._call(Call.MESSAGE)
        call.message.data = data
        with self._lock:
            connection = self._connection if self._subscribed else None
        if connection is None:
            raise Disconnected("there is no connection to the agent for MESSAGE")
        connection.call("MESSAGE", call.SerializeToString())

    def stop(self) -> None:
        """Ends the subscription; the process should end, too."""
        self._stopping.set()
        with self._lock:
            connection = self._connection
        if connection is not None:
            connection.close()

    def _loop(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        try:
            while not self._stopping.is_set():
                connection = self._retry(self._subscribe, self._backoff, deadline)
                if connection is None:
                    return
                reason = self._serve(connection)
                if self._stopping.is_set():
                    return
                if self._told_to_end:
                    raise Ended("the agent told the executor to end, and left")
                if not self.environment.checkpoint:
                    raise Ended(f"{reason}, and the framework does not checkpoint")
                self._executor.disconnected(self, reason)
                deadline = time.monotonic() + self.environment.recovery_timeout
        except MezzoError:
            if not self._told_to_end and not self._stopping.is_set():
                self._executor.shutdown(self)
            raise

    def _serve(self, connection: Connection[Event]) -> str:
        """Handles events until the connection is lost; returns why it was."""
        try:
            for event in connection.events():
                self._handle(connection, event)
                if self._stopping.is_set():
                    break
            return ""
        except Disconnected as error:
            _log.info("disconnected: %s", error)
            return str(error)
        finally:
            with self._lock:
                self._connection = None
                self._subscribed = False
            connection.close()

    def _subscribe(self) -> Connection[Event]:
        call = self._call(Call.SUBSCRIBE)
        call.subscribe.SetInParent()
        with self._lock:
            call.subscribe.unacknowledged_tasks.extend(self._tasks.values())
            for status in self._updates.values():
                call.subscribe.unacknowledged_updates.add().status.CopyFrom(status)
            self._untold.clear()
        token = self.environment.token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection = open_any(
            self._detector, "agent", _PATH, Event, call.SerializeToString(), headers
        )
        # Heartbeats of agents are half an hour apart, and not all send them.
        connection.wait_for_ever()
        with self._lock:
            self._connection = connection
        # Stopped meanwhile: nobody else would close it.
        if self._stopping.is_set():
            connection.close()
        return connection

    def _handle(self, connection: Connection[Event], event: Event) -> None:
        executor = self._executor
        kind = event.type
        if kind == Event.SUBSCRIBED:
            self._backoff.reset()
            while True:
                with self._lock:
                    if not self._untold:
                        self._subscribed = True
                        break
                    status = self._untold.pop(0)
                self._quietly_tell(connection, status)
            subscribed = event.subscribed
            executor.subscribed(
                self, subscribed.executor_info, subscribed.framework_info, subscribed.agent_info
            )
        elif kind == Event.LAUNCH:
            task = event.launch.task
            with self._lock:
                self._tasks[task.task_id.value] = task
            executor.launch(self, task)
        elif kind == Event.LAUNCH_GROUP:
            tasks = list(event.launch_group.task_group.tasks)
            with self._lock:
                self._tasks.update((task.task_id.value, task) for task in tasks)
            executor.launch_group(self, tasks)
        elif kind == Event.KILL:
            kill = event.kill
            policy = kill.kill_policy if kill.HasField("kill_policy") else None
            executor.kill(self, kill.task_id, policy)
        elif kind == Event.ACKNOWLEDGED:
            acknowledged = event.acknowledged
            with self._lock:
                self._tasks.pop(acknowledged.task_id.value, None)
                self._updates.pop(acknowledged.uuid, None)
            executor.acknowledged(self, acknowledged.task_id, acknowledged.uuid)
        elif kind == Event.MESSAGE:
            executor.message(self, event.message.data)
        elif kind == Event.SHUTDOWN:
            self._told_to_end = True
            executor.shutdown(self)
        elif kind == Event.ERROR:
            raise Ended(f"the agent ended the subscription: {event.error.message}")
        # Heartbeats, and what a later version of the protocol may say.

    def _tell(self, connection: Connection[Event], status: v1.TaskStatus) -> None:
        call = self._call(Call.UPDATE)
        call.update.status.CopyFrom(status)
        try:
            connection.call("UPDATE", call.SerializeToString())
        except CallRefused:
            with self._lock:
                self._updates.pop(status.uuid, None)
            raise
        except Disconnected as error:
            _log.debug("kept for the next subscription: %s", error)

    def _quietly_tell(self, connection: Connection[Event], status: v1.TaskStatus) -> None:
        try:
            self._tell(connection, status)
        except CallRefused as error:
            _log.warning("%s", error)

    def _call(self, kind: Call.Type) -> Call:
        call = Call(type=kind)
        call.executor_id.value = self.environment.executor_id
        call.framework_id.value = self.environment.framework_id
        return call
