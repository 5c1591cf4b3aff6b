//! Variables of a command, as Mesos checks them (`src/common/validation.cpp`).

use mezzo_proto::v1;
use mezzo_proto::v1::environment::Variable;
use mezzo_proto::v1::environment::variable::Type;
use mezzo_proto::v1::secret;

/// Checks an environment; `of` names what has it, such as `task 't': command.environment`.
pub(crate) fn check(of: &str, environment: &v1::Environment) -> Result<(), String> {
    for variable in &environment.variables {
        let name = format!("{of} variable '{}'", variable.name.escape_debug());
        check_variable(&name, variable)?;
    }
    Ok(())
}

fn check_variable(name: &str, variable: &Variable) -> Result<(), String> {
    match (variable.r#type(), &variable.value, &variable.secret) {
        (Type::Unknown, ..) => Err(format!("{name} has type UNKNOWN: it must be VALUE or SECRET")),
        (Type::Value, None, _) => {
            Err(format!("{name} has no 'value': a variable of type VALUE must have one"))
        }
        (Type::Value, Some(_), Some(_)) => {
            Err(format!("{name} has a 'secret': a variable of type VALUE must not have one"))
        }
        (Type::Secret, _, None) => {
            Err(format!("{name} has no 'secret': a variable of type SECRET must have one"))
        }
        (Type::Secret, Some(_), Some(_)) => {
            Err(format!("{name} has a 'value': a variable of type SECRET must not have one"))
        }
        (Type::Secret, None, Some(secret)) => check_secret(name, secret),
        (Type::Value, Some(_), None) => Ok(()),
    }
}

fn check_secret(name: &str, secret: &v1::Secret) -> Result<(), String> {
    let (wanted, other) = match secret.r#type() {
        secret::Type::Unknown => return Ok(()),
        secret::Type::Reference => {
            (("reference", secret.reference.is_some()), ("value", secret.value.is_some()))
        }
        secret::Type::Value => {
            (("value", secret.value.is_some()), ("reference", secret.reference.is_some()))
        }
    };
    let kind = secret.r#type().as_str_name();
    if !wanted.1 {
        let wanted = wanted.0;
        return Err(format!(
            "{name} has no 'secret.{wanted}': a secret of type {kind} must have it"
        ));
    }
    if other.1 {
        let other = other.0;
        return Err(format!(
            "{name} has a 'secret.{other}': a secret of type {kind} must not have it"
        ));
    }
    if secret.value.as_ref().is_some_and(|value| value.data.contains(&0)) {
        return Err(format!(
            "{name} has a 'secret.value' with a byte of zero: no variable can hold one"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(variable: Variable) -> String {
        let environment = v1::Environment { variables: vec![variable] };
        check("command.environment", &environment).expect_err("the variable is wrong")
    }

    fn of(kind: Type, value: Option<&str>, secret: Option<v1::Secret>) -> Variable {
        let value = value.map(str::to_owned);
        Variable { name: "A".to_owned(), r#type: Some(kind as i32), value, secret }
    }

    fn secret(kind: secret::Type, value: Option<&'static [u8]>) -> v1::Secret {
        let value = value.map(|data| secret::Value { data: data.into() });
        v1::Secret { r#type: Some(kind as i32), reference: None, value }
    }

    #[test]
    fn a_variable_has_what_its_type_says() {
        let plain = Variable { r#type: None, ..of(Type::Value, Some("1"), None) };
        let hidden = of(Type::Secret, None, Some(secret(secret::Type::Value, Some(b"x"))));
        let environment = v1::Environment { variables: vec![plain, hidden] };
        assert_eq!(check("command.environment", &environment), Ok(()));
        let wrong = [
            (of(Type::Unknown, Some("1"), None), "has type UNKNOWN"),
            (of(Type::Value, None, None), "has no 'value'"),
            (of(Type::Value, Some("1"), Some(v1::Secret::default())), "has a 'secret'"),
            (of(Type::Secret, None, None), "has no 'secret'"),
            (of(Type::Secret, Some("1"), Some(v1::Secret::default())), "has a 'value'"),
            (
                of(Type::Secret, None, Some(secret(secret::Type::Value, None))),
                "has no 'secret.value'",
            ),
            (
                of(Type::Secret, None, Some(secret(secret::Type::Reference, Some(b"x")))),
                "has no 'secret.reference'",
            ),
            (
                of(Type::Secret, None, Some(secret(secret::Type::Value, Some(b"a\0b")))),
                "a byte of zero",
            ),
        ];
        for (variable, part) in wrong {
            let error = error(variable);
            assert!(error.starts_with("command.environment variable 'A' "), "{error}");
            assert!(error.contains(part), "{error} lacks {part}");
        }
    }
}
