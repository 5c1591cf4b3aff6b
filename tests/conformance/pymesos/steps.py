"""Running a scheduler of pymesos one step after the other, so that its transcript is the same in every run: each step
waits for what it leads to.
"""

import queue
import sys

from addict import Dict
from pymesos import MesosSchedulerDriver, Scheduler

PATIENCE_S = 60
LONG = {"refuse_seconds": 3600.0}


class Recorder(Scheduler):
    """Hands everything to the one who runs the steps."""

    def __init__(self):
        self.heard = queue.Queue()

    def registered(self, driver, framework_id, master_info):
        self.heard.put(("registered", framework_id))

    def resourceOffers(self, driver, offers):
        self.heard.put(("offers", offers))

    def inverseOffers(self, driver, offers):
        self.heard.put(("inverse offers", offers))

    def offerRescinded(self, driver, offer_id):
        self.heard.put(("rescinded", offer_id))

    def statusUpdate(self, driver, update):
        self.heard.put(("update", update))

    def operationStatusUpdate(self, driver, status):
        self.heard.put(("operation", status))

    def frameworkMessage(self, driver, executor_id, agent_id, data):
        self.heard.put(("message", data))

    def executorLost(self, driver, executor_id, agent_id, status):
        self.heard.put(("executor lost", status))

    def slaveLost(self, driver, agent_id):
        self.heard.put(("agent lost", agent_id))

    def error(self, driver, message):
        self.heard.put(("error", message))


class Steps:
    """A driver, and what it heard."""

    def __init__(self, master, **framework):
        self.scheduler = Recorder()
        framework = Dict(user="root", name="pymesos", hostname="localhost", **framework)
        self.driver = MesosSchedulerDriver(
            self.scheduler, framework, master, use_addict=True, implicit_acknowledgements=False
        )

    def expect(self, what):
        kind, value = self.scheduler.heard.get(timeout=PATIENCE_S)
        if kind != what:
            sys.exit("expected %s, got %s: %s" % (what, kind, value))
        return value

    def start(self):
        self.driver.start()
        return self.expect("registered")

    def offer(self):
        (offer,) = self.expect("offers")
        # What comes back meanwhile is not offered until it is asked for.
        self.driver.suppressOffers()
        return offer

    def until(self, task, *states):
        """Acknowledges updates up to the last of these states."""
        for state in states:
            update = self.expect("update")
            if (update.task_id.value, update.state) != (task, state):
                sys.exit("expected %s %s, got %s" % (task, state, update))
            self.driver.acknowledgeStatusUpdate(update)

    def finish(self):
        self.driver.stop()
        self.driver.join()
        print("all went as it should")


def scalar(name, value, **more):
    return dict(name=name, type="SCALAR", scalar=dict(value=value), **more)


def task(name, offer, cpus=0.1):
    task = Dict()
    task.task_id.value = name
    task.agent_id.value = offer.agent_id.value
    task.name = name
    task.resources = [scalar("cpus", cpus), scalar("mem", 32)]
    return task


def command_task(name, offer, command, **more):
    one = task(name, offer, **more)
    one.command.shell = True
    one.command.value = command
    return one
