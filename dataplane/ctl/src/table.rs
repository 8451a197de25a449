//! Text in columns.

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings, columns two blanks apart.
#[derive(Debug)]
pub(crate) struct Table<const COLUMNS: usize> {
    columns: [(&'static str, Align); COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    pub(crate) const fn new(columns: [(&'static str, Align); COLUMNS]) -> Self {
        Self { columns, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells);
    }

    /// Writes headings and rows, a line each, without blanks at line ends.
    pub(crate) fn text(&self) -> String {
        let headings = self.columns.map(|(heading, _)| heading.to_owned());
        let lines = || std::iter::once(&headings).chain(&self.rows);
        let mut widths = [0; COLUMNS];
        for line in lines() {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for line in lines() {
            let cells =
                line.iter().zip(&self.columns).zip(widths).map(|((cell, (_, align)), width)| match align {
                    Align::Left => format!("{cell:<width$}"),
                    Align::Right => format!("{cell:>width$}"),
                });
            let joined = cells.collect::<Vec<_>>().join("  ");
            text += joined.trim_end();
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_left_numbers_right_and_lines_end_in_no_blank() {
        let mut table = Table::new([("NAME", Align::Left), ("COUNT", Align::Right), ("WHY", Align::Left)]);
        table.row(["größe".to_owned(), "7".to_owned(), String::new()]);
        table.row(["b".to_owned(), "123456".to_owned(), "because".to_owned()]);
        assert_eq!(table.text(), "NAME    COUNT  WHY\ngröße       7\nb      123456  because\n");
    }
}
