//! Prints CUDA source for a function over [`Lanes`]: the function runs on expressions instead of numbers, and the expressions are
//! printed.
//!
//! So the kernels have the operations of the Rust functions, in the same order and with the same constants, and nobody copies them
//! by hand. Tests compare the committed headers with the printed text, and write the headers if `HARMONIUM_PRINT` is set.

use super::Lanes;
use std::{cell::RefCell, collections::HashSet, fmt::Write as _, path::Path};

/// An expression: its index in the list of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Value(usize);

/// One operation.
#[derive(Clone, Debug, PartialEq)]
struct Operation {
    /// The text, with `{}` for each operand.
    text: String,
    operands: Vec<Value>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The name of an argument, or a literal.
    Atom,
    /// A call, which never needs parentheses.
    Call,
    /// An operator, which needs parentheses inside another one.
    Operator,
    /// A comparison.
    Truth,
}

/// All operations of a function so far, each of them once.
#[derive(Clone, Copy)]
pub(crate) struct Printed<'a>(&'a RefCell<Vec<Operation>>);

impl Printed<'_> {
    fn put(self, text: &str, operands: &[Value], kind: Kind) -> Value {
        let new = Operation { text: text.into(), operands: operands.into(), kind };
        let mut all = self.0.borrow_mut();
        let at = all.iter().position(|old| *old == new).unwrap_or_else(|| {
            all.push(new);
            all.len() - 1
        });
        Value(at)
    }
}

impl Lanes for Printed<'_> {
    type F = Value;
    type M = Value;

    fn splat(self, x: f32) -> Value {
        let text = if x.is_finite() { format!("{x:?}f") } else { format!("__int_as_float({:#x})", x.to_bits()) };
        self.put(&text, &[], Kind::Atom)
    }
    fn add(self, a: Value, b: Value) -> Value {
        self.put("__fadd_rn({}, {})", &[a, b], Kind::Call)
    }
    fn mul(self, a: Value, b: Value) -> Value {
        self.put("__fmul_rn({}, {})", &[a, b], Kind::Call)
    }
    fn div(self, a: Value, b: Value) -> Value {
        self.put("__fdiv_rn({}, {})", &[a, b], Kind::Call)
    }
    fn mul_add(self, a: Value, b: Value, c: Value) -> Value {
        self.put("__fmaf_rn({}, {}, {})", &[a, b, c], Kind::Call)
    }
    fn floor(self, a: Value) -> Value {
        self.put("floorf({})", &[a], Kind::Call)
    }
    fn sqrt(self, a: Value) -> Value {
        self.put("__fsqrt_rn({})", &[a], Kind::Call)
    }
    fn less(self, a: Value, b: Value) -> Value {
        self.put("{} < {}", &[a, b], Kind::Truth)
    }
    fn larger(self, a: Value, b: Value) -> Value {
        self.select(self.less(b, a), a, b)
    }
    fn smaller(self, a: Value, b: Value) -> Value {
        self.select(self.less(a, b), a, b)
    }
    fn select(self, mask: Value, a: Value, b: Value) -> Value {
        self.put("{} ? {} : {}", &[mask, a, b], Kind::Operator)
    }
    fn shift_to_exponent(self, a: Value) -> Value {
        self.put("__int_as_float(__float_as_int({}) << 23)", &[a], Kind::Call)
    }
    fn exponent(self, a: Value) -> Value {
        self.put("(float)((__float_as_int({}) >> 23) - 127)", &[a], Kind::Call)
    }
    fn mantissa(self, a: Value) -> Value {
        self.put("__int_as_float(__float_as_int({}) & 0x007fffff | 0x3f800000)", &[a], Kind::Call)
    }
    fn negate(self, a: Value) -> Value {
        let old = self.0.borrow()[a.0].clone();
        match old.text.strip_prefix('-') {
            Some(literal) if old.kind == Kind::Atom => self.put(literal, &[], Kind::Atom),
            _ if old.kind == Kind::Atom => self.put(&format!("-{}", old.text), &[], Kind::Atom),
            _ => self.put("-{}", &[a], Kind::Operator),
        }
    }
}

/// The maximum width of an expression inside another one.
const WIDEST: usize = 60;

/// Prints the CUDA function `name`. `compute` receives the operations and an expression for each argument. `doc` becomes the
/// documentation comment.
pub(crate) fn function<const N: usize>(
    name: &str, doc: &str, arguments: [&str; N], compute: impl FnOnce(Printed<'_>, [Value; N]) -> Value,
) -> String {
    let all = RefCell::new(Vec::new());
    let printed = Printed(&all);
    let result = compute(printed, arguments.map(|argument| printed.put(argument, &[], Kind::Atom)));
    let all = all.take();
    let (mut wanted, mut left) = (HashSet::from([result]), vec![result]);
    while let Some(value) = left.pop() {
        left.extend(all[value.0].operands.iter().filter(|&&operand| wanted.insert(operand)));
    }
    let uses = |value: Value| {
        let by = |user: &Value| all[user.0].operands.iter().filter(|&&operand| operand == value).count();
        wanted.iter().map(by).sum::<usize>()
    };
    let word = |value: Value| if all[value.0].kind == Kind::Truth { "bool" } else { "float" };
    let (returned, joined) = (word(result), arguments.join(", float "));
    let mut text = format!("/// {doc}\n__device__ inline {returned} {name}(float {joined}) {{\n");
    // The text of each result where it is used; operands come before the operations that use them.
    let mut shown: Vec<String> = Vec::new();
    let mut names = 0;
    for (at, operation) in all.iter().enumerate() {
        let mut expression = String::new();
        let mut operands = operation.operands.iter();
        for (n, part) in operation.text.split("{}").enumerate() {
            if n > 0 {
                let operand = operands.next().expect("an operand for each place");
                let inner = (operation.kind, all[operand.0].kind);
                // The comparison of a selection needs no parentheses before the question mark.
                let is_bare = inner.0 == Kind::Call || matches!(inner.1, Kind::Atom | Kind::Call | Kind::Truth);
                let is_named = shown[operand.0].chars().all(|c| c.is_ascii_alphanumeric());
                let operand = &shown[operand.0];
                expression.push_str(&if is_bare || is_named { operand.clone() } else { format!("({operand})") });
            }
            expression.push_str(part);
        }
        let value = Value(at);
        let is_small = operation.kind == Kind::Atom || uses(value) == 1 && expression.len() <= WIDEST;
        if wanted.contains(&value) && value != result && !is_small {
            names += 1;
            let _ = writeln!(text, "    {} t{names} = {expression};", word(value));
            expression = format!("t{names}");
        }
        shown.push(expression);
    }
    let _ = write!(text, "    return {};\n}}\n", shown[result.0]);
    text
}

/// Compares a file of the folder `kernels` with its heading and functions, or writes the file.
pub(crate) fn check(file: &str, heading: &str, functions: &[String]) {
    let text = format!("{heading}#pragma once\n\n{}", functions.join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels").join(file);
    if std::env::var_os("HARMONIUM_PRINT").is_some() {
        std::fs::write(&path, &text).expect("the file can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == text,
        "kernels/{file} differs from the Rust functions: HARMONIUM_PRINT=1 cargo test --lib writes it"
    );
}
