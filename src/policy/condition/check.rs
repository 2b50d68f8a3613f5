//! Names, members, functions and types of a syntax tree: what cannot be right stops the load.
//!
//! Types are sets of kinds. Whatever comes out of arguments and claims may be of any kind; an operator is refused when
//! no kinds that its operands may have go together.

use std::collections::{BTreeMap, BTreeSet};

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};

use super::error::Fault;
use super::inputs::Variable;
use super::kinds::{Kinds, Type};
use super::values::Wanted;
use crate::limits;

/// What the evaluator keeps the result of a comprehension in; no identifier, so no condition can name it.
const ACCUMULATOR: &str = "@result";

/// The variables that a condition looks at.
pub(super) type Uses = BTreeMap<&'static str, Wanted>;

/// Checks a tree.
///
/// Also returns the name of every member that it names, at any depth.
pub(super) fn check(tree: &IdedExpr) -> Result<(Uses, BTreeSet<String>), Fault> {
    let mut checker =
        Checker { uses: Uses::new(), names: BTreeSet::new(), bound: Vec::new(), nodes: 0, depth: 0, loops: 0 };
    let result = checker.check(tree)?.kinds;
    if result.may_be(Kinds::BOOL) {
        return Ok((checker.uses, checker.names));
    }
    Fault::node(tree.id, format!("results in {result}"), "a condition results in a bool: compare it with something")
}

struct Checker {
    uses: Uses,
    /// Every member that is named.
    names: BTreeSet<String>,
    /// Elements and accumulators of the comprehensions around, innermost last.
    bound: Vec<(String, Type)>,
    nodes: usize,
    depth: usize,
    loops: usize,
}

type Checked = Result<Type, Fault>;

impl Checker {
    fn check(&mut self, node: &IdedExpr) -> Checked {
        self.nodes = self.nodes.saturating_add(1);
        self.depth = self.depth.saturating_add(1);
        if self.nodes > limits::MAX_CONDITION_NODES || self.depth > limits::MAX_CONDITION_DEPTH {
            let (nodes, depth) = (limits::MAX_CONDITION_NODES, limits::MAX_CONDITION_DEPTH);
            let problem = format!("more than {nodes} operations, or deeper than {depth}");
            return Fault::node(node.id, problem, "split it into several rules");
        }
        let checked = self.check_node(node);
        self.depth = self.depth.saturating_sub(1);
        checked
    }

