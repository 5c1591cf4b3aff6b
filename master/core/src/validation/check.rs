//! Health checks and checks of tasks, by Mesos' rules (`src/common/validation.cpp`) and those that follow from what a
//! port, a duration and an environment are.

use mezzo_proto::v1;
use v1::environment::variable::Type as VariableType;

/// Both checks of a task. The error begins with the field.
pub(super) fn of_task(task: &v1::TaskInfo) -> Result<(), String> {
    if let Some(check) = &task.health_check {
        health(check)?;
    }
    if let Some(info) = &task.check {
        check(info)?;
    }
    Ok(())
}

fn health(check: &v1::HealthCheck) -> Result<(), String> {
    use v1::health_check::Type;
    let field = "health_check";
    match kind(field, check.r#type)? {
        Type::Command => match &check.command {
            Some(info) => command(&format!("{field}.command"), info)?,
            None => return Err(missing(field, "COMMAND", "command")),
        },
        Type::Http => {
            let Some(http) = &check.http else { return Err(missing(field, "HTTP", "http")) };
            if let Some(scheme) = http.scheme.as_deref().filter(|s| !matches!(*s, "http" | "https"))
            {
                return Err(format!(
                    "{field}.http.scheme '{scheme}', but it must be 'http' or 'https'"
                ));
            }
            path(&format!("{field}.http.path"), http.path.as_deref())?;
            port(&format!("{field}.http.port"), http.port)?;
        }
        Type::Tcp => match &check.tcp {
            Some(tcp) => port(&format!("{field}.tcp.port"), tcp.port)?,
            None => return Err(missing(field, "TCP", "tcp")),
        },
        Type::Unknown => return Err(unknown(field)),
    }
    for (name, value) in [
        ("delay_seconds", check.delay_seconds),
        ("grace_period_seconds", check.grace_period_seconds),
        ("interval_seconds", check.interval_seconds),
        ("timeout_seconds", check.timeout_seconds),
    ] {
        seconds(field, name, value)?;
    }
    Ok(())
}

fn check(check: &v1::CheckInfo) -> Result<(), String> {
    use v1::check_info::Type;
    let field = "check";
    match kind(field, check.r#type)? {
        Type::Command => match &check.command {
            Some(info) => command(&format!("{field}.command.command"), &info.command)?,
            None => return Err(missing(field, "COMMAND", "command")),
        },
        Type::Http => match &check.http {
            Some(http) => {
                path(&format!("{field}.http.path"), http.path.as_deref())?;
                port(&format!("{field}.http.port"), http.port)?;
            }
            None => return Err(missing(field, "HTTP", "http")),
        },
        Type::Tcp => match &check.tcp {
            Some(tcp) => port(&format!("{field}.tcp.port"), tcp.port)?,
            None => return Err(missing(field, "TCP", "tcp")),
        },
        Type::Unknown => return Err(unknown(field)),
    }
    for (name, value) in [
        ("delay_seconds", check.delay_seconds),
        ("interval_seconds", check.interval_seconds),
        ("timeout_seconds", check.timeout_seconds),
    ] {
        seconds(field, name, value)?;
    }
    Ok(())
}

fn kind<T: TryFrom<i32>>(field: &str, number: Option<i32>) -> Result<T, String> {
    let Some(number) = number else {
        return Err(format!("{field} without 'type': it must be COMMAND, HTTP or TCP"));
    };
    T::try_from(number).map_err(|_| {
        format!("{field}.type {number}, which does not exist: it must be COMMAND, HTTP or TCP")
    })
}

fn unknown(field: &str) -> String {
    format!("{field}.type UNKNOWN: it must be COMMAND, HTTP or TCP")
}

fn missing(field: &str, kind: &str, body: &str) -> String {
    format!("{field}.type {kind} without '{field}.{body}', which says what to look at")
}

fn port(field: &str, port: u32) -> Result<(), String> {
    if (1..=u32::from(u16::MAX)).contains(&port) {
        return Ok(());
    }
    Err(format!("{field} {port}, but ports are 1 to {}", u16::MAX))
}

fn path(field: &str, path: Option<&str>) -> Result<(), String> {
    match path {
        Some(path) if !path.starts_with('/') => {
            Err(format!("{field} '{path}', but it must start with '/'"))
        }
        _ => Ok(()),
    }
}

fn seconds(field: &str, name: &str, value: Option<f64>) -> Result<(), String> {
    match value {
        Some(value) if !value.is_finite() || value < 0.0 => Err(format!(
            "{field}.{name} {value}, but it must be a number of seconds that is not negative"
        )),
        _ => Ok(()),
    }
}

