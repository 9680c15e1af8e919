use meridian_types::Incarnation;
use proptest::prelude::*;

use super::*;

const NOW_AND_EVER: [ReadClass; 4] = ReadClass::EVERY;

fn nodes(numbers: &[u32]) -> BTreeSet<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

fn others(local: &[u32], remote: &[u32]) -> OtherReplicas {
    OtherReplicas { local: nodes(local), all: nodes(&[local, remote].concat()) }
}

fn sound() -> PeerStanding {
    PeerStanding { kind: VnodeKind::Sound, goods: Goods::EVERY, loss: Incarnation(0) }
}

fn fresh(loss: u64) -> PeerStanding {
    let loss = Incarnation(loss);
    PeerStanding { kind: VnodeKind::Fresh, goods: Goods::NONE, loss }
}

/// A pull that began just now.
fn pulled(state: &mut VnodeState, peer: u32, at: PeerStanding, full: bool) -> bool {
    let round = state.round();
    state.pull_ended(&EndedPull { peer: NodeId(peer), at, full, round })
}

fn suspect() -> VnodeState {
    let mut state = VnodeState::sound();
    state.tail_lost();
    state
}

fn good(state: &VnodeState, others: &OtherReplicas) -> Vec<ReadClass> {
    let standing = Standing::new(state, state.goods(others));
    NOW_AND_EVER.into_iter().filter(|class| standing.answers(*class)).collect()
}

#[test]
fn after_a_lost_tail_a_read_needs_as_many_good_peers_as_it_waits_for_or_all() {
    use ReadClass::{All, Global, Local, One};
    let three = others(&[2, 3], &[]);
    let mut state = suspect();
    assert_eq!((state.kind, good(&state, &three)), (VnodeKind::Suspect, vec![One]));
    assert!(pulled(&mut state, 2, sound(), false));
    assert_eq!(good(&state, &three), [One], "one of two may be the one that lacks it");
    assert!(!state.is_through(&three) && state.todo(&three) == [NodeId(3)]);
    // Whatever the last of all others has lost: nobody else could have it.
    pulled(&mut state, 3, fresh(9), false);
    assert_eq!(good(&state, &three), NOW_AND_EVER);
    assert!(state.is_through(&three));

    let nine = others(&[2, 3], &[4, 5, 6, 7, 8, 9]);
    let mut state = suspect();
    for local in [2, 3] {
        pulled(&mut state, local, sound(), false);
    }
    assert_eq!(good(&state, &nine), [One, Local]);
    pulled(&mut state, 4, PeerStanding { goods: Goods::NONE, ..sound() }, false);
    for remote in [5, 6] {
        pulled(&mut state, remote, sound(), false);
    }
    assert_eq!(good(&state, &nine), [One, Local], "four good ones and one that is not");
    pulled(&mut state, 7, sound(), false);
    assert_eq!(good(&state, &nine), [One, Local, Global]);
    for remote in [8, 9] {
        pulled(&mut state, remote, sound(), false);
    }
    assert_eq!(good(&state, &nine), [One, Local, Global, All]);
}

#[test]
fn a_replica_alone_has_nobody_to_ask() {
    let alone = others(&[], &[]);
    assert!(suspect().is_through(&alone));
    let fresh = VnodeState::begun(VnodeKind::Fresh, Incarnation(1));
    assert!(fresh.is_through(&alone));
    let mut lost = VnodeState::begun(VnodeKind::Rebuilding, Incarnation(1));
    assert!(!lost.is_through(&alone) && good(&lost, &alone).is_empty());
    lost.accept();
    assert!(lost.is_through(&alone));
    assert_eq!(good(&lost, &alone), NOW_AND_EVER);
}

#[test]
fn a_loss_is_made_good_by_full_pulls_from_all_and_only_with_a_sound_one_among_them() {
    let three = others(&[2, 3], &[]);
    let mut state = VnodeState::begun(VnodeKind::Rebuilding, Incarnation(7));
    assert!(!pulled(&mut state, 2, sound(), false), "an ordinary pull proves nothing");
    pulled(&mut state, 2, sound(), true);
    assert_eq!(good(&state, &three), [ReadClass::One], "H4: not before a sound one was swept");
    let hurt = PeerStanding { kind: VnodeKind::Rebuilding, ..fresh(8) };
    pulled(&mut state, 3, hurt, true);
    assert_eq!(state.todo(&three), [NodeId(2)], "its loss was new: the others once more");
    assert_eq!(good(&state, &three), NOW_AND_EVER);
    pulled(&mut state, 2, sound(), true);
    assert!(state.is_through(&three));
    state.end(&three);
    assert_eq!((state.kind, state.loss), (VnodeKind::Sound, Incarnation(7)));

    let mut nobody = VnodeState::begun(VnodeKind::Rebuilding, Incarnation(7));
    for _ in 0..2 {
        pulled(&mut nobody, 2, PeerStanding { loss: Incarnation(6), ..hurt }, true);
        pulled(&mut nobody, 3, hurt, true);
    }
    assert!(nobody.todo(&three).is_empty() && !nobody.is_through(&three));
    assert!(good(&nobody, &three).is_empty());
    nobody.accept();
    assert!(nobody.is_through(&three));
}

