//! The kinds of errors, as listed in the source.

use std::collections::BTreeSet;

/// The variants of an enumeration in `src/error.rs`.
pub fn kinds(name: &str) -> BTreeSet<String> {
    let source = include_str!("../../src/error.rs");
    let (_, after) = source.split_once(&format!("pub enum {name} {{\n")).expect("the enumeration");
    let (variants, _) = after.split_once("\n}").expect("its end");
    // Variants are at the first level of indentation, where only they begin with a capital.
    let variant = |line: &str| {
        let text = line.strip_prefix("    ").filter(|text| text.starts_with(|c: char| c.is_ascii_uppercase()))?;
        Some(text.split(|c: char| !c.is_ascii_alphanumeric()).next()?.to_string())
    };
    variants.lines().filter_map(variant).collect()
}
