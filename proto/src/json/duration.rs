//! `google.protobuf.Duration`, which Mesos writes as the plain message it is.

use prost_types::Duration;

use super::JsonError;
use super::generated::JsonMessage;
use super::read::{self, Context};
use super::tree::Json;
use super::write::Fields;

impl JsonMessage for Duration {
    const REQUIRED: &'static [&'static str] = &[];

    fn write_fields(&self, out: &mut Fields<'_>) {
        out.value("seconds", &self.seconds);
        out.value("nanos", &self.nanos);
    }

    fn read_field(
        &mut self,
        name: &str,
        value: &Json<'_>,
        at: &mut Context,
    ) -> Result<(), JsonError> {
        match name {
            "seconds" => read::required(&mut self.seconds, value, at),
            "nanos" => read::required(&mut self.nanos, value, at),
            _ => Ok(()),
        }
    }
}
