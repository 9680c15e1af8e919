//! What a replica can prove of a vnode, in the words that replicas use for it (rule 10).

use crate::{ConsistencyLevel, Incarnation};

/// What a replica can prove of a vnode. Stored and sent: do not renumber.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum VnodeKind {
    /// It has everything that its clock claims, and everything that it ever acknowledged.
    #[default]
    Sound = 0,
    /// It may have lost the tail of its log: all that it has is true, of an earlier time.
    Suspect = 1,
    /// It has nothing, and cannot prove that it never had: a new replica, or a wiped one.
    Fresh = 2,
    /// It lost more than a tail: an old copy was put back, or a part cannot be read.
    Rebuilding = 3,
}

impl VnodeKind {
    /// All kinds, in the order of their numbers.
    pub const EVERY: [Self; 4] = [Self::Sound, Self::Suspect, Self::Fresh, Self::Rebuilding];

    /// The kind with a number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::EVERY.get(usize::from(number)).copied()
    }

    /// Whether only full pulls end it.
    #[must_use]
    pub const fn is_unproven(self) -> bool {
        matches!(self, Self::Fresh | Self::Rebuilding)
    }
}

/// What a read waits for, as far as it matters to a replica that may have lost something. Sent: do
/// not renumber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ReadClass {
    /// ONE, `LOCAL_ONE`: any replica.
    One = 0,
    /// `LOCAL_QUORUM`, and each datacenter's part of `EACH_QUORUM`.
    Local = 1,
    /// QUORUM.
    Global = 2,
    /// TWO, THREE, ALL.
    All = 3,
}

impl ReadClass {
    /// All classes, in the order of their numbers.
    pub const EVERY: [Self; 4] = [Self::One, Self::Local, Self::Global, Self::All];

    /// The class of reads at a level.
    #[must_use]
    pub const fn of(level: ConsistencyLevel) -> Self {
        use ConsistencyLevel as L;
        match level {
            L::Any | L::One | L::LocalOne => Self::One,
            L::LocalQuorum | L::EachQuorum | L::LocalSerial => Self::Local,
            L::Quorum | L::Serial => Self::Global,
            L::Two | L::Three | L::All => Self::All,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The classes of reads that a replica may be counted in. Stored and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Goods(u8);

impl Goods {
    /// Good for nothing.
    pub const NONE: Self = Self(0);
    /// Good for every read.
    pub const EVERY: Self = Self(0b1111);

    /// Whether a class is among them.
    #[must_use]
    pub const fn has(self, class: ReadClass) -> bool {
        self.0 & class.bit() != 0
    }

    /// As a number: a bit a class.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From a number; bits that name no class are an error.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits <= Self::EVERY.0 { Some(Self(bits)) } else { None }
    }
}

impl FromIterator<ReadClass> for Goods {
    fn from_iter<I: IntoIterator<Item = ReadClass>>(classes: I) -> Self {
        Self(classes.into_iter().fold(0, |bits, class| bits | class.bit()))
    }
}

/// What a peer says of itself with the answers of a pull or a comparison: of one instant with its
/// clock there, or of an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStanding {
    /// Its state.
    pub kind: VnodeKind,
    /// The reads that it is good for.
    pub goods: Goods,
    /// The incarnation under which it found its last loss; 0: none ever.
    pub loss: Incarnation,
}

impl PeerStanding {
    /// Of a replica that never lost anything.
    pub const SOUND: Self =
        Self { kind: VnodeKind::Sound, goods: Goods::EVERY, loss: Incarnation(0) };
}

impl Default for PeerStanding {
    fn default() -> Self {
        Self::SOUND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_the_class_whose_replicas_it_counts() {
        use ReadClass::{All, Global, Local, One};
        let classes = ConsistencyLevel::EVERY.map(ReadClass::of);
        assert_eq!(classes, [One, One, One, All, All, Global, Local, Local, All, Global, Local]);
    }

    #[test]
    fn numbers_are_those_that_are_stored() {
        for (number, kind) in VnodeKind::EVERY.into_iter().enumerate() {
            assert_eq!(VnodeKind::from_number(u8::try_from(number).unwrap()), Some(kind));
        }
        assert_eq!(VnodeKind::from_number(4), None);
        let goods: Goods = [ReadClass::One, ReadClass::Global].into_iter().collect();
        assert_eq!((goods.bits(), Goods::from_bits(5)), (5, Some(goods)));
        assert_eq!(Goods::from_bits(16), None);
        assert_eq!(ReadClass::EVERY.into_iter().collect::<Goods>(), Goods::EVERY);
    }
}
