//! Lists on stdout: a plain table for people, an array of flat objects for programs.

use std::io::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::failure::Failure;

/// Form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people; may change from version to version.
    Table,
    /// One array of flat objects; members are added, never renamed or removed.
    Json,
}

/// An item of a list. Its JSON form is that of `Serialize`: a flat object, names ending in their
/// unit, absent values null. What an item has many of is a list of such objects.
pub(crate) trait Row: Serialize {
    const HEADINGS: &'static [&'static str];

    /// One text for each heading.
    fn cells(&self) -> Vec<String>;
}

/// Prints a list to stdout.
pub(crate) fn print<R: Row>(format: Format, rows: &[R]) -> Result<(), Failure> {
    let text = match format {
        Format::Table => table(rows),
        Format::Json => json(rows)?,
    };
    print_text(&text)
}

/// Prints text to stdout as it is.
pub(crate) fn print_text(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// The table that [`print()`] shows to people.
pub(crate) fn table<R: Row>(rows: &[R]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(R::HEADINGS.to_vec());
    for row in rows {
        table.add_row(row.cells());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// One object a line, which is valid JSON as a whole and easy to look through with line tools.
pub(crate) fn json<R: Serialize>(rows: &[R]) -> Result<String, Failure> {
    let mut text = String::from("[");
    for (position, row) in rows.iter().enumerate() {
        text.push_str(if position == 0 { "\n" } else { ",\n" });
        let object = serde_json::to_string(row)
            .map_err(|error| Failure::from_error("could not write the list as JSON", &error))?;
        text.push_str(&object);
    }
    text.push_str(if rows.is_empty() { "]\n" } else { "\n]\n" });
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Item {
        name: String,
        cpus: Option<f64>,
    }

    impl Row for Item {
        const HEADINGS: &'static [&'static str] = &["NAME", "CPUS"];

        fn cells(&self) -> Vec<String> {
            vec![self.name.clone(), self.cpus.map_or("-".to_owned(), |cpus| cpus.to_string())]
        }
    }

    fn items() -> Vec<Item> {
        vec![
            Item { name: "a longer name".to_owned(), cpus: Some(0.5) },
            Item { name: "b\"".to_owned(), cpus: None },
        ]
    }

    #[test]
    fn tables_are_aligned_and_plain() {
        assert_eq!(table(&items()), "NAME           CPUS\na longer name  0.5\nb\"             -\n");
        assert_eq!(table::<Item>(&[]), "NAME  CPUS\n");
    }

    #[test]
    fn json_is_an_array_of_flat_objects() {
        let text = json(&items()).expect("json");
        assert_eq!(
            text,
            "[\n{\"name\":\"a longer name\",\"cpus\":0.5},\n{\"name\":\"b\\\"\",\"cpus\":null}\n]\n"
        );
        let parsed: serde_json::Value = serde_json::from_str(&text).expect("valid");
        assert_eq!(parsed[1]["name"], "b\"");
        assert_eq!(json::<Item>(&[]).expect("json"), "[]\n");
    }
}
