//! A table that fits the terminal and needs no more memory for more rows.

use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Rows that are aligned with each other before they are written. Later columns only become wider.
const BLOCK: usize = 200;

/// Between two columns.
const GAP: &str = "  ";

/// The narrowest a column becomes before others are left out.
const NARROW: usize = 8;

/// Stands for the end of a text that was shortened.
const ELLIPSIS: char = '…';

/// What a table of `N` columns looks like.
#[derive(Debug)]
pub(crate) struct Layout<const N: usize> {
    /// What is above the columns.
    pub(crate) titles: [&'static str; N],
    /// Columns that are left out on a terminal that is too narrow, the first one first; the others stay.
    pub(crate) left_out: &'static [usize],
    /// Columns whose text is shortened on a narrow terminal.
    pub(crate) shortened: &'static [usize],
}

/// Rows that are being written.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    layout: &'static Layout<N>,
    columns: Option<usize>,
    widths: [usize; N],
    rows: Vec<[String; N]>,
    has_titles: bool,
}

impl<const N: usize> Table<N> {
    /// For a terminal of that many columns, or for something that takes any.
    pub(crate) const fn new(layout: &'static Layout<N>, columns: Option<usize>) -> Self {
        Self { layout, columns, widths: [0; N], rows: Vec::new(), has_titles: false }
    }

    /// Adds a row, of texts that are fit to be shown.
    pub(crate) fn add(&mut self, row: [String; N], output: &mut dyn Write) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() < BLOCK { Ok(()) } else { self.finish(output) }
    }

    /// Writes what has not been written.
    pub(crate) fn finish(&mut self, output: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let titles = self.layout.titles.map(str::to_owned);
        for cells in self.rows.iter().chain([&titles]) {
            for (width, cell) in self.widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.width());
            }
        }
        let fitted = fit(self.layout, self.widths, self.columns);
        if !std::mem::replace(&mut self.has_titles, true) {
            write_row(&titles, &fitted, output)?;
        }
        self.rows.drain(..).try_for_each(|row| write_row(&row, &fitted, output))
    }
}

/// The widths that fit; a column of width 0 is left out.
fn fit<const N: usize>(layout: &Layout<N>, mut widths: [usize; N], columns: Option<usize>) -> [usize; N] {
    let Some(columns) = columns else { return widths };
    for left_out in std::iter::once(None).chain(layout.left_out.iter().copied().map(Some)) {
        if let Some(width) = left_out.and_then(|index| widths.get_mut(index)) {
            *width = 0;
        }
        let mut excess = total(&widths).saturating_sub(columns);
        let spare = |widths: &[usize; N]| -> usize {
            layout
                .shortened
                .iter()
                .filter_map(|index| widths.get(*index))
                .map(|width| width.saturating_sub(NARROW))
                .sum()
        };
        if spare(&widths) < excess {
            continue;
        }
        while excess > 0 {
            let widest = layout.shortened.iter().copied().max_by_key(|index| widths.get(*index));
            let Some(width) = widest.and_then(|index| widths.get_mut(index)) else { break };
            *width = width.saturating_sub(1);
            excess = excess.saturating_sub(1);
        }
        return widths;
    }
    // Not even those that stay fit: the first one alone, as far as it does.
    let mut first = [0; N];
    if let Some(width) = first.first_mut() {
        *width = columns.max(1);
    }
    first
}

fn total(widths: &[usize]) -> usize {
    let shown = widths.iter().filter(|width| **width > 0);
    let (sum, count) =
        shown.fold((0_usize, 0_usize), |(sum, count), width| (sum.saturating_add(*width), count.saturating_add(1)));
    sum.saturating_add(GAP.len().saturating_mul(count.saturating_sub(1)))
}

fn write_row<const N: usize>(cells: &[String; N], widths: &[usize; N], output: &mut dyn Write) -> io::Result<()> {
    let mut line = String::new();
    for (cell, width) in cells.iter().zip(widths).filter(|(_, width)| **width > 0) {
        if !line.is_empty() {
            line.push_str(GAP);
        }
        let shown = shorten(cell, *width);
        line.push_str(&shown);
        line.extend(std::iter::repeat_n(' ', width.saturating_sub(shown.width())));
    }
    writeln!(output, "{}", line.trim_end())
}

/// As much of the text as fits into that many columns.
fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 1_usize;
    let fits = |character: &char| {
        used = used.saturating_add(character.width().unwrap_or_default());
        used <= width
    };
    let mut shown: String = text.chars().take_while(fits).collect();
    shown.push(ELLIPSIS);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    static LAYOUT: Layout<9> = Layout {
        titles: ["TIME", "VERDICT", "REASON", "PERSON", "CLIENT/AGENT", "METHOD", "TARGET", "STATUS", "MS"],
        left_out: &[8, 5, 7, 4, 2, 6, 3],
        shortened: &[2, 3, 4, 5, 6],
    };

    fn row(person: &str) -> [String; 9] {
        ["2026-01-05T10:00:00.000Z", "allow", "allowed", person, "desk/bot", "tools/call", "read", "200", "12"]
            .map(str::to_owned)
    }

    fn table(columns: Option<usize>, rows: Vec<[String; 9]>) -> Vec<String> {
        let mut output = Vec::new();
        let mut table = Table::new(&LAYOUT, columns);
        rows.into_iter().for_each(|row| table.add(row, &mut output).unwrap());
        table.finish(&mut output).unwrap();
        String::from_utf8(output).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn columns_are_aligned() {
        let lines = table(None, vec![row("anna"), row("日本"), row("somebody with a long name")]);
        let column = |line: &str, text: &str| line.split(text).next().unwrap().width();
        assert_eq!(column(&lines[0], "CLIENT/AGENT"), column(&lines[1], "desk/bot"));
        assert_eq!(column(&lines[1], "desk/bot"), column(&lines[2], "desk/bot"));
        assert_eq!(column(&lines[2], "desk/bot"), column(&lines[3], "desk/bot"));
    }

    #[test]
    fn a_table_fits_terminals_of_any_width() {
        for columns in 1..200 {
            for line in table(Some(columns), vec![row("anna"), row(&"日".repeat(90))]) {
                assert!(line.width() <= columns, "{columns}: {line}");
            }
        }
    }

    #[test]
    fn the_least_important_columns_go_first() {
        let lines = table(Some(60), vec![row("anna")]);
        assert!(lines[1].contains("allow") && lines[1].contains("anna") && lines[1].contains("read"), "{lines:?}");
        assert!(!lines[0].contains("MS"));
    }

    #[test]
    fn nothing_is_written_of_nothing() {
        assert_eq!(table(None, Vec::new()), Vec::<String>::new());
    }

    #[test]
    fn many_rows_have_one_title() {
        let lines = table(None, (0..BLOCK * 2 + 1).map(|_| row("anna")).collect());
        assert_eq!(lines.len(), BLOCK * 2 + 2);
        assert_eq!(lines.iter().filter(|line| line.starts_with("TIME")).count(), 1);
    }
}
