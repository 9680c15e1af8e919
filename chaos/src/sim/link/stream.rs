//! One stream as it is now.

use meridian_transport::ClassStats;
use meridian_types::Incarnation;

use super::super::Micros;
use super::End;
use super::pipe::Pipe;

#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Counts the attempts to dial, and their ends; what was planned under another is outdated.
    pub(super) number: u32,
    pub(super) dialer: Dialer,
    pub(super) accepted: Option<Accepted>,
    pub(super) pipe: Pipe,
    /// The dial that is planned, by its number.
    pub(super) dial: Option<u32>,
    /// Counts planned dials.
    pub(super) dials: u32,
    dialer_silence: Option<Silence>,
    target_silence: Option<Silence>,
    silences: u32,
    /// Of the dialer; what was received is counted at the target.
    pub(super) stats: ClassStats,
}

/// The dialer's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dialer {
    #[default]
    Closed,
    Dialing,
    /// Takes messages, for the life of the peer that answered.
    Open(Incarnation),
}

/// The target's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// [`Stream::number`] of the attempt that it was accepted from.
    pub(super) number: u32,
    /// The dialer's life.
    pub(super) incarnation: Incarnation,
    /// Whether something came after the handshake.
    pub(super) proven: bool,
}

/// An end that hears nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    pub(super) since: Micros,
    pub(super) number: u32,
}

impl Stream {
    /// Whether an end takes itself for open.
    pub(super) fn is_open(&self, end: End) -> bool {
        match end {
            End::Dialer => matches!(self.dialer, Dialer::Open(_)),
            End::Target => self.accepted.is_some(),
        }
    }

    pub(super) fn silence(&self, end: End) -> Option<Silence> {
        match end {
            End::Dialer => self.dialer_silence,
            End::Target => self.target_silence,
        }
    }

    /// An end hears nothing from now on; returns the silence's number.
    pub(super) fn fall_silent(&mut self, end: End, since: Micros) -> u32 {
        self.silences = self.silences.wrapping_add(1);
        let number = self.silences;
        *self.silence_mut(end) = Some(Silence { since, number });
        number
    }

    pub(super) fn end_silence(&mut self, end: End) {
        *self.silence_mut(end) = None;
    }

    fn silence_mut(&mut self, end: End) -> &mut Option<Silence> {
        match end {
            End::Dialer => &mut self.dialer_silence,
            End::Target => &mut self.target_silence,
        }
    }

    /// Ends the dialer's side of whatever was; returns whether it was open.
    pub(super) fn close_dialer(&mut self) -> bool {
        let was_open = self.is_open(End::Dialer);
        self.dialer = Dialer::Closed;
        self.dialer_silence = None;
        self.number = self.number.wrapping_add(1);
        was_open
    }

    /// Plans a dial in place of the one that was; returns its number.
    pub(super) fn plan_dial(&mut self) -> u32 {
        self.dials = self.dials.wrapping_add(1);
        self.dial = Some(self.dials);
        self.dials
    }
}
