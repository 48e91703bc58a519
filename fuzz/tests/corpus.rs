//! Every input of the corpora goes through the body of its target, and the seeds are all there.

use std::{collections::HashSet, env, fs, path::PathBuf};

use ringwire_fuzz::{Seed, TARGETS, seeds};

/// Above this a corpus would slow `cargo test` down; fuzzing adds its finds to the same folder.
const REPLAYED_MAX: usize = 20_000;

#[test]
fn every_input_of_the_corpora_passes() {
    for &(target, body) in TARGETS {
        let mut replayed = 0;
        for entry in fs::read_dir(folder(target)).unwrap().take(REPLAYED_MAX) {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            body(&fs::read(path).unwrap());
            replayed += 1;
        }
        assert!(replayed > 0, "no corpus for {target}");
    }
}

#[test]
fn the_seeds_are_in_the_corpora() {
    let mut paths = HashSet::new();
    for seed in seeds() {
        let path = path(&seed);
        if env::var_os("RINGWIRE_WRITE_SEEDS").is_some() {
            fs::create_dir_all(folder(seed.target)).unwrap();
            fs::write(&path, &seed.bytes).unwrap();
        }
        let bytes = fs::read(&path).unwrap_or_default();
        assert_eq!(bytes, seed.bytes, "{} is out of date", path.display());
        assert!(paths.insert(path), "two seeds of one name: {seed:?}");
    }
}

#[test]
fn every_target_has_seeds_but_not_too_many() {
    for &(target, _) in TARGETS {
        let count = seeds().iter().filter(|seed| seed.target == target).count();
        assert!((1..=40).contains(&count), "{target} has {count}");
    }
}

fn folder(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "corpus", target].iter().collect()
}

fn path(seed: &Seed) -> PathBuf {
    folder(seed.target).join(format!("seed-{}", seed.name))
}
