use std::sync::Arc;

use bytes::Bytes;
use meridian_types::{DcId, Incarnation, NodeId};
use parking_lot::Mutex;

use super::{AcceptedStream, DialedStream, PeerLink};
use crate::{Class, Handshake, Inbound, LinkOptions, LinkState, Peer};

const OLD: Incarnation = Incarnation(1);
const NEW: Incarnation = Incarnation(2);

#[derive(Default)]
struct Changes(Mutex<Vec<LinkState>>);

impl Inbound for Changes {
    fn received(&self, _: NodeId, _: Class, _: Bytes) {}

    fn link_changed(&self, _: NodeId, state: LinkState) {
        self.0.lock().push(state);
    }
}

fn link() -> (Arc<PeerLink>, Arc<Changes>) {
    let handshake =
        Handshake { cluster: "c".into(), node: NodeId(1), incarnation: OLD, protocol: 1 };
    let options = LinkOptions::new(([127, 0, 0, 1], 0).into(), handshake, Vec::new());
    let peer = Peer { id: NodeId(2), address: "localhost:1".into(), dc: DcId(0) };
    let changes = Arc::new(Changes::default());
    (PeerLink::new(peer, &options, Arc::clone(&changes) as Arc<dyn Inbound>), changes)
}

/// The six streams of a link, all with the same life of the peer.
fn streams(
    link: &Arc<PeerLink>,
    incarnation: Incarnation,
) -> (Vec<Option<DialedStream>>, Vec<Option<AcceptedStream>>) {
    let dialed = Class::EVERY.map(|class| Some(link.dialed(class, incarnation)));
    let accepted = Class::EVERY.map(|class| {
        let stream = link.accepted(class, incarnation);
        stream.prove();
        Some(stream)
    });
    (dialed.into(), accepted.into())
}

#[test]
fn every_one_of_the_six_streams_is_needed() {
    for lost in 0..6 {
        let (link, changes) = link();
        let (mut dialed, mut accepted) = streams(&link, OLD);
        assert!(link.is_up());
        if lost < 3 {
            dialed[lost] = None;
        } else {
            accepted[lost - 3] = None;
        }
        assert!(!link.is_up(), "without stream {lost}");
        assert_eq!(*changes.0.lock(), [LinkState::Up { incarnation: OLD }, LinkState::Down]);
    }
}

#[test]
fn an_accepted_stream_counts_once_something_came_on_it() {
    let (link, _) = link();
    let (_dialed, mut accepted) = streams(&link, OLD);
    accepted[1] = Some(link.accepted(Class::Background, OLD));
    assert!(!link.is_up());
    accepted[1].as_ref().unwrap().prove();
    assert!(link.is_up());
}

#[test]
fn streams_of_two_lives_are_no_link() {
    let (link, _) = link();
    let (_dialed, mut accepted) = streams(&link, OLD);
    let reborn = link.accepted(Class::Control, NEW);
    reborn.prove();
    accepted[2] = Some(reborn);
    assert!(!link.is_up());
}

#[test]
fn a_stream_that_is_replaced_was_lost_and_cannot_take_the_new_one_with_it() {
    let (link, changes) = link();
    let (_dialed, mut accepted) = streams(&link, OLD);
    let again = link.accepted(Class::Foreground, OLD);
    again.prove();
    let up = LinkState::Up { incarnation: OLD };
    assert_eq!(*changes.0.lock(), [up, LinkState::Down, up]);
    accepted[0] = None;
    assert!(link.is_up());
    drop(again);
    assert!(!link.is_up());
}
