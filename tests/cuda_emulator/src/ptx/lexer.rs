//! Text to tokens.

/// A token and its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub kind: Kind,
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Identifiers, registers, directives and dotted opcodes.
    Word(String),
    /// An integer, already reduced to its 64-bit pattern.
    Int(u64),
    /// `0f` followed by eight hexadecimal digits.
    F32(u32),
    /// `0d` followed by sixteen hexadecimal digits, or a decimal literal.
    F64(u64),
    Text,
    Punct(char),
}

fn is_start(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '_' | '$' | '%' | '.')
}

fn is_inside(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.')
}

fn number(text: &str) -> Option<Kind> {
    let lower = text.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0f") {
        return u32::from_str_radix(hex, 16).ok().map(Kind::F32);
    }
    if let Some(hex) = lower.strip_prefix("0d") {
        return u64::from_str_radix(hex, 16).ok().map(Kind::F64);
    }
    let digits = lower.strip_suffix('u').unwrap_or(&lower);
    let (digits, radix) = match digits.as_bytes() {
        [b'0', b'x', ..] => (&digits[2..], 16),
        [b'0', b'b', ..] => (&digits[2..], 2),
        [b'0', _, ..] if !digits.contains('.') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    match u64::from_str_radix(digits, radix) {
        Ok(value) => Some(Kind::Int(value)),
        Err(_) => lower.parse().ok().map(|v: f64| Kind::F64(v.to_bits())),
    }
}

/// Splits PTX text into tokens, without comments and white space.
pub fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (kind, length) = if c.is_whitespace() {
            (None, c.len_utf8())
        } else if rest.starts_with("//") {
            (None, rest.find('\n').unwrap_or(rest.len()))
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").ok_or("a comment is not closed")?;
            (None, end + 2)
        } else if c == '"' {
            let end = rest[1..].find('"').ok_or("a string is not closed")?;
            (Some(Kind::Text), end + 2)
        } else if c.is_ascii_digit() {
            let plain = |c: char| !(c.is_ascii_alphanumeric() || c == '.');
            let end = rest.find(plain).unwrap_or(rest.len());
            let kind = number(&rest[..end]);
            let kind = kind.ok_or_else(|| format!("line {line}: bad number {}", &rest[..end]))?;
            (Some(kind), end)
        } else if is_start(c) {
            let end = word_end(rest);
            (Some(Kind::Word(rest[..end].to_owned())), end)
        } else {
            (Some(Kind::Punct(c)), c.len_utf8())
        };
        if let Some(kind) = kind {
            out.push(Token { kind, line });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    Ok(out)
}

/// A word may hold `::` (as in `.shared::cta`), but ends before a label's single colon.
fn word_end(text: &str) -> usize {
    let mut end = 1;
    loop {
        let rest = &text[end..];
        end += rest.find(|c| !is_inside(c)).unwrap_or(rest.len());
        let rest = &text[end..];
        match rest.strip_prefix("::") {
            Some(tail) if tail.starts_with(is_inside) => end += 2,
            _ => return end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_an_instruction() {
        let kinds: Vec<_> =
            tokens("@!%p1 ld.v2.f32 {%f1, _}, [%rd1+-0x10]; // note").unwrap().into_iter().map(|t| t.kind).collect();
        let word = |s: &str| Kind::Word(s.to_owned());
        let expected = [
            Kind::Punct('@'),
            Kind::Punct('!'),
            word("%p1"),
            word("ld.v2.f32"),
            Kind::Punct('{'),
            word("%f1"),
            Kind::Punct(','),
            word("_"),
            Kind::Punct('}'),
            Kind::Punct(','),
            Kind::Punct('['),
            word("%rd1"),
            Kind::Punct('+'),
            Kind::Punct('-'),
            Kind::Int(16),
            Kind::Punct(']'),
            Kind::Punct(';'),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn reads_every_kind_of_number() {
        for (text, kind) in [
            ("0", Kind::Int(0)),
            ("017", Kind::Int(15)),
            ("0b101", Kind::Int(5)),
            ("0xFFU", Kind::Int(255)),
            ("18446744073709551615", Kind::Int(u64::MAX)),
            ("0f3F800000", Kind::F32(0x3f80_0000)),
            ("0d3FF0000000000000", Kind::F64(1f64.to_bits())),
            ("1.5", Kind::F64(1.5f64.to_bits())),
        ] {
            assert_eq!(tokens(text).unwrap()[0].kind, kind, "{text}");
        }
        assert!(tokens("0xZZ").is_err());
    }
}