    fn check_node(&mut self, node: &IdedExpr) -> Checked {
        match &node.expr {
            Expr::Literal(literal) => Ok(Type::of(kind_of(literal))),
            Expr::Ident(name) => self.name(node.id, name),
            Expr::Select(select) => self.select(node.id, select),
            Expr::Call(call) => self.call(node.id, call),
            Expr::List(list) => {
                let mut elements = Kinds::NONE;
                for element in &list.elements {
                    elements = elements.or(self.check(element)?.kinds);
                }
                Ok(Type::list(elements))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.expect(&entry.key, Kinds::KEY, "a member's name")?;
                        self.check(&entry.value)?;
                    }
                }
                Ok(Type::of(Kinds::MAP))
            }
            Expr::Comprehension(comprehension) => self.comprehension(node.id, comprehension),
            Expr::Struct(message) => {
                let problem = format!("message `{}` is not known", message.type_name);
                Fault::node(node.id, problem, "write a map, such as {'a': 1}")
            }
            Expr::Unspecified => Fault::node(node.id, "not an expression", "write one CEL expression"),
        }
    }

    /// Checks an operand of which only some kinds make sense; what it may be of those.
    fn expect(&mut self, operand: &IdedExpr, wanted: Kinds, what: &str) -> Result<Kinds, Fault> {
        let kinds = self.check(operand)?.kinds;
        if kinds.may_be(wanted) {
            return Ok(kinds.and(wanted));
        }
        Fault::node(operand.id, format!("{what} cannot be {kinds}"), format!("give it {wanted}"))
    }

    fn name(&mut self, id: u64, name: &str) -> Checked {
        if let Some((_, bound)) = self.bound.iter().rev().find(|(bound, _)| bound == name) {
            return Ok(*bound);
        }
        let Some(variable) = Variable::named(name) else {
            let known = Variable::ALL.map(Variable::name).join(", ");
            return Fault::node(id, format!("variable `{name}` is not known"), format!("known are {known}"));
        };
        if variable.members().is_some() {
            // As a whole such a map could be indexed by what is not known now.
            let members = member_names(variable);
            return Fault::node(id, format!("`{name}` is used as a whole"), format!("name a member: {members}"));
        }
        self.uses.insert(variable.name(), Wanted::All);
        Ok(variable.type_of())
    }

    fn select(&mut self, id: u64, select: &SelectExpr) -> Checked {
        let member = self.member(id, &select.operand, &select.field)?;
        Ok(if select.test { Type::of(Kinds::BOOL) } else { member })
    }

    /// A member of `operand`, by name.
    fn member(&mut self, id: u64, operand: &IdedExpr, member: &str) -> Checked {
        self.names.insert(member.to_owned());
        let root = if let Expr::Ident(name) = &operand.expr
            && !self.bound.iter().any(|(bound, _)| bound == name)
        {
            Variable::named(name)
        } else {
            None
        };
        let Some(variable) = root else {
            self.expect(operand, Kinds::MAP, &format!("what has a member `{member}`"))?;
            return Ok(Type::ANY);
        };
        if let Some(known) = variable.members() {
            let Some((_, kinds)) = known.iter().find(|(name, _)| *name == member) else {
                let problem = format!("`{}` has no member `{member}`", variable.name());
                return Fault::node(id, problem, format!("it has {}", member_names(variable)));
            };
            self.uses.insert(variable.name(), Wanted::All);
            return Ok(Type::of(*kinds));
        }
        if !variable.type_of().kinds.may_be(Kinds::MAP) {
            let (name, kinds) = (variable.name(), variable.type_of().kinds);
            return Fault::node(id, format!("`{name}` is {kinds} and has no members"), "leave the member out");
        }
        let none = || Wanted::Members(BTreeSet::new());
        if let Wanted::Members(names) = self.uses.entry(variable.name()).or_insert_with(none) {
            names.insert(member.to_owned());
        }
        Ok(Type::ANY)
    }

    fn comprehension(&mut self, id: u64, comprehension: &ComprehensionExpr) -> Checked {
        let variable = &comprehension.iter_var;
        let is_taken = self.bound.iter().any(|(bound, _)| bound == variable) || Variable::named(variable).is_some();
        if is_taken || comprehension.iter_var2.is_some() || variable.starts_with(['.', '@']) {
            let problem = format!("`{variable}` cannot name the element");
            return Fault::node(id, problem, "take one name that nothing else around has");
        }
        let range = self.check(&comprehension.iter_range)?;
        if !range.kinds.may_be(Kinds::CONTAINER) {
            let problem = format!("{} has no elements", range.kinds);
            return Fault::node(comprehension.iter_range.id, problem, "go over a list, or over the names in a map");
        }
        self.loops = self.loops.saturating_add(1);
        if self.loops > limits::MAX_CONDITION_LOOPS {
            let problem = format!("comprehensions nested deeper than {}", limits::MAX_CONDITION_LOOPS);
            return Fault::node(id, problem, "split it into several rules");
        }
        // A map is gone through by its names.
        let element = if range.kinds.may_be(Kinds::MAP) { Kinds::ANY } else { range.elements };
        let start = self.check(&comprehension.accu_init)?.kinds;
        self.bound.push((variable.clone(), Type::of(element)));
        self.bound.push((ACCUMULATOR.to_owned(), Type::of(start)));
        self.check(&comprehension.loop_cond)?;
        let step = self.check(&comprehension.loop_step)?;
        if !step.kinds.may_be(start) {
            let problem = format!("the body results in {}", step.kinds);
            return Fault::node(id, problem, format!("make it result in {start}"));
        }
        let result = self.check(&comprehension.result)?;
        self.bound.truncate(self.bound.len().saturating_sub(2));
        self.loops = self.loops.saturating_sub(1);
        Ok(result)
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Checked {
        let is_member = call.target.is_some();
        match (call.func_name.as_str(), is_member, call.args.as_slice()) {
            (operators::CONDITIONAL, false, [condition, yes, no]) => {
                self.expect(condition, Kinds::BOOL, "a condition")?;
                Ok(self.check(yes)?.or(self.check(no)?))
            }
            (operators::LOGICAL_AND | operators::LOGICAL_OR, false, [left, right]) => {
                self.expect(left, Kinds::BOOL, "a condition")?;
                self.expect(right, Kinds::BOOL, "a condition")?;
                Ok(Type::of(Kinds::BOOL))
            }
            (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, false, [operand]) => {
                self.expect(operand, Kinds::BOOL, "a condition").map(Type::of)
            }
            (operators::NEGATE, false, [operand]) => {
                self.expect(operand, Kinds::INT.or(Kinds::DOUBLE), "the operand of `-`").map(Type::of)
            }
            (operators::INDEX, false, [operand, index]) => self.index(operand, index),
            (name, false, [left, right]) if operators_sign(name).is_some() => self.operator(id, name, left, right),
            (name, ..) => self.function(id, name, call),
        }
    }

    fn index(&mut self, operand: &IdedExpr, index: &IdedExpr) -> Checked {
        if let Expr::Literal(LiteralValue::String(name)) = &index.expr {
            return self.member(index.id, operand, name.inner());
        }
        let operand_type = self.check(operand)?;
        if !operand_type.kinds.may_be(Kinds::CONTAINER) {
            let problem = format!("{} has no elements", operand_type.kinds);
            return Fault::node(operand.id, problem, "take an element of a list or map");
        }
        let keys = if operand_type.kinds.may_be(Kinds::MAP) { Kinds::KEY.or(Kinds::NUMBER) } else { Kinds::NUMBER };
        self.expect(index, keys, "an index")?;
        let is_list = operand_type.kinds == Kinds::LIST;
        Ok(if is_list { Type::of(operand_type.elements) } else { Type::ANY })
    }

    fn operator(&mut self, id: u64, name: &str, left: &IdedExpr, right: &IdedExpr) -> Checked {
        let (left, right) = (self.check(left)?, self.check(right)?);
        let (kinds, same) = ((left.kinds, right.kinds), left.kinds.and(right.kinds));
        let result = match name {
            operators::ADD => same.and(Kinds::NUMBER.or(Kinds::STRING).or(Kinds::BYTES).or(Kinds::LIST)),
            operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE => same.and(Kinds::NUMBER),
            operators::MODULO => same.and(Kinds::INT.or(Kinds::UINT)),
            operators::EQUALS | operators::NOT_EQUALS => bool_if(kinds.0.may_equal(kinds.1)),
            operators::IN => bool_if(
                (kinds.1.may_be(Kinds::LIST) && (left.kinds.may_equal(right.elements) || right.elements.is_empty()))
                    || (kinds.1.may_be(Kinds::MAP) && kinds.0.may_be(Kinds::KEY.or(Kinds::NUMBER))),
            ),
            _ => bool_if(kinds.0.may_order(kinds.1)),
        };
        if !result.is_empty() {
            return Ok(Type { kinds: result, elements: left.elements.or(right.elements) });
        }
        let sign = operators_sign(name).unwrap_or(name);
        let of = |each: Type| match each.kinds {
            Kinds::LIST if each.elements != Kinds::ANY => format!("list of {}", each.elements),
            kinds => kinds.to_string(),
        };
        let problem = format!("`{sign}` does not go between {} and {}", of(left), of(right));
        Fault::node(id, problem, "compare and compute with one type; int(), double() and string() convert")
    }

    fn function(&mut self, id: u64, name: &str, call: &CallExpr) -> Checked {
        let operands: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        if let Some((_, usage, style, takes, gives)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) {
            if !style.allows(call.target.is_some()) || operands.len() != takes.len() {
                return Fault::node(id, format!("`{name}` is not called like this"), format!("write {usage}"));
            }
            for (operand, wanted) in operands.iter().zip(*takes) {
                self.expect(operand, *wanted, &format!("what `{name}` takes"))?;
            }
            return Ok(Type::of(*gives));
        }
        if let Some((_, usage)) = MACROS.iter().find(|(known, _)| *known == name) {
            return Fault::node(id, format!("`{name}` is not called like this"), format!("write {usage}"));
        }
        let functions = FUNCTIONS.iter().map(|(known, ..)| *known);
        let known: Vec<&str> = functions.chain(MACROS.iter().map(|(known, _)| *known)).collect();
        Fault::node(id, format!("function `{name}` is not known"), format!("known are {}", known.join(", ")))
    }
}

