"""What an agent tells the executors that it starts, by their environment."""

import os
from dataclasses import dataclass
from typing import Mapping, Optional

from mezzo import durations
from mezzo.errors import EnvironmentVariableError


@dataclass
class Environment:
    """What an executor has to know of itself and of its agent. Times are in seconds."""

    agent: str
    framework_id: str
    executor_id: str
    #: Whether the executor outlives the agent, and waits for its return.
    checkpoint: bool = False
    recovery_timeout: float = 900.0
    subscription_backoff_max: float = 2.0
    shutdown_grace: float = 5.0
    token: Optional[str] = None

    @classmethod
    def read(cls, variables: Optional[Mapping[str, str]] = None) -> "Environment":
        """From the variables of the process, if no others are given."""
        variables = os.environ if variables is None else variables

        def optional(name: str) -> Optional[str]:
            return variables.get(name) or None

        def required(name: str) -> str:
            value = optional(name)
            if value is None:
                raise EnvironmentVariableError(
                    f"{name} is not set: executors are started by an agent, which sets it"
                )
            return value

        def duration(name: str, otherwise: float) -> float:
            value = optional(name)
            try:
                return otherwise if value is None else durations.parse(value)
            except ValueError as error:
                raise EnvironmentVariableError(f"{name}: {error}") from error

        checkpoint = optional("MESOS_CHECKPOINT")
        if checkpoint not in (None, "0", "1", "false", "true"):
            raise EnvironmentVariableError(f"MESOS_CHECKPOINT is {checkpoint!r}: it is 0 or 1")
        pid = optional("MESOS_SLAVE_PID")
        agent = optional("MESOS_AGENT_ENDPOINT") or (pid.rpartition("@")[2] if pid else None)
        return cls(
            agent=agent or required("MESOS_AGENT_ENDPOINT"),
            framework_id=required("MESOS_FRAMEWORK_ID"),
            executor_id=required("MESOS_EXECUTOR_ID"),
            checkpoint=checkpoint in ("1", "true"),
            recovery_timeout=duration("MESOS_RECOVERY_TIMEOUT", cls.recovery_timeout),
            subscription_backoff_max=duration(
                "MESOS_SUBSCRIPTION_BACKOFF_MAX", cls.subscription_backoff_max
            ),
            shutdown_grace=duration("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", cls.shutdown_grace),
            token=optional("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
        )
