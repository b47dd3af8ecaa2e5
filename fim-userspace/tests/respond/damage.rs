//! Random trees, damaged at random, must equal their baseline after the response.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use fim::core::entry::{Entry, FileType};
use fim::core::path::RelPath;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::fs::{CWD, FileType as Kind, IFlags, Mode};

use crate::cases::{acl, alter, capability, set_flags, set_xattr};
use crate::world::{World, rel};

const NAMES: [&str; 6] = ["a", "b", "dir/a", "dir/b", "dir/sub/a", "dir/sub/b\n\u{301}"];

#[derive(Clone, Debug)]
struct Node {
    kind: Make,
    uid: u32,
    gid: u32,
    mode: u32,
    mtime_ns: i64,
    xattr: Option<Vec<u8>>,
    acl: bool,
    capability: bool,
}

#[derive(Clone, Debug)]
enum Make {
    File(Vec<u8>),
    Directory,
    Symlink(String),
    Fifo,
}

#[derive(Clone, Debug)]
enum Damage {
    Write(Vec<u8>),
    Remove,
    Become(Make),
    Attributes {
        uid: u32,
        mode: u32,
        xattr: Option<Vec<u8>>,
        acl: bool,
    },
    Touch(i64),
    Create(Make),
    Rename(usize),
    /// chattr(1) flags in the kernel's numbers; comes after all else, since it would stop that.
    Flags(u32),
}

fn make() -> impl Strategy<Value = Make> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..9000).prop_map(Make::File),
        1 => Just(Make::Directory),
        1 => "[a-z/.]{1,40}".prop_map(Make::Symlink),
        1 => Just(Make::Fifo),
    ]
}

prop_compose! {
    fn node()(
        kind in make(),
        uid in 0..70_000_u32,
        gid in 0..70_000_u32,
        mode in 0..=0o7777_u32,
        mtime_ns in 0..4_000_000_000_000_000_000_i64,
        xattr in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        acl in proptest::bool::weighted(0.2),
        capability in proptest::bool::weighted(0.2),
    ) -> Node {
        Node { kind, uid, gid, mode, mtime_ns, xattr, acl, capability }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let xattr = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300));
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..5000).prop_map(Damage::Write),
        Just(Damage::Remove),
        make().prop_map(Damage::Become),
        (0..70_000_u32, 0..=0o7777_u32, xattr, any::<bool>())
            .prop_map(|(uid, mode, xattr, acl)| { Damage::Attributes { uid, mode, xattr, acl } }),
        any::<i32>().prop_map(|s| Damage::Touch(i64::from(s.unsigned_abs()) * 1_000_000_000)),
        make().prop_map(Damage::Create),
        (0..NAMES.len()).prop_map(Damage::Rename),
        proptest::sample::select(vec![0x10_u32, 0x20, 0x40, 0x70]).prop_map(Damage::Flags),
    ]
}

fn create(path: &Path, make: &Make) {
    let _ = fs::create_dir_all(path.parent().expect("below the tree"));
    let _ = match make {
        // Exclusively: a FIFO or a link may have the name by now.
        Make::File(bytes) => fs::File::create_new(path).and_then(|mut f| f.write_all(bytes)),
        Make::Directory => fs::create_dir(path),
        Make::Symlink(target) => symlink(target, path),
        Make::Fifo => rustix::fs::mknodat(CWD, path, Kind::Fifo, Mode::from(0o600), 0).map_err(Into::into),
    };
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path).expect("removed"),
        Ok(_) => fs::remove_file(path).expect("removed"),
        Err(_) => {}
    }
}

fn dress(entry: &mut Entry, node: &Node) {
    (entry.uid, entry.gid) = (node.uid, node.gid);
    if entry.kind != FileType::Symlink {
        entry.mode = node.mode;
    }
    if entry.kind != FileType::Directory {
        entry.mtime_ns = node.mtime_ns;
    }
    if matches!(entry.kind, FileType::Regular | FileType::Directory) {
        if let Some(value) = &node.xattr {
            set_xattr(entry, "user.value", value.clone());
        }
        if node.acl {
            set_xattr(entry, "system.posix_acl_access", acl());
            // What the ACL itself says (acl(5)): user 6, mask 7, other 0.
            entry.mode = (entry.mode & 0o7000) | 0o670;
        }
    }
    if entry.kind == FileType::Regular && node.capability {
        set_xattr(entry, "security.capability", capability());
    }
}

fn inflict(world: &World, name: &str, damage: &Damage) {
    let path = world.tree.join(name);
    let kind = world.found(&rel(name)).map(|f| f.entry.kind);
    match damage {
        Damage::Write(bytes) if kind == Some(FileType::Regular) => fs::write(&path, bytes).expect("written"),
        Damage::Write(_) | Damage::Remove => remove(&path),
        Damage::Become(make) => {
            remove(&path);
            create(&path, make);
        }
        Damage::Attributes { uid, mode, xattr, acl } if kind.is_some() => {
            let (capability, mtime_ns) = (false, 1);
            let node = Node {
                kind: Make::Fifo,
                uid: *uid,
                gid: uid + 1,
                mode: *mode,
                mtime_ns,
                xattr: xattr.clone(),
                acl: *acl,
                capability,
            };
            alter(world, name, |e| dress(e, &node));
        }
        Damage::Touch(ns) if kind.is_some() && kind != Some(FileType::Directory) => {
            alter(world, name, |e| e.mtime_ns = *ns);
        }
        Damage::Flags(bits) if matches!(kind, Some(FileType::Regular | FileType::Directory)) => {
            set_flags(&path, IFlags::from_bits_retain(*bits));
        }
        Damage::Attributes { .. } | Damage::Touch(_) | Damage::Flags(_) => {}
        Damage::Create(make) => create(&path.with_extension("new"), make),
        Damage::Rename(to) => {
            let _ = fs::rename(&path, world.tree.join(NAMES[*to]));
        }
    }
}

pub fn random_damage_is_undone(world: &World) {
    if !rustix::process::geteuid().is_root() {
        println!("NOT TESTED: owners and devices need root");
        return;
    }
    let nodes = proptest::collection::vec(proptest::option::weighted(0.85, node()), NAMES.len());
    let damages = proptest::collection::vec((0..NAMES.len(), damage()), 0..12);
    let config = Config { cases: 60, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&(nodes, damages), |(nodes, damages)| {
        for path in world.walk().keys().filter(|p| p.parent() == Some(RelPath::root())) {
            remove(&path.below(&world.tree));
        }
        for (name, node) in NAMES.iter().zip(&nodes) {
            if let Some(node) = node {
                create(&world.tree.join(name), &node.kind);
                if world.found(&rel(name)).is_some() {
                    alter(world, name, |e| dress(e, node));
                }
            }
        }
        let baseline = world.approve();
        let (flags, rest): (Vec<_>, Vec<_>) =
            damages.iter().partition(|(_, damage)| matches!(damage, Damage::Flags(_)));
        for (index, damage) in rest.into_iter().chain(flags) {
            inflict(world, NAMES[*index], damage);
        }
        world.reconcile(&baseline);
        let now: Vec<_> = world.walk().into_iter().map(|(p, f)| (p, f.entry)).collect();
        prop_assert_eq!(now, baseline.into_iter().collect::<Vec<_>>());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
