//! Enums whose values are words: in the configuration, on the command line, in JSON.
//!
//! The words stand in one place, the [`words!`](crate::words) of the enum. Reading, showing and
//! messages come from there.

use std::fmt;
use thiserror::Error;

/// An enum whose values are words.
pub trait Word: Copy + PartialEq + Sized + 'static {
    /// Every value with its word, in the order of the enum.
    const WORDS: &'static [(&'static str, Self)];

    /// Returns the word of this value.
    fn word(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(_, value)| *value == self)
            .map_or("", |(word, _)| word)
    }

    /// Returns all words, in the order of the enum.
    fn words() -> Vec<&'static str> {
        Self::WORDS.iter().map(|(word, _)| *word).collect()
    }
}

/// A word that an enum does not have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct UnknownWord {
    /// The word.
    pub given: String,
    /// The words that the enum has.
    pub known: Vec<&'static str>,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known: Vec<String> = self.known.iter().map(|word| format!("`{word}`")).collect();
        write!(f, "`{}` is none of {}", self.given, known.join(", "))
    }
}

/// Gives an enum its words: [`Word`](crate::word::Word), `Display` and `FromStr`. A word may have
/// another spelling, which is read but never written.
///
/// ```
/// #[derive(Copy, Clone, Debug, PartialEq)]
/// enum Fruit {
///     Apple,
///     Pear,
/// }
///
/// harness_metadata::words!(Fruit { Apple = "apple", Pear = "pear" | "poire" });
///
/// assert_eq!("poire".parse(), Ok(Fruit::Pear));
/// assert_eq!(Fruit::Pear.to_string(), "pear");
/// ```
#[macro_export]
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal $(| $other:literal)?),+ $(,)? }) => {
        impl $crate::word::Word for $type {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad($crate::word::Word::word(*self))
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = $crate::word::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word $(| $other)? => Ok(Self::$variant),)+
                    _ => Err($crate::word::UnknownWord {
                        given: text.to_owned(),
                        known: <Self as $crate::word::Word>::words(),
                    }),
                }
            }
        }
    };
}
