//! Aligned tables: two spaces between columns, no space at the end of a line.

use std::fmt;

/// Which side of its column a cell keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Names and words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under a header. `Display` writes it with a newline after each line; without rows it writes nothing.
#[derive(Debug, Clone)]
pub struct Table {
    header: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
    indent: usize,
    show_header: bool,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(header: &[(&'static str, Align)]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new(), indent: 0, show_header: true }
    }

    /// The same table, every line moved `columns` to the right.
    #[must_use]
    pub fn indented(self, columns: usize) -> Self {
        Self { indent: columns, ..self }
    }

    /// The same table without its first line.
    #[must_use]
    pub fn headless(self) -> Self {
        Self { show_header: false, ..self }
    }

    /// Adds a row. Missing cells are empty, cells beyond the header are left out, control characters become spaces.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let clean = |cell: String| cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.rows.push(cells.into_iter().take(self.header.len()).map(clean).collect());
    }

    /// Whether there is nothing below the header.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn width(&self, column: usize) -> usize {
        let title = if self.show_header { self.header[column].0.chars().count() } else { 0 };
        let widths = self.rows.iter().map(|row| row.get(column).map_or(0, |cell| cell.chars().count()));
        widths.max().unwrap_or(0).max(title)
    }

    fn line<'a>(&self, f: &mut fmt::Formatter<'_>, widths: &[usize], cell: impl Fn(usize) -> &'a str) -> fmt::Result {
        let mut text = " ".repeat(self.indent);
        for (column, (width, (_, align))) in widths.iter().zip(&self.header).enumerate() {
            let cell = cell(column);
            let fill = " ".repeat(width - cell.chars().count());
            match align {
                Align::Left => text.extend([cell, &fill]),
                Align::Right => text.extend([&fill, cell]),
            }
            text.push_str("  ");
        }
        writeln!(f, "{}", text.trim_end())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        let widths: Vec<usize> = (0..self.header.len()).map(|column| self.width(column)).collect();
        if self.show_header {
            self.line(f, &widths, |column| self.header[column].0)?;
        }
        self.rows.iter().try_for_each(|row| self.line(f, &widths, |column| row.get(column).map_or("", String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right), ("WHY", Align::Left)]);
        table.row(["a".into(), "10".into(), "because\nof".into()]);
        table.row(["longer-name".into(), "7".into()]);
        assert_eq!(table.to_string(), "NAME          N  WHY\na            10  because of\nlonger-name   7\n");
        assert_eq!(table.headless().indented(2).to_string(), "  a            10  because of\n  longer-name   7\n");
    }

    #[test]
    fn a_table_without_rows_is_nothing() {
        let table = Table::new(&[("NAME", Align::Left)]);
        assert!(table.is_empty());
        assert_eq!(table.to_string(), "");
    }

    #[test]
    fn letters_outside_ascii_count_as_one_column() {
        let mut table = Table::new(&[("A", Align::Left), ("B", Align::Left)]);
        table.row(["ä→".into(), "x".into()]);
        table.row(["abc".into(), "y".into()]);
        assert_eq!(table.to_string(), "A    B\nä→   x\nabc  y\n");
    }
}
