use meridian_topology::Shape;

use super::*;

fn nodes(numbers: &[u32]) -> Vec<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

#[test]
fn a_pair_is_concerned_once_and_nobody_with_itself() {
    let ways = |both| Ways { from: nodes(&[1, 2]), to: nodes(&[2, 3]), both };
    let one_way: Vec<_> = ways(false).pairs().map(|(a, b)| (a.0, b.0)).collect();
    assert_eq!(one_way, [(1, 2), (1, 3), (2, 3)]);
    let both: Vec<_> = ways(true).pairs().map(|(a, b)| (a.0, b.0)).collect();
    assert_eq!(both, [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)]);
    let all = Ways { from: nodes(&[1, 2]), to: nodes(&[1, 2]), both: true };
    assert_eq!(all.pairs().count(), 2);
}

#[test]
fn faults_of_a_way_add_up_in_any_order() {
    let faults = [
        WayFault::Cut {},
        WayFault::Slow { by: Micros(30), jitter: Micros(5) },
        WayFault::Slow { by: Micros(1), jitter: Micros(1) },
        WayFault::Lossy { ppm: 900_000 },
        WayFault::Lossy { ppm: 300_000 },
        WayFault::Narrow { bytes_per_second: 2_000 },
        WayFault::Narrow { bytes_per_second: 1_000 },
        WayFault::Datagrams { lost_ppm: 1, doubled_ppm: 2, late_ppm: 3, late_by: Micros(4) },
    ];
    let there = faults.iter().fold(Way::default(), |way, fault| fault.on(way));
    let back = faults.iter().rev().fold(Way::default(), |way, fault| fault.on(way));
    assert_eq!(there, back);
    let datagrams = Datagrams { lost_ppm: 1, doubled_ppm: 2, late_ppm: 3, late_by: Micros(4) };
    let expected = Way {
        latency: Micros(31),
        jitter: Micros(6),
        loss_ppm: 1_000_000,
        bytes_per_second: 1_000,
        cut: true,
        datagrams,
    };
    assert_eq!(there, expected);
}

#[test]
fn a_fault_is_told_with_the_names_of_its_nodes() {
    let shape = Shape::named("three-dc").unwrap();
    let crash = Fault::Node { node: NodeId(2), what: NodeFault::Crash { loses: Loss::Torn } };
    assert_eq!(crash.text(shape.topology()), "us-2 crash (loses any part of what is not synced)");
    let ways = Ways { from: nodes(&[1, 2, 3, 4]), to: nodes(&[7, 8, 9]), both: false };
    let cut = Fault::Ways { ways, what: WayFault::Cut {} };
    assert_eq!(cut.text(shape.topology()), "us,eu-1 -> ap cut");
}
