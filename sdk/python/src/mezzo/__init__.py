"""Frameworks and executors for Mezzo, and for any master that speaks the v1 API of Mesos.

A framework is a :class:`Scheduler` whose methods are called by a :class:`SchedulerDriver`; an
executor is an :class:`Executor` with an :class:`ExecutorDriver`. Messages are in ``mezzo.v1``.
"""

from mezzo import v1
from mezzo.environment import Environment
from mezzo.errors import (
    AddressError,
    CallRefused,
    Disconnected,
    Ended,
    EnvironmentVariableError,
    MezzoError,
    NotReady,
    Protocol,
    SubscriptionRefused,
    Unreachable,
)
from mezzo.executor import Executor, ExecutorDriver
from mezzo.scheduler import Scheduler, SchedulerDriver
from mezzo.tasks import TERMINAL_STATES, is_terminal, scalar, state_name

__all__ = [
    "AddressError",
    "CallRefused",
    "Disconnected",
    "Ended",
    "Environment",
    "EnvironmentVariableError",
    "Executor",
    "ExecutorDriver",
    "MezzoError",
    "NotReady",
    "Protocol",
    "Scheduler",
    "SchedulerDriver",
    "SubscriptionRefused",
    "TERMINAL_STATES",
    "Unreachable",
    "is_terminal",
    "scalar",
    "state_name",
    "v1",
]
