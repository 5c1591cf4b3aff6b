//! Containers, images and resource providers of an agent.

use super::Agent;
use crate::error::OperatorError;
use crate::v1;
use crate::v1::agent::{Call, call, response};

/// Orders, each named after its call of the v1 operator API. The calls that attach to a
/// container's input and output are not among them yet.
///
/// # Errors
/// All fail with [`OperatorError`]: refused by the agent (with 501 where it does not do that), or
/// the connection was lost.
impl Agent {
    /// Launches a container that belongs to no framework or, with a parent in its id, one inside of
    /// another.
    pub async fn launch_container(
        &self,
        launch: call::LaunchContainer,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::LaunchContainer as i32),
            launch_container: Some(launch),
            ..Default::default()
        })
        .await
    }

    /// Sends a signal to a container; SIGKILL if none is named.
    pub async fn kill_container(
        &self,
        container_id: v1::ContainerId,
        signal: Option<i32>,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::KillContainer as i32),
            kill_container: Some(call::KillContainer { container_id, signal }),
            ..Default::default()
        })
        .await
    }

    /// Removes what an ended container has left.
    pub async fn remove_container(
        &self,
        container_id: v1::ContainerId,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::RemoveContainer as i32),
            remove_container: Some(call::RemoveContainer { container_id }),
            ..Default::default()
        })
        .await
    }

    /// Starts a resource provider of the agent's own.
    pub async fn add_resource_provider(
        &self,
        info: v1::ResourceProviderInfo,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::AddResourceProviderConfig as i32),
            add_resource_provider_config: Some(call::AddResourceProviderConfig { info }),
            ..Default::default()
        })
        .await
    }

    /// Starts a resource provider anew with other settings.
    pub async fn update_resource_provider(
        &self,
        info: v1::ResourceProviderInfo,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::UpdateResourceProviderConfig as i32),
            update_resource_provider_config: Some(call::UpdateResourceProviderConfig { info }),
            ..Default::default()
        })
        .await
    }

    /// Asserts that a resource provider will never come back.
    pub async fn mark_resource_provider_gone(
        &self,
        resource_provider_id: v1::ResourceProviderId,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::MarkResourceProviderGone as i32),
            mark_resource_provider_gone: Some(call::MarkResourceProviderGone {
                resource_provider_id,
            }),
            ..Default::default()
        })
        .await
    }

    /// Removes cached images that no container uses, except these.
    pub async fn prune_images(
        &self,
        except: impl IntoIterator<Item = v1::Image>,
    ) -> Result<(), OperatorError> {
        self.order(Call {
            r#type: Some(call::Type::PruneImages as i32),
            prune_images: Some(call::PruneImages { excluded_images: except.into_iter().collect() }),
            ..Default::default()
        })
        .await
    }

    /// Stops the resource provider of this type and name.
    pub async fn remove_resource_provider(
        &self,
        kind: impl Into<String>,
        name: impl Into<String>,
    ) -> Result<(), OperatorError> {
        let remove = call::RemoveResourceProviderConfig { r#type: kind.into(), name: name.into() };
        self.order(Call {
            r#type: Some(call::Type::RemoveResourceProviderConfig as i32),
            remove_resource_provider_config: Some(remove),
            ..Default::default()
        })
        .await
    }

    /// Waits for the end of a container and says how it ended.
    pub async fn wait_container(
        &self,
        container_id: v1::ContainerId,
    ) -> Result<response::WaitContainer, OperatorError> {
        let answer = self
            .invoke(Call {
                r#type: Some(call::Type::WaitContainer as i32),
                wait_container: Some(call::WaitContainer { container_id }),
                ..Default::default()
            })
            .await?;
        self.part("WAIT_CONTAINER", "wait_container", answer.wait_container)
    }

    pub(super) async fn order(&self, call: Call) -> Result<(), OperatorError> {
        self.invoke(call).await.map(drop)
    }
}
