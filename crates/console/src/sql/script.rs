//! Where the statements of a script stand, so that errors can be placed in the whole.

use millpond_streams::StatementError;

/// A statement, and how many lines and characters stand before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Located {
    pub(crate) text: String,
    /// Lines before the one it begins on.
    lines_before: u32,
    /// Characters before it on that line.
    characters_before: u32,
}

/// Finds each statement in the script that it was split from.
pub(crate) fn locate(script: &str, statements: Vec<String>) -> Vec<Located> {
    let mut from = 0;
    let mut located = Vec::with_capacity(statements.len());
    for text in statements {
        let start = script[from..].find(&text).map_or(from, |distance| from + distance);
        from = (start + text.len()).min(script.len());
        let before = &script[..start];
        let line_start = before.rfind('\n').map_or(0, |position| position + 1);
        located.push(Located {
            text,
            lines_before: before.matches('\n').count() as u32,
            characters_before: before[line_start..].chars().count() as u32,
        });
    }
    located
}

impl Located {
    /// An error in this statement, placed in the script.
    pub(crate) fn place(&self, mut error: StatementError) -> StatementError {
        if error.line == Some(1) {
            error.column = error.column.map(|column| column + self.characters_before);
        }
        error.line = error.line.map(|line| line + self.lines_before);
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millpond_streams::ErrorKind;

    #[test]
    fn errors_are_placed_in_the_script() {
        let script = "SELECT 1;\n  SELECT 1; -- twice\nSELECT é,\n x";
        let statements = ["SELECT 1", "SELECT 1", "SELECT é,\n x"].map(str::to_owned).to_vec();
        let located = locate(script, statements);
        let place = |statement: usize, line: u32, column: u32| {
            let mut error = StatementError::new(ErrorKind::Syntax, "wrong");
            (error.line, error.column) = (Some(line), Some(column));
            let placed = located[statement].place(error);
            (placed.line, placed.column)
        };
        assert_eq!(place(0, 1, 8), (Some(1), Some(8)));
        assert_eq!(place(1, 1, 8), (Some(2), Some(10)));
        assert_eq!(place(2, 1, 8), (Some(3), Some(8)));
        assert_eq!(place(2, 2, 2), (Some(4), Some(2)));
    }
}
