//! What happens to one stream: how it comes to be, and how it ends.

use meridian_types::Incarnation;

use super::super::super::Micros;
use super::super::pipe::Item;
use super::super::stream::{Accepted, Dialer};
use super::super::{Death, End, Happens, LinkActions, REDIAL_WITHIN, StreamId, Told};
use super::{Fabric, Status, on, plan, plan_arrival, round_trip};

impl Fabric {
    pub(super) fn dial(&mut self, now: Micros, id: StreamId, number: u32, out: &mut LinkActions) {
        let reachable = self.is_reachable(id);
        let round_trip = round_trip(&self.ways, id);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.dial != Some(number) {
            return;
        }
        stream.dial = None;
        if stream.dialer != Dialer::Closed || !reachable {
            // A change that makes it reachable plans another.
            return;
        }
        stream.dialer = Dialer::Dialing;
        stream.number = stream.number.wrapping_add(1);
        // A connection, then the handshake: one round trip and a half.
        let at = now + Micros(round_trip.0 * 3 / 2);
        plan(at, id, stream.number, Happens::Accepted, out);
    }

    pub(super) fn accept(&mut self, now: Micros, id: StreamId, number: u32, out: &mut LinkActions) {
        let delivers = self.delivers_after_break();
        let incarnation = self.hosts.get(&id.from).map_or(Incarnation(0), |host| host.incarnation);
        let back = self.ways.get(&(id.to, id.from)).map(|way| way.delay(&mut self.draw).0);
        let Some(on) = on(&self.ways, &self.timing, id) else { return };
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.number != number || stream.dialer != Dialer::Dialing {
            return;
        }
        // It has given up what it dialed before.
        if delivers {
            stream.pipe.resume(now, &on, &mut self.draw);
        } else {
            stream.stats.dropped_messages += stream.pipe.clear();
        }
        stream.end_silence(End::Target);
        stream.accepted = None;
        self.judge(id.to, id.from, out);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.accepted = Some(Accepted { number, incarnation, proven: false });
        }
        plan(now + back.unwrap_or_default(), id, number, Happens::Opened, out);
        // It can be reached, very likely, so there is no point in waiting.
        let reverse = StreamId { from: id.to, to: id.from, class: id.class };
        if self.streams.get(&reverse).is_some_and(|stream| stream.dialer == Dialer::Closed) {
            self.plan_dial(now, reverse, REDIAL_WITHIN, out);
        }
    }

    pub(super) fn open(&mut self, now: Micros, id: StreamId, number: u32, out: &mut LinkActions) {
        let Some(peer) = self.hosts.get(&id.to).map(|host| host.incarnation) else { return };
        let Some(on) = on(&self.ways, &self.timing, id) else { return };
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.number != number || stream.dialer != Dialer::Dialing {
            return;
        }
        stream.dialer = Dialer::Open(peer);
        stream.stats.opened += 1;
        stream.pipe.push(now, Item::Proof, &on, &mut self.draw);
        plan_arrival(now, id, stream, out);
        self.judge(id.from, id.to, out);
    }

    pub(super) fn arrive(&mut self, now: Micros, id: StreamId, number: u32, out: &mut LinkActions) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.pipe.number != number {
            return;
        }
        let item = stream.pipe.arrived(now);
        plan_arrival(now, id, stream, out);
        match item {
            None => {}
            Some(Item::Proof) => {
                if let Some(accepted) = &mut stream.accepted {
                    accepted.proven = true;
                }
                self.judge(id.to, id.from, out);
            }
            Some(Item::Message(message)) => {
                stream.stats.received_messages += 1;
                stream.stats.received_bytes += message.len() as u64;
                let StreamId { from, to: at, class } = id;
                out.told.push(Told::Received { at, from, class, message });
            }
            Some(Item::End) => self.break_target(now, id, out),
        }
    }

    pub(super) fn silent(
        &mut self,
        now: Micros,
        id: StreamId,
        end: End,
        number: u32,
        out: &mut LinkActions,
    ) {
        let silence = self.streams.get(&id).and_then(|stream| stream.silence(end));
        if silence.is_some_and(|silence| silence.number == number) {
            match end {
                End::Dialer => self.break_dialer(now, id, out),
                End::Target => self.break_target(now, id, out),
            }
        }
    }

    pub(super) fn heard(
        &mut self,
        now: Micros,
        id: StreamId,
        end: End,
        number: u32,
        out: &mut LinkActions,
    ) {
        let deaf = self.is_deaf(id, end);
        let Some(on) = on(&self.ways, &self.timing, id) else { return };
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let same = stream.silence(end).is_some_and(|silence| silence.number == number);
        if !same || deaf {
            return;
        }
        stream.end_silence(end);
        match end {
            End::Target if stream.pipe.is_stalled() => {
                stream.pipe.resume(now, &on, &mut self.draw);
                plan_arrival(now, id, stream, out);
            }
            // What it hears is that the stream is not known there.
            End::Dialer if stream.accepted.is_none() => self.break_dialer(now, id, out),
            _ => {}
        }
    }

    /// The dialer gives its end up.
    pub(super) fn break_dialer(&mut self, now: Micros, id: StreamId, out: &mut LinkActions) {
        self.close_dialer(now, id, out);
        self.judge(id.from, id.to, out);
        self.review(now, id, out);
    }

    fn close_dialer(&mut self, now: Micros, id: StreamId, out: &mut LinkActions) {
        let Some(on) = on(&self.ways, &self.timing, id) else { return };
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.close_dialer() && stream.accepted.is_some() {
            stream.stats.dropped_messages += stream.pipe.close(now, &on, &mut self.draw);
            plan_arrival(now, id, stream, out);
        }
    }

    /// The target gives its end up.
    fn break_target(&mut self, now: Micros, id: StreamId, out: &mut LinkActions) {
        self.close_target(now, id, out);
        self.judge(id.to, id.from, out);
    }

    fn close_target(&mut self, now: Micros, id: StreamId, out: &mut LinkActions) {
        let delivers = self.delivers_after_break();
        let back = self.ways.get(&(id.to, id.from)).map_or(Micros::ZERO, |way| way.latency);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(accepted) = stream.accepted.take() else { return };
        stream.end_silence(End::Target);
        if !delivers {
            stream.stats.dropped_messages += stream.pipe.clear();
            plan_arrival(now, id, stream, out);
        }
        if accepted.number == stream.number && stream.dialer != Dialer::Closed {
            plan(now + back, id, stream.number, Happens::Closed, out);
        }
    }

    pub(super) fn stop_dialer(
        &mut self,
        now: Micros,
        id: StreamId,
        death: Death,
        out: &mut LinkActions,
    ) {
        match death {
            Death::Process => self.close_dialer(now, id, out),
            Death::Power => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.close_dialer();
                    stream.stats.dropped_messages += stream.pipe.abandon(now);
                    plan_arrival(now, id, stream, out);
                }
            }
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.dial = None;
        }
    }

    pub(super) fn stop_target(
        &mut self,
        now: Micros,
        id: StreamId,
        death: Death,
        out: &mut LinkActions,
    ) {
        match death {
            Death::Process => self.close_target(now, id, out),
            Death::Power => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.accepted = None;
                    stream.end_silence(End::Target);
                    stream.stats.dropped_messages += stream.pipe.clear();
                    plan_arrival(now, id, stream, out);
                }
            }
        }
    }

    /// Looks at a stream again after something changed around it.
    pub(super) fn review(&mut self, now: Micros, id: StreamId, out: &mut LinkActions) {
        let (reachable, cut) = (self.is_reachable(id), self.is_cut(id.from, id.to));
        for end in [End::Dialer, End::Target] {
            self.review_silence(now, id, end, out);
        }
        let runs = self.hosts.get(&id.from).is_some_and(|host| host.status == Status::Running);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if cut && !stream.pipe.is_stalled() {
            stream.pipe.stall(now);
            plan_arrival(now, id, stream, out);
        }
        if stream.dialer == Dialer::Dialing && !reachable {
            stream.close_dialer();
        }
        if stream.dialer == Dialer::Closed && stream.dial.is_none() && reachable && runs {
            // In the middle of an attempt, or of the wait for the next.
            let within = self.timing.dial_timeout + self.timing.backoff_max;
            self.plan_dial(now, id, within, out);
        }
    }

    fn review_silence(&mut self, now: Micros, id: StreamId, end: End, out: &mut LinkActions) {
        let deaf = self.is_deaf(id, end);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match stream.silence(end) {
            None if deaf && stream.is_open(end) => {
                let number = stream.fall_silent(end, now);
                // The last ping came some time before.
                let before = Micros(self.draw.below(self.timing.keep_alive.0));
                let at = now + (self.timing.patience(id.class) - before);
                plan(at, id, number, Happens::Silent(end), out);
            }
            Some(silence) if !deaf => {
                // What was lost is sent again, later and later: it comes within as long again.
                let patience = self.timing.patience(id.class);
                let within = (now - silence.since).min(patience).0.saturating_add(1);
                let at = now + Micros(self.draw.below(within));
                plan(at, id, silence.number, Happens::Heard(end), out);
            }
            _ => {}
        }
    }

    pub(super) fn plan_dial(
        &mut self,
        now: Micros,
        id: StreamId,
        within: Micros,
        out: &mut LinkActions,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let number = stream.plan_dial();
        let at = now + Micros(self.draw.below(within.0.saturating_add(1)));
        plan(at, id, number, Happens::Dial, out);
    }
}
