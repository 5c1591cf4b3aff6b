"""An executor that uses the executor driver of pymesos.

    executor.py AGENT

A task's data says what becomes of it: `run` goes on until it is killed, `finish` ends at once, `exit` takes the
executor along.
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
        order = decode_data(task.data)
        if order == b"finish":
            self.update(driver, task.task_id, "TASK_FINISHED", "there was nothing to do")
        elif order == b"exit":
            os._exit(7)

    def killTask(self, driver, task_id):
        self.update(driver, task_id, "TASK_KILLED")

    def frameworkMessage(self, driver, message):
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
