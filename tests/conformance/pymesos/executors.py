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


def launch(name):
    """A task of the executor, on the next offer."""
    offer = steps.offer()
    one = task(name, offer)
    one.executor = obedient
    one.data = encode_data(name.encode())
    driver.launchTasks(offer.id, [one], LONG)
    steps.until(name, "TASK_RUNNING")
    return offer.agent_id


def tell(agent_id, order):
    """A message to the executor."""
    driver.sendFrameworkMessage(obedient.executor_id, agent_id, encode_data(order))


steps.start()
agent_id = launch("one")
tell(agent_id, b"hello")
heard = steps.expect("message")
if heard != encode_data(b"hello"):
    sys.exit("the executor said %s" % heard)

driver.reviveOffers()
launch("two")
tell(agent_id, b"finish two")
steps.until("two", "TASK_FINISHED")

# That the end of a task was acknowledged may reach the executor after what it is told next, but never after a launch.
driver.reviveOffers()
launch("three")
driver.killTask(dict(value="one"))
steps.until("one", "TASK_KILLED")

driver.reviveOffers()
launch("four")
tell(agent_id, b"exit")
# The end of the executor is told before those of its tasks. All of it is awaited before the first acknowledgement,
# which would otherwise stand now before and now after the next event.
status = steps.expect("executor lost")
if status != 7 << 8:
    sys.exit("the executor ended with %s" % status)
ends = [steps.expect("update") for _ in range(2)]
if sorted((end.task_id.value, end.state) for end in ends) != [("four", "TASK_FAILED"), ("three", "TASK_FAILED")]:
    sys.exit("the tasks ended with %s" % ends)
for end in ends:
    driver.acknowledgeStatusUpdate(end)
steps.finish()
