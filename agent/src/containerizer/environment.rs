//! The environment of a task: all of it, for nothing is inherited from the agent.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use mezzo_proto::v1;

use super::user::User;
use super::{ContainerizerConfig, LaunchSpec};

/// Where programs are looked up unless the task says otherwise.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Ports that are told by variables; a task may hold tens of thousands, more than an environment can.
const MAX_PORT_VARIABLES: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EnvironmentError {
    #[error(
        "environment variable '{name}' is a SECRET, which this agent cannot resolve; give it as a VALUE"
    )]
    Secret { name: String },
    #[error("environment variable '{name}' has no value")]
    NoValue { name: String },
    #[error("environment variable '{name}' is of an unknown type; it must be VALUE")]
    UnknownType { name: String },
    #[error("environment variable name '{name}' must not be empty nor hold '=' or a zero byte")]
    BadName { name: String },
    #[error("environment variable '{name}' holds a zero byte")]
    ZeroByte { name: String },
}

/// Variables from weak to strong: defaults of the machine and the operator, those that say where the task runs and what it was
/// given, the command's own.
pub(super) fn environment(
    spec: &LaunchSpec,
    user: &User,
    sandbox: &Path,
    config: &ContainerizerConfig,
    isolators: &[(String, String)],
) -> Result<Vec<(OsString, OsString)>, EnvironmentError> {
    let mut variables: BTreeMap<String, OsString> = BTreeMap::new();
    let mut set = |name: &str, value: OsString| variables.insert(name.to_owned(), value);
    set("PATH", DEFAULT_PATH.into());
    set("HOME", user.home.clone().into());
    set("USER", user.name.clone().into());
    set("LOGNAME", user.name.clone().into());
    let operator = match spec.executor() {
        None => &config.task_environment,
        Some(_) => &config.executors.variables,
    };
    for (name, value) in operator {
        set(name, value.into());
    }
    set("MESOS_FRAMEWORK_ID", spec.framework_id.as_str().into());
    set("MESOS_EXECUTOR_ID", spec.executor_id.as_str().into());
    if let Some(task) = spec.task() {
        set("MESOS_TASK_ID", task.task_id.value.clone().into());
    }
    set("MESOS_SLAVE_ID", spec.agent_id.as_str().into());
    set("MESOS_CONTAINER_ID", spec.container_id.as_str().into());
    set("MESOS_DIRECTORY", sandbox.into());
    set("MESOS_SANDBOX", sandbox.into());
    set("MESOS_CHECKPOINT", "1".into());
    if !config.agent_endpoint.is_empty() {
        set("MESOS_AGENT_ENDPOINT", config.agent_endpoint.clone().into());
    }
    if let Some(role) = spec.resources.allocation_roles().first() {
        set("MESOS_ALLOCATION_ROLE", (&**role).into());
    }
    if let Some(executor) = spec.executor() {
        for (name, value) in config.executors.of(executor, spec, &config.agent_endpoint) {
            set(name, value.into());
        }
    }
    let ports: Vec<String> = spec
        .resources
        .ports()
        .values()
        .take(MAX_PORT_VARIABLES)
        .map(|port| port.to_string())
        .collect();
    if let Some(first) = ports.first() {
        set("PORT", first.into());
        set("PORTS", ports.join(",").into());
        for (number, port) in ports.iter().enumerate() {
            set(&format!("PORT{number}"), port.into());
        }
    }
    for (name, value) in isolators {
        set(name, value.into());
    }
    let own = spec.command().and_then(|command| command.environment.as_ref());
    for variable in own.map(|own| own.variables.as_slice()).unwrap_or_default() {
        let value = value_of(variable)?;
        set(&variable.name, value.into());
    }
    Ok(variables.into_iter().map(|(name, value)| (name.into(), value)).collect())
}

