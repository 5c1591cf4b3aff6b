//! Operations that turn resources into others: the books follow.
//!
//! Quantities are conserved, so that no share changes.

use mezzo_types::{AgentId, Conversion, ConversionError, FrameworkId, Now, Resources};

use super::DrfAllocator;
use super::agents::AgentNo;

impl DrfAllocator {
    pub(super) fn convert_held(
        &mut self,
        now: Now,
        framework: &FrameworkId,
        agent: &AgentId,
        steps: &[Conversion],
    ) -> Result<(), ConversionError> {
        let Some(number) = self.numbers.get(agent).copied() else { return Ok(()) };
        let role = steps.iter().find_map(|step| {
            let all = step.consumed.iter().chain(step.converted.iter());
            all.filter_map(|resource| resource.allocation_role.clone()).next()
        });
        let Some(role) = role else { return Ok(()) };
        let plain = Vec::from_iter(steps.iter().map(Conversion::unallocated));
        let client = self.tree.find(framework, &role);
        match (client, self.agents.get_mut(&number)) {
            (Some(client), Some(books)) => books.convert_held(client, &plain)?,
            _ => {
                Resources::new().convert(&plain)?;
            }
        }
        self.look_again(now, number);
        Ok(())
    }

    pub(super) fn convert_left(
        &mut self,
        now: Now,
        agent: &AgentId,
        steps: &[Conversion],
    ) -> Result<(), ConversionError> {
        let Some(number) = self.numbers.get(agent).copied() else { return Ok(()) };
        let plain = Vec::from_iter(steps.iter().map(Conversion::unallocated));
        if let Some(books) = self.agents.get_mut(&number) {
            books.convert_left(&plain)?;
        }
        self.look_again(now, number);
        Ok(())
    }

    pub(super) fn return_lent(&mut self, now: Now, agent: &AgentId, resources: &Resources) {
        let Some(number) = self.numbers.get(agent).copied() else { return };
        let shared = resources.shared().unallocated();
        if shared.is_empty() {
            return;
        }
        if self.agents.get_mut(&number).is_some_and(|books| books.return_lent(&shared)) {
            self.look_again(now, number);
        }
    }

    fn look_again(&mut self, now: Now, number: AgentNo) {
        self.reindex(number);
        self.mark(now, number);
    }
}
