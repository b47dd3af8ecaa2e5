//! Random trees, damaged at random, must equal their approved state after the response.
//!
//! `FIM_ROUNDTRIP_SECONDS` says how long each file system is tested, `FIM_ROUNDTRIP_SEED` repeats the case of that seed.

mod harm;
mod object;
mod plant;
mod respond;
mod snapshot;

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use fim::core::entry::FileType;
use fim::core::path::RelPath;
use fim::tree::private::is_private_name;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::world::World;
use harm::{Harm, harm};
use plant::Tree;
use respond::{Manner, manner, reconcile};
use snapshot::{Snapshot, altered, filled_holes, snapshot};

const SECONDS: u64 = 15;

pub fn random_damage_is_undone(world: &World) {
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: owners and devices need root");
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let time = Duration::from_secs(number("FIM_ROUNDTRIP_SECONDS").unwrap_or(SECONDS));
    let only = number("FIM_ROUNDTRIP_SEED");
    let first = only.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32 << 20);
    harm::furnish_outside(world);
    let (begun, mut cases) = (Instant::now(), 0);
    while cases == 0 || (begun.elapsed() < time && only.is_none()) {
        one_case(world, first + cases);
        cases += 1;
    }
    println!("  {cases} trees came back, seeds from {first}");
    object::empty(world.root.fd());
}

fn one_case(world: &World, seed: u64) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 3000,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let harms = proptest::collection::vec(harm(), 0..14);
    let strategy = (plant::tree(0..16), harms, manner());
    let result = TestRunner::new_with_rng(config, rng)
        .run(&strategy, |(tree, harms, manner)| round_trip(world, &tree, &harms, manner));
    if let Err(error) = result {
        object::empty(world.root.fd());
        panic!("FIM_ROUNDTRIP_SEED={seed} on {}\n{error}", world.tree.display());
    }
}

fn round_trip(world: &World, tree: &Tree, harms: &[Harm], manner: Manner) -> Result<(), TestCaseError> {
    object::empty(world.root.fd());
    let outside = snapshot(&world.outside_root());
    tree.plant(&world.root, &RelPath::root());
    let mut baseline = world.approve();
    let top = world.found(&RelPath::root()).expect("there");
    assert_eq!(top.entry.kind, FileType::Directory);
    baseline.insert(RelPath::root(), top.entry);
    let approved = snapshot(&world.root);
    let names = respond::names_of(world);

    for harm in harms {
        harm.inflict(world);
    }
    let before = snapshot(&world.outside_root());
    prop_assert_eq!(&before, &outside, "the damage itself went outside");
    let lost = altered(&world.root, &approved);
    reconcile(world, &baseline, &names, manner).map_err(TestCaseError::fail)?;

    differences(&approved, &snapshot(&world.root))?;
    differences(&outside, &snapshot(&world.outside_root()))?;
    for (path, content) in lost {
        let kept = world.vault.read(&snapshot::digest(&content));
        prop_assert!(kept.is_ok_and(|kept| kept == content), "altered content of {} is lost", path);
    }
    prop_assert_eq!(filled_holes(&world.root), vec![]);
    Ok(())
}

fn differences(approved: &Snapshot, now: &Snapshot) -> Result<(), TestCaseError> {
    for path in approved.keys().chain(now.keys()) {
        prop_assert!(!path.name().is_some_and(is_private_name), "left behind: {}", path);
        let now = now.get(path).cloned().map(|now| now.without_the_kernels_own(approved.get(path)));
        prop_assert_eq!(now.as_ref(), approved.get(path), "{}", path);
    }
    Ok(())
}
