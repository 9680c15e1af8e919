//! Random sequences of flushes, choices and changes of the strategy over a model of the levels
//! that holds real keys.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::choice::{Action, Choice, choose, everything, pending_bytes};
use super::view::{LevelsView, TableView};
use crate::options::{Compaction, LEVELS, MAX_RUNS, Tiers};
use crate::version::edit::TableTimes;

const TABLE_ENTRIES: usize = 8;
const FACTOR: u64 = 4;

/// Versions of keys, sorted by key ascending and seqno descending.
type Content = Vec<(u8, u64)>;

#[derive(Clone)]
struct Table {
    id: u64,
    written: u64,
    content: Content,
}

struct Model {
    levels: Vec<Vec<Table>>,
    next: u64,
    seqno: u64,
    now: u64,
    /// Newest seqno of every key.
    truth: BTreeMap<u8, u64>,
    flushed: u64,
    rewritten: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Flush(Vec<u8>),
    /// Carries out choices until there is none.
    Settle,
    One,
    /// Several at once, that end in the order of these numbers.
    Beside(Vec<usize>),
    Switch(usize),
    Everything,
    Wait(u64),
}

fn tiers() -> Tiers {
    Tiers { min_runs: 3, max_runs: 5, low_percent: 50, high_percent: 150, small_bytes: 4 }
}

fn strategies() -> [Compaction; 4] {
    [
        Compaction::Leveled { l0_files: 3, l1_bytes: 10, factor: FACTOR },
        Compaction::SizeTiered(tiers()),
        Compaction::TimeWindow { window_ms: 50, tiers: tiers() },
        Compaction::Hybrid { tiers: tiers(), run_bytes: 12, factor: FACTOR },
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => proptest::collection::vec(any::<u8>(), 1..12).prop_map(Step::Flush),
        2 => Just(Step::Settle),
        4 => Just(Step::One),
        3 => proptest::collection::vec(any::<usize>(), 2..5).prop_map(Step::Beside),
        1 => (0..4usize).prop_map(Step::Switch),
        1 => Just(Step::Everything),
        2 => (1..100u64).prop_map(Step::Wait),
    ]
}

impl Model {
    fn new() -> Self {
        Self {
            levels: vec![Vec::new(); LEVELS],
            next: 1,
            seqno: 0,
            now: 1,
            truth: BTreeMap::new(),
            flushed: 0,
            rewritten: 0,
        }
    }

    fn view(&self, running: &[Choice]) -> LevelsView {
        let table = |table: &Table| TableView {
            id: table.id,
            bytes: table.content.len() as u64,
            smallest: Bytes::copy_from_slice(&[table.content[0].0]),
            largest: Bytes::copy_from_slice(&[table.content[table.content.len() - 1].0]),
            entries: table.content.len() as u64,
            times: TableTimes { written: table.written, ..TableTimes::default() },
            busy: running.iter().any(|choice| choice.inputs.contains(&table.id)),
            ..TableView::default()
        };
        let levels = self.levels.iter().map(|tables| tables.iter().map(table).collect());
        let mut view =
            LevelsView { levels: levels.collect(), now_ms: self.now, ..LevelsView::default() };
        view.claims = running.iter().map(|choice| view.claim(choice)).collect();
        view
    }

    fn flush(&mut self, keys: &[u8]) {
        let mut content = BTreeMap::new();
        for key in keys {
            self.seqno += 1;
            content.insert(*key, self.seqno);
            self.truth.insert(*key, self.seqno);
        }
        self.flushed += content.len() as u64;
        let table =
            Table { id: self.next, written: self.now, content: content.into_iter().collect() };
        self.next += 1;
        self.levels[0].insert(0, table);
    }

    fn apply(&mut self, choice: &Choice) {
        assert_ne!(choice.action, Action::Drop, "nothing expires here");
        let mut inputs = Vec::new();
        let mut place = None;
        for (level, tables) in self.levels.iter_mut().enumerate() {
            let at = tables.iter().position(|table| choice.inputs.contains(&table.id));
            place = place.or(at.filter(|_| level == 0));
            let taken = tables.extract_if(.., |table| choice.inputs.contains(&table.id));
            inputs.extend(taken);
        }
        assert_eq!(inputs.len(), choice.inputs.len(), "{choice:?}");
        if choice.action == Action::Move {
            self.levels[choice.output].extend(inputs);
            self.levels[choice.output].sort_by_key(|table| table.content[0]);
            return;
        }
        let written = inputs.iter().map(|table| table.written).max().unwrap();
        let mut newest = BTreeMap::<u8, u64>::new();
        for (key, seqno) in inputs.into_iter().flat_map(|table| table.content) {
            let known = newest.entry(key).or_default();
            *known = seqno.max(*known);
        }
        self.rewritten += newest.len() as u64;
        let content: Content = newest.into_iter().collect();
        let size = if choice.output == 0 { content.len() } else { TABLE_ENTRIES };
        for part in content.chunks(size) {
            let table = Table { id: self.next, written, content: part.to_vec() };
            self.next += 1;
            match choice.output {
                // In the place of the newest of its inputs: they were neighbours.
                0 => self.levels[0].insert(place.unwrap(), table),
                level => self.levels[level].push(table),
            }
        }
        if choice.output > 0 {
            self.levels[choice.output].sort_by_key(|table| table.content[0]);
        }
    }

