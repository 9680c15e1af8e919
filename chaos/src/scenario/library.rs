//! The scenarios that are part of the program.

use super::{Scenario, ScenarioError};

/// By name, in the order of the alphabet.
const SHIPPED: [(&str, &str); 2] = [
    ("calm", include_str!("../../scenarios/calm.toml")),
    ("mixed", include_str!("../../scenarios/mixed.toml")),
];

/// The names of the scenarios that are part of the program.
pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// The scenarios that are part of the program.
pub fn shipped() -> impl Iterator<Item = Result<Scenario, ScenarioError>> {
    SHIPPED.iter().map(|(_, text)| Scenario::parse(text))
}

/// A scenario that is part of the program.
///
/// # Errors
/// There is none of this name; the error lists the names.
pub fn named(name: &str) -> Result<Scenario, ScenarioError> {
    let found = SHIPPED.iter().find(|(shipped, _)| *shipped == name);
    let (_, text) = found.ok_or_else(|| ScenarioError::Unknown {
        name: name.to_owned(),
        known: names().collect::<Vec<_>>().join(", "),
    })?;
    Scenario::parse(text)
}
