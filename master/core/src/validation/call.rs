//! The shape of a scheduler call, checked before anything is looked up.

use mezzo_proto::v1::FrameworkId;
use mezzo_proto::v1::scheduler::Call;
use mezzo_proto::v1::scheduler::call::Type;

/// Checks what can be said of a call without knowing the cluster: its type, that the body which
/// belongs to the type is there, and `framework_id`. The text completes
/// "Failed to validate scheduler::Call: …".
pub fn scheduler_call(call: &Call) -> Result<(), String> {
    let Some(number) = call.r#type else {
        return Err("Expecting 'type' to be present".to_owned());
    };
    let Ok(kind) = Type::try_from(number) else { return Ok(()) };
    let body = match kind {
        Type::Subscribe => Some(("subscribe", call.subscribe.is_some())),
        Type::Accept => Some(("accept", call.accept.is_some())),
        Type::Decline => Some(("decline", call.decline.is_some())),
        Type::AcceptInverseOffers => {
            Some(("accept_inverse_offers", call.accept_inverse_offers.is_some()))
        }
        Type::DeclineInverseOffers => {
            Some(("decline_inverse_offers", call.decline_inverse_offers.is_some()))
        }
        Type::Kill => Some(("kill", call.kill.is_some())),
        Type::Shutdown => Some(("shutdown", call.shutdown.is_some())),
        Type::Acknowledge => Some(("acknowledge", call.acknowledge.is_some())),
        Type::AcknowledgeOperationStatus => {
            Some(("acknowledge_operation_status", call.acknowledge_operation_status.is_some()))
        }
        Type::Reconcile => Some(("reconcile", call.reconcile.is_some())),
        Type::ReconcileOperations => {
            Some(("reconcile_operations", call.reconcile_operations.is_some()))
        }
        Type::Message => Some(("message", call.message.is_some())),
        Type::Request => Some(("request", call.request.is_some())),
        Type::UpdateFramework => Some(("update_framework", call.update_framework.is_some())),
        // Bodies of these are optional.
        Type::Teardown | Type::Revive | Type::Suppress | Type::Unknown => None,
    };
    if let Some((name, false)) = body {
        return Err(format!("Expecting '{name}' to be present"));
    }
    if let (Type::Subscribe, Some(subscribe)) = (kind, &call.subscribe) {
        // An empty id is none, as with Mesos.
        if value(subscribe.framework_info.id.as_ref()) != value(call.framework_id.as_ref()) {
            return Err(
                "'framework_id' differs from 'subscribe.framework_info.id': both must name the \
                 same framework, or both be unset"
                    .to_owned(),
            );
        }
    } else if call.framework_id.is_none() {
        return Err("Expecting 'framework_id' to be present".to_owned());
    }
    if let (Type::UpdateFramework, Some(update)) = (kind, &call.update_framework)
        && update.framework_info.id != call.framework_id
    {
        return Err(format!(
            "'framework_id' is '{}' but 'update_framework.framework_info.id' is '{}': both must name \
             the same framework",
            value(call.framework_id.as_ref()),
            value(update.framework_info.id.as_ref()),
        ));
    }
    if let (Type::Acknowledge, Some(acknowledge)) = (kind, &call.acknowledge) {
        uuid("acknowledge.uuid", &acknowledge.uuid)?;
    }
    if let (Type::AcknowledgeOperationStatus, Some(acknowledge)) =
        (kind, &call.acknowledge_operation_status)
    {
        uuid("acknowledge_operation_status.uuid", &acknowledge.uuid)?;
        if acknowledge.agent_id.is_none() {
            return Err(
                "Expecting 'acknowledge_operation_status.agent_id' to be present".to_owned()
            );
        }
    }
    Ok(())
}

fn value(id: Option<&FrameworkId>) -> &str {
    id.map_or("", |id| id.value.as_str())
}

fn uuid(field: &str, bytes: &[u8]) -> Result<(), String> {
    if bytes.len() == 16 {
        return Ok(());
    }
    Err(format!("'{field}' has {} bytes: a uuid has 16", bytes.len()))
}

