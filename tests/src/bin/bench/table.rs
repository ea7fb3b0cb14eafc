//! A Markdown table whose columns are aligned, so that it can be read on a terminal, too.

/// A table with a heading of its own.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    rows: Vec<Vec<String>>,
    /// How many columns are words; the others are figures, aligned to the right.
    words: usize,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, words: usize, columns: &[&str]) -> Self {
        Self { title: title.into(), rows: vec![columns.iter().map(|&column| column.to_owned()).collect()], words }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(crate) fn render(&self) -> String {
        let width = |column: usize| self.rows.iter().map(|row| row[column].len()).max().unwrap().max(3);
        let columns = self.rows[0].len();
        let mut text = format!("### {}\n\n", self.title);
        for (number, row) in self.rows.iter().enumerate() {
            for (column, cell) in row.iter().enumerate() {
                let width = width(column);
                text += &if column < self.words { format!("| {cell:<width$} ") } else { format!("| {cell:>width$} ") };
            }
            text += "|\n";
            if number == 0 {
                for column in 0..columns {
                    let dashes = "-".repeat(width(column));
                    text += &if column < self.words { format!("| {dashes} ") } else { format!("| {}: ", &dashes[1..]) };
                }
                text += "|\n";
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_aligned_to_the_right() {
        let mut table = Table::new("Costs", 1, &["program", "wall"]);
        table.row(["a".to_owned(), "1.00".to_owned()]);
        assert_eq!(table.render(), "### Costs\n\n| program | wall |\n| ------- | ---: |\n| a       | 1.00 |\n");
    }
}