fn command(field: &str, command: &v1::CommandInfo) -> Result<(), String> {
    if command.value.as_deref().is_none_or(str::is_empty) {
        let what = match command.shell() {
            true => "the line for the shell",
            false => "the path of the program",
        };
        return Err(format!("{field} without 'value': it is {what}"));
    }
    let texts = command.value.iter().chain(&command.arguments);
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(format!("{field} with a zero byte, which no command line can have"));
    }
    let Some(environment) = &command.environment else { return Ok(()) };
    let of = format!("{field}.environment, whose");
    super::environment::check(&of, environment)?;
    // The rest is what an agent could not run.
    for variable in &environment.variables {
        let name = &variable.name;
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!(
                "{of} variable '{name}' has no possible name: it must not be empty nor hold '=' or a zero byte"
            ));
        }
        if variable.r#type() == VariableType::Secret {
            return Err(format!(
                "{of} variable '{name}' has type SECRET, which this version of Mezzo does not resolve: give it as a VALUE"
            ));
        }
        if variable.value.as_ref().is_some_and(|value| value.contains('\0')) {
            return Err(format!("{of} variable '{name}' has a value with a zero byte"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use v1::health_check::{HttpCheckInfo, TcpCheckInfo};
    use v1::{check_info, health_check};

    use super::*;

    fn with_health(check: v1::HealthCheck) -> v1::TaskInfo {
        v1::TaskInfo { health_check: Some(check), ..v1::TaskInfo::default() }
    }

    fn with_check(check: v1::CheckInfo) -> v1::TaskInfo {
        v1::TaskInfo { check: Some(check), ..v1::TaskInfo::default() }
    }

    fn health_of(kind: health_check::Type) -> v1::HealthCheck {
        let http = HttpCheckInfo { port: 80, path: Some("/health".into()), ..Default::default() };
        v1::HealthCheck {
            r#type: Some(kind as i32),
            command: Some(v1::CommandInfo { value: Some("true".into()), ..Default::default() }),
            http: Some(http),
            tcp: Some(TcpCheckInfo { port: 80, ..Default::default() }),
            ..Default::default()
        }
    }

    fn check_of(kind: check_info::Type) -> v1::CheckInfo {
        let command = v1::CommandInfo { value: Some("true".into()), ..Default::default() };
        v1::CheckInfo {
            r#type: Some(kind as i32),
            command: Some(check_info::Command { command }),
            http: Some(check_info::Http { port: 80, path: None }),
            tcp: Some(check_info::Tcp { port: 80 }),
            ..Default::default()
        }
    }

    /// Changes a valid health check; what is said of it.
    fn refused(kind: health_check::Type, spoil: impl FnOnce(&mut v1::HealthCheck)) -> String {
        let mut check = health_of(kind);
        assert_eq!(of_task(&with_health(check.clone())), Ok(()));
        spoil(&mut check);
        of_task(&with_health(check)).expect_err("must be refused")
    }

    fn refused_check(kind: check_info::Type, spoil: impl FnOnce(&mut v1::CheckInfo)) -> String {
        let mut check = check_of(kind);
        assert_eq!(of_task(&with_check(check.clone())), Ok(()));
        spoil(&mut check);
        of_task(&with_check(check)).expect_err("must be refused")
    }

    #[test]
    fn a_type_and_the_body_of_that_type_are_needed() {
        use health_check::Type::{Command, Http, Tcp, Unknown};
        let must = "it must be COMMAND, HTTP or TCP";
        assert_eq!(
            refused(Tcp, |c| c.r#type = None),
            format!("health_check without 'type': {must}")
        );
        let unknown = refused(Tcp, |c| c.r#type = Some(Unknown as i32));
        assert_eq!(unknown, format!("health_check.type UNKNOWN: {must}"));
        let never = refused(Tcp, |c| c.r#type = Some(77));
        assert_eq!(never, format!("health_check.type 77, which does not exist: {must}"));
        for (said, body) in [
            (refused(Command, |c| c.command = None), "COMMAND without 'health_check.command'"),
            (refused(Http, |c| c.http = None), "HTTP without 'health_check.http'"),
            (refused(Tcp, |c| c.tcp = None), "TCP without 'health_check.tcp'"),
            (refused_check(check_info::Type::Command, |c| c.command = None), "'check.command'"),
            (refused_check(check_info::Type::Http, |c| c.http = None), "'check.http'"),
            (refused_check(check_info::Type::Tcp, |c| c.tcp = None), "'check.tcp'"),
        ] {
            assert!(said.contains(body), "{said}");
        }
        let said = refused_check(check_info::Type::Tcp, |c| c.r#type = None);
        assert_eq!(said, format!("check without 'type': {must}"));
    }

    #[test]
    fn http_has_a_scheme_a_path_and_a_port() {
        fn http(change: impl FnOnce(&mut HttpCheckInfo)) -> String {
            let spoil = |c: &mut v1::HealthCheck| change(c.http.as_mut().expect("http"));
            refused(health_check::Type::Http, spoil)
        }
        assert_eq!(
            http(|h| h.scheme = Some("ftp".into())),
            "health_check.http.scheme 'ftp', but it must be 'http' or 'https'"
        );
        assert_eq!(
            http(|h| h.path = Some("health".into())),
            "health_check.http.path 'health', but it must start with '/'"
        );
        let said = http(|h| h.port = 65_536);
        assert_eq!(said, "health_check.http.port 65536, but ports are 1 to 65535");
        assert!(http(|h| h.port = 0).contains("port 0"));
        let said = refused_check(check_info::Type::Http, |c| {
            c.http = Some(check_info::Http { port: 80, path: Some("x".into()) });
        });
        assert_eq!(said, "check.http.path 'x', but it must start with '/'");
        for scheme in ["http", "https"] {
            let mut check = health_of(health_check::Type::Http);
            check.http.as_mut().expect("http").scheme = Some(scheme.into());
            assert_eq!(of_task(&with_health(check)), Ok(()));
        }
    }

    #[test]
    fn durations_are_not_negative() {
        use health_check::Type::Tcp;
        assert_eq!(
            refused(Tcp, |c| c.delay_seconds = Some(-1.0)),
            "health_check.delay_seconds -1, but it must be a number of seconds that is not negative"
        );
        for (said, name) in [
            (refused(Tcp, |c| c.grace_period_seconds = Some(-0.5)), "grace_period_seconds -0.5"),
            (refused(Tcp, |c| c.interval_seconds = Some(f64::NAN)), "interval_seconds NaN"),
            (refused(Tcp, |c| c.timeout_seconds = Some(f64::INFINITY)), "timeout_seconds inf"),
            (
                refused_check(check_info::Type::Tcp, |c| c.timeout_seconds = Some(-2.0)),
                "check.timeout_seconds -2",
            ),
        ] {
            assert!(said.contains(name), "{said}");
        }
    }

    #[test]
    fn a_command_can_be_run() {
        fn command(change: impl FnOnce(&mut v1::CommandInfo)) -> String {
            let spoil = |c: &mut v1::HealthCheck| change(c.command.as_mut().expect("command"));
            refused(health_check::Type::Command, spoil)
        }
        fn variable(change: impl FnOnce(&mut v1::environment::Variable)) -> String {
            let mut variable = v1::environment::Variable {
                name: "A".into(),
                value: Some("b".into()),
                ..Default::default()
            };
            change(&mut variable);
            command(|c| c.environment = Some(v1::Environment { variables: vec![variable] }))
        }
        assert_eq!(
            command(|c| c.value = None),
            "health_check.command without 'value': it is the line for the shell"
        );
        let said = command(|c| (c.value, c.shell) = (None, Some(false)));
        assert!(said.ends_with("it is the path of the program"), "{said}");
        assert!(command(|c| c.value = Some("a\0".into())).contains("a zero byte"));
        let said = variable(|v| v.value = None);
        let start = "health_check.command.environment, whose variable 'A' has no 'value'";
        assert!(said.starts_with(start), "{said}");
        assert!(variable(|v| v.name = "A=".into()).contains("no possible name"));
        let secret = |v: &mut v1::environment::Variable| {
            v.r#type = Some(VariableType::Secret as i32);
            (v.value, v.secret) = (None, Some(v1::Secret::default()));
        };
        assert!(variable(secret).contains("type SECRET, which"));
        assert!(variable(|v| v.r#type = Some(VariableType::Unknown as i32)).contains("UNKNOWN"));
        assert!(variable(|v| v.value = Some("\0".into())).contains("zero byte"));
        let said = refused_check(check_info::Type::Command, |c| {
            c.command.as_mut().expect("command").command.value = None;
        });
        assert_eq!(said, "check.command.command without 'value': it is the line for the shell");
    }
}
