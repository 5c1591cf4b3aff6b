"""Launches command tasks through pymesos and checks how each ends."""

import sys
import threading

from addict import Dict
from pymesos import MesosSchedulerDriver, Scheduler

# Task id: (command, final state); the last one is killed by us.
TASKS = {
    "true": ("true", "TASK_FINISHED"),
    "three": ("exit 3", "TASK_FAILED"),
    "echo": ("echo hello from $MESOS_TASK_ID", "TASK_FINISHED"),
    "killed": ("sleep 1000", "TASK_KILLED"),
}


class Probe(Scheduler):
    def __init__(self):
        self.waiting = list(TASKS)
        self.endings = {}
        self.done = threading.Event()
        self.failure = None

    def resourceOffers(self, driver, offers):
        for offer in offers:
            tasks = [self.task(name, offer) for name in self.waiting]
            self.waiting = []
            if tasks:
                driver.launchTasks(offer.id, tasks)
            else:
                driver.declineOffer(offer.id, {"refuse_seconds": 3600.0})

    @staticmethod
    def task(name, offer):
        task = Dict()
        task.task_id.value = name
        task.agent_id.value = offer.agent_id.value
        task.name = name
        task.resources = [
            dict(name="cpus", type="SCALAR", scalar={"value": 0.1}),
            dict(name="mem", type="SCALAR", scalar={"value": 32}),
        ]
        task.command.shell = True
        task.command.value = TASKS[name][0]
        return task

    def statusUpdate(self, driver, update):
        name, state = update.task_id.value, update.state
        print(name, state, update.get("message"), flush=True)
        if state == "TASK_RUNNING" and name == "killed":
            driver.killTask(update.task_id)
        if state not in ("TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING"):
            if name in self.endings:
                self.failure = f"{name} ended twice"
            self.endings[name] = state
        if len(self.endings) == len(TASKS):
            self.done.set()

    def error(self, driver, message):
        self.failure = message
        self.done.set()


def main():
    probe = Probe()
    framework = Dict(user="root", name="pymesos", hostname="localhost")
    driver = MesosSchedulerDriver(probe, framework, sys.argv[1], use_addict=True)
    driver.start()
    in_time = probe.done.wait(60)
    driver.stop()
    driver.join()
    wanted = {name: state for name, (_, state) in TASKS.items()}
    if probe.failure or not in_time or probe.endings != wanted:
        sys.exit(f"failure: {probe.failure}, in time: {in_time}, endings: {probe.endings}")
    print("all tasks ended as they should")


main()
