//! Enums with names: `Display`, `FromStr` and a list of all variants, from one table.

/// Implements both for an enum without fields, and lists its variants as `ALL`; `$what` names the enum in the error.
macro_rules! names {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            /// All variants.
            pub const ALL: &[Self] = &[$($type::$variant),+];
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self {
                    $($type::$variant => $name),+
                })
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::Error;

            fn from_str(name: &str) -> $crate::Result<Self> {
                match name {
                    $($name => Ok($type::$variant),)+
                    _ => Err($crate::Error::Argument {
                        what: $what,
                        expected: format!("one of {}", [$($name),+].join(", ")),
                        found: $crate::error::shown(name),
                    }),
                }
            }
        }
    };
}
pub(crate) use names;
