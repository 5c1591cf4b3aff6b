"""What operators ask of master and agent, by way of the operator drivers of pymesos.

    operators.py MASTER AGENT
"""

import sys

from pymesos import MesosOperatorAgentDriver, MesosOperatorMasterDriver
from steps import scalar

MINUTE_NS = 60 * 10**9
NOWHERE = [dict(hostname="nowhere", ip="192.0.2.1")]

master = MesosOperatorMasterDriver(sys.argv[1])
agent = MesosOperatorAgentDriver(sys.argv[2])

for daemon in (master, agent):
    daemon.getHealth()
    daemon.getFlags()
    daemon.getVersion()
    daemon.getMetrics(MINUTE_NS)
    daemon.setLoggingLevel(1, MINUTE_NS)
    daemon.getLoggingLevel()
    daemon.getState()
    daemon.getFrameworks()
    daemon.getExecutors()
    daemon.getTasks()
agent.getContainers()
agent.getContainers(show_nested=True, show_standalone=True)

(known,) = master.getAgents()["get_agents"]["agents"]
agent_id = known["agent_info"]["id"]["value"]
master.getMaster()
master.getRoles()

master.updateWeights([dict(role="web", weight=2.5)])
if master.getWeights()["get_weights"]["weight_infos"] != [dict(weight=2.5, role="web")]:
    sys.exit("the weight was not taken")

reservation = dict(reservations=[dict(type="DYNAMIC", role="web")])
disk = scalar("disk", 64, **reservation)
volume = dict(
    disk,
    disk=dict(persistence=dict(id="data"), volume=dict(mode="RW", container_path="data")),
)
master.reserveResources(agent_id, [disk])
master.createVolumes(agent_id, [volume])
master.destroyVolumes(agent_id, [volume])
master.unreserveResources(agent_id, [disk])

start = dict(nanoseconds=4_000_000_000 * 10**9)
master.updateMaintenanceSchedule(
    [dict(machine_ids=NOWHERE, unavailability=dict(start=start, duration=dict(nanoseconds=MINUTE_NS)))]
)
master.getMaintenanceSchedule()
master.startMaintenance(NOWHERE)
master.getMaintenanceStatus()
master.stopMaintenance(NOWHERE)

master.setQuota(dict(role="web", guarantee=[scalar("cpus", 1)]))
master.getQuota()
master.removeQuota("web")

master.markAgentGone(agent_id)
print("all went as it should")
