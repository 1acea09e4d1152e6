//! Rows as a table, as JSON lines, or as CSV.

use std::io::{self, Write};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde_json::Value;
use serde_json::value::RawValue;

use super::reply::Column;
use super::{Format, SqlError};

/// Rows of one table; after these it is printed and another one begins.
const TABLE_ROWS_MAX: usize = 1_000;

/// Characters of a value that a table shows.
const CELL_CHARS_MAX: usize = 200;

/// Prints the rows of one statement after the other.
pub(crate) struct Printer<W: Write> {
    out: W,
    format: Format,
    /// Whether rows come as they are made: then none waits for others.
    follow: bool,
    columns: Vec<Column>,
    /// Rows of the table that is not printed yet.
    rows: Vec<Vec<String>>,
    /// Widths of a table whose rows are printed one by one.
    widths: Vec<usize>,
}

impl<W: Write> Printer<W> {
    pub(crate) fn new(out: W, format: Format, follow: bool) -> Printer<W> {
        Printer { out, format, follow, columns: Vec::new(), rows: Vec::new(), widths: Vec::new() }
    }

    /// Rows with these columns follow.
    pub(crate) fn columns(&mut self, columns: Vec<Column>) -> Result<(), SqlError> {
        self.columns = columns;
        match self.format {
            Format::Csv => {
                let names = self.columns.iter().map(|column| column.name.clone()).collect();
                self.write_csv(names)?;
            }
            Format::Table if self.follow => {
                self.widths = self.columns.iter().map(first_width).collect();
                let names = self.columns.iter().map(|column| column.name.clone()).collect();
                self.write_aligned(names)?;
            }
            Format::Table | Format::Json => {}
        }
        Ok(())
    }

    /// One row.
    pub(crate) fn row(&mut self, row: Box<RawValue>) -> Result<(), SqlError> {
        match self.format {
            Format::Json => writeln!(self.out, "{}", row.get())?,
            Format::Csv => {
                let cells = self.cells(&row)?;
                self.write_csv(cells.into_iter().map(Option::unwrap_or_default).collect())?;
            }
            Format::Table => {
                let cells = self.cells(&row)?.into_iter().map(|cell| cell.map_or("NULL".to_owned(), shortened));
                let cells: Vec<String> = cells.collect();
                if self.follow {
                    self.write_aligned(cells)?;
                } else {
                    self.rows.push(cells);
                    if self.rows.len() == TABLE_ROWS_MAX {
                        self.write_table()?;
                    }
                }
            }
        }
        if self.follow {
            self.out.flush()?;
        }
        Ok(())
    }

    /// The statement has no more rows.
    pub(crate) fn done(&mut self) -> Result<(), SqlError> {
        if self.format == Format::Table && !self.follow && !self.columns.is_empty() {
            self.write_table()?;
        }
        self.columns.clear();
        Ok(self.out.flush()?)
    }

    /// The values in the order of the columns; NULL is none.
    fn cells(&self, row: &RawValue) -> Result<Vec<Option<String>>, SqlError> {
        let object: serde_json::Map<String, Value> = serde_json::from_str(row.get())
            .map_err(|error| SqlError::BrokenOff(format!("a row cannot be read: {error}")))?;
        // The engine refuses two columns of one name, so names tell them apart.
        let cell = |column: &Column| match object.get(&column.name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        Ok(self.columns.iter().map(cell).collect())
    }

    fn write_csv(&mut self, cells: Vec<String>) -> io::Result<()> {
        let fields: Vec<String> = cells.into_iter().map(csv_field).collect();
        writeln!(self.out, "{}", fields.join(","))
    }

    fn write_table(&mut self) -> io::Result<()> {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.columns.iter().map(|column| column.name.clone()));
        for (place, column) in self.columns.iter().enumerate() {
            if is_number(column)
                && let Some(column) = table.column_mut(place)
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.add_rows(self.rows.drain(..));
        writeln!(self.out, "{table}")
    }

    fn write_aligned(&mut self, cells: Vec<String>) -> io::Result<()> {
        for (place, cell) in cells.iter().enumerate() {
            let Some(width) = self.widths.get_mut(place) else { continue };
            *width = (*width).max(cell.chars().count());
            let gap = if place == 0 { "" } else { "  " };
            if is_number(&self.columns[place]) {
                write!(self.out, "{gap}{cell:>width$}")?;
            } else {
                write!(self.out, "{gap}{cell:<width$}")?;
            }
        }
        writeln!(self.out)
    }
}

/// How wide a column is before its values are known.
fn first_width(column: &Column) -> usize {
    let usual = if column.data_type.starts_with("TIMESTAMP") {
        23
    } else if is_number(column) {
        10
    } else {
        12
    };
    column.name.chars().count().max(usual)
}

fn is_number(column: &Column) -> bool {
    ["TINYINT", "SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL"]
        .iter()
        .any(|number| column.data_type.starts_with(number) && !column.data_type.starts_with("INTERVAL"))
}

fn shortened(text: String) -> String {
    let visible = text.replace(['\n', '\r', '\t'], " ");
    match visible.char_indices().nth(CELL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &visible[..end]),
        None => visible,
    }
}

fn csv_field(text: String) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(format: Format, follow: bool, rows: &[&str]) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, format, follow);
        let column = |name: &str, data_type: &str| Column { name: name.to_owned(), data_type: data_type.to_owned() };
        printer.columns(vec![column("who", "VARCHAR"), column("n", "BIGINT")]).expect("printed");
        for row in rows {
            printer.row(RawValue::from_string((*row).to_owned()).expect("JSON")).expect("printed");
        }
        printer.done().expect("printed");
        String::from_utf8(out).expect("text")
    }

    const ROWS: &[&str] = &[r#"{"who":"a, \"b\"","n":1}"#, r#"{"who":null,"n":20}"#];

    #[test]
    fn json_is_the_rows_as_they_came() {
        assert_eq!(printed(Format::Json, false, ROWS), format!("{}\n{}\n", ROWS[0], ROWS[1]));
    }

    #[test]
    fn csv_quotes_what_must_be_quoted() {
        assert_eq!(printed(Format::Csv, false, ROWS), "who,n\n\"a, \"\"b\"\"\",1\n,20\n");
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let table = printed(Format::Table, false, ROWS);
        assert!(table.contains("│ a, \"b\" ┆  1 │") && table.contains("│ NULL   ┆ 20 │"), "{table}");
        let following = printed(Format::Table, true, ROWS);
        assert_eq!(following, "who                    n\na, \"b\"                 1\nNULL                  20\n");
    }
}
