use super::*;

const KEYSPACE: KeyspaceId = KeyspaceId(1);

const OPTIONS: ForgettingOptions =
    ForgettingOptions { interval_ms: 1_000, part_pause_ms: 10, seed: 7 };

fn vnode(number: u32) -> VnodeName {
    (KEYSPACE, VnodeId(number))
}

fn peers(of: &[u32]) -> Vec<NodeId> {
    of.iter().copied().map(NodeId).collect()
}

struct Run {
    machine: Forgetting,
    now: Millis,
}

impl Run {
    fn new() -> Self {
        Self { machine: Forgetting::new(OPTIONS, Millis(0)), now: Millis(0) }
    }

    fn step(&mut self, event: ForgettingEvent) -> Vec<ForgettingAction> {
        let mut out = Vec::new();
        self.machine.step(event, self.now, &mut out);
        out
    }

    /// Waits for the next thing that time brings.
    fn wait(&mut self) -> Vec<ForgettingAction> {
        self.now = self.machine.next_wakeup().unwrap().max(self.now);
        self.step(ForgettingEvent::TimePassed)
    }

    fn find(&mut self) {
        let actions = self.wait();
        assert!(matches!(actions[..], [ForgettingAction::Find { .. }]), "{actions:?}");
    }

    fn found(&mut self, vnodes: &[(u32, &[u32])]) -> Vec<ForgettingAction> {
        let vnodes = vnodes.iter().map(|(number, of)| (vnode(*number), peers(of))).collect();
        self.step(ForgettingEvent::Found { vnodes, next: None })
    }

    fn told(&mut self, peer: u32, vnodes: &[u32]) -> Vec<ForgettingAction> {
        let vnodes = vnodes.iter().copied().map(VnodeId).collect();
        self.step(ForgettingEvent::Told { peer: NodeId(peer), keyspace: KEYSPACE, vnodes })
    }

    fn collected(&mut self, entries: u64, left: u64, more: bool) -> Vec<ForgettingAction> {
        self.step(ForgettingEvent::Collected { entries, left, more })
    }

    /// A round of one vnode, whose walk does this; how long the vnode rests then.
    fn round(&mut self, entries: u64, left: u64) -> u64 {
        self.find();
        let mut tries = 0;
        while self.found(&[(1, &[2])]).is_empty() {
            self.find();
            tries += 1;
            assert!(tries < 1_000, "it rests for ever");
        }
        self.told(2, &[1]);
        self.collected(entries, left, false);
        self.machine.resting.get(&vnode(1)).map_or(0, |rest| rest.until.since(self.now))
    }
}

fn ask(peer: u32, vnodes: &[u32]) -> ForgettingAction {
    let vnodes = vnodes.iter().copied().map(VnodeId).collect();
    ForgettingAction::Ask { peer: NodeId(peer), keyspace: KEYSPACE, vnodes }
}

fn collect(number: u32, first: bool) -> ForgettingAction {
    ForgettingAction::Collect { vnode: vnode(number), first }
}

fn dropped(number: u32) -> ForgettingAction {
    ForgettingAction::Drop { vnode: vnode(number) }
}

#[test]
fn all_other_replicas_are_asked_and_what_all_spoke_of_is_walked_through() {
    let mut run = Run::new();
    run.find();
    assert_eq!(run.machine.next_wakeup(), None, "an answer is waited for");
    let asks = run.found(&[(1, &[2, 3]), (2, &[2, 3]), (3, &[3])]);
    assert_eq!(asks, [ask(2, &[1, 2]), ask(3, &[1, 2, 3])]);
    assert_eq!(run.told(2, &[1]), []);
    assert_eq!(run.told(3, &[1, 2, 3]), [dropped(2), collect(1, true)]);
    assert_eq!(run.collected(1, 0, true), []);
    assert_eq!(run.wait(), [collect(1, false)]);
    assert_eq!(run.collected(1, 0, false), [dropped(1), collect(3, true)]);
    assert_eq!(run.collected(0, 0, false), [dropped(3)]);
    run.find();
}

#[test]
fn who_does_not_answer_holds_up_a_round_and_no_more() {
    let mut run = Run::new();
    run.find();
    run.found(&[(1, &[2, 3])]);
    assert_eq!(run.told(3, &[1]), []);
    assert_eq!(run.told(2, &[]), [dropped(1)]);
    run.find();
    assert_eq!(run.found(&[]), []);
    run.find();
}

#[test]
fn a_single_replica_forgets_by_its_own_word() {
    let mut run = Run::new();
    run.find();
    assert_eq!(run.found(&[(1, &[])]), [collect(1, true)]);
}

#[test]
fn what_is_walked_for_nothing_rests_longer_each_time_up_to_a_bound() {
    let mut run = Run::new();
    let rests: Vec<u64> = (0..10).map(|_| run.round(0, 1)).collect();
    assert_eq!(rests[..4], [1_000, 2_000, 4_000, 8_000], "{rests:?}");
    assert_eq!(rests[9], 1_000 * FORGETTING_LONGEST_REST);
    assert_eq!(run.round(1, 1), 1_000, "something went");
    assert_eq!(run.round(0, 0), 0, "nothing is left");
}

#[test]
fn rounds_go_on_where_the_one_before_ended() {
    let mut run = Run::new();
    run.find();
    let vnodes = vec![(vnode(1), peers(&[2]))];
    run.step(ForgettingEvent::Found { vnodes, next: Some(vnode(1)) });
    run.told(2, &[]);
    let before = run.now;
    let next = run.wait();
    assert_eq!(next, [ForgettingAction::Find { after: Some(vnode(1)), limit: FORGETTING_ROUND }]);
    assert!(run.now.since(before) < OPTIONS.interval_ms / 2, "without a long pause");
}
