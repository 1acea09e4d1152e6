//! What all plannings share: DataFusion's functions, options and rules, set up for streams.

use std::sync::Arc;

use datafusion::common::{DFSchema, Result as DataFusionResult};
use datafusion::config::ConfigOptions;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{Optimizer, OptimizerContext};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::ParserOptions;

use super::functions;
use super::struct_fields::StructFields;
use super::types::Types;

/// The logical rules for registered queries. Fewer than DataFusion's own: these keep the shapes that the operators
/// know, while e.g. `single_distinct_aggregation_to_group_by` would make two aggregations of one.
const STREAM_RULES: &[&str] =
    &["simplify_expressions", "push_down_filter", "common_sub_expression_eliminate", "optimize_projections"];

/// DataFusion as statements are planned with it. Made when the first statement comes: it costs some milliseconds and
/// megabytes that an idle node does not need.
pub(crate) struct Session {
    pub(crate) state: SessionState,
    pub(crate) expr_planners: Vec<Arc<dyn ExprPlanner>>,
    pub(crate) types: Arc<Types>,
    stream_optimizer: Optimizer,
}

impl Session {
    pub(crate) fn new() -> Session {
        // One partition: rows keep the order of (partition, offset), also in floating-point sums.
        let mut config = SessionConfig::new().with_target_partitions(1).with_information_schema(false);
        let options: &mut ConfigOptions = config.options_mut();
        options.sql_parser.enable_ident_normalization = false;
        options.sql_parser.collect_spans = true;
        options.sql_parser.map_string_types_to_utf8view = false;
        // NULL is the least value, as in Flink.
        options.sql_parser.default_null_ordering = "nulls_min".to_owned();
        let types = Arc::new(Types);
        let defaults = SessionStateBuilder::new().with_config(config).with_default_features().build();
        let mut expr_planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(StructFields)];
        expr_planners.extend(defaults.expr_planners().iter().cloned());
        let bounded = functions::bounded(&defaults);
        let mut state = SessionStateBuilder::new_from_existing(defaults)
            .with_expr_planners(expr_planners.clone())
            .with_type_planner(types.clone())
            .build();
        functions::replace(&mut state, bounded);
        let rules = Optimizer::new().rules.into_iter().filter(|rule| STREAM_RULES.contains(&rule.name())).collect();
        Session { state, expr_planners, types, stream_optimizer: Optimizer::with_rules(rules) }
    }

    /// How names and literals are read.
    pub(crate) fn parser_options(&self) -> ParserOptions {
        ParserOptions::from(&self.state.config_options().sql_parser)
    }

    /// Types made to fit (a BIGINT added to a DOUBLE is cast), and checked.
    pub(crate) fn analyze(&self, plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
        self.state.analyzer().execute_and_check(plan, &self.state.config_options().clone(), |_, _| {})
    }

    /// An analyzed plan made cheap, in the shapes that the streams' operators know.
    pub(crate) fn optimize_for_streams(&self, plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
        let context = OptimizerContext::new_with_config_options(self.state.config_options().clone());
        self.stream_optimizer.optimize(plan, &context, |_, _| {})
    }

    /// An analyzed expression as it is evaluated over rows of `schema`.
    pub(crate) fn physical(&self, expr: &Expr, schema: &DFSchema) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())
    }
}
