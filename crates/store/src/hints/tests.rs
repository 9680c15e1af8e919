use meridian_crdt::{Actor, Context, Dot, Entry};
use meridian_types::{Incarnation, KeyspaceId, TableId, VnodeId};
use proptest::prelude::*;

use super::*;
use crate::metadata::{MemMetadata, SledMetadata};

fn row(key: &str) -> RowKey {
    let key = Bytes::copy_from_slice(key.as_bytes());
    RowKey { keyspace: KeyspaceId(1), table: TableId(300), vnode: VnodeId(7), key }
}

fn hint(counter: u64, created: u64) -> Hint {
    let dot =
        |counter| Dot::new(Actor { node: NodeId(2), incarnation: Incarnation(0x0102) }, counter);
    let value = Some(Bytes::from_static(b"value"));
    let entry = Entry { dot: dot(counter), stamp: Hlc(5), expires: None, value };
    let context: Context = [dot(1)].into_iter().collect();
    let write_id = counter.is_multiple_of(2).then(|| WriteId::from_bytes([0xab; 16]));
    Hint { row: row("key"), delta: Delta { entry, context }, write_id, created: Millis(created) }
}

fn intent(value: Option<&'static str>, expires: Option<u64>) -> Intent {
    Intent {
        row: row("key"),
        value: value.map(Bytes::from),
        expires: expires.map(Millis),
        stamp: Hlc(0x0506),
        context: Context::default(),
        over_what_is_here: false,
        dot: None,
        write_id: WriteId::from_bytes([0xcd; 16]),
        created: Millis(300),
    }
}