/// Whether a function stands before or behind its first operand.
#[derive(Clone, Copy)]
enum Style {
    Global,
    Member,
    Either,
}

impl Style {
    const fn allows(self, is_member: bool) -> bool {
        match self {
            Self::Global => !is_member,
            Self::Member => is_member,
            Self::Either => true,
        }
    }
}

/// Name, usage, style, what it takes and what it gives. Regular expressions and dates would add a megabyte to the
/// module; see `time` for the latter.
const FUNCTIONS: [(&str, &str, Style, &[Kinds], Kinds); 11] = {
    const TEXT: Kinds = Kinds::STRING;
    const NUMERIC: Kinds = Kinds::NUMBER.or(TEXT);
    [
        ("size", "size(x) or x.size()", Style::Either, &[Kinds::SIZED], Kinds::INT),
        ("contains", "text.contains(part)", Style::Member, &[TEXT, TEXT], Kinds::BOOL),
        ("startsWith", "text.startsWith(prefix)", Style::Member, &[TEXT, TEXT], Kinds::BOOL),
        ("endsWith", "text.endsWith(suffix)", Style::Member, &[TEXT, TEXT], Kinds::BOOL),
        ("int", "int(x)", Style::Global, &[NUMERIC], Kinds::INT),
        ("uint", "uint(x)", Style::Global, &[NUMERIC], Kinds::UINT),
        ("double", "double(x)", Style::Global, &[NUMERIC], Kinds::DOUBLE),
        ("bool", "bool(x)", Style::Global, &[Kinds::BOOL.or(TEXT)], Kinds::BOOL),
        ("string", "string(x)", Style::Global, &[NUMERIC.or(Kinds::BOOL).or(Kinds::BYTES)], TEXT),
        ("bytes", "bytes(x)", Style::Global, &[TEXT.or(Kinds::BYTES)], Kinds::BYTES),
        ("dyn", "dyn(x)", Style::Global, &[Kinds::ANY], Kinds::ANY),
    ]
};

