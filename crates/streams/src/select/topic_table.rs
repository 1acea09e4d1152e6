//! A topic as DataFusion's table: its visible records when the query began, in the order of (partition, offset).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::StreamExt;
use millpond_broker::Partition;
use millpond_types::{Offset, PartitionIndex, TimestampMs};

use super::SelectNotes;
use crate::plan::{SourceColumn, SourcePlan, WatermarkPlan};
use crate::run::slice::{Slice, SliceEnd};
use crate::run::source::Source;
use crate::sql::definition::{StreamDefinition, schema_of};
use crate::sql::session::Session as SqlSession;

/// The column that tells the partition's watermark before each row, in ms. It is there only where late rows are told.
pub(crate) const WATERMARK_COLUMN: &str = "__watermark";

/// How many rows are read and decoded at a time.
const BATCH_ROWS: usize = 8_192;
/// How many bytes of records are read at a time.
const BATCH_BYTES: usize = 1 << 20;

/// What one partition gives.
#[derive(Debug, Clone)]
pub(crate) struct PartitionRange {
    pub(crate) partition: Arc<Partition>,
    pub(crate) offsets: Range<Offset>,
}

/// The records of a stream between fixed offsets.
#[derive(Clone)]
pub(crate) struct TopicTable {
    definition: Arc<StreamDefinition>,
    columns: Vec<SourceColumn>,
    with_watermark: bool,
    schema: SchemaRef,
    ranges: Arc<Vec<PartitionRange>>,
    session: Arc<SqlSession>,
    notes: Arc<SelectNotes>,
}

impl fmt::Debug for TopicTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicTable").field("topic", &self.definition.topic).finish_non_exhaustive()
    }
}

impl TopicTable {
    pub(crate) fn new(
        definition: Arc<StreamDefinition>,
        columns: Vec<SourceColumn>,
        ranges: Arc<Vec<PartitionRange>>,
        session: Arc<SqlSession>,
        notes: Arc<SelectNotes>,
    ) -> TopicTable {
        let schema = schema_of(&columns);
        TopicTable { definition, columns, with_watermark: false, schema, ranges, session, notes }
    }

    /// The same with [`WATERMARK_COLUMN`] at the end.
    pub(crate) fn with_watermark(mut self) -> TopicTable {
        let mut fields: Vec<Arc<Field>> = schema_of(&self.columns).fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(WATERMARK_COLUMN, DataType::Int64, true)));
        self.schema = Arc::new(Schema::new(fields));
        self.with_watermark = true;
        self
    }

    fn stream(&self, projection: Option<&Vec<usize>>) -> DataFusionResult<TopicStream> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let wanted = projection.unwrap_or(&all);
        // Places in `columns`; what the watermark needs comes after what is asked for.
        let mut read: Vec<SourceColumn> = Vec::new();
        let place_of = |read: &mut Vec<SourceColumn>, column: &SourceColumn| {
            read.iter().position(|known| known.name == column.name).unwrap_or_else(|| {
                read.push(column.clone());
                read.len() - 1
            })
        };
        let mut output = Vec::with_capacity(wanted.len());
        for place in wanted {
            output.push(self.columns.get(*place).map(|column| place_of(&mut read, column)));
        }
        let mut watermark = None;
        if let Some(declared) = &self.definition.watermark {
            // Also where nobody asks for it: a record whose event time is NULL is a failure for every query.
            let time_column = place_of(&mut read, &self.definition.columns[declared.time_column]);
            for column in declared.expression.column_refs() {
                if let Some(column) = self.definition.columns.iter().find(|known| known.name == column.name) {
                    place_of(&mut read, column);
                }
            }
            let schema = DFSchema::try_from(schema_of(&read).as_ref().clone())?;
            let expression = self.session.physical(&declared.expression, &schema)?;
            watermark = Some(WatermarkPlan { time_column, expression });
        }
        let plan = SourcePlan {
            stream: self.definition.name.clone(),
            topic: self.definition.topic.clone(),
            format: self.definition.format,
            schema: schema_of(&read),
            columns: read,
            watermark,
        };
        Ok(TopicStream {
            plan,
            output,
            schema: Arc::new(self.schema.project(wanted)?),
            ranges: self.ranges.clone(),
            notes: self.notes.clone(),
        })
    }
}

#[async_trait]
impl TableProvider for TopicTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let stream = self.stream(projection)?;
        let schema = stream.schema.clone();
        let partitions: Vec<Arc<dyn PartitionStream>> = vec![Arc::new(stream)];
        Ok(Arc::new(StreamingTableExec::try_new(schema, partitions, None, Vec::new(), false, limit)?))
    }
}

