//! Raft logs through slog; this hands its lines to `tracing`.

use std::fmt::{self, Write};

use slog::{Drain, KV, Level, Logger, OwnedKVList, Record, Serializer};

/// A logger for raft whose lines become events of the target `raft`.
pub(crate) fn logger() -> Logger {
    Logger::root(ToTracing, slog::o!())
}

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), slog::Never> {
        // `tracing` wants levels to be constants. Raft's "info" is about every election step: debug for us.
        macro_rules! hand_over {
            ($level:expr) => {
                if tracing::enabled!(target: "raft", $level) {
                    let mut fields = Fields::default();
                    // Writing to a string does not fail; a value that fails to format is left out.
                    let _ = record.kv().serialize(record, &mut fields);
                    let _ = values.serialize(record, &mut fields);
                    tracing::event!(target: "raft", $level, fields = %fields.text, "{}", record.msg());
                }
            };
        }
        match record.level() {
            Level::Critical | Level::Error => hand_over!(tracing::Level::ERROR),
            Level::Warning => hand_over!(tracing::Level::WARN),
            Level::Info | Level::Debug => hand_over!(tracing::Level::DEBUG),
            Level::Trace => hand_over!(tracing::Level::TRACE),
        }
        Ok(())
    }
}

/// `key=value` pairs, separated by spaces.
#[derive(Default)]
struct Fields {
    text: String,
}

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        let separator = if self.text.is_empty() { "" } else { " " };
        write!(self.text, "{separator}{key}={value}")?;
        Ok(())
    }
}
