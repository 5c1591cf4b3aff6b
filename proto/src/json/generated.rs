//! What the build script implements for every message and enum of the v1 API.

use super::JsonError;
use super::read::{self, Context};
use super::tree::Json;
use super::write::Fields;

/// A message of the v1 API.
pub trait JsonMessage: Default + Sized {
    /// Names of the required fields.
    #[doc(hidden)]
    const REQUIRED: &'static [&'static str];

    #[doc(hidden)]
    fn write_fields(&self, out: &mut Fields<'_>);

    /// Takes the field called `name`; ignores a name it does not know.
    #[doc(hidden)]
    fn read_field(
        &mut self,
        name: &str,
        value: &Json<'_>,
        at: &mut Context,
    ) -> Result<(), JsonError>;
}

/// An enum of the v1 API.
pub trait JsonEnum {
    #[doc(hidden)]
    const NAMES: &'static [&'static str];

    #[doc(hidden)]
    fn number(name: &str) -> Option<i32>;

    #[doc(hidden)]
    fn name(number: i32) -> Option<&'static str>;
}

impl<M: JsonMessage> JsonMessage for Box<M> {
    const REQUIRED: &'static [&'static str] = M::REQUIRED;

    fn write_fields(&self, out: &mut Fields<'_>) {
        (**self).write_fields(out);
    }

    fn read_field(
        &mut self,
        name: &str,
        value: &Json<'_>,
        at: &mut Context,
    ) -> Result<(), JsonError> {
        (**self).read_field(name, value, at)
    }
}

include!(concat!(env!("OUT_DIR"), "/json.rs"));
