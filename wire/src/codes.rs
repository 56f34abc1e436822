//! Error codes of a protocol, as numbers and names, from one list.

/// Makes a fieldless enum out of `Variant = code, "NAME";` lines in ascending order.
/// Invariant: the discriminant is the code on the wire.
macro_rules! codes {
    ($(#[$meta:meta])* $Codes:ident: $number:ident, $from_number:ident;
     $($variant:ident = $code:literal, $name:literal;)*) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr($number)]
        #[allow(missing_docs, reason = "the names are the protocol's")]
        pub enum $Codes { $($variant = $code),* }

        impl $Codes {
            /// All codes in ascending order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code with this number; a newer peer may send one we do not know.
            #[must_use]
            pub const fn $from_number(code: $number) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The protocol's name of it, in capitals.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> $number {
                self as $number
            }
        }

        impl std::fmt::Display for $Codes {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(crate) use codes;
