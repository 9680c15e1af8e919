//! Properties of layouts over random datacenters: 1 to 40 nodes on 1 to 5 racks, capacities 0.5 to
//! 4, 1 to 5 replicas.

mod oracle;

use oracle::{SLACK, assert_moves_little, assert_sound, load, moves_least};
use proptest::prelude::*;

use super::*;

const DC: DcId = DcId(3);

fn member(node: u32, rack: usize, thousandths: u32) -> Member {
    let capacity = Capacity::from_thousandths(thousandths).unwrap();
    Member { node: NodeId(node), rack: format!("rack-{rack}"), capacity }
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let one = (0usize..5, prop_oneof![Just(1_000u32), 500u32..=4_000]);
    (1usize..=5, prop::collection::vec(one, 1..=40)).prop_map(|(racks, nodes)| {
        let numbered = (1..).zip(nodes);
        numbered.map(|(id, (rack, capacity))| member(id, rack % racks, capacity)).collect()
    })
}

fn vnodes_for(members: &[Member]) -> VnodeCount {
    VnodeCount::for_nodes(members.len(), VnodeCount::DEFAULT_PER_NODE).unwrap()
}

fn first(members: &[Member], vnodes: VnodeCount, replicas: u8) -> Layout {
    Layout::compute(Epoch(1), DC, members, vnodes, replicas, None).unwrap()
}

