//! What bounds the work of an evaluation: meters in the syntax tree, which count before the work is done.
//!
//! The evaluator has no budget of its own. Outside of comprehensions its work is bounded by the size of the text and
//! of the values that it names; a comprehension multiplies that by the length of its range. So two kinds of places get
//! a meter, a call of a function that cannot be written in a condition, which hands its operand through:
//!
//! - the range of a comprehension: for each element the size of the body, and once more the element for each time the
//!   body names it, as it is copied when bound and may be compared or copied by each use;
//! - every use of a value whose size others decide and which is not the innermost loop's own element.
//!
//! `size()` and `has()` look at no element, so what they take is not counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::common::types::{CelInt, CelList, CelMap, CelMapKey, CelString};
use cel::common::value::{CowVal, Val};
use cel::{Context, ExecutionError, FunctionContext};

use super::inputs::Variable;
use crate::limits;

/// Meter of a value; its name is no identifier, so no condition can call or avoid it.
const USE: &str = "@use";
/// Meter of a range; takes the size of the body and how often that names the element.
const RANGE: &str = "@range";

type Count = Box<
    dyn for<'context, 'call> Fn(
            &mut FunctionContext<'context, 'call>,
        ) -> Result<CowVal<'context, 'call>, ExecutionError>
        + Send
        + Sync,
>;

/// What an evaluation has cost so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<AtomicU64>);

impl Meter {
    /// Puts the functions that count into a context.
    pub(super) fn install(&self, context: &mut Context<'_, '_>) {
        for name in [USE, RANGE] {
            let meter = self.clone();
            let count: Count = Box::new(move |call: &mut FunctionContext<'_, '_>| {
                let mut operands = std::mem::take(&mut call.args).into_iter();
                let value = operands.next().ok_or(ExecutionError::MissingArgumentOrTarget)?;
                let mut factor = || {
                    let factor = operands.next().and_then(|factor| factor.downcast_ref::<CelInt>().map(|int| **int));
                    factor.and_then(|factor| u64::try_from(factor).ok()).unwrap_or(0)
                };
                let (body, uses) = (factor(), factor());
                let cost = meter.cost_of(value.as_ref(), body, uses.saturating_add(1));
                if meter.spend(cost) { Ok(value) } else { Err(ExecutionError::function_error(USE, "too much work")) }
            });
            // Only a name that the library has already is refused, and it has no name with an `@`.
            let _: Result<(), _> = context.add_function(name, count);
        }
    }

    /// Whether the bound was passed, and with it any result is void.
    pub(super) fn is_exceeded(&self) -> bool {
        self.0.load(Ordering::Relaxed) > limits::MAX_CONDITION_WORK
    }

    fn spend(&self, cost: u64) -> bool {
        let before = self.0.fetch_add(cost.min(limits::MAX_CONDITION_WORK.saturating_add(1)), Ordering::Relaxed);
        before.saturating_add(cost) <= limits::MAX_CONDITION_WORK
    }

    fn cost_of(&self, value: &dyn Val, body: u64, uses: u64) -> u64 {
        let left = limits::MAX_CONDITION_WORK.saturating_sub(self.0.load(Ordering::Relaxed));
        let length = match (value.downcast_ref::<CelList<'_>>(), value.downcast_ref::<CelMap<'_>>()) {
            (Some(list), _) => list.inner().len(),
            (_, Some(map)) => map.inner().len(),
            _ => 0,
        };
        let turns = u64::try_from(length).unwrap_or(u64::MAX).saturating_mul(body);
        turns.saturating_add(weight(value, left).saturating_mul(uses))
    }
}

/// One for each value in `value`, and one for each 64 bytes of text; stops counting somewhere beyond `most`.
fn weight(value: &dyn Val, most: u64) -> u64 {
    let of_text = |text: &str| u64::try_from(text.len() / 64).unwrap_or(u64::MAX).saturating_add(1);
    let mut sum = 1_u64;
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        return of_text(text.inner());
    }
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        for element in list.inner() {
            if sum > most {
                break;
            }
            sum = sum.saturating_add(weight(element.as_ref(), most));
        }
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        for (key, value) in map.inner() {
            if sum > most {
                break;
            }
            let key = if let CelMapKey::String(key) = key { of_text(key.inner()) } else { 1 };
            sum = sum.saturating_add(key).saturating_add(weight(value.as_ref(), most));
        }
    }
    sum
}

/// Puts the meters into a checked tree.
pub(super) fn meter(tree: &mut IdedExpr) {
    Metering { loops: Vec::new() }.visit(tree);
}

/// The elements that comprehensions around the current place have bound, outermost first.
struct Metering {
    loops: Vec<String>,
}

