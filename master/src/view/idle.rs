//! Encodings that nobody asks for any more are not kept: those of a large cluster take hundreds of megabytes.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pages::{FORMS, Form};

/// Whoever polls comes more often than this.
pub(super) const IDLE: Duration = Duration::from_secs(60);

/// When each form was asked for last; `None` once it was forgotten, or never made.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<[Option<Instant>; FORMS]>);

impl Asked {
    pub(super) fn note(&self, form: Form) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked[form as usize] = Some(Instant::now());
    }

    /// The forms that nobody asked for in the last `idle`. Each is told once.
    pub(super) fn take_idle(&self, idle: Duration) -> Vec<Form> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let forms = [Form::Protobuf, Form::Json, Form::Legacy, Form::Summary, Form::Full];
        let over = |form: &Form| {
            let last = &mut asked[*form as usize];
            let over = last.is_some_and(|last| last.elapsed() >= idle);
            if over {
                *last = None;
            }
            over
        };
        forms.into_iter().filter(over).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_idle_once() {
        let asked = Asked::default();
        assert_eq!(asked.take_idle(Duration::ZERO), []);
        asked.note(Form::Json);
        assert_eq!(asked.take_idle(IDLE), []);
        assert_eq!(asked.take_idle(Duration::ZERO), [Form::Json]);
        assert_eq!(asked.take_idle(Duration::ZERO), []);
    }
}
