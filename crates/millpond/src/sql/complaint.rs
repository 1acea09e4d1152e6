//! Shows where a statement is wrong.

use super::reply::StatementError;

/// The message, the line it is about with a caret under the place, and the hint.
pub(crate) fn show(text: &str, error: &StatementError) -> String {
    let mut shown = error.message.clone();
    let place = error.line.and_then(|line| {
        let source = text.lines().nth((line as usize).checked_sub(1)?)?;
        Some((line.to_string(), source))
    });
    if let Some((number, source)) = place {
        let margin = " ".repeat(number.len());
        shown.push_str(&format!("\n{margin} |\n{number} | {}", source.replace('\t', " ")));
        if let Some(column) = error.column {
            let before = source.chars().take((column as usize).saturating_sub(1)).count();
            shown.push_str(&format!("\n{margin} | {}^", " ".repeat(before)));
        }
    }
    if let Some(hint) = &error.hint {
        shown.push_str(&format!("\n  = {hint}"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: Option<u32>, column: Option<u32>, hint: Option<&str>) -> StatementError {
        StatementError { message: "unknown column `y`".to_owned(), line, column, hint: hint.map(str::to_owned) }
    }

    #[test]
    fn a_caret_stands_under_the_place() {
        assert_eq!(
            show("SELECT x,\n\ty FROM t", &error(Some(2), Some(2), Some("did you mean `x`?"))),
            "unknown column `y`\n  |\n2 |  y FROM t\n  |  ^\n  = did you mean `x`?"
        );
    }

    #[test]
    fn places_outside_of_the_text_do_no_harm() {
        assert_eq!(show("x", &error(Some(7), Some(1), None)), "unknown column `y`");
        assert_eq!(show("x", &error(Some(0), Some(0), None)), "unknown column `y`");
        assert_eq!(show("x", &error(Some(1), Some(9), None)), "unknown column `y`\n  |\n1 | x\n  |  ^");
        assert_eq!(show("", &error(None, None, None)), "unknown column `y`");
    }
}
