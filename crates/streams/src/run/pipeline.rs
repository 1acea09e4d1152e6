//! A plan's operators, put together so that chunks can be pushed through them.

use std::collections::BTreeSet;

use millpond_types::TimestampMs;

use super::calc::{self, PieceRows};
use super::chunk::Chunk;
use super::failure::{QueryFailure, RowFailure};
use super::window_aggregate::{WindowAggregate, windows_too_large};
use super::window_assign;
use crate::plan::{Calc, Operator, SourcePlan, StreamPlan, WindowAssign};

/// What a step does besides its results.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Rows that could not be computed.
    pub(crate) failures: Vec<RowFailure>,
    /// Rows that a filter dropped.
    pub(crate) rows_filtered: u64,
    /// Rows that came too late, once per window.
    pub(crate) rows_late: u64,
    /// What expressions have made of rows that are not written yet, bytes.
    pub(crate) made_bytes: usize,
    /// What aggregates have evaluated, groups and arguments, bytes; it only grows.
    pub(crate) argument_bytes: usize,
}

/// Where an operator's rows go.
#[derive(Debug, Clone, Copy)]
enum Target {
    Node(usize),
    Results,
}

struct Node {
    kind: NodeKind,
    target: Target,
    /// The sources below it.
    sources: BTreeSet<usize>,
}

enum NodeKind {
    Calc(Calc, PieceRows),
    WindowAssign(WindowAssign, PieceRows),
    WindowAggregate(Box<WindowAggregate>),
    Union(arrow::datatypes::SchemaRef),
}

/// The operators of one query, with their state. An operator stands behind all operators below it, so its place + 1, the
/// number under which its state is stored, stays as long as the plan does.
pub(crate) struct Pipeline {
    nodes: Vec<Node>,
    /// Per source, where its rows go; none if the plan does not use it.
    targets: Vec<Option<Target>>,
    /// What all windows together may hold, and besides what expressions may have made of rows that are not written yet,
    /// bytes.
    memory_bytes_max: usize,
}

impl Pipeline {
    /// Of a plan; an error says what the operators cannot do.
    pub(crate) fn new(plan: &StreamPlan, memory_bytes_max: usize) -> Result<Pipeline, String> {
        let mut pipeline = Pipeline { nodes: Vec::new(), targets: vec![None; plan.sources.len()], memory_bytes_max };
        let root = pipeline.build(&plan.root, &plan.sources)?;
        pipeline.connect(root, Target::Results)?;
        Ok(pipeline)
    }

    /// Adds an operator and what is below it; gives what it is until it is connected.
    fn build(&mut self, operator: &Operator, sources: &[SourcePlan]) -> Result<Built, String> {
        let below = |pipeline: &mut Pipeline, inputs: &[&Operator]| -> Result<Vec<Built>, String> {
            inputs.iter().map(|input| pipeline.build(input, sources)).collect()
        };
        let (inputs, kind) = match operator {
            Operator::Source { index } => return Ok(Built::Source(*index)),
            Operator::Calc(calc) => (below(self, &[&calc.input])?, NodeKind::Calc(calc.clone(), PieceRows::first(1))),
            Operator::WindowAssign(assign) => {
                (below(self, &[&assign.input])?, NodeKind::WindowAssign(assign.clone(), first_piece(assign)))
            }
            Operator::WindowAggregate(aggregate) => {
                let inputs = below(self, &[&aggregate.input])?;
                let number = u16::try_from(self.nodes.len() + 1).map_err(|_| "the plan has too many operators")?;
                let schema = aggregate.input.schema(sources).clone();
                let aggregate = WindowAggregate::new(number, aggregate.clone(), &schema)
                    .map_err(|error| super::failure::plain_message(&error))?;
                (inputs, NodeKind::WindowAggregate(Box::new(aggregate)))
            }
            Operator::Union { inputs, schema } => {
                (below(self, &inputs.iter().collect::<Vec<_>>())?, NodeKind::Union(schema.clone()))
            }
        };
        let place = self.nodes.len();
        let mut below = BTreeSet::new();
        for input in &inputs {
            match input {
                Built::Source(source) => drop(below.insert(*source)),
                Built::Node(node) => below.extend(&self.nodes[*node].sources),
            }
        }
        self.nodes.push(Node { kind, target: Target::Results, sources: below });
        for input in inputs {
            self.connect(input, Target::Node(place))?;
        }
        Ok(Built::Node(place))
    }

