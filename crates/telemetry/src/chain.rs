//! An error and its sources in one line.

use std::error::Error;
use std::fmt;

/// Prints as `outer: cause: cause of that`. See [`chain`].
#[derive(Clone, Copy)]
pub struct Chain<'a>(&'a (dyn Error + 'static));

/// The error with everything that led to it, for logs and for the last line of a command.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut at = self.0;
        while let Some(source) = at.source() {
            let text = source.to_string();
            // Foreign errors often print their source themselves.
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            at = source;
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().unwrap();
        let source = (!rest.is_empty()).then(|| Box::new(layers(rest)));
        Layer { text, source }
    }

    #[test]
    fn prints_every_source_once() {
        let print = |texts: &[&'static str]| chain(&layers(texts)).to_string();
        assert_eq!(print(&["a"]), "a");
        assert_eq!(print(&["open the store", "lock", "denied"]), "open the store: lock: denied");
        assert_eq!(print(&["a: b", "b", "c"]), "a: b: c");
    }
}