impl Metering {
    fn visit(&mut self, node: &mut IdedExpr) {
        if self.is_metered_path(node) {
            self.visit_indices(node);
            wrap(node, USE, &[]);
            return;
        }
        match &mut node.expr {
            Expr::Call(call) => {
                let sized = call.func_name == "size";
                for operand in call.target.as_deref_mut().into_iter().chain(&mut call.args) {
                    if sized { self.visit_unmetered(operand) } else { self.visit(operand) }
                }
            }
            Expr::Select(select) if select.test => self.visit_unmetered(&mut select.operand),
            Expr::Select(select) => self.visit(&mut select.operand),
            Expr::List(list) => list.elements.iter_mut().for_each(|element| self.visit(element)),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.visit(&mut entry.key);
                        self.visit(&mut entry.value);
                    }
                }
            }
            Expr::Comprehension(comprehension) => self.visit_comprehension(comprehension),
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) => {}
        }
    }

    fn visit_comprehension(&mut self, comprehension: &mut ComprehensionExpr) {
        let body = [&comprehension.loop_cond, &comprehension.loop_step];
        let size = body.iter().map(|node| count(node, &|_| true)).fold(1, u64::saturating_add);
        let variable = comprehension.iter_var.clone();
        let names = |node: &IdedExpr| matches!(&node.expr, Expr::Ident(name) if *name == variable);
        let uses = count(&comprehension.loop_step, &names);
        // The range's own meter counts all of it.
        self.visit_unmetered(&mut comprehension.iter_range);
        wrap(&mut comprehension.iter_range, RANGE, &[size, uses]);
        self.loops.push(variable);
        self.visit(&mut comprehension.loop_step);
        self.loops.pop();
    }

    /// Visits an operand that gets no meter itself.
    fn visit_unmetered(&mut self, node: &mut IdedExpr) {
        if self.is_metered_path(node) { self.visit_indices(node) } else { self.visit(node) }
    }

    /// What stands in brackets along a path.
    fn visit_indices(&mut self, node: &mut IdedExpr) {
        if let Expr::Select(select) = &mut node.expr {
            self.visit_indices(&mut select.operand);
        } else if let Expr::Call(call) = &mut node.expr
            && let [operand, index] = call.args.as_mut_slice()
        {
            self.visit_indices(operand);
            self.visit(index);
        }
    }

    /// Whether a node is members and elements of a large variable, or of the element of an outer comprehension.
    fn is_metered_path(&self, node: &IdedExpr) -> bool {
        if let Expr::Ident(name) = &node.expr {
            return match self.loops.split_last() {
                Some((own, _)) if own == name => false,
                Some((_, outer)) if outer.contains(name) => true,
                _ => Variable::named(name).is_some_and(Variable::is_large),
            };
        }
        if let Expr::Select(select) = &node.expr {
            return !select.test && self.is_metered_path(&select.operand);
        }
        if let Expr::Call(call) = &node.expr {
            let operand = call.args.first().filter(|_| call.func_name == operators::INDEX);
            return operand.is_some_and(|operand| self.is_metered_path(operand));
        }
        false
    }
}

fn wrap(node: &mut IdedExpr, meter: &str, factors: &[u64]) {
    let id = node.id;
    let mut args = vec![std::mem::take(node)];
    args.extend(factors.iter().map(|factor| {
        let factor = CelInt::from(i64::try_from(*factor).unwrap_or(i64::MAX));
        IdedExpr { id, expr: Expr::Literal(LiteralValue::Int(factor)) }
    }));
    *node = IdedExpr { id, expr: Expr::Call(CallExpr { func_name: meter.to_owned(), target: None, args }) };
}

/// How many nodes of a tree are as wanted.
fn count(node: &IdedExpr, wanted: &dyn Fn(&IdedExpr) -> bool) -> u64 {
    let all =
        |nodes: &mut dyn Iterator<Item = &IdedExpr>| nodes.map(|node| count(node, wanted)).fold(0, u64::saturating_add);
    let below = match &node.expr {
        Expr::Call(call) => all(&mut call.target.as_deref().into_iter().chain(&call.args)),
        Expr::Select(select) => count(&select.operand, wanted),
        Expr::List(list) => all(&mut list.elements.iter()),
        Expr::Map(map) => all(&mut map.entries.iter().flat_map(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
            EntryExpr::StructField(_) => Vec::new(),
        })),
        Expr::Comprehension(inner) => {
            all(&mut [&inner.iter_range, &inner.accu_init, &inner.loop_cond, &inner.loop_step, &inner.result]
                .into_iter())
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) => 0,
    };
    below.saturating_add(u64::from(wanted(node)))
}
