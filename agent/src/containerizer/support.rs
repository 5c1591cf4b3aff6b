//! What a task may ask of its container. What this agent cannot give is refused by name, never left out silently.

use mezzo_proto::v1;

use crate::isolators::NamespaceSet;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is not supported by this agent: {rule}")]
pub(super) struct Unsupported {
    field: &'static str,
    rule: &'static str,
}

/// Namespaces and host name, as the isolators planned them and the task asks.
pub(super) fn container(
    container: Option<&v1::ContainerInfo>,
    mut namespaces: NamespaceSet,
) -> Result<(NamespaceSet, Option<String>), Unsupported> {
    let Some(info) = container else { return Ok((namespaces, None)) };
    let refuse = |field, rule| Err(Unsupported { field, rule });
    if info.r#type() != v1::container_info::Type::Mesos || info.docker.is_some() {
        return refuse("container.type", "it must be MESOS, without docker");
    }
    if info.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some()) {
        return refuse("container.mesos.image", "tasks run on the agent's own file system");
    }
    if !info.volumes.is_empty() {
        return refuse("container.volumes", "leave it out");
    }
    let networked = |network: &v1::NetworkInfo| {
        network.name.as_ref().is_some_and(|name| !name.is_empty())
            || !network.port_mappings.is_empty()
    };
    if info.network_infos.iter().any(networked) {
        return refuse("container.network_infos", "tasks use the network of the agent's machine");
    }
    if info.rlimit_info.as_ref().is_some_and(|rlimits| !rlimits.rlimits.is_empty()) {
        return refuse("container.rlimit_info", "leave it out");
    }
    if info.tty_info.is_some() {
        return refuse("container.tty_info", "tasks have no terminal");
    }
    if let Some(linux) = &info.linux_info {
        #[expect(deprecated, reason = "deprecated in Mesos' API, but asked for all the same")]
        let capabilities =
            [&linux.capability_info, &linux.bounding_capabilities, &linux.effective_capabilities];
        if capabilities.iter().any(|set| set.is_some()) {
            return refuse("container.linux_info capabilities", "leave them out");
        }
        if linux.seccomp.as_ref().is_some_and(|seccomp| !seccomp.unconfined()) {
            return refuse("container.linux_info.seccomp", "leave it out, or set unconfined");
        }
        if linux.shm_size.is_some() {
            return refuse("container.linux_info.shm_size", "leave it out");
        }
        if linux.share_pid_namespace() {
            namespaces.pid = false;
        }
        if linux.ipc_mode() == v1::linux_info::IpcMode::ShareParent {
            namespaces.ipc = false;
        }
    }
    let hostname = info.hostname.clone().filter(|name| !name.is_empty());
    if hostname.is_some() && !namespaces.uts {
        return refuse("container.hostname", "it needs namespaces/uts in the agent's --isolation");
    }
    Ok((namespaces, hostname))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesos() -> v1::ContainerInfo {
        v1::ContainerInfo { r#type: v1::container_info::Type::Mesos as i32, ..Default::default() }
    }

    #[test]
    fn what_cannot_be_given_is_named() {
        let all = NamespaceSet { pid: true, mount: true, ipc: true, uts: true };
        let fields = |change: fn(&mut v1::ContainerInfo)| {
            let mut info = mesos();
            change(&mut info);
            container(Some(&info), all).map_err(|refused| refused.field)
        };
        assert_eq!(container(None, all), Ok((all, None)));
        assert_eq!(fields(|_| {}), Ok((all, None)));
        assert_eq!(fields(|c| c.hostname = Some("h".into())), Ok((all, Some("h".into()))));
        assert_eq!(
            fields(|c| c.r#type = v1::container_info::Type::Docker as i32),
            Err("container.type")
        );
        assert_eq!(fields(|c| c.volumes.push(v1::Volume::default())), Err("container.volumes"));
        assert_eq!(
            fields(|c| c.mesos =
                Some(v1::container_info::MesosInfo { image: Some(v1::Image::default()) })),
            Err("container.mesos.image")
        );
        let shared = fields(|c| {
            c.linux_info =
                Some(v1::LinuxInfo { share_pid_namespace: Some(true), ..Default::default() });
        });
        assert_eq!(shared, Ok((NamespaceSet { pid: false, ..all }, None)));
        let no_uts = container(
            Some(&v1::ContainerInfo { hostname: Some("h".into()), ..mesos() }),
            NamespaceSet::default(),
        );
        assert_eq!(no_uts.expect_err("needs uts").field, "container.hostname");
    }
}
