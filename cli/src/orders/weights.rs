//! `mezzo weights`.

use clap::Subcommand;
use mezzo_sdk::v1::WeightInfo;
use mezzo_sdk::v1::master::{Call, call};
use serde::Serialize;

use super::{call_of, invoke};
use crate::arguments::Global;
use crate::failure::Failure;
use crate::output::{self, Row};

#[derive(Debug, Subcommand)]
pub(crate) enum WeightsCommand {
    /// List the roles whose weight is not 1.
    List,
    /// Set weights: with twice the weight of its siblings a role gets twice their share.
    Set {
        /// A role and its weight, such as eng=2.5; 1 is what roles have of themselves.
        #[arg(value_name = "ROLE=WEIGHT", required = true, value_parser = parse_weight)]
        weights: Vec<WeightInfo>,
    },
}

pub(crate) async fn weights(global: &Global, command: WeightsCommand) -> Result<(), Failure> {
    match command {
        WeightsCommand::List => {
            let response = invoke(global, call_of(call::Type::GetWeights)).await?;
            let weights = response.get_weights.unwrap_or_default().weight_infos;
            let row = |weight: WeightInfo| WeightRow {
                role: weight.role.unwrap_or_default(),
                weight: weight.weight,
            };
            output::print(global.output, &weights.into_iter().map(row).collect::<Vec<_>>())
        }
        WeightsCommand::Set { weights } => {
            let update = call::UpdateWeights { weight_infos: weights };
            let call = Call { update_weights: Some(update), ..call_of(call::Type::UpdateWeights) };
            invoke(global, call).await.map(|_| ())
        }
    }
}

/// The JSON form of a weight.
#[derive(Debug, Serialize)]
struct WeightRow {
    role: String,
    weight: f64,
}

impl Row for WeightRow {
    const HEADINGS: &'static [&'static str] = &["ROLE", "WEIGHT"];

    fn cells(&self) -> Vec<String> {
        vec![self.role.clone(), self.weight.to_string()]
    }
}

fn parse_weight(text: &str) -> Result<WeightInfo, String> {
    let malformed = || format!("`{text}` is not ROLE=WEIGHT, such as eng=2.5");
    let (role, weight) = text.rsplit_once('=').ok_or_else(malformed)?;
    let weight = weight.parse().map_err(|_| malformed())?;
    if role.is_empty() {
        return Err(malformed());
    }
    Ok(WeightInfo { role: Some(role.to_owned()), weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read() {
        let weight = parse_weight("eng/web=2.5").expect("valid");
        assert_eq!((weight.role.as_deref(), weight.weight), (Some("eng/web"), 2.5));
        for bad in ["", "eng", "eng=", "=2", "eng=x"] {
            assert!(parse_weight(bad).is_err(), "{bad}");
        }
    }
}
