//! How many filter bits a key gets, by the size of the sorted run that it is in (Monkey: Dayan,
//! Athanassoulis, Idreos 2017).
//!
//! Whoever looks for a key that is not there asks the filter of every run, so what counts is the
//! sum of the rates of false answers over the runs. With `bits` for each of `keys` keys a rate is
//! `exp(-bits · ln² 2)`, and for a given sum of all bits the sum of the rates is least where each
//! rate is proportional to its run's keys: a small run costs little memory to get right, and is asked
//! as often as a large one.

/// ln² 2: what a bit for each key takes off the logarithm of the rate.
const GAIN: f64 = std::f64::consts::LN_2 * std::f64::consts::LN_2;
/// Most bits for each key: beyond it a filter in blocks of a cache line gains next to nothing.
pub(crate) const MAX_BITS: f64 = 20.0;

/// The sorted runs of a tree as they will be when a table is part of one of them: their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    pub(crate) others: Vec<u64>,
    /// The one with the table; `None`: it is a run by itself.
    pub(crate) own: Option<u64>,
}

impl Runs {
    /// Bits for each key of a table of `keys` keys, if all runs together may have `average` for each
    /// of theirs.
    pub(crate) fn bits(&self, keys: u64, average: f64) -> f64 {
        let own = self.own.unwrap_or(keys).max(keys).max(1);
        let mut runs = self.others.clone();
        runs.push(own);
        bits(scale(&runs, average), own)
    }
}

/// The logarithm of what a run's keys are multiplied with to get its rate.
fn scale(runs: &[u64], average: f64) -> f64 {
    let mut runs: Vec<f64> =
        runs.iter().filter(|keys| **keys > 0).map(|keys| float(*keys)).collect();
    runs.sort_by(f64::total_cmp);
    let memory = average * runs.iter().sum::<f64>();
    loop {
        let keys: f64 = runs.iter().sum();
        let weighted: f64 = runs.iter().map(|run| run * run.ln()).sum();
        let scale = -(memory * GAIN + weighted) / keys;
        match runs.last() {
            // A rate above one: that run gets nothing, and the others share what there is.
            Some(largest) if runs.len() > 1 && scale + largest.ln() > 0.0 => runs.pop(),
            _ => return scale,
        };
    }
}

fn bits(scale: f64, keys: u64) -> f64 {
    (-(scale + float(keys).ln()) / GAIN).clamp(0.0, MAX_BITS)
}

#[expect(clippy::cast_precision_loss, reason = "a number of keys need not be exact")]
fn float(keys: u64) -> f64 {
    keys as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(bits: f64) -> f64 {
        (-bits * GAIN).exp()
    }

    proptest! {
        #[test]
        fn no_other_way_to_spend_the_memory_is_better(
            keys in proptest::collection::vec(prop_oneof![1..50u64, 1..10_000_000u64], 1..12),
            average in 1..16u8,
            moved in 0.001..3.0f64,
        ) {
            let average = f64::from(average);
            let scale = scale(&keys, average);
            let all: Vec<f64> = keys.iter().map(|keys| bits(scale, *keys)).collect();
            let memory: f64 = keys.iter().zip(&all).map(|(keys, bits)| float(*keys) * bits).sum();
            let may: f64 = keys.iter().map(|keys| float(*keys) * average).sum();
            prop_assert!(memory <= may * 1.000_001, "{memory} of {may}");
            let misses: f64 = all.iter().map(|bits| rate(*bits)).sum();
            // What the same for all costs, but for what is not spent above the most.
            let same = keys.len() as f64 * rate(average);
            let slack = keys.len() as f64 * rate(MAX_BITS);
            prop_assert!(misses <= same + slack + 1e-9, "{misses}, not {same}");
            // Bits that one run gives another do not help either.
            for from in 0..keys.len() {
                for to in 0..keys.len() {
                    let given = moved.min(all[from]);
                    let got = given * float(keys[from]) / float(keys[to]);
                    if from == to || all[from] >= MAX_BITS || all[to] >= MAX_BITS {
                        continue;
                    }
                    let after = misses - rate(all[from]) - rate(all[to])
                        + rate(all[from] - given)
                        + rate(all[to] + got);
                    prop_assert!(after >= misses - 1e-9, "{after} is better than {misses}");
                }
            }
        }

        #[test]
        fn a_run_alone_gets_the_average_and_smaller_ones_more(
            keys in 1..1_000_000u64,
            average in 1..16u8,
            small in 1..1000u64,
        ) {
            let average = f64::from(average);
            let alone = Runs::default().bits(keys, average);
            prop_assert!((alone - average).abs() < 1e-6);
            let beside = Runs { others: vec![keys * 10], own: None };
            prop_assert!(beside.bits(keys, average) > average);
            let below = Runs { others: vec![small], own: Some(small * 10) };
            prop_assert!(below.bits(small, average) < average);
        }

        #[test]
        fn any_numbers_give_some_bits(keys: Vec<u64>, own: Option<u64>, table: u64, average: u8) {
            let bits = Runs { others: keys, own }.bits(table, f64::from(average));
            prop_assert!((0.0..=MAX_BITS).contains(&bits));
        }
    }
}
