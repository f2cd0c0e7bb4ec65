//! Selects tests by their names.

/// Names that tests must or must not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameFilter {
    /// A test's name must contain one of these...
    pub contains: Vec<String>,
    /// ...or be one of these, unless both lists are empty.
    pub equals: Vec<String>,
    /// It must not contain any of these...
    pub skip_contains: Vec<String>,
    /// ...nor be any of these.
    pub skip_equals: Vec<String>,
}

impl NameFilter {
    /// Returns whether a test of this name is selected. What is skipped is not, even if it is
    /// also named.
    pub fn selects(&self, name: &str) -> bool {
        let among = |contains: &[String], equals: &[String]| {
            contains.iter().any(|part| name.contains(part.as_str()))
                || equals.iter().any(|whole| name == whole)
        };
        let any = self.contains.is_empty() && self.equals.is_empty();
        !among(&self.skip_contains, &self.skip_equals)
            && (any || among(&self.contains, &self.equals))
    }
}