#[cfg(test)]
mod tests {
    use mezzo_proto::v1::scheduler::{Call, call};
    use mezzo_proto::v1::{FrameworkId, FrameworkInfo};

    use super::{Type, scheduler_call};

    fn id(value: &str) -> FrameworkId {
        FrameworkId { value: value.to_owned() }
    }

    fn error(call: Call) -> String {
        scheduler_call(&call).expect_err("the call is wrong")
    }

    fn of(kind: Type) -> Call {
        Call { r#type: Some(kind as i32), framework_id: Some(id("f")), ..Call::default() }
    }

    #[test]
    fn the_body_must_fit_the_type() {
        assert_eq!(error(Call::default()), "Expecting 'type' to be present");
        for (kind, name) in [
            (Type::Subscribe, "subscribe"),
            (Type::Accept, "accept"),
            (Type::Decline, "decline"),
            (Type::Kill, "kill"),
            (Type::Shutdown, "shutdown"),
            (Type::Acknowledge, "acknowledge"),
            (Type::Reconcile, "reconcile"),
            (Type::Message, "message"),
            (Type::Request, "request"),
            (Type::UpdateFramework, "update_framework"),
            (Type::AcceptInverseOffers, "accept_inverse_offers"),
            (Type::DeclineInverseOffers, "decline_inverse_offers"),
        ] {
            assert_eq!(error(of(kind)), format!("Expecting '{name}' to be present"));
        }
        for kind in [Type::Teardown, Type::Revive, Type::Suppress] {
            assert_eq!(scheduler_call(&of(kind)), Ok(()));
        }
    }

    #[test]
    fn the_framework_must_be_named_and_named_once() {
        let call = Call { framework_id: None, ..of(Type::Revive) };
        assert_eq!(error(call), "Expecting 'framework_id' to be present");
        let subscribe = |inner: Option<FrameworkId>, outer: Option<FrameworkId>| Call {
            subscribe: Some(Box::new(call::Subscribe {
                framework_info: FrameworkInfo { id: inner, ..FrameworkInfo::default() },
                ..call::Subscribe::default()
            })),
            framework_id: outer,
            ..of(Type::Subscribe)
        };
        assert_eq!(scheduler_call(&subscribe(None, None)), Ok(()));
        assert_eq!(scheduler_call(&subscribe(Some(id("")), None)), Ok(()), "an empty id is none");
        assert_eq!(scheduler_call(&subscribe(Some(id("f")), Some(id("f")))), Ok(()));
        for (inner, outer) in
            [(Some(id("f")), None), (None, Some(id("f"))), (Some(id("f")), Some(id("g")))]
        {
            assert!(error(subscribe(inner, outer)).contains("must name the same framework"));
        }
    }

    #[test]
    fn an_update_names_the_framework_that_calls() {
        let update = |inner: Option<FrameworkId>| Call {
            update_framework: Some(Box::new(call::UpdateFramework {
                framework_info: FrameworkInfo { id: inner, ..FrameworkInfo::default() },
                ..call::UpdateFramework::default()
            })),
            ..of(Type::UpdateFramework)
        };
        assert_eq!(scheduler_call(&update(Some(id("f")))), Ok(()));
        assert!(error(update(None)).contains("'framework_id' is 'f' but"));
        assert!(
            error(update(Some(id("g")))).contains("'update_framework.framework_info.id' is 'g'")
        );
    }

    #[test]
    fn an_acknowledgement_needs_a_whole_uuid() {
        let acknowledge = |uuid: &'static [u8]| Call {
            acknowledge: Some(call::Acknowledge { uuid: uuid.into(), ..Default::default() }),
            ..of(Type::Acknowledge)
        };
        assert_eq!(scheduler_call(&acknowledge(&[7; 16])), Ok(()));
        assert_eq!(error(acknowledge(&[7; 4])), "'acknowledge.uuid' has 4 bytes: a uuid has 16");
    }
}
