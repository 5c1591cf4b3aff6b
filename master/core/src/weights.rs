//! Weights of roles: with twice the weight of its siblings a role gets twice their share.

use mezzo_proto::storage::v1::PutWeights;
use mezzo_proto::storage::v1::command::Command as CommandKind;
use mezzo_proto::v1::WeightInfo;
use mezzo_types::{Now, OfferId, is_same_or_subrole};

use crate::effect::{Refusal, ViewChange};
use crate::master::Master;
use crate::order::Outcome;
use crate::registry::{Registry, is_default_weight};

impl Master {
    /// Rules of Mesos (`src/master/weights_handler.cpp`). If a named role has a framework, or one
    /// below it has, all offers are taken back and given out anew by the new weights.
    pub(crate) fn update_weights(&mut self, now: Now, weights: Vec<WeightInfo>) -> Outcome {
        let weights = checked(weights).map_err(Refusal::BadRequest)?;
        let position =
            self.persist(CommandKind::PutWeights(PutWeights { weights: weights.clone() }));
        let mut concerned = false;
        for weight in &weights {
            let role = weight.role.as_deref().unwrap_or_default();
            if is_default_weight(weight) {
                self.weights.remove(role);
            } else {
                self.weights.insert(role.to_owned(), weight.weight);
            }
            self.allocator.set_weight(now, role, weight.weight);
            concerned |= self.frameworks.values().any(|framework| {
                framework.roles.iter().any(|subscribed| is_same_or_subrole(subscribed, role))
            });
        }
        self.view(ViewChange::Weights(self.weights.clone()));
        if concerned {
            let offers: Vec<OfferId> = self.offers.keys().cloned().collect();
            for offer in offers {
                self.rescind_offer(now, &offer);
            }
        }
        Ok(position)
    }

    pub(crate) fn recover_weights(&mut self, now: Now, registry: &Registry) {
        self.weights = registry.weights.clone();
        for (role, weight) in &registry.weights {
            self.allocator.set_weight(now, role, *weight);
        }
        self.view(ViewChange::Weights(self.weights.clone()));
    }
}

/// The weights with clean role names, if all are right.
fn checked(weights: Vec<WeightInfo>) -> Result<Vec<WeightInfo>, String> {
    let clean = |weight: WeightInfo| {
        let role = weight.role.as_deref().unwrap_or_default().trim().to_owned();
        mezzo_types::validate_role(&role)
            .map_err(|error| format!("weight_infos: role '{role}' is invalid: {error}"))?;
        let value = weight.weight;
        if !(value > 0.0 && value.is_finite()) {
            return Err(format!(
                "weight_infos: the weight of role '{role}' is {value}: weights are positive numbers, \
                 such as 2.5"
            ));
        }
        Ok(WeightInfo { role: Some(role), weight: value })
    };
    weights.into_iter().map(clean).collect()
}
