"""Small helpers for messages about tasks."""

from mezzo import v1

#: States after which a task has no other.
TERMINAL_STATES = frozenset(
    [
        v1.TASK_FINISHED,
        v1.TASK_FAILED,
        v1.TASK_KILLED,
        v1.TASK_ERROR,
        v1.TASK_LOST,
        v1.TASK_DROPPED,
        v1.TASK_GONE,
        v1.TASK_GONE_BY_OPERATOR,
    ]
)


def is_terminal(state: int) -> bool:
    """Whether a task in this state is over."""
    return state in TERMINAL_STATES


def state_name(state: int) -> str:
    """The state as Mesos writes it, such as TASK_RUNNING."""
    return v1.TaskState.Name(state)


def scalar(name: str, amount: float) -> v1.Resource:
    """So much of a resource: cpus, gpus, or mem and disk in megabytes."""
    return v1.Resource(
        name=name, type=v1.Value.SCALAR, scalar=v1.Value.Scalar(value=amount)
    )
