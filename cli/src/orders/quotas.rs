//! `mezzo quota`.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use mezzo_sdk::v1::master::{Call, call};
use mezzo_sdk::v1::quota::QuotaConfig;
use mezzo_sdk::v1::value::Scalar;
use serde::Serialize;

use super::{call_of, invoke};
use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::{self, Row};

#[derive(Debug, Subcommand)]
pub(crate) enum QuotaCommand {
    /// List the roles that have a quota.
    List,
    /// Set the quota of a role, in place of the one it has.
    Set(SetArguments),
    /// Remove the quota of a role: nothing is kept free for it, and nothing limits it.
    Remove {
        /// A top-level role.
        role: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SetArguments {
    /// A top-level role; the quota covers all roles below it.
    role: String,

    /// What is kept free for the role as long as it has less, such as cpus:8;mem:4096.
    #[arg(long, value_name = "AMOUNTS", default_value = "", value_parser = parse_amounts)]
    guarantee: Amounts,

    /// What the role may have at most; resources that are not named have no limit.
    #[arg(long, value_name = "AMOUNTS", default_value = "", value_parser = parse_amounts)]
    limit: Amounts,

    /// Also if the role has more than its limit already, or the cluster less than all guarantees.
    #[arg(long)]
    force: bool,
}

pub(crate) async fn quota(global: &Global, command: QuotaCommand) -> Result<(), Failure> {
    let (config, force) = match command {
        QuotaCommand::List => return list(global).await,
        QuotaCommand::Set(SetArguments { role, guarantee, limit, force }) => {
            let (guarantees, limits) = (guarantee.scalars(), limit.scalars());
            (QuotaConfig { role, guarantees, limits }, force)
        }
        // A quota without anything in it is none.
        QuotaCommand::Remove { role } => (QuotaConfig { role, ..QuotaConfig::default() }, false),
    };
    let update = call::UpdateQuota { force: Some(force), quota_configs: vec![config] };
    let call = Call { update_quota: Some(update), ..call_of(call::Type::UpdateQuota) };
    invoke(global, call).await.map(|_| ())
}

async fn list(global: &Global) -> Result<(), Failure> {
    let response = invoke(global, call_of(call::Type::GetQuota)).await?;
    let configs = response.get_quota.map(|quota| quota.status.configs).unwrap_or_default();
    let amounts = |scalars: &_| Amounts::of(scalars).0;
    let row = |config: &QuotaConfig| QuotaRow {
        role: config.role.clone(),
        guarantees: amounts(&config.guarantees),
        limits: amounts(&config.limits),
    };
    output::print(global.output, &configs.iter().map(row).collect::<Vec<_>>())
}

/// The JSON form of a quota; amounts by resource.
#[derive(Debug, Serialize)]
struct QuotaRow {
    role: String,
    guarantees: BTreeMap<String, f64>,
    limits: BTreeMap<String, f64>,
}

impl Row for QuotaRow {
    const HEADINGS: &'static [&'static str] = &["ROLE", "GUARANTEE", "LIMIT"];

    fn cells(&self) -> Vec<String> {
        let text = |amounts: &BTreeMap<String, f64>| match amounts.is_empty() {
            true => "-".to_owned(),
            false => amounts.iter().map(|(n, a)| format!("{n}:{a}")).collect::<Vec<_>>().join(";"),
        };
        vec![self.role.clone(), text(&self.guarantees), text(&self.limits)]
    }
}

/// Amounts by resource.
#[derive(Debug, Clone, Default, PartialEq)]
struct Amounts(BTreeMap<String, f64>);

impl Amounts {
    fn of<'a>(scalars: impl IntoIterator<Item = (&'a String, &'a Scalar)>) -> Self {
        Self(scalars.into_iter().map(|(name, scalar)| (name.clone(), scalar.value)).collect())
    }

    fn scalars<M: FromIterator<(String, Scalar)>>(self) -> M {
        self.0.into_iter().map(|(name, value)| (name, Scalar { value })).collect()
    }
}

fn parse_amounts(text: &str) -> Result<Amounts, String> {
    let mut amounts = BTreeMap::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let malformed = || format!("`{part}` is not RESOURCE:AMOUNT, such as cpus:8");
        let (name, amount) = part.split_once(':').ok_or_else(malformed)?;
        let amount: f64 = amount.trim().parse().map_err(|_| malformed())?;
        if name.trim().is_empty() || !(amount >= 0.0 && amount.is_finite()) {
            return Err(malformed());
        }
        if amounts.insert(name.trim().to_owned(), amount).is_some() {
            return Err(format!("`{}` is named twice", name.trim()));
        }
    }
    Ok(Amounts(amounts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read() {
        let amounts = parse_amounts("cpus:8; mem:0.5;").expect("valid").0;
        assert_eq!(amounts, BTreeMap::from([("cpus".into(), 8.0), ("mem".into(), 0.5)]));
        assert_eq!(parse_amounts(""), Ok(Amounts::default()));
        for bad in ["cpus", "cpus:", ":1", "cpus:-1", "cpus:NaN", "cpus:1;cpus:2"] {
            assert!(parse_amounts(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_row_shows_what_is_set() {
        let row = QuotaRow {
            role: "eng".into(),
            guarantees: BTreeMap::new(),
            limits: BTreeMap::from([("cpus".into(), 8.0), ("mem".into(), 512.0)]),
        };
        assert_eq!(row.cells(), ["eng", "-", "cpus:8;mem:512"]);
    }
}