pub(crate) fn value_of(variable: &v1::environment::Variable) -> Result<&str, EnvironmentError> {
    use v1::environment::variable::Type;
    let name = || variable.name.clone();
    if variable.name.is_empty() || variable.name.contains(['=', '\0']) {
        return Err(EnvironmentError::BadName { name: name() });
    }
    match variable.r#type() {
        Type::Value => {}
        Type::Secret => return Err(EnvironmentError::Secret { name: name() }),
        Type::Unknown => return Err(EnvironmentError::UnknownType { name: name() }),
    }
    let value =
        variable.value.as_deref().ok_or_else(|| EnvironmentError::NoValue { name: name() })?;
    if value.contains('\0') {
        return Err(EnvironmentError::ZeroByte { name: name() });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mezzo_agent_core::Workload;
    use mezzo_types::Resources;
    use v1::environment::variable::Type;

    use super::*;

    fn variable(name: &str, kind: Option<Type>, value: Option<&str>) -> v1::environment::Variable {
        v1::environment::Variable {
            name: name.to_owned(),
            r#type: kind.map(|kind| kind as i32),
            value: value.map(str::to_owned),
            ..Default::default()
        }
    }

    fn of(
        own: Vec<v1::environment::Variable>,
        ports: &[(u64, u64)],
    ) -> Result<BTreeMap<String, String>, EnvironmentError> {
        let range = ports.iter().map(|(begin, end)| v1::value::Range { begin: *begin, end: *end });
        let ports = v1::Resource {
            name: "ports".to_owned(),
            r#type: v1::value::Type::Ranges as i32,
            ranges: Some(v1::value::Ranges { range: range.collect() }),
            ..Default::default()
        };
        let spec = LaunchSpec {
            container_id: "c".into(),
            agent_id: "a".into(),
            framework_id: "f".into(),
            executor_id: "t".into(),
            framework: Arc::default(),
            workload: Workload::Task(Arc::new(v1::TaskInfo {
                task_id: v1::TaskId { value: "t".to_owned() },
                command: Some(v1::CommandInfo {
                    environment: Some(v1::Environment { variables: own }),
                    ..Default::default()
                }),
                ..Default::default()
            })),
            user: "root".to_owned(),
            resources: Resources::from_proto(&[ports]).expect("ports").allocate("web"),
        };
        let user = User {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: "/root".to_owned(),
        };
        let operator = [("LANG".to_owned(), "C.UTF-8".to_owned())];
        let text = |text: OsString| text.into_string().expect("utf-8");
        let gpus = [("GPU".to_owned(), "g".to_owned()), ("A".to_owned(), "weaker".to_owned())];
        let sandbox = Path::new("/sandbox");
        let config = ContainerizerConfig {
            agent_endpoint: "h:5051".to_owned(),
            task_environment: operator.to_vec(),
            ..ContainerizerConfig::new("/work", "/run", "/launcher")
        };
        let variables = environment(&spec, &user, sandbox, &config, &gpus)?;
        Ok(variables.into_iter().map(|(name, value)| (text(name), text(value))).collect())
    }

    #[test]
    fn a_task_knows_where_it_is() {
        let own =
            vec![variable("A", None, Some("1")), variable("HOME", Some(Type::Value), Some("/h"))];
        let got = of(own, &[(31000, 31001), (31005, 31005)]).expect("environment");
        for (name, value) in [
            ("MESOS_TASK_ID", "t"),
            ("MESOS_SLAVE_ID", "a"),
            ("MESOS_SANDBOX", "/sandbox"),
            ("MESOS_AGENT_ENDPOINT", "h:5051"),
            ("MESOS_ALLOCATION_ROLE", "web"),
            ("PORT", "31000"),
            ("PORT1", "31001"),
            ("PORT2", "31005"),
            ("PORTS", "31000,31001,31005"),
            ("USER", "root"),
            ("LANG", "C.UTF-8"),
            ("GPU", "g"),
            ("A", "1"),
            ("HOME", "/h"),
        ] {
            assert_eq!(got.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!got.contains_key("PORT3") && !got.contains_key("CARGO_MANIFEST_DIR"), "{got:?}");
    }

    #[test]
    fn port_variables_are_bounded() {
        let got = of(Vec::new(), &[(1, 60000)]).expect("environment");
        assert!(got.contains_key("PORT511") && !got.contains_key("PORT512"));
        assert!(!of(Vec::new(), &[]).expect("environment").contains_key("PORT"));
    }

    #[test]
    fn bad_variables_are_named() {
        let refused = |v| of(vec![v], &[]).expect_err("must be refused").to_string();
        assert!(refused(variable("S", Some(Type::Secret), None)).contains("'S' is a SECRET"));
        assert_eq!(refused(variable("N", None, None)), "environment variable 'N' has no value");
        assert!(refused(variable("A=B", None, Some(""))).contains("'A=B'"));
        assert!(refused(variable("Z", None, Some("\0"))).contains("'Z' holds a zero byte"));
    }
}
