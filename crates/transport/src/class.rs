//! Classes of messages.

use meridian_wire::v1;

/// What a message is for. Classes do not wait for each other: each has its own connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// What a client waits for.
    Foreground,
    /// Hints and anti-entropy.
    Background,
    /// The catalog, and what the cluster needs to know of itself.
    Control,
}

impl Class {
    /// All classes.
    pub const EVERY: [Self; 3] = [Self::Foreground, Self::Background, Self::Control];

    /// The class's name in logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Foreground => "foreground",
            Self::Background => "background",
            Self::Control => "control",
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Self::Foreground => 0,
            Self::Background => 1,
            Self::Control => 2,
        }
    }

    pub(crate) fn to_wire(self) -> v1::LinkClass {
        match self {
            Self::Foreground => v1::LinkClass::Foreground,
            Self::Background => v1::LinkClass::Background,
            Self::Control => v1::LinkClass::Control,
        }
    }

    pub(crate) fn from_wire(class: v1::LinkClass) -> Option<Self> {
        match class {
            v1::LinkClass::Foreground => Some(Self::Foreground),
            v1::LinkClass::Background => Some(Self::Background),
            v1::LinkClass::Control => Some(Self::Control),
            v1::LinkClass::Unspecified => None,
        }
    }
}
