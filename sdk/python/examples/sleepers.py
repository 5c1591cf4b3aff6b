"""An executor, and the framework that launches it: tasks that sleep, all in one process.

    python sleepers.py HOST:PORT SECONDS...    # the scheduler: one task for each time
    python sleepers.py                         # the executor, as the agent starts it
"""

import getpass
import os
import sys
import threading

from mezzo import (
    Executor,
    ExecutorDriver,
    Scheduler,
    SchedulerDriver,
    is_terminal,
    scalar,
    state_name,
    v1,
)


class Sleepers(Executor):
    """Each task is a timer."""

    def __init__(self):
        self.timers = {}
        self.ending = False

    def launch(self, driver, task):
        driver.update(v1.TaskStatus(task_id=task.task_id, state=v1.TASK_RUNNING))
        seconds = float(task.data)
        timer = threading.Timer(seconds, self.finish, (driver, task.task_id, v1.TASK_FINISHED))
        self.timers[task.task_id.value] = timer
        timer.start()

    def kill(self, driver, task_id, policy):
        self.finish(driver, task_id, v1.TASK_KILLED)

    def finish(self, driver, task_id, state):
        # Whoever takes the timer out reports the end.
        timer = self.timers.pop(task_id.value, None)
        if timer is not None:
            timer.cancel()
            driver.message(f"{task_id.value} is over".encode())
            driver.update(v1.TaskStatus(task_id=task_id, state=state))

    def acknowledged(self, driver, task_id, uuid):
        if self.ending and driver.unacknowledged() == 0:
            driver.stop()

    def shutdown(self, driver):
        self.ending = True
        for task in list(self.timers):
            self.finish(driver, v1.TaskID(value=task), v1.TASK_KILLED)
        if driver.unacknowledged() == 0:
            driver.stop()


class Launcher(Scheduler):
    def __init__(self, times):
        self.waiting = {f"sleeper.{n}": time for n, time in enumerate(times, 1)}
        self.unfinished = set(self.waiting)

    def offers(self, driver, offers):
        for offer in offers:
            driver.launch(offer, [self.task(name, offer) for name in list(self.waiting)])

    def task(self, name, offer):
        me = os.path.abspath(__file__)
        executor = v1.ExecutorInfo(
            type=v1.ExecutorInfo.CUSTOM,
            executor_id=v1.ExecutorID(value="sleepers"),
            name="sleepers",
            command=v1.CommandInfo(value=f"exec {sys.executable} {me}"),
            resources=[scalar("cpus", 0.1), scalar("mem", 64.0)],
        )
        return v1.TaskInfo(
            name=name,
            task_id=v1.TaskID(value=name),
            agent_id=offer.agent_id,
            executor=executor,
            resources=[scalar("cpus", 0.1), scalar("mem", 16.0)],
            data=str(self.waiting.pop(name)).encode(),
        )

    def message(self, driver, agent_id, executor_id, data):
        print(f"{executor_id.value} says: {data.decode()}", flush=True)

    def update(self, driver, status):
        print(f"{status.task_id.value}: {state_name(status.state)} {status.message}", flush=True)
        if is_terminal(status.state):
            self.unfinished.discard(status.task_id.value)
        if not self.unfinished:
            driver.stop()


def main():
    if len(sys.argv) == 1:
        ExecutorDriver(Sleepers()).run()
        return
    framework = v1.FrameworkInfo(name="sleepers", user=getpass.getuser(), checkpoint=True)
    times = [float(argument) for argument in sys.argv[2:]] or [1.0]
    SchedulerDriver(Launcher(times), framework, sys.argv[1]).run()


if __name__ == "__main__":
    main()