#[test]
fn those_that_begin_together_are_sound_when_all_of_them_were_asked() {
    let three = others(&[2, 3], &[]);
    let mut state = VnodeState::begun(VnodeKind::Fresh, Incarnation(1));
    pulled(&mut state, 2, fresh(2), true);
    pulled(&mut state, 3, fresh(3), true);
    assert!(!state.is_through(&three) && good(&state, &three).is_empty());
    pulled(&mut state, 2, fresh(2), true);
    assert!(state.is_through(&three));
    // One that has something is no beginner: then it takes a sound one.
    let mut state = VnodeState::begun(VnodeKind::Fresh, Incarnation(1));
    for _ in 0..2 {
        pulled(&mut state, 2, fresh(2), true);
        pulled(&mut state, 3, PeerStanding { kind: VnodeKind::Rebuilding, ..fresh(3) }, true);
    }
    assert!(state.todo(&three).is_empty() && !state.is_through(&three));
}

#[test]
fn a_lost_tail_takes_back_what_was_pulled_and_not_what_was_swept() {
    let three = others(&[2, 3], &[]);
    let mut state = VnodeState::begun(VnodeKind::Rebuilding, Incarnation(7));
    pulled(&mut state, 2, sound(), true);
    state.accept();
    state.tail_lost();
    assert_eq!(state.kind, VnodeKind::Rebuilding);
    assert_eq!(state.todo(&three), [NodeId(3)]);
    assert!(state.found_sound && state.accepted && good(&state, &three).is_empty());
}

#[test]
fn a_pull_from_before_a_loss_was_heard_of_sweeps_nothing() {
    let three = others(&[2, 3], &[]);
    let mut state = VnodeState::begun(VnodeKind::Rebuilding, Incarnation(7));
    let early = EndedPull { peer: NodeId(2), at: sound(), full: true, round: state.round() };
    pulled(&mut state, 3, PeerStanding { kind: VnodeKind::Rebuilding, ..fresh(8) }, true);
    assert!(state.pull_ended(&early));
    assert_eq!(state.todo(&three), [NodeId(2)], "what it handed out may be from before that loss");
    assert_eq!(good(&state, &three), NOW_AND_EVER, "and yet it was pulled from");
    pulled(&mut state, 2, sound(), true);
    assert!(state.is_through(&three));
}

#[test]
fn who_is_through_after_a_lost_tail_has_still_to_pull_from_the_others() {
    let three = others(&[2, 3], &[]);
    let mut state = VnodeState::begun(VnodeKind::Rebuilding, Incarnation(7));
    pulled(&mut state, 2, sound(), true);
    state.tail_lost();
    pulled(&mut state, 3, sound(), true);
    assert!(state.is_through(&three));
    state.end(&three);
    assert_eq!((state.kind, state.loss), (VnodeKind::Suspect, Incarnation(7)));
    assert_eq!(state.todo(&three), [NodeId(2)]);
    pulled(&mut state, 2, sound(), false);
    assert!(state.is_through(&three));
    state.end(&three);
    assert_eq!(state.kind, VnodeKind::Sound);
}

#[test]
fn an_operators_word_ends_a_suspicion() {
    let three = others(&[2, 3], &[]);
    let mut state = suspect();
    state.accept();
    assert!(state.is_through(&three) && !state.accepted);
    assert_eq!(good(&state, &three), NOW_AND_EVER);
}

fn example() -> VnodeState {
    let mut state = VnodeState::begun(VnodeKind::Rebuilding, Incarnation(0x0102));
    pulled(&mut state, 2, sound(), true);
    pulled(&mut state, 300, fresh(3), true);
    state.accept();
    state
}

#[test]
fn golden_bytes() {
    let hex = |state: &VnodeState| {
        state.to_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    assert_eq!(hex(&VnodeState::sound()), "0100000000000000000000000000");
    assert_eq!(hex(&example()), "010307000000000000010201ac020101ac02000000000000000302020fac0200");
    assert_eq!(VnodeState::from_bytes(&example().to_bytes()), Ok(example()));
}

proptest! {
    #[test]
    fn damaged_states_are_errors_or_their_only_spelling(cut in 0usize..40, bit in 0usize..300) {
        let mut bytes = example().to_bytes();
        bytes.truncate(bytes.len().saturating_sub(cut));
        if let Some(byte) = bytes.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
        if let Ok(read) = VnodeState::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_are_errors_or_their_only_spelling(bytes: Vec<u8>) {
        if let Ok(read) = VnodeState::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }

    /// Pulling from one more never takes a class away, but where it tells of a new loss.
    #[test]
    fn goods_only_grow_with_ordinary_pulls(pulls in proptest::collection::vec((2u32..8, 0u8..16), 0..12)) {
        let six = others(&[2, 3], &[4, 5, 6, 7]);
        let mut state = suspect();
        for (node, bits) in pulls {
            let goods = Goods::from_bits(bits).unwrap();
            if state.pulled.get(&NodeId(node)).is_some_and(|known| goods.bits() & known.bits() != known.bits()) {
                continue;
            }
            let before = state.goods(&six);
            pulled(&mut state, node, PeerStanding { goods, ..sound() }, false);
            prop_assert_eq!(state.goods(&six).bits() & before.bits(), before.bits());
        }
    }

    #[test]
    fn the_byte_of_the_read_path_says_what_the_state_says(
        kind in 0u8..4, found: bool, accepted: bool, bits in 0u8..16,
    ) {
        let kind = VnodeKind::from_number(kind).unwrap();
        let state = VnodeState {
            found_sound: found, accepted, ..VnodeState::begun(kind, Incarnation(1))
        };
        let goods = Goods::from_bits(bits).unwrap();
        let standing = Standing::from_byte(Standing::new(&state, goods).to_byte());
        prop_assert_eq!((standing.kind(), standing.goods()), (kind, goods));
        for class in ReadClass::EVERY {
            let shown = !kind.is_unproven() || found || accepted;
            let at_once = kind == VnodeKind::Suspect && class == ReadClass::One;
            prop_assert_eq!(standing.answers(class), at_once || shown && goods.has(class));
        }
    }
}
