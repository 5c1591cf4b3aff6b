"""An executor that uses the executor driver of pymesos.

    executor.py AGENT

A task runs until it is killed or a message says what becomes of it: `finish TASK` ends it, `exit` ends the executor
with all its tasks. Any other message is sent back.
"""

import os
import sys

# The driver reads the address here; what listens at ours writes down what is said.
os.environ["MESOS_AGENT_ENDPOINT"] = sys.argv[1]

from addict import Dict  # noqa: E402
from pymesos import Executor, MesosExecutorDriver, decode_data  # noqa: E402


class Obedient(Executor):
    def launchTask(self, driver, task):
        self.update(driver, task.task_id, "TASK_RUNNING")

    def killTask(self, driver, task_id):
        self.update(driver, task_id, "TASK_KILLED")

    def frameworkMessage(self, driver, message):
        order = decode_data(message).decode().split()
        if order[0] == "finish":
            self.update(driver, Dict(value=order[1]), "TASK_FINISHED", "there was nothing to do")
        elif order[0] == "exit":
            os._exit(7)
        else:
            driver.sendFrameworkMessage(message)

    @staticmethod
    def update(driver, task_id, state, message=None):
        update = Dict()
        update.task_id.value = task_id.value
        update.state = state
        if message:
            update.message = message
        driver.sendStatusUpdate(update)


MesosExecutorDriver(Obedient(), use_addict=True).run()
