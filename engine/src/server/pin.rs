//! Chooses the default number of shards, and the CPU of each shard if shards are pinned. The
//! shard's thread pins itself.

use std::collections::HashMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};

use crate::error::StartError;
use crate::server::cpu_quota::cpus_by_quota;
use crate::sys::allowed_cpus;

/// Whether and how shards are pinned to CPUs ([`Builder::pin`](crate::Builder::pin)).
///
/// A thread that a callback starts inherits the CPU of a pinned shard and competes with the shard
/// for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pin {
    /// Shards are not pinned. This is the default: the scheduler knows what else runs.
    #[default]
    Off,
    /// Each shard is pinned to its own CPU. CPUs with the fewest pinned threads of other Ringwire
    /// servers come first. If there are more shards than CPUs, none is pinned. Two servers that
    /// start at the same moment, or in different containers, may choose the same CPUs; use
    /// [`Pin::Cpus`] for them.
    Auto,
    /// Shard 0 is pinned to the first CPU of the list, shard 1 to the second, and so on. The list
    /// also sets the default number of shards.
    Cpus(Vec<usize>),
}

/// What the start of a thread's name says that it is a shard's.
pub(crate) const SHARD_THREAD_PREFIX: &str = "ringwire-";

/// How many shards there are, and the CPU of each, if they are pinned.
pub(crate) fn place_shards(
    shards: Option<usize>,
    pin: &Pin,
) -> Result<(usize, Option<Vec<usize>>), StartError> {
    let allowed = allowed_cpus()
        .map_err(|source| StartError::Machine { step: "sched_getaffinity", source })?;
    let shards = shards.unwrap_or_else(|| match pin {
        Pin::Cpus(cpus) => cpus.len(),
        Pin::Off | Pin::Auto => shards_by_default(allowed.len(), cpus_by_quota()),
    });
    if !(1..=usize::from(u16::MAX)).contains(&shards) {
        return Err(StartError::Config { rule: "shards must be between 1 and 65,535" });
    }
    let cpus = match pin {
        Pin::Off => None,
        Pin::Auto if shards > allowed.len() => {
            tracing::warn!(shards, cpus = allowed.len(), "more shards than CPUs: none is pinned");
            None
        }
        Pin::Auto => Some(least_used(allowed, &pinned_threads(), RandomState::new().hash_one(0))),
        Pin::Cpus(cpus) if cpus.len() < shards => {
            return Err(StartError::Config { rule: "pin must name a CPU for each shard" });
        }
        Pin::Cpus(cpus) if !cpus.iter().all(|cpu| allowed.contains(cpu)) => {
            return Err(StartError::Config {
                rule: "pin must name CPUs this process may run on (`taskset -cp PID` lists them)",
            });
        }
        Pin::Cpus(cpus) => Some(cpus.clone()),
    };
    Ok((shards, cpus))
}

/// One per CPU, by affinity and by the quota of the control group.
fn shards_by_default(allowed: usize, quota: Option<usize>) -> usize {
    quota.map_or(allowed, |quota| quota.min(allowed)).max(1)
}

/// The CPUs with the least used first, those alike from a place on that `start` picks.
fn least_used(mut cpus: Vec<usize>, pinned: &HashMap<usize, usize>, start: u64) -> Vec<usize> {
    if !cpus.is_empty() {
        let start = (start % cpus.len() as u64) as usize;
        cpus.rotate_left(start);
    }
    cpus.sort_by_key(|cpu| pinned.get(cpu).copied().unwrap_or(0));
    cpus
}

/// How many shards of whatever server are pinned to each CPU, as far as /proc shows.
fn pinned_threads() -> HashMap<usize, usize> {
    let mut pinned = HashMap::new();
    let entries = |path: &std::path::Path| fs::read_dir(path).into_iter().flatten().flatten();
    for process in entries(std::path::Path::new("/proc")) {
        for thread in entries(&process.path().join("task")) {
            let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            if !name.starts_with(SHARD_THREAD_PREFIX) {
                continue;
            }
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            // A single number is a thread that is pinned; `0-3` or `0,2` is not.
            if let Some(cpu) = cpus.and_then(|cpus| cpus.trim().parse().ok()) {
                *pinned.entry(cpu).or_insert(0) += 1;
            }
        }
    }
    pinned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_lowers_the_number_of_shards_and_never_raises_it() {
        assert_eq!(shards_by_default(64, None), 64);
        assert_eq!(shards_by_default(64, Some(2)), 2);
        assert_eq!(shards_by_default(2, Some(64)), 2);
        assert_eq!(shards_by_default(4, Some(1)), 1);
    }

    #[test]
    fn cpus_that_others_use_come_last() {
        let pinned = HashMap::from([(0, 2), (2, 1)]);
        for start in 0..8 {
            let cpus = least_used(vec![0, 1, 2, 3], &pinned, start);
            assert_eq!(cpus[2..], [2, 0], "{cpus:?}");
            assert!(cpus[..2] == [1, 3] || cpus[..2] == [3, 1], "{cpus:?}");
        }
        // Nobody is pinned: it does not begin at the first.
        let firsts: Vec<usize> =
            (0..4).map(|start| least_used(vec![4, 5, 6, 7], &HashMap::new(), start)[0]).collect();
        assert_eq!(firsts, [4, 5, 6, 7]);
    }

    #[test]
    fn a_list_is_checked() {
        let allowed = allowed_cpus().unwrap();
        let placed = place_shards(None, &Pin::Cpus(allowed.clone())).unwrap();
        assert_eq!(placed, (allowed.len(), Some(allowed.clone())));
        for (shards, cpus) in [(Some(2), vec![allowed[0]]), (None, vec![]), (None, vec![1_000_000])]
        {
            let error = place_shards(shards, &Pin::Cpus(cpus)).unwrap_err();
            assert!(matches!(error, StartError::Config { .. }), "{error}");
        }
    }
}
