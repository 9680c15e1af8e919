//! How long layouts take to compute, and how much they move: the figures of `docs/placement.md`.
//!
//! `cargo run --release -p meridian-topology --example layout_cost`
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "measures wall-clock time and prints it; the library does neither"
)]

use std::time::Instant;

use meridian_topology::{Capacity, Layout, LayoutError, Member, VnodeCount};
use meridian_types::{DcId, Epoch, NodeId};

fn members(nodes: u32, racks: u32, uneven: bool) -> Vec<Member> {
    let capacity = |n: u32| if uneven { 500 + n * 7_919 % 3_500 } else { 1_000 };
    (1..=nodes)
        .filter_map(|n| {
            let capacity = Capacity::from_thousandths(capacity(n))?;
            Some(Member { node: NodeId(n), rack: format!("r{}", n % racks), capacity })
        })
        .collect()
}

fn main() -> Result<(), LayoutError> {
    println!("{:56} {:>7} {:>9} {:>8}", "", "vnodes", "moved", "ms");
    for (nodes, racks, uneven) in [
        (3, 3, false),
        (34, 3, true),
        (100, 3, false),
        (100, 5, false),
        (100, 5, true),
        (100, 100, true),
        (100, 2, true),
        (400, 10, true),
    ] {
        let Ok(vnodes) = VnodeCount::for_nodes(nodes as usize, 256) else { continue };
        let what = if uneven { ", uneven" } else { "" };
        let run = |change: &str, members: &[Member], replicas, previous: Option<&Layout>| {
            let begin = Instant::now();
            let layout = Layout::compute(Epoch(1), DcId(0), members, vnodes, replicas, previous)?;
            let took = begin.elapsed().as_secs_f64() * 1_000.0;
            let moved = previous.map_or(0, |previous| layout.gained_since(previous));
            let name = format!("{nodes} nodes, {racks} racks{what}: {change}");
            println!("{name:56} {vnodes:>7} {moved:>9} {took:>8.1}");
            Ok::<_, LayoutError>(layout)
        };
        let all = members(nodes, racks, uneven);
        let first = run("first", &all, 3, None)?;
        run("the same again", &all, 3, Some(&first))?;
        run("one added", &members(nodes + 1, racks, uneven), 3, Some(&first))?;
        run("one removed", &all[1..], 3, Some(&first))?;
        run("a tenth removed", &all[all.len() / 10..], 3, Some(&first))?;
        let doubled: Vec<Member> = members(nodes * 2, racks, uneven);
        run("doubled", &doubled, 3, Some(&first))?;
        run("two replicas", &all, 2, Some(&first))?;
        run("five replicas", &all, 5, Some(&first))?;
        let mut new_rack = all.clone();
        for member in new_rack.iter_mut().take(nodes as usize / 4) {
            member.rack = "new".to_owned();
        }
        run("a quarter in another rack", &new_rack, 3, Some(&first))?;
    }
    Ok(())
}