    /// What readers rely on.
    fn check(&self) {
        for tables in &self.levels[1..] {
            for pair in tables.windows(2) {
                let (a, b) = (&pair[0].content, &pair[1].content);
                assert!(a[a.len() - 1].0 < b[0].0, "{a:?} {b:?}");
            }
        }
        let range = |table: &Table| {
            let seqnos = table.content.iter().map(|(_, seqno)| *seqno);
            (seqnos.clone().min().unwrap(), seqnos.max().unwrap())
        };
        for pair in self.levels[0].windows(2) {
            assert!(range(&pair[0]).0 > range(&pair[1]).1, "runs overlap in age");
        }
        let mut found = BTreeMap::new();
        for (key, seqno) in self.levels.iter().flatten().flat_map(|table| &table.content) {
            // In the order of a read: the first version is the newest, and they go down.
            let last = found.insert(*key, *seqno);
            assert!(last.is_none_or(|last| last > *seqno), "key {key}: {last:?} before {seqno}");
            assert!(*seqno <= self.truth[key]);
        }
        let first = |key: &u8| {
            let all = self.levels.iter().flatten().flat_map(|table| &table.content);
            all.filter(|(other, _)| other == key).map(|(_, seqno)| *seqno).next()
        };
        for (key, seqno) in &self.truth {
            assert_eq!(first(key), Some(*seqno), "key {key}");
        }
    }

    fn settle(&mut self, strategy: Compaction) {
        for round in 0.. {
            assert!(round < 2000, "{strategy:?} never ends");
            let Some(choice) = choose(strategy, &self.view(&[])) else { break };
            self.apply(&choice);
            self.check();
        }
        let view = self.view(&[]);
        assert_eq!(pending_bytes(strategy, &view), 0, "{strategy:?}");
        self.check_rest(strategy, &view);
    }

    /// How much a read has to look at, and how much space is lost, when nothing is left to do.
    fn check_rest(&self, strategy: Compaction, view: &LevelsView) {
        let young = view.levels[0].len();
        match strategy {
            Compaction::Leveled { l0_files, .. } => {
                assert!(young < l0_files);
                let above: u64 = (1..LEVELS - 1).map(|level| view.bytes(level)).sum();
                let last = view.bytes(LEVELS - 1);
                // A geometric series of targets, and rounding.
                assert!(above <= last / (FACTOR - 1) + 10 * LEVELS as u64, "{above} {last}");
            }
            Compaction::SizeTiered(_) => assert!(view.runs().len() <= MAX_RUNS),
            Compaction::TimeWindow { window_ms, .. } => {
                let mut windows = BTreeMap::<u64, usize>::new();
                for table in &view.levels[0] {
                    *windows.entry(table.times.written / window_ms).or_default() += 1;
                }
                for (window, runs) in windows {
                    let most = if window >= self.now / window_ms { MAX_RUNS } else { 1 };
                    assert!(runs <= most, "{runs} in {window}");
                }
            }
            Compaction::Hybrid { run_bytes, .. } => {
                assert!(young <= MAX_RUNS);
                assert!(view.levels[0].last().is_none_or(|oldest| oldest.bytes < run_bytes));
            }
        }
    }

    /// Begins as many choices as there are numbers, then ends them in another order.
    fn beside(&mut self, strategy: Compaction, order: &[usize]) {
        let mut running: Vec<Choice> = Vec::new();
        for _ in order {
            if let Some(choice) = choose(strategy, &self.view(&running)) {
                running.push(choice);
            }
        }
        for at in order {
            if !running.is_empty() {
                let choice = running.swap_remove(at % running.len());
                self.apply(&choice);
                self.check();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn every_read_finds_the_newest_version(
        first in 0..4usize,
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut model = Model::new();
        let mut strategy = strategies()[first];
        for step in steps {
            match step {
                Step::Flush(keys) => model.flush(&keys),
                Step::Settle => model.settle(strategy),
                Step::One => {
                    if let Some(choice) = choose(strategy, &model.view(&[])) {
                        model.apply(&choice);
                    }
                }
                Step::Beside(order) => model.beside(strategy, &order),
                Step::Switch(to) => strategy = strategies()[to],
                Step::Everything => {
                    if let Some(choice) = everything(&model.view(&[])) {
                        model.apply(&choice);
                    }
                }
                Step::Wait(by) => model.now += by,
            }
            model.check();
        }
        model.settle(strategy);
    }

    /// The number of times that an entry is written again grows with the logarithm of the data.
    #[test]
    fn writing_is_amplified_by_the_tiers_and_levels_only(
        which in 0..4usize,
        flushes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 4..6), 40..200),
    ) {
        let mut model = Model::new();
        let strategy = strategies()[which];
        for keys in flushes {
            model.flush(&keys);
            model.settle(strategy);
        }
        // 256 keys: at most three tiers of three runs, or three levels of factor 4.
        let most = match strategy {
            Compaction::Leveled { .. } => 3 * (FACTOR + 1) + 4,
            Compaction::Hybrid { .. } => 3 * (FACTOR + 1) + 4,
            _ => 9,
        };
        prop_assert!(
            model.rewritten <= most * model.flushed,
            "{strategy:?}: {} of {}", model.rewritten, model.flushed,
        );
    }
}
