//! What SUBSCRIBE says, kept up to date: a framework that is connected anew must find things as it
//! left them.

use std::collections::BTreeSet;

use crate::scheduler::api::Note;
use crate::v1;
use crate::v1::scheduler::{Call, OfferConstraints, call};

#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    framework: v1::FrameworkInfo,
    suppressed: BTreeSet<String>,
    constraints: Option<OfferConstraints>,
}

impl Subscription {
    pub(crate) fn new(
        framework: v1::FrameworkInfo,
        suppressed: impl IntoIterator<Item = String>,
        constraints: Option<OfferConstraints>,
    ) -> Self {
        let suppressed = suppressed.into_iter().collect();
        Subscription { framework, suppressed, constraints }
    }

    pub(crate) fn call(&self) -> Call {
        Call {
            framework_id: self.framework.id.clone(),
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(Box::new(call::Subscribe {
                framework_info: self.framework.clone(),
                suppressed_roles: self.suppressed.iter().cloned().collect(),
                offer_constraints: self.constraints.clone(),
            })),
            ..Default::default()
        }
    }

    /// The master gave, or confirmed, this id.
    pub(crate) fn named(&mut self, id: v1::FrameworkId) {
        self.framework.id = Some(id);
    }

    /// The master has taken a call that changes the subscription.
    pub(crate) fn changed(&mut self, note: Note) {
        match note {
            Note::Teardown => {}
            Note::UpdateFramework(update) => {
                let id = self.framework.id.take();
                self.framework = update.framework_info;
                self.framework.id = id;
                self.suppressed = update.suppressed_roles.into_iter().collect();
                self.constraints = update.offer_constraints;
            }
            Note::Suppress(roles) if roles.is_empty() => {
                self.suppressed = self.roles().into_iter().collect();
            }
            Note::Suppress(roles) => self.suppressed.extend(roles),
            Note::Revive(roles) if roles.is_empty() => self.suppressed.clear(),
            Note::Revive(roles) => self.suppressed.retain(|role| !roles.contains(role)),
        }
    }

    /// A framework without the capability of several roles has one in a field of its own.
    #[expect(deprecated, reason = "it is the field of frameworks with one role")]
    fn roles(&self) -> Vec<String> {
        let multi = v1::framework_info::capability::Type::MultiRole as i32;
        match self.framework.capabilities.iter().any(|known| known.r#type == Some(multi)) {
            true => self.framework.roles.clone(),
            false => vec![self.framework.role.clone().unwrap_or_else(|| "*".to_owned())],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::Framework;

    fn suppressed(subscription: &Subscription) -> Vec<String> {
        subscription.call().subscribe.expect("body").suppressed_roles
    }

    #[test]
    fn suppressed_roles_stay_suppressed() {
        let framework = Framework::new("f", "u").roles(["a", "b", "c"]);
        let mut subscription = Subscription::new(framework.into(), ["c".to_owned()], None);
        subscription.changed(Note::Suppress(vec!["a".to_owned()]));
        assert_eq!(suppressed(&subscription), ["a", "c"]);
        subscription.changed(Note::Revive(vec!["c".to_owned()]));
        assert_eq!(suppressed(&subscription), ["a"]);
        subscription.changed(Note::Suppress(Vec::new()));
        assert_eq!(suppressed(&subscription), ["a", "b", "c"]);
        subscription.changed(Note::Revive(Vec::new()));
        assert_eq!(suppressed(&subscription), [""; 0]);
    }

    #[test]
    fn a_new_description_keeps_the_id() {
        let mut subscription = Subscription::new(Framework::new("f", "u").into(), [], None);
        subscription.named(v1::FrameworkId { value: "1".to_owned() });
        let constraints = OfferConstraints::default();
        subscription.changed(Note::UpdateFramework(Box::new(call::UpdateFramework {
            framework_info: Framework::new("g", "u").into(),
            suppressed_roles: vec!["*".to_owned()],
            offer_constraints: Some(constraints.clone()),
        })));
        let call = subscription.call();
        assert_eq!(call.framework_id.map(|id| id.value).as_deref(), Some("1"));
        let subscribe = call.subscribe.expect("body");
        assert_eq!(subscribe.framework_info.name, "g");
        assert_eq!(subscribe.framework_info.id.map(|id| id.value).as_deref(), Some("1"));
        assert_eq!(subscribe.suppressed_roles, ["*"]);
        assert_eq!(subscribe.offer_constraints, Some(constraints));
    }
}
