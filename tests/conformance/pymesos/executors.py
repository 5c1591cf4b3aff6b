"""Tasks of an executor that is written with pymesos, too.

    executors.py MASTER AGENT

The executor speaks to its agent at AGENT.
"""

import os
import sys

from addict import Dict
from pymesos import encode_data
from steps import LONG, Steps, scalar, task

EXECUTOR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "executor.py")


def executor(agent):
    executor = Dict()
    executor.executor_id.value = "obedient"
    executor.name = "obedient"
    executor.command.value = "exec %s %s %s" % (sys.executable, EXECUTOR, agent)
    executor.resources = [scalar("cpus", 0.1), scalar("mem", 64)]
    return executor


steps = Steps(sys.argv[1])
driver = steps.driver
obedient = executor(sys.argv[2])


def launch(name, order):
    """A task of the executor, on the next offer."""
    offer = steps.offer()
    one = task(name, offer)
    one.executor = obedient
    one.data = encode_data(order)
    driver.launchTasks(offer.id, [one], LONG)
    return offer


steps.start()
offer = launch("one", b"run")
steps.until("one", "TASK_RUNNING")

driver.sendFrameworkMessage(obedient.executor_id, offer.agent_id, encode_data(b"hello"))
heard = steps.expect("message")
if heard != encode_data(b"hello"):
    sys.exit("the executor said %s" % heard)

driver.reviveOffers()
launch("two", b"finish")
steps.until("two", "TASK_RUNNING", "TASK_FINISHED")

driver.killTask(dict(value="one"))
steps.until("one", "TASK_KILLED")

driver.reviveOffers()
launch("three", b"exit")
steps.until("three", "TASK_RUNNING", "TASK_FAILED")
status = steps.expect("executor lost")
if status != 7 << 8:
    sys.exit("the executor ended with %s" % status)
steps.finish()