/// What the parser turns into something else, so that only wrong uses are seen here.
const MACROS: [(&str, &str); 6] = [
    ("has", "has(map.member)"),
    ("all", "list.all(element, condition)"),
    ("exists", "list.exists(element, condition)"),
    ("exists_one", "list.exists_one(element, condition)"),
    ("map", "list.map(element, value)"),
    ("filter", "list.filter(element, condition)"),
];

/// How a binary operator is written.
fn operators_sign(name: &str) -> Option<&'static str> {
    Some(match name {
        operators::ADD => "+",
        operators::SUBSTRACT => "-",
        operators::MULTIPLY => "*",
        operators::DIVIDE => "/",
        operators::MODULO => "%",
        operators::EQUALS => "==",
        operators::NOT_EQUALS => "!=",
        operators::LESS => "<",
        operators::LESS_EQUALS => "<=",
        operators::GREATER => ">",
        operators::GREATER_EQUALS => ">=",
        operators::IN => "in",
        _ => return None,
    })
}

const fn bool_if(is_possible: bool) -> Kinds {
    if is_possible { Kinds::BOOL } else { Kinds::NONE }
}

const fn kind_of(literal: &LiteralValue) -> Kinds {
    match literal {
        LiteralValue::Boolean(_) => Kinds::BOOL,
        LiteralValue::Bytes(_) => Kinds::BYTES,
        LiteralValue::Double(_) => Kinds::DOUBLE,
        LiteralValue::Int(_) => Kinds::INT,
        LiteralValue::Null => Kinds::NULL,
        LiteralValue::String(_) => Kinds::STRING,
        LiteralValue::UInt(_) => Kinds::UINT,
    }
}

fn member_names(variable: Variable) -> String {
    let names: Vec<&str> = variable.members().unwrap_or_default().iter().map(|(name, _)| *name).collect();
    names.join(", ")
}
