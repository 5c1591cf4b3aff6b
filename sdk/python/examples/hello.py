"""A framework: runs `echo` five times and reports how it went.

Start a cluster with `mezzo dev`, then: python hello.py [HOST:PORT]
"""

import getpass
import sys

from mezzo import Scheduler, SchedulerDriver, is_terminal, scalar, state_name, v1

DEMAND = {"cpus": 0.1, "mem": 32.0}


class Hello(Scheduler):
    def __init__(self, count=5):
        self.waiting = [f"hello.{n}" for n in range(1, count + 1)]
        self.unfinished = set(self.waiting)

    def subscribed(self, driver, framework_id, master):
        print(f"subscribed as {framework_id}", flush=True)
        # After a reconnection: what happened meanwhile?
        launched = self.unfinished.difference(self.waiting)
        driver.reconcile((task, None) for task in launched)

    def offers(self, driver, offers):
        for offer in offers:
            driver.launch(offer, self.fit(offer))

    def fit(self, offer):
        """As many of the waiting tasks as the offer has room for."""
        room = dict.fromkeys(DEMAND, 0.0)
        for resource in offer.resources:
            if resource.name in room:
                room[resource.name] += resource.scalar.value
        tasks = []
        while self.waiting and all(room[name] >= amount for name, amount in DEMAND.items()):
            for name, amount in DEMAND.items():
                room[name] -= amount
            tasks.append(self.task(self.waiting.pop(0), offer.agent_id))
        return tasks

    def task(self, name, agent_id):
        return v1.TaskInfo(
            name="hello",
            task_id=v1.TaskID(value=name),
            agent_id=agent_id,
            resources=[scalar(name, amount) for name, amount in DEMAND.items()],
            command=v1.CommandInfo(value="echo hello from $MESOS_TASK_ID"),
        )

    def update(self, driver, status):
        print(f"{status.task_id.value}: {state_name(status.state)}", flush=True)
        if is_terminal(status.state):
            self.unfinished.discard(status.task_id.value)
        if not self.unfinished:
            driver.stop()


def main():
    master = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:5050"
    framework = v1.FrameworkInfo(name="hello", user=getpass.getuser(), checkpoint=True)
    SchedulerDriver(Hello(), framework, master).run()


if __name__ == "__main__":
    main()
