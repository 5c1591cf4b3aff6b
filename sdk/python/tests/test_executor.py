import queue
import unittest

from fake_server import WAIT_S, FakeServer, Session

from mezzo import CallRefused, Ended, Environment, Executor, ExecutorDriver, v1

Call = v1.executor.Call
Event = v1.executor.Event


class Recorder(Executor):
    def __init__(self):
        self.told = queue.Queue()

    def next(self):
        return self.told.get(timeout=WAIT_S)

    def subscribed(self, driver, executor, framework, agent):
        self.told.put(("subscribed", executor.executor_id.value))

    def launch(self, driver, task):
        self.told.put(("launch", task.task_id.value))

    def acknowledged(self, driver, task_id, uuid):
        self.told.put(("acknowledged", task_id.value))

    def kill(self, driver, task_id, policy):
        self.told.put(("kill", task_id.value, policy))

    def message(self, driver, data):
        self.told.put(("message", data))

    def shutdown(self, driver):
        self.told.put(("shutdown",))

    def disconnected(self, driver, reason):
        self.told.put(("disconnected",))


def subscribed():
    event = Event(type=Event.SUBSCRIBED)
    event.subscribed.executor_info.executor_id.value = "executor-1"
    event.subscribed.framework_info.name = "f"
    event.subscribed.framework_info.user = "u"
    event.subscribed.agent_info.hostname = "h"
    return event


def launch(task):
    event = Event(type=Event.LAUNCH)
    event.launch.task.name = task
    event.launch.task.task_id.value = task
    event.launch.task.agent_id.value = "agent-1"
    return event


def acknowledged(task, uuid):
    event = Event(type=Event.ACKNOWLEDGED)
    event.acknowledged.task_id.value = task
    event.acknowledged.uuid = uuid
    return event


def status(task, state=v1.TASK_RUNNING):
    return v1.TaskStatus(task_id=v1.TaskID(value=task), state=state)


class Subscription(unittest.TestCase):
    def setUp(self):
        self.agent = FakeServer(Call)
        self.addCleanup(self.agent.close)
        self.executor = Recorder()

    def driver(self, checkpoint=True, recovery_timeout=60.0):
        environment = Environment(
            agent=self.agent.address,
            framework_id="framework-1",
            executor_id="executor-1",
            checkpoint=checkpoint,
            recovery_timeout=recovery_timeout,
        )
        driver = ExecutorDriver(self.executor, environment)
        self.addCleanup(driver.stop)
        driver.start()
        return driver

    def accept(self):
        session = self.agent.accept()
        session.send(subscribed())
        self.assertEqual(self.executor.next(), ("subscribed", "executor-1"))
        return session

    def test_an_update_is_complete_and_kept_until_it_is_confirmed(self):
        driver = self.driver()
        session = self.accept()
        session.send(launch("a"))
        self.assertEqual(self.executor.next(), ("launch", "a"))
        uuid = driver.update(status("a"))
        call = session.call()
        self.assertEqual((call.type, call.executor_id.value), (Call.UPDATE, "executor-1"))
        sent = call.update.status
        self.assertEqual((sent.uuid, len(uuid)), (uuid, 16))
        self.assertEqual(sent.source, v1.TaskStatus.SOURCE_EXECUTOR)
        self.assertGreater(sent.timestamp, 1e9)
        self.assertEqual(sent.executor_id.value, "executor-1")
        self.assertEqual(driver.unacknowledged(), 1)
        session.send(acknowledged("a", uuid))
        self.assertEqual(self.executor.next(), ("acknowledged", "a"))
        self.assertEqual(driver.unacknowledged(), 0)

    def test_a_new_subscription_tells_what_is_not_confirmed(self):
        driver = self.driver()
        session = self.accept()
        for task in ("a", "b"):
            session.send(launch(task))
            self.executor.next()
        confirmed = driver.update(status("a"))
        session.call()
        session.send(acknowledged("a", confirmed))
        self.executor.next()
        second = driver.update(status("a", v1.TASK_FINISHED))
        session.call()
        session.close()
        self.assertEqual(self.executor.next(), ("disconnected",))
        session = self.agent.accept()
        # Made while the subscription is under way: told after it.
        third = driver.update(status("b"))
        subscribe = session.subscribe
        self.assertEqual([task.task_id.value for task in subscribe.unacknowledged_tasks], ["b"])
        told = [update.status.uuid for update in subscribe.unacknowledged_updates]
        self.assertEqual(told, [second])
        session.send(subscribed())
        self.assertEqual(self.executor.next(), ("subscribed", "executor-1"))
        self.assertEqual(session.call().update.status.uuid, third)

    def test_a_refused_update_is_forgotten(self):
        driver = self.driver()
        session = self.accept()
        session.answers.put((400, b"no such task"))
        with self.assertRaisesRegex(CallRefused, "the agent refused UPDATE with 400: no such task"):
            driver.update(status("x"))
        self.assertEqual(driver.unacknowledged(), 0)

    def test_without_checkpoints_the_end_of_the_agent_is_the_end(self):
        driver = self.driver(checkpoint=False)
        self.accept().close()
        self.assertEqual(self.executor.next(), ("shutdown",))
        with self.assertRaisesRegex(Ended, "the framework does not checkpoint"):
            driver.join(WAIT_S)

    def test_an_agent_that_stays_away_is_not_awaited_for_ever(self):
        driver = self.driver(recovery_timeout=0.2)
        session = self.accept()
        self.agent.refuse = (503, None)
        session.close()
        self.assertEqual(self.executor.next(), ("disconnected",))
        self.assertEqual(self.executor.next(), ("shutdown",))
        with self.assertRaises(Exception):
            driver.join(WAIT_S)

    def test_orders_are_handed_on(self):
        self.driver()
        session = self.accept()
        kill = Event(type=Event.KILL)
        kill.kill.task_id.value = "a"
        session.send(kill)
        self.assertEqual(self.executor.next(), ("kill", "a", None))
        message = Event(type=Event.MESSAGE)
        message.message.data = b"data"
        session.send(message)
        self.assertEqual(self.executor.next(), ("message", b"data"))

    def test_a_told_shutdown_ends_without_another(self):
        driver = self.driver()
        session = self.accept()
        session.send(Event(type=Event.SHUTDOWN))
        self.assertEqual(self.executor.next(), ("shutdown",))
        session.close()
        with self.assertRaisesRegex(Ended, "told the executor to end"):
            driver.join(WAIT_S)
        self.assertTrue(self.executor.told.empty())


if __name__ == "__main__":
    unittest.main()
