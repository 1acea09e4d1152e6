//! What a registered query does, as a tree of text.

use crate::plan::{Operator, SourcePlan, StartPosition, StreamPlan, Window};

/// The whole plan: the sink first, its inputs below, each indented by two more blanks.
pub(crate) fn explain(plan: &StreamPlan) -> Vec<String> {
    let schema = plan.root.schema(&plan.sources);
    let key: Vec<&str> = plan.sink.key_columns.iter().map(|place| schema.field(*place).name().as_str()).collect();
    let mut lines = vec![format!(
        "Sink: topic {}, {} partition{}{}, from the {} record",
        plan.sink.topic,
        plan.sink.partition_count,
        if plan.sink.partition_count == 1 { "" } else { "s" },
        if key.is_empty() { String::new() } else { format!(", key ({})", key.join(", ")) },
        match plan.sink.start {
            StartPosition::Earliest => "first",
            StartPosition::Latest => "next new",
        }
    )];
    lines.extend(explain_operators(&plan.root, &plan.sources).into_iter().map(|line| format!("  {line}")));
    lines
}

/// The operators alone.
pub(crate) fn explain_operators(root: &Operator, sources: &[SourcePlan]) -> Vec<String> {
    let mut lines = Vec::new();
    walk(root, sources, 0, &mut lines);
    lines
}

fn walk(operator: &Operator, sources: &[SourcePlan], depth: usize, lines: &mut Vec<String>) {
    let (text, inputs): (String, Vec<&Operator>) = match operator {
        Operator::Source { index } => {
            let source = &sources[*index];
            let columns: Vec<&str> = source.columns.iter().map(|column| column.name.as_str()).collect();
            let watermark = match &source.watermark {
                Some(watermark) => format!(", watermark {}", watermark.expression),
                None => String::new(),
            };
            (
                format!(
                    "Source: {} (topic {}), columns ({}){watermark}",
                    source.stream,
                    source.topic,
                    columns.join(", ")
                ),
                Vec::new(),
            )
        }
        Operator::Calc(calc) => {
            let columns: Vec<String> = calc
                .projection
                .iter()
                .zip(calc.schema.fields())
                .map(|(expr, field)| format!("{expr} AS {}", field.name()))
                .collect();
            let filter = calc.filter.as_ref().map(|filter| format!(", where {filter}")).unwrap_or_default();
            (format!("Calc: ({}){filter}", columns.join(", ")), vec![&calc.input])
        }
        Operator::WindowAssign(assign) => {
            let time = assign.schema.field(assign.time_column).name();
            let text = match assign.window {
                Window::Tumble { size_ms } => format!("Window: TUMBLE({time}, {size_ms} ms)"),
                Window::Hop { size_ms, slide_ms } => format!("Window: HOP({time}, every {slide_ms} ms, {size_ms} ms)"),
            };
            (text, vec![&assign.input])
        }
        Operator::WindowAggregate(aggregate) => {
            let groups: Vec<String> = aggregate.groups.iter().map(|group| group.to_string()).collect();
            let calls: Vec<&str> = aggregate.aggregates.iter().map(|call| call.function.name()).collect();
            (
                format!(
                    "WindowAggregate: per window{}, ({}); state: the open windows, dropped when the watermark has passed their end",
                    if groups.is_empty() { String::new() } else { format!(" and ({})", groups.join(", ")) },
                    calls.join(", ")
                ),
                vec![&aggregate.input],
            )
        }
        Operator::Union { inputs, .. } => ("Union".to_owned(), inputs.iter().collect()),
    };
    lines.push(format!("{}{text}", "  ".repeat(depth)));
    for input in inputs {
        walk(input, sources, depth + 1, lines);
    }
}
