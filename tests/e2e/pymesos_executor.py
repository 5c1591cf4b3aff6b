"""An executor on pymesos that does what its framework tells it.

A task's data says how it goes: `finish` ends at once, `wait` when a message `finish TASK` or a kill comes.
"""

import os
import sys
import threading
import time

from addict import Dict
from pymesos import Executor, MesosExecutorDriver, decode_data, encode_data


class Puppet(Executor):
    def __init__(self):
        self.living = {}

    def say(self, driver, text):
        print(text, flush=True)
        driver.sendFrameworkMessage(encode_data(text.encode()))

    @staticmethod
    def update(driver, task_id, state):
        update = Dict()
        update.task_id.value = task_id
        update.state = state
        update.timestamp = time.time()
        driver.sendStatusUpdate(update)

    def registered(self, driver, executor_info, framework_info, agent_info):
        environment = " ".join(f"{name}={value}" for name, value in sorted(os.environ.items()))
        print(environment, flush=True)
        later(self.say, driver, f"registered {executor_info.executor_id.value} pid {os.getpid()}")

    def reregistered(self, driver, agent_info):
        later(self.say, driver, f"reregistered pid {os.getpid()}")

    def launchTask(self, driver, task):
        later(self.run, driver, task)

    def launchTaskGroup(self, driver, tasks):
        later(self.say, driver, "group " + " ".join(task.task_id.value for task in tasks))
        for task in tasks:
            later(self.run, driver, task)

    def run(self, driver, task):
        task_id = task.task_id.value
        self.living[task_id] = True
        self.update(driver, task_id, "TASK_RUNNING")
        how = decode_data(task.data).decode() if task.data else "wait"
        if how == "finish":
            self.end(driver, task_id, "TASK_FINISHED")
        elif how == "crash":
            os._exit(7)

    def end(self, driver, task_id, state):
        if self.living.pop(task_id, None):
            self.update(driver, task_id, state)

    def killTask(self, driver, task_id):
        later(self.end, driver, task_id.value, "TASK_KILLED")

    def frameworkMessage(self, driver, message):
        words = decode_data(message).decode().split()
        if words[0] == "finish":
            later(self.end, driver, words[1], "TASK_FINISHED")
        else:
            later(self.say, driver, "heard " + " ".join(words))

    def shutdown(self, driver):
        print("asked to end", flush=True)

    def error(self, driver, message):
        print("error", message, flush=True)


def later(act, *arguments):
    """The driver's own thread must go on: calls wait for its connection."""
    threading.Thread(target=act, args=arguments, daemon=True).start()


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    MesosExecutorDriver(Puppet(), use_addict=True).run()
