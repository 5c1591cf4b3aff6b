"""Command tasks, by way of the scheduler driver of pymesos.

    scheduler.py MASTER
"""

import sys

from steps import LONG, Steps, command_task, scalar

steps = Steps(sys.argv[1])
driver = steps.driver
steps.start()
driver.launchTasks(steps.offer().id, [], LONG)  # No task: declines.

driver.reviveOffers()
offer = steps.offer()
driver.launchTasks(offer.id, [command_task("true", offer, "true")], LONG)
steps.until("true", "TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED")

driver.reviveOffers()
offer = steps.offer()
launch = dict(task_infos=[command_task("three", offer, "exit 3")])
driver.acceptOffers(offer.id, [dict(type="LAUNCH", launch=launch)], LONG)
steps.until("three", "TASK_STARTING", "TASK_RUNNING", "TASK_FAILED")

driver.reviveOffers(["*"])
offer = steps.offer()
driver.launchTasks(offer.id, [command_task("killed", offer, "exec sleep 1000")], LONG)
steps.until("killed", "TASK_STARTING", "TASK_RUNNING")
driver.reconcileTasks([dict(task_id=dict(value="killed"))])
steps.until("killed", "TASK_RUNNING")
driver.reconcileTasks([])
steps.until("killed", "TASK_RUNNING")
driver.killTask(dict(value="killed"))
steps.until("killed", "TASK_KILLED")

driver.reconcileTasks([dict(task_id=dict(value="never was"))])
steps.until("never was", "TASK_LOST")
driver.killTask(dict(value="nor was this"))
steps.until("nor was this", "TASK_LOST")

driver.suppressOffers(["*"])
driver.reviveOffers()
driver.declineOffer(steps.offer().id, LONG)
driver.requestResources([dict(resources=[scalar("cpus", 1)])])

driver.reviveOffers()
offer = steps.offer()
driver.launchTasks(offer.id, [command_task("too much", offer, "true", cpus=1000)], LONG)
steps.until("too much", "TASK_ERROR")
steps.finish()