/// Reads the ranges one after the other.
struct TopicStream {
    plan: SourcePlan,
    /// Per output column its place among the columns read; none for the watermark.
    output: Vec<Option<usize>>,
    schema: SchemaRef,
    ranges: Arc<Vec<PartitionRange>>,
    notes: Arc<SelectNotes>,
}

impl fmt::Debug for TopicStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicStream").field("topic", &self.plan.topic).finish_non_exhaustive()
    }
}

impl PartitionStream for TopicStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let reader = Reader::new(self);
        let batches = futures::stream::unfold(reader, |reader| async move {
            let mut reader = match reader {
                Ok(reader) => reader,
                Err(Some(error)) => return Some((Err(error), Err(None))),
                Err(None) => return None,
            };
            match reader.next() {
                Ok(Some(batch)) => {
                    // Others get their turn between batches, also where nothing else waits.
                    tokio::task::yield_now().await;
                    Some((Ok(batch), Ok(reader)))
                }
                Ok(None) => None,
                Err(error) => Some((Err(error), Err(None))),
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches.boxed()))
    }
}

struct Reader {
    source: Source,
    output: Vec<Option<usize>>,
    schema: SchemaRef,
    ranges: Arc<Vec<PartitionRange>>,
    notes: Arc<SelectNotes>,
    /// Which range is read, from where, and its watermark so far.
    place: usize,
    from: Option<Offset>,
    watermark: Option<TimestampMs>,
    ready: std::collections::VecDeque<RecordBatch>,
}

/// Nothing in the error: it was told already.
type Opened = Result<Reader, Option<DataFusionError>>;

impl Reader {
    fn new(stream: &TopicStream) -> Opened {
        let source = Source::new(0, stream.plan.clone()).map_err(|error| Some(DataFusionError::Execution(error)))?;
        Ok(Reader {
            source,
            output: stream.output.clone(),
            schema: stream.schema.clone(),
            ranges: stream.ranges.clone(),
            notes: stream.notes.clone(),
            place: 0,
            from: None,
            watermark: None,
            ready: std::collections::VecDeque::new(),
        })
    }

    fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            let Some(range) = self.ranges.get(self.place).cloned() else {
                return Ok(None);
            };
            // Records may have been deleted since the range was taken.
            let from = self.from.unwrap_or(range.offsets.start).max(range.partition.log_start());
            if from >= range.offsets.end {
                (self.place, self.from, self.watermark) = (self.place + 1, None, None);
                continue;
            }
            self.read(&range, from)?;
        }
    }

    fn read(&mut self, range: &PartitionRange, from: Offset) -> DataFusionResult<()> {
        let end = SliceEnd::AtMost { rows: BATCH_ROWS, bytes: BATCH_BYTES };
        let slice = Slice::read(&range.partition, from, end, self.source.with_headers)
            .map_err(|error| DataFusionError::Execution(error.to_string()))?;
        if slice.to <= from {
            // Nothing more is there, although it was: the topic was cut or deleted.
            self.from = Some(range.offsets.end);
            return Ok(());
        }
        self.from = Some(slice.to);
        let mut failures = Vec::new();
        let index: PartitionIndex = range.partition.index();
        let chunks = self
            .source
            .decode(index, &slice, &mut self.watermark, &mut failures)
            .map_err(|error| DataFusionError::Execution(error.to_string()))?;
        let undecodable =
            failures.iter().filter(|failure| failure.offset.is_none_or(|offset| offset < range.offsets.end));
        self.notes.add_undecodable(undecodable.count() as u64);
        for chunk in chunks {
            let rows = chunk.len();
            // Records that came after the query began are in the same batches.
            let kept = match &chunk.offsets {
                Some(offsets) => offsets.values().partition_point(|offset| *offset < range.offsets.end),
                None => rows,
            };
            let columns = self
                .output
                .iter()
                .map(|place| match (place, &chunk.watermarks) {
                    (Some(place), _) => chunk.batch.column(*place).clone(),
                    (None, Some(watermarks)) => Arc::new(watermarks.clone()) as _,
                    (None, None) => arrow::array::new_null_array(&DataType::Int64, rows),
                })
                .map(|column| column.slice(0, kept))
                .collect();
            if kept > 0 {
                let options = RecordBatchOptions::new().with_row_count(Some(kept));
                self.ready.push_back(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?);
            }
        }
        Ok(())
    }
}