    fn connect(&mut self, built: Built, target: Target) -> Result<(), String> {
        match built {
            Built::Node(node) => self.nodes[node].target = target,
            Built::Source(source) => {
                let slot = self.targets.get_mut(source).ok_or("the plan reads a source that it does not have")?;
                if slot.replace(target).is_some() {
                    return Err("two operators of the plan read the same source".to_owned());
                }
            }
        }
        Ok(())
    }

    /// Forgets what the steps before have taught about the rows' size: a restart does not know it when it takes a step
    /// again, and must cut the step's rows the same.
    pub(crate) fn begin_step(&mut self) {
        for node in &mut self.nodes {
            match &mut node.kind {
                NodeKind::Calc(_, piece_rows) => *piece_rows = PieceRows::first(1),
                NodeKind::WindowAssign(assign, piece_rows) => *piece_rows = first_piece(assign),
                NodeKind::WindowAggregate(_) | NodeKind::Union(_) => {}
            }
        }
    }

    /// Pushes rows of a source through to the results, or into windows.
    pub(crate) fn push(
        &mut self,
        source: usize,
        chunk: Chunk,
        effects: &mut Effects,
        results: &mut Vec<Chunk>,
    ) -> Result<(), QueryFailure> {
        match self.targets[source] {
            Some(target) => self.push_to(target, chunk, effects, results),
            None => Ok(()),
        }
    }

    fn push_to(
        &mut self,
        target: Target,
        chunk: Chunk,
        effects: &mut Effects,
        results: &mut Vec<Chunk>,
    ) -> Result<(), QueryFailure> {
        if chunk.is_empty() {
            return Ok(());
        }
        let Target::Node(place) = target else {
            results.push(chunk);
            return Ok(());
        };
        let node = &mut self.nodes[place];
        let target = node.target;
        match &mut node.kind {
            NodeKind::Calc(..) => self.calculate(place, &chunk, effects, results),
            NodeKind::WindowAssign(..) => self.assign(place, &chunk, effects, results),
            NodeKind::WindowAggregate(aggregate) => aggregate.push(chunk, self.memory_bytes_max, effects),
            NodeKind::Union(schema) => {
                let columns = chunk.batch.columns().to_vec();
                let chunk = chunk.with_columns(schema.clone(), columns).map_err(QueryFailure::arrow("UNION ALL"))?;
                self.push_to(target, chunk, effects, results)
            }
        }
    }

    /// Filters and projects rows, a piece at a time, each of which goes all the way before the next is begun. So no
    /// more than a piece of what the expressions make exists at a time, besides what waits in the results.
    fn calculate(
        &mut self,
        place: usize,
        chunk: &Chunk,
        effects: &mut Effects,
        results: &mut Vec<Chunk>,
    ) -> Result<(), QueryFailure> {
        let mut from = 0;
        while from < chunk.len() {
            let node = &mut self.nodes[place];
            let (target, NodeKind::Calc(calc, piece_rows)) = (node.target, &mut node.kind) else {
                panic!("operator {place} does not calculate");
            };
            let rows = piece_rows.get().min(chunk.len() - from);
            let (made_before, results_before) = (effects.made_bytes, results.len());
            let passed = calc::push(calc, self.memory_bytes_max, chunk.slice(from, rows), effects)?;
            piece_rows.note(rows, effects.made_bytes - made_before);
            from += rows;
            for passed in passed {
                self.push_to(target, passed, effects, results)?;
            }
            if results.len() == results_before {
                // It was filtered out, or is in windows, which are counted on their own.
                effects.made_bytes = made_before;
            }
        }
        Ok(())
    }

