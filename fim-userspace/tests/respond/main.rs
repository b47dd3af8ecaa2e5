//! Responses on real file systems: the temporary folder's, and, for root, ext4, XFS, btrfs, tmpfs and overlayfs.

mod attack;
mod cases;
mod mounts;
mod roundtrip;
mod world;

use std::path::Path;

type Case = (&'static str, fn(&world::World));

/// Every case, one after the other, each in a folder of its own.
fn everything(base: &Path) {
    let cases: &[Case] = &[
        ("every type comes back", cases::every_type_comes_back),
        ("every attribute comes back", cases::every_attribute_comes_back),
        ("odd names and depth", cases::odd_names_and_depth),
        ("a tree in the place of a file", cases::a_tree_in_the_place_of_a_file),
        ("everything can be quarantined", cases::everything_can_be_quarantined),
        ("flags do not stop it", cases::flags_do_not_stop_it),
        ("flags of another file system", cases::flags_of_another_file_system),
        ("a tree in an immutable folder", cases::a_tree_goes_from_an_immutable_folder),
        ("mount points", cases::mount_points),
        ("a failure in place", cases::a_failure_in_place_takes_no_flag_away),
        ("leftovers become evidence", cases::leftovers_become_evidence),
        ("holes stay holes", cases::holes_stay_holes),
        ("a swapped parent", attack::a_swapped_parent_leaves_the_outside_alone),
        ("another file meanwhile", attack::another_file_meanwhile_is_not_lost),
        ("a FIFO never blocks", attack::a_fifo_never_blocks),
        ("a linked special file", attack::a_linked_special_file_keeps_its_attributes),
        ("a linked file's attributes", attack::a_linked_file_keeps_its_attributes),
        ("a linked file's flags", attack::a_linked_file_keeps_its_flags),
        ("an old writer", attack::an_old_writer_reaches_only_evidence),
        ("privileges and content", attack::no_privileges_for_altered_content),
        ("a swapping attacker", attack::a_swapping_attacker_gets_nothing),
        ("random damage", roundtrip::random_damage_is_undone),
    ];
    for (name, case) in cases {
        println!("{name}");
        let world = world::World::new(base);
        case(&world);
        world.assert_no_private_names();
    }
}

#[test]
fn on_the_temporary_folder() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    everything(dir.path());
}

#[test]
fn on_ext4() {
    mounts::with_image("ext4", &["mkfs.ext4", "-q", "-F"], 256 << 20, everything);
}

#[test]
fn on_xfs() {
    mounts::with_image("xfs", &["mkfs.xfs", "-q", "-f"], 400 << 20, everything);
}

#[test]
fn on_btrfs() {
    mounts::with_image("btrfs", &["mkfs.btrfs", "-q", "-f"], 512 << 20, everything);
}

#[test]
fn on_tmpfs() {
    mounts::with_tmpfs(everything);
}

#[test]
fn on_overlayfs() {
    mounts::with_overlay(everything);
}