fn next(members: &[Member], replicas: u8, previous: &Layout) -> Layout {
    let vnodes = previous.vnode_count();
    Layout::compute(Epoch(2), DC, members, vnodes, replicas, Some(previous)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_first_layout_is_spread_and_balanced(members in members(), replicas in 1u8..=5) {
        assert_sound(&first(&members, vnodes_for(&members), replicas), &members, replicas, 0.0);
    }

    #[test]
    fn few_vnodes_are_balanced_as_far_as_they_go(
        members in members(),
        replicas in 1u8..=5,
        bits in 0u32..=8,
    ) {
        let vnodes = VnodeCount::new(1 << bits).unwrap();
        assert_sound(&first(&members, vnodes, replicas), &members, replicas, 0.0);
    }

    #[test]
    fn a_node_added_moves_little_more_than_its_share(
        members in members(),
        replicas in 1u8..=5,
        rack in 0usize..6,
        capacity in 500u32..=4_000,
        id in prop_oneof![Just(0u32), Just(1_000)],
    ) {
        let previous = first(&members, vnodes_for(&members), replicas);
        let mut more = members.clone();
        more.push(member(id, rack, capacity));
        let layout = next(&more, replicas, &previous);
        assert_sound(&layout, &more, replicas, SLACK);
        let share = load(&layout, NodeId(id), 0..layout.width());
        assert_moves_little((&previous, &members), (&layout, &more), share);
    }

    #[test]
    fn a_node_removed_moves_little_more_than_its_share(
        members in members(),
        replicas in 1u8..=5,
        which: prop::sample::Index,
    ) {
        let previous = first(&members, vnodes_for(&members), replicas);
        let mut fewer = members.clone();
        let gone = fewer.remove(which.index(fewer.len()));
        let layout = next(&fewer, replicas, &previous);
        assert_sound(&layout, &fewer, replicas, SLACK);
        let share = load(&previous, gone.node, 0..previous.width());
        assert_moves_little((&previous, &members), (&layout, &fewer), share);
    }

    #[test]
    fn a_capacity_changed_moves_little_more_than_the_difference(
        members in members(),
        replicas in 1u8..=5,
        which: prop::sample::Index,
        capacity in 500u32..=4_000,
    ) {
        let previous = first(&members, vnodes_for(&members), replicas);
        let mut changed = members.clone();
        let at = which.index(changed.len());
        changed[at].capacity = Capacity::from_thousandths(capacity).unwrap();
        let layout = next(&changed, replicas, &previous);
        assert_sound(&layout, &changed, replicas, SLACK);
        assert_moves_little((&previous, &members), (&layout, &changed), 0);
    }

    #[test]
    fn any_change_leads_to_a_sound_layout(
        before in members(),
        after in members(),
        replicas in (1u8..=5, 1u8..=5),
    ) {
        let vnodes = vnodes_for(&before);
        let previous = first(&before, vnodes, replicas.0);
        assert_sound(&next(&after, replicas.1, &previous), &after, replicas.1, SLACK);
    }

    #[test]
    fn no_layout_with_the_same_loads_moves_less(
        before in members(),
        after in members(),
        replicas in (1u8..=5, 1u8..=5),
        bits in 3u32..=8,
    ) {
        let previous = first(&before, VnodeCount::new(1 << bits).unwrap(), replicas.0);
        let layout = next(&after, replicas.1, &previous);
        prop_assert!(moves_least(&previous, &layout, &after));
    }

    #[test]
    fn a_layout_depends_on_its_input_only(
        (members, shuffled) in members().prop_flat_map(|m| (Just(m.clone()), Just(m).prop_shuffle())),
        replicas in 1u8..=5,
    ) {
        let vnodes = vnodes_for(&members);
        let layout = first(&members, vnodes, replicas);
        prop_assert_eq!(&layout, &first(&shuffled, vnodes, replicas));
        let again = next(&shuffled, replicas, &layout);
        prop_assert!(again.lists().eq(layout.lists()), "no change moves nothing, not even in order");
    }
}

#[test]
fn without_members_or_replicas_the_lists_are_empty() {
    let vnodes = VnodeCount::new(8).unwrap();
    let one = [member(1, 0, 1_000)];
    let none = first(&[], vnodes, 3);
    assert_eq!((none.width(), none.replicas(VnodeId(0))), (0, &[][..]));
    assert_eq!(first(&one, vnodes, 0).width(), 0);
    assert_eq!(next(&[], 3, &first(&one, vnodes, 1)).width(), 0);
    let grown = next(&one, 3, &none);
    assert!(grown.lists().all(|(_, list)| list == [NodeId(1)]));
    assert_eq!(grown.lists().count(), 8);
    assert_eq!(grown.replicas(VnodeId(8)), &[][..]);
    assert_eq!(grown.replicas(VnodeId(u32::MAX)), &[][..]);
}

#[test]
fn a_vnode_that_could_be_anybodys_stays() {
    // Four vnodes for three equal nodes: one of them has two, and it is the one that had them.
    let vnodes = VnodeCount::new(4).unwrap();
    let alone = first(&[member(3, 0, 1_000)], vnodes, 1);
    let three: Vec<Member> = (1..=3).map(|n| member(n, 0, 1_000)).collect();
    let layout = next(&three, 1, &alone);
    assert_eq!(load(&layout, NodeId(3), 0..1), 2);
    assert_eq!(layout.gained_since(&alone), 2);
}

#[test]
fn input_that_contradicts_itself_is_refused() {
    let vnodes = VnodeCount::new(8).unwrap();
    let twice = [member(1, 0, 1_000), member(1, 1, 1_000)];
    let compute = |dc, members: &[Member], vnodes, previous| {
        Layout::compute(Epoch(2), dc, members, vnodes, 1, previous)
    };
    assert_eq!(compute(DC, &twice, vnodes, None), Err(LayoutError::DuplicateNode(NodeId(1))));
    let previous = first(&twice[..1], vnodes, 1);
    assert_eq!(
        compute(DcId(0), &twice[..1], vnodes, Some(&previous)),
        Err(LayoutError::OtherDc { dc: DcId(0), previous: DC })
    );
    let other = VnodeCount::new(16).unwrap();
    assert_eq!(
        compute(DC, &twice[..1], other, Some(&previous)),
        Err(LayoutError::OtherVnodeCount { vnodes: other, previous: vnodes })
    );
}

/// Nodes of different versions compute the layouts of a static cluster each for itself, so a change
/// of the algorithm is a change of where data lies. If this test fails, data would move.
#[test]
fn layouts_stay_what_they_are() {
    let members: Vec<Member> =
        (1..=12).map(|n| member(n, n as usize % 4, if n > 9 { 2_000 } else { 1_000 })).collect();
    let vnodes = VnodeCount::new(4_096).unwrap();
    let digest = |layout: &Layout| {
        let nodes = layout.lists().flat_map(|(_, list)| list);
        nodes.fold(0u64, |sum, node| sum.wrapping_mul(31).wrapping_add(u64::from(node.0)))
    };
    let layout = first(&members, vnodes, 3);
    assert_eq!(layout.replicas(VnodeId(0)), FIRST_LIST.map(NodeId));
    assert_eq!(digest(&layout), 15_477_462_389_771_365_910);
    let layout = next(&members[1..], 3, &layout);
    assert_eq!(digest(&layout), 4_663_579_477_977_994_808);
}

const FIRST_LIST: [u32; 3] = [6, 11, 5];