    /// Gives rows their windows, a piece at a time: not more than there is room for in what the windows above evaluate,
    /// judged by the pieces before, as an aggregate's argument can make much of a row, too. What the windows hold is no
    /// measure: after a restart the same state takes more or less.
    fn assign(
        &mut self,
        place: usize,
        chunk: &Chunk,
        effects: &mut Effects,
        results: &mut Vec<Chunk>,
    ) -> Result<(), QueryFailure> {
        let mut from = 0;
        while from < chunk.len() {
            let node = &self.nodes[place];
            let (target, NodeKind::WindowAssign(assign, piece_rows)) = (node.target, &node.kind) else {
                panic!("operator {place} does not assign windows");
            };
            let piece = chunk.slice(from, piece_rows.get().min(chunk.len() - from));
            let rows = window_assign::rows_max(assign, &piece).min(piece.len());
            let assigned = window_assign::push(assign, piece.slice(0, rows), effects)?;
            let argument_bytes_before = effects.argument_bytes;
            self.push_to(target, assigned, effects, results)?;
            self.check_state()?;
            from += rows;
            if let NodeKind::WindowAssign(_, piece_rows) = &mut self.nodes[place].kind {
                piece_rows.note(rows, effects.argument_bytes - argument_bytes_before);
            }
        }
        Ok(())
    }

    /// One step's rows can fill many windows: what they hold is bounded while they are filled, not only after.
    fn check_state(&self) -> Result<(), QueryFailure> {
        let (needed, limit) = (self.state_bytes(), self.memory_bytes_max);
        if needed <= limit { Ok(()) } else { Err(windows_too_large(self.open_windows(), needed, limit)) }
    }

    /// Closes what is due, from the sources up, so that what a window gives reaches the windows above it before they
    /// close. `watermark` tells the least watermark of the sources it is asked for.
    pub(crate) fn close(
        &mut self,
        watermark: &dyn Fn(&BTreeSet<usize>) -> Option<TimestampMs>,
        effects: &mut Effects,
        results: &mut Vec<Chunk>,
    ) -> Result<(), QueryFailure> {
        for place in 0..self.nodes.len() {
            let node = &mut self.nodes[place];
            let target = node.target;
            let NodeKind::WindowAggregate(aggregate) = &mut node.kind else { continue };
            let Some(watermark) = watermark(&node.sources) else { continue };
            for chunk in aggregate.close(watermark)? {
                self.push_to(target, chunk, effects, results)?;
            }
        }
        Ok(())
    }

    /// The operators with state, from the sources up.
    pub(crate) fn aggregates(&mut self) -> impl Iterator<Item = &mut WindowAggregate> {
        self.nodes.iter_mut().filter_map(|node| match &mut node.kind {
            NodeKind::WindowAggregate(aggregate) => Some(aggregate.as_mut()),
            _ => None,
        })
    }

    fn aggregates_ref(&self) -> impl Iterator<Item = &WindowAggregate> {
        self.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::WindowAggregate(aggregate) => Some(aggregate.as_ref()),
            _ => None,
        })
    }

    /// Whether any operator has state.
    pub(crate) fn is_stateful(&self) -> bool {
        self.aggregates_ref().next().is_some()
    }

    /// What all state takes in memory, bytes.
    pub(crate) fn state_bytes(&self) -> usize {
        self.aggregates_ref().map(WindowAggregate::bytes).sum()
    }

    /// How many windows are open.
    pub(crate) fn open_windows(&self) -> usize {
        self.aggregates_ref().map(WindowAggregate::open_windows).sum()
    }
}

fn first_piece(assign: &WindowAssign) -> PieceRows {
    PieceRows::first(window_assign::windows_per_row(assign.window))
}

enum Built {
    Source(usize),
    Node(usize),
}
