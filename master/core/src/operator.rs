//! What operators ask of the master beyond reading.

use mezzo_proto::v1;
use mezzo_types::{FrameworkId, Now, TaskId};

use crate::effect::{Answer, Refusal};
use crate::input::RequestId;
use crate::master::Master;

impl Master {
    /// Ends a task on an operator's behalf; the framework hears of it as of any ending.
    pub(crate) fn operator_kill(
        &mut self,
        _now: Now,
        request: RequestId,
        framework: Option<&FrameworkId>,
        task: &TaskId,
        policy: Option<v1::KillPolicy>,
    ) {
        let owners: Vec<FrameworkId> = match framework {
            Some(id) => vec![id.clone()],
            None => self
                .frameworks
                .values()
                .filter(|f| f.tasks.contains_key(task))
                .map(|f| f.id.clone())
                .collect(),
        };
        let result = match owners.as_slice() {
            [owner] => match self.frameworks.get(owner).and_then(|f| f.tasks.get(task)) {
                Some(found) => {
                    let agent = found.agent.clone();
                    self.order_kill(owner, task, policy);
                    Ok(Answer::Killing { framework: owner.clone(), agent })
                }
                None => Err(Refusal::NotFound(format!(
                    "framework '{owner}' has no live task '{task}': `mezzo ps` lists the tasks"
                ))),
            },
            [] => Err(Refusal::NotFound(format!(
                "no live task has the id '{task}': `mezzo ps` lists the tasks"
            ))),
            several => Err(Refusal::Conflict(format!(
                "{} frameworks have a task '{task}': name one of {}",
                several.len(),
                several.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ")
            ))),
        };
        self.reply(request, result);
    }

    /// Removes a framework; its stream, if open, is told why and ends.
    pub(crate) fn operator_teardown(
        &mut self,
        now: Now,
        request: RequestId,
        framework: &FrameworkId,
    ) {
        let Some(known) = self.frameworks.get(framework) else {
            let refusal = Refusal::BadRequest(format!(
                "No framework found with ID '{framework}': `mezzo frameworks` lists them"
            ));
            return self.reply(request, Err(refusal));
        };
        if let Some(stream) = known.stream {
            self.send_error(stream, "Framework was torn down by an operator".to_owned());
        }
        let position = self.remove_framework(now, framework);
        self.reply_after(request, Ok(Answer::Done), position);
    }
}
