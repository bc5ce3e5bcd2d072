//! Tables without frames, as wide as the terminal at most.

use comfy_table::{Attribute, Cell, ColumnConstraint, ContentArrangement, Row, Width, presets};

use crate::output::Output;
use crate::style::Mood;
use crate::words::plain;

/// Blanks between two columns.
const GAP: usize = 2;
/// What is left of a text that is cut, in columns, its mark included.
const SHORTEST: usize = 12;
/// The columns that are always there: what it is, and what is the matter with it.
const ALWAYS: usize = 2;

/// A table that is filled row by row.
pub(crate) struct Table {
    columns: Vec<&'static str>,
    /// The columns whose texts may be cut.
    texts: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// With these columns, of which `texts` may be cut where the terminal is narrow.
    pub(crate) fn new(columns: &[&'static str], texts: &'static [&'static str]) -> Self {
        Self { columns: columns.to_vec(), texts, rows: Vec::new() }
    }

    /// Adds a row, one line of it.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text, with a line break at its end. Where there is not enough room, texts are cut first, then columns are left
    /// out.
    pub(crate) fn text(self, output: Output) -> String {
        let kept = self.kept(output.width().map(usize::from));
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).enforce_styling().style_text_only();
        table.set_header(kept.iter().map(|at| Cell::new(self.columns[*at]).add_attribute(Attribute::Bold)));
        for mut cells in self.rows.into_iter().map(|cells| cells.into_iter().map(Some).collect::<Vec<_>>()) {
            let mut row = Row::from(kept.iter().filter_map(|at| cells[*at].take()).collect::<Vec<_>>());
            row.max_height(1);
            table.add_row(row);
        }
        for (column, at) in table.column_iter_mut().zip(&kept) {
            column.set_padding((0, GAP as u16));
            if output.width().is_some() && self.texts.contains(&self.columns[*at]) {
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(SHORTEST as u16)));
            } else {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        if let Some(width) = output.width() {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        let mut text = table.trim_fmt();
        text.push('\n');
        text
    }

    /// The columns for which there is room.
    fn kept(&self, width: Option<usize>) -> Vec<usize> {
        let mut used = 0;
        let fits = |at: &usize| {
            let needed = self.needed(*at) + GAP;
            let fits = *at < ALWAYS || width.is_none_or(|width| used + needed <= width);
            used += if fits { needed } else { 0 };
            fits
        };
        (0..self.columns.len()).filter(fits).collect()
    }

    fn needed(&self, at: usize) -> usize {
        let length = |text: &str| text.chars().count();
        let cells = self.rows.iter().map(|row| length(&row[at].content()));
        let longest = cells.chain([length(self.columns[at])]).max().unwrap_or_default();
        if self.texts.contains(&self.columns[at]) { longest.min(SHORTEST) } else { longest }
    }
}

/// A cell with a stranger's text, or a dash where there is none.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    let text = plain(text.as_ref());
    Cell::new(if text.is_empty() { "-".to_owned() } else { text })
}

/// A cell in the colour of a status.
pub(crate) fn status(text: &str, mood: Mood) -> Cell {
    match mood.color() {
        Some(color) => cell(text).fg(color),
        None => cell(text),
    }
}

/// A cell for what may be absent.
pub(crate) fn optional(text: Option<impl ToString>) -> Cell {
    cell(text.map(|text| text.to_string()).unwrap_or_default())
}
