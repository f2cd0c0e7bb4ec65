//! (to come)
mod diagnostic;
pub use diagnostic::FiltersetError;