/// An intent with everything that one can have.
fn named() -> Intent {
    let dot = |n| Dot::new(Actor { node: NodeId(2), incarnation: Incarnation(3) }, n);
    let context = [dot(1), dot(2), dot(5)].into_iter().collect();
    Intent { context, over_what_is_here: true, dot: Some(dot(300)), ..intent(Some("v"), Some(200)) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn golden_bytes() {
    assert_eq!(
        hex(&hint(2, 200).to_bytes()),
        "010101ac0207036b6579c801abababababababababababababababab\
         3101020000000000000102010000\
         020000000000000102020000000000000005\
         76616c7565"
    );
    assert_eq!(
        hex(&intent(Some("v"), Some(200)).to_bytes()),
        "020201ac0207036b6579ac02cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd0000000000000506c80102010076"
    );
    assert_eq!(
        hex(&intent(None, None).to_bytes()),
        "020101ac0207036b6579ac02cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd0000000000000506020100"
    );
    assert_eq!(
        hex(&named().to_bytes()),
        "020e01ac0207036b6579ac02cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd0000000000000506c8011001010200000000000000030200010100020000000000000003ac0276"
    );
}

#[test]
fn bytes_read_back() {
    for counter in [2, 3] {
        let hint = hint(counter, 9);
        assert_eq!(Hint::from_bytes(&hint.to_bytes().into()), Ok(hint));
    }
    for intent in
        [intent(Some(""), None), intent(Some("v"), Some(1)), intent(None, Some(2)), named()]
    {
        assert_eq!(Intent::from_bytes(&intent.to_bytes().into()), Ok(intent));
    }
}

proptest! {
    #[test]
    fn arbitrary_and_damaged_bytes_are_errors_or_the_only_spelling(
        bytes: Vec<u8>, cut in 0usize..60, flip in 0usize..400,
    ) {
        let damaged = |mut bytes: Vec<u8>| {
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Some(byte) = bytes.get_mut(flip / 8) {
                *byte ^= 1 << (flip % 8);
            }
            bytes
        };
        let all =
            [bytes, damaged(hint(2, 9).to_bytes()), damaged(named().to_bytes())];
        for bytes in all.map(Bytes::from) {
            if let Ok(hint) = Hint::from_bytes(&bytes) {
                prop_assert_eq!(hint.to_bytes(), bytes.clone());
            }
            if let (Ok(intent), Some(2)) = (Intent::from_bytes(&bytes), bytes.first()) {
                prop_assert_eq!(intent.to_bytes(), bytes);
            }
        }
    }
}

#[test]
fn an_intent_from_before_contexts_is_read() {
    let old = "010201ac0207036b6579ac02cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd0000000000000506c80176";
    let old: Vec<u8> = (0..old.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&old[at..at + 2], 16).unwrap())
        .collect();
    assert_eq!(Intent::from_bytes(&old.into()), Ok(intent(Some("v"), Some(200))));
}

#[test]
fn an_intent_is_named_in_its_place() {
    both(HintLimits::default(), |log| {
        let id = log.append_intent(&intent(Some("v"), Some(200))).unwrap();
        assert_eq!(log.intent(id).unwrap().and_then(|intent| intent.delta()), None);
        log.name_intent(id, &named()).unwrap();
        assert_eq!(log.intent(id).unwrap(), Some(named()));
        assert_eq!(named().delta().map(|delta| delta.entry.dot), named().dot);
        log.remove_intents(&[id]).unwrap();
        log.name_intent(id, &named()).unwrap();
        assert_eq!(log.intent(id).unwrap(), None, "what is gone stays gone");
        assert_eq!((log.counters().intents, log.counters().intent_bytes), (0, 0));
    });
}

const US: NodeId = NodeId(1);
const EU: NodeId = NodeId(22);

fn both(limits: HintLimits, check: impl Fn(&dyn HintLog)) {
    check(&Hints::in_memory(&MemMetadata::new(), limits).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let metadata = SledMetadata::open(dir.path()).unwrap();
    check(&Hints::on_sled(&metadata, limits).unwrap());
}

fn ids(page: &[(HintId, Hint)]) -> Vec<u64> {
    page.iter().map(|(_, hint)| hint.delta.entry.dot.counter).collect()
}

#[test]
fn hints_wait_by_target_in_their_order() {
    both(HintLimits::default(), |log| {
        for counter in 1..=5 {
            log.append(US, &hint(counter, 10)).unwrap();
        }
        log.append(EU, &hint(9, 10)).unwrap();
        assert_eq!(log.counts(), BTreeMap::from([(US, 5), (EU, 1)]));
        let page = log.page(US, None, 2, usize::MAX).unwrap();
        assert_eq!(ids(&page), [1, 2]);
        assert_eq!(page[0].1, hint(1, 10));
        let rest = log.page(US, Some(page[1].0), 100, usize::MAX).unwrap();
        assert_eq!(ids(&rest), [3, 4, 5]);
        assert_eq!(ids(&log.page(US, None, 100, 1).unwrap()), [1], "at least one");
        assert_eq!(ids(&log.page(NodeId(7), None, 100, 1).unwrap()), [0; 0]);
        let delivered: Vec<HintId> = page.iter().map(|(id, _)| *id).collect();
        log.remove(US, &delivered, Fulfilment::Delivered).unwrap();
        log.remove(US, &delivered, Fulfilment::Delivered).unwrap();
        assert_eq!(log.counts()[&US], 3);
        assert_eq!(ids(&log.page(US, None, 100, usize::MAX).unwrap()), [3, 4, 5]);
        let counters = log.counters();
        assert_eq!((counters.stored, counters.delivered), (6, 2));
        assert!(log.take_undelivered().is_empty());
        log.flush().unwrap();
    });
}

#[test]
fn the_window_closes_on_old_hints_only() {
    both(HintLimits::default(), |log| {
        for counter in 1..=600 {
            log.append(US, &hint(counter, counter)).unwrap();
        }
        assert!(log.expire(Millis(HINT_WINDOW_MS + 1)).unwrap().is_empty());
        let expired = log.expire(Millis(HINT_WINDOW_MS + 551)).unwrap();
        assert_eq!(expired, BTreeMap::from([(US, 550)]));
        assert_eq!(ids(&log.page(US, None, 1, usize::MAX).unwrap()), [551]);
        assert_eq!(log.counters().expired, 550);
        let behind = BTreeMap::from([(US, BTreeSet::from([Some(KeyspaceId(1))]))]);
        assert_eq!(log.take_undelivered(), behind);
        assert!(log.take_undelivered().is_empty(), "told once");
    });
}

#[test]
fn too_many_hints_lose_the_oldest_of_all_targets() {
    let one = hint(1, 10).to_bytes().len() as u64 + 8;
    let limits = HintLimits { hint_bytes: one * 4, ..HintLimits::default() };
    both(limits, |log| {
        for counter in [1, 3, 5] {
            log.append(EU, &hint(counter, 10)).unwrap();
            log.append(US, &hint(counter, 10)).unwrap();
        }
        assert_eq!(ids(&log.page(EU, None, 9, usize::MAX).unwrap()), [3, 5]);
        assert_eq!(ids(&log.page(US, None, 9, usize::MAX).unwrap()), [3, 5]);
        let counters = log.counters();
        assert_eq!((counters.dropped, counters.hint_bytes), (2, one * 4));
        let keyspaces = BTreeSet::from([Some(KeyspaceId(1))]);
        let behind = BTreeMap::from([(US, keyspaces.clone()), (EU, keyspaces)]);
        assert_eq!(log.take_undelivered(), behind);
    });
}

#[test]
fn intents_are_refused_and_never_dropped() {
    let intent = intent(Some("v"), None);
    let one = intent.to_bytes().len() as u64 + 8;
    let limits = HintLimits { intent_bytes: one * 2, ..HintLimits::default() };
    both(limits, |log| {
        let first = log.append_intent(&intent).unwrap();
        log.append_intent(&intent).unwrap();
        let full = log.append_intent(&intent).unwrap_err();
        assert!(matches!(full, HintError::IntentsFull { .. }), "{full}");
        assert!(log.expire(Millis(u64::MAX)).unwrap().is_empty());
        let page = log.intents(None, 10, usize::MAX).unwrap();
        assert_eq!(page.len(), 2);
        assert_eq!(page[0], (first, intent.clone()));
        log.remove_intents(&[first]).unwrap();
        assert_eq!(log.intents(Some(first), 10, usize::MAX).unwrap().len(), 1);
        log.append_intent(&intent).unwrap();
        let counters = log.counters();
        assert_eq!((counters.intents, counters.intents_refused), (2, 1));
    });
}

#[test]
fn hints_survive_a_restart_with_their_counts_and_order() {
    let dir = tempfile::tempdir().unwrap();
    let metadata = SledMetadata::open(dir.path()).unwrap();
    let log = Hints::on_sled(&metadata, HintLimits::default()).unwrap();
    log.append(US, &hint(1, 10)).unwrap();
    let last = log.append(EU, &hint(2, 10)).unwrap();
    log.append_intent(&intent(None, None)).unwrap();
    let before = log.counters();
    log.flush().unwrap();
    drop((log, metadata));
    let metadata = SledMetadata::open(dir.path()).unwrap();
    let log = Hints::on_sled(&metadata, HintLimits::default()).unwrap();
    assert_eq!(log.counts(), BTreeMap::from([(US, 1), (EU, 1)]));
    let after = log.counters();
    assert_eq!((after.hint_bytes, after.intents), (before.hint_bytes, 1));
    assert!(log.append(EU, &hint(3, 10)).unwrap() > last);
    assert_eq!(ids(&log.page(EU, None, 9, usize::MAX).unwrap()), [2, 3]);
}

#[test]
fn unflushed_hints_may_go_with_the_power_and_flushed_ones_may_not() {
    let metadata = MemMetadata::new();
    let log = Hints::in_memory(&metadata, HintLimits::default()).unwrap();
    log.append(US, &hint(1, 10)).unwrap();
    log.flush().unwrap();
    log.append(US, &hint(2, 10)).unwrap();
    let log = Hints::in_memory(&metadata.crash_clone(), HintLimits::default()).unwrap();
    assert_eq!(ids(&log.page(US, None, 9, usize::MAX).unwrap()), [1]);
}

#[test]
fn a_damaged_hint_is_dropped_and_counted_and_a_damaged_intent_is_an_error() {
    use crate::metadata::MetadataTrees;
    let metadata = MemMetadata::new();
    metadata.tree("hints/1").unwrap().insert(&5u64.to_be_bytes(), b"\x01garbage").unwrap();
    metadata.tree("intents").unwrap().insert(&6u64.to_be_bytes(), b"\x09").unwrap();
    let log = Hints::in_memory(&metadata, HintLimits::default()).unwrap();
    assert_eq!(log.append(US, &hint(1, 10)).unwrap(), HintId(7));
    assert_eq!(ids(&log.page(US, None, 9, usize::MAX).unwrap()), [1]);
    assert_eq!((log.counters().damaged, log.counts()[&US]), (1, 1));
    assert_eq!(log.take_undelivered(), BTreeMap::from([(US, BTreeSet::from([None]))]));
    let error = log.intents(None, 9, usize::MAX).unwrap_err();
    assert!(error.to_string().starts_with("intent 6 is damaged: intent has version 9"), "{error}");
}

#[test]
fn hints_that_their_target_has_are_superseded_page_by_page() {
    both(HintLimits::default(), |log| {
        for counter in 1..=5 {
            log.append(US, &hint(counter, 10)).unwrap();
        }
        let odd = |hint: &Hint| !hint.delta.entry.dot.counter.is_multiple_of(2);
        let next = log.supersede(US, None, 3, &odd).unwrap();
        assert_eq!(ids(&log.page(US, None, 9, usize::MAX).unwrap()), [2, 4, 5]);
        let next = log.supersede(US, next, 3, &odd).unwrap();
        assert_eq!(ids(&log.page(US, None, 9, usize::MAX).unwrap()), [2, 4]);
        assert_eq!(log.supersede(US, next, 3, &odd).unwrap(), None);
        assert_eq!((log.counters().superseded, log.counters().delivered), (3, 0));
        assert!(log.take_undelivered().is_empty());
    });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append(NodeId, u64),
    Remove(NodeId, u64, Fulfilment),
    Supersede(NodeId, u64),
    Expire(u64),
    Damage(NodeId),
    Reopen,
    PowerCut,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let target = || prop_oneof![Just(US), Just(EU)];
    let why = prop_oneof![Just(Fulfilment::Delivered), Just(Fulfilment::Superseded)];
    let step = prop_oneof![
        8 => (target(), 0u64..50).prop_map(|(target, created)| Step::Append(target, created)),
        3 => (target(), 1u64..30, why).prop_map(|(target, id, why)| Step::Remove(target, id, why)),
        1 => (target(), 1u64..5).prop_map(|(target, every)| Step::Supersede(target, every)),
        1 => (0u64..150).prop_map(Step::Expire),
        1 => target().prop_map(Step::Damage),
        1 => Just(Step::Reopen),
        1 => Just(Step::PowerCut),
    ];
    prop::collection::vec(step, 1..80)
}

/// What a life of the log says adds up, and what it gave up is told.
fn check_accounts(log: &Hints, given_up: &mut BTreeSet<NodeId>) -> Result<(), TestCaseError> {
    let HintCounters { found, stored, delivered, superseded, expired, dropped, damaged, .. } =
        log.counters();
    let waiting: u64 = log.counts().values().sum();
    let left = delivered + superseded + expired + dropped + damaged;
    prop_assert_eq!(found + stored, left + waiting);
    given_up.extend(log.take_undelivered().into_keys());
    prop_assert_eq!(expired + dropped + damaged > 0, !given_up.is_empty());
    Ok(())
}

proptest! {
    #[test]
    fn every_hint_is_accounted_for(steps in steps()) {
        let limits = HintLimits {
            hint_bytes: 12 * (hint(1, 10).to_bytes().len() as u64 + 8),
            window_ms: 40,
            ..HintLimits::default()
        };
        let mut metadata = MemMetadata::new();
        let mut log = Hints::in_memory(&metadata, limits).unwrap();
        let mut given_up = BTreeSet::new();
        let mut counter = 0;
        for step in steps {
            match step {
                Step::Append(target, created) => {
                    counter += 1;
                    log.append(target, &hint(counter, created)).unwrap();
                }
                Step::Remove(target, id, why) => log.remove(target, &[HintId(id)], why).unwrap(),
                Step::Supersede(target, every) => {
                    let has = |hint: &Hint| hint.delta.entry.dot.counter.is_multiple_of(every);
                    log.supersede(target, None, 10, &has).unwrap();
                }
                Step::Expire(now) => drop(log.expire(Millis(now)).unwrap()),
                Step::Damage(target) => {
                    use crate::metadata::MetadataTrees;
                    let tree = metadata.tree(&format!("hints/{}", target.0)).unwrap();
                    let mut first = None;
                    tree.visit(std::ops::Bound::Unbounded, &mut |key, value| {
                        first = Some((key.to_vec(), value.to_vec()));
                        false
                    }).unwrap();
                    if let Some((key, mut value)) = first {
                        value[0] = 0x77;
                        tree.insert(&key, &value).unwrap();
                    }
                    log.page(target, None, 100, usize::MAX).unwrap();
                }
                Step::Reopen => {
                    log.flush().unwrap();
                    log = Hints::in_memory(&metadata, limits).unwrap();
                    given_up.clear();
                }
                Step::PowerCut => {
                    metadata = metadata.crash_clone();
                    log = Hints::in_memory(&metadata, limits).unwrap();
                    given_up.clear();
                }
            }
            check_accounts(&log, &mut given_up)?;
        }
    }
}
