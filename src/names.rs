//! Choices that have names: `Display`, `FromStr` and the list of all, from one table.

/// Implements both for an enum without fields, and lists it as `ALL`; `$what` names the choice in the error.
macro_rules! names {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            /// All of them.
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
