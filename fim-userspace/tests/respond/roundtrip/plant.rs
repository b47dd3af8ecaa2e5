//! Random trees.

use std::os::fd::AsFd;

use fim::core::path::RelPath;
use fim::tree::Root;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rustix::fs::{AtFlags, FileType as Kind, IFlags, OFlags};

use super::object::{Content, Dress, FLAGS, Make, Place, each, reopen, set_flags};

#[derive(Clone, Debug)]
pub struct Node {
    /// One of the folders that are there by then.
    folder: Index,
    name: Vec<u8>,
    make: Make,
    /// Instead of `make`: another name of one of the files that are there by then.
    link: Option<Index>,
    dress: Dress,
}

/// `depth` folders with long names in each other, and what lies in them and in the root.
#[derive(Clone, Debug)]
pub struct Tree {
    depth: usize,
    nodes: Vec<Node>,
}

pub fn tree(nodes: std::ops::Range<usize>) -> impl Strategy<Value = Tree> {
    // 20 names of 230 bytes are over PATH_MAX (4096, linux/limits.h).
    let depth = prop_oneof![6 => Just(0_usize), 1 => Just(3), 1 => 18..22_usize];
    (depth, proptest::collection::vec(node(), nodes)).prop_map(|(depth, nodes)| Tree { depth, nodes })
}

prop_compose! {
    fn node()(
        folder in any::<Index>(),
        name in name(),
        make in make(),
        link in proptest::option::weighted(0.1, any::<Index>()),
        dress in dress(),
    ) -> Node {
        Node { folder, name, make, link, dress }
    }
}

pub fn name() -> impl Strategy<Value = Vec<u8>> {
    let odd: Vec<Vec<u8>> = [
        &b"new\nline"[..],
        b"\x1b[31mred",
        b" spaces  ",
        b"-rf",
        b"\xff\xfe",
        b"a\\x41",
        b"*",
        b"$(reboot)",
        b"\xe2\x80\xaegpj.exe",
        b".hidden",
        b"...",
        b".fim-0123",
        b"\x7f\x01",
    ]
    .into_iter()
    .map(<[u8]>::to_vec)
    .chain([vec![b'l'; 255], vec![0xee; 255]])
    .collect();
    prop_oneof![
        select(vec![b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]),
        "[a-z]{1,8}".prop_map(String::into_bytes),
        select(odd)
    ]
}

pub fn make() -> impl Strategy<Value = Make> {
    let target = select(vec![
        b"a".to_vec(),
        b"../..".to_vec(),
        b"missing".to_vec(),
        b"/etc/passwd".to_vec(),
        b".".to_vec(),
        b"\xff\n\x1b".to_vec(),
        vec![b't'; 4000],
    ]);
    prop_oneof![
        8 => content().prop_map(Make::File),
        5 => Just(Make::Directory),
        2 => target.prop_map(Make::Symlink),
        1 => Just(Make::Fifo),
        1 => (3..9_u32).prop_map(Make::CharDevice),
        1 => (90..99_u32).prop_map(Make::BlockDevice),
    ]
}

pub fn content() -> impl Strategy<Value = Content> {
    let whole = |size| Content { size, islands: vec![(0, 1000)] };
    let islands = proptest::collection::vec((0..1000_u64, 1..30_u64), 0..4);
    prop_oneof![
        2 => Just(whole(0)),
        8 => (1..9000_u64).prop_map(whole),
        2 => (4095..4098_u64).prop_map(whole),
        2 => (1..6_u64 << 20, islands).prop_map(|(size, islands)| Content { size, islands }),
        1 => (1 << 20..3_u64 << 20).prop_map(whole),
    ]
}

pub fn mtime() -> impl Strategy<Value = (i64, i64)> {
    (prop_oneof![Just(-7_i64), 0..2_000_000_000_i64], 0..1_000_000_000_i64)
}

pub fn owner() -> impl Strategy<Value = (u32, u32)> {
    (select(vec![1001_u32, 1002, 65534]), select(vec![2001_u32, 2002, 70001]))
}

pub fn flags() -> impl Strategy<Value = u32> {
    let all: Vec<u32> = each(FLAGS).map(|flag| flag.bits()).collect();
    let few = proptest::sample::subsequence(all, 1..4);
    prop_oneof![
        1 => select(vec![IFlags::IMMUTABLE, IFlags::APPEND]).prop_map(|flag| flag.bits()),
        3 => few.prop_map(|flags| flags.into_iter().fold(0, |all, flag| all | flag)),
    ]
}

prop_compose! {
    fn dress()(
        (uid, gid) in owner(),
        mode in prop_oneof![Just(0o644_u32), Just(0o4755), Just(0o2755), Just(0o1777), 0..=0o7777_u32],
        mtime in mtime(),
        xattrs in proptest::collection::vec(xattr(), 0..4),
        flags in prop_oneof![3 => Just(0_u32), 1 => flags()],
    ) -> Dress {
        Dress { uid, gid, mode, mtime, xattrs, flags }
    }
}

/// A name and a value. Together they stay below a kilobyte, which is all that the smallest ext4 has room for.
pub fn xattr() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let value = proptest::collection::vec(any::<u8>(), 0..120);
    let free = select(vec![b"user.a".to_vec(), b"user.\xff\n".to_vec(), b"trusted.fim-test".to_vec()]);
    prop_oneof![
        4 => (free, value),
        2 => acl().prop_map(|acl| (b"system.posix_acl_access".to_vec(), acl)),
        2 => acl().prop_map(|acl| (b"system.posix_acl_default".to_vec(), acl)),
        1 => Just((b"security.capability".to_vec(), crate::cases::capability())),
    ]
}

/// As the kernel takes it (linux/posix_acl_xattr.h): version 2, then tag, permissions and id of each entry.
fn acl() -> impl Strategy<Value = Vec<u8>> {
    (proptest::array::uniform6(0..8_u16), any::<bool>(), any::<bool>()).prop_map(|(p, user, group)| {
        let mut entries = vec![(1_u16, p[0], u32::MAX)];
        entries.extend(user.then_some((2, p[1], 4242)));
        entries.push((4, p[2], u32::MAX));
        entries.extend(group.then_some((8, p[3], 5353)));
        entries.extend([(16, p[4], u32::MAX), (32, p[5], u32::MAX)]);
        let mut out = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            out.extend(tag.to_le_bytes());
            out.extend(permissions.to_le_bytes());
            out.extend(id.to_le_bytes());
        }
        out
    })
}

impl Node {
    /// A file that is not to be copied on write has to be told so before it has any content.
    fn make(&self, place: &Place) -> bool {
        let flags = IFlags::from_bits_retain(self.dress.flags) & IFlags::NOCOW;
        let Make::File(content) = &self.make else { return place.make(&self.make) };
        if flags.is_empty() {
            return place.make(&self.make);
        }
        let made = place.make(&Make::File(Content { size: 0, islands: Vec::new() }));
        if let Some(fd) = place.object().filter(|_| made) {
            set_flags(fd.as_fd(), flags);
            content.write(&reopen(fd.as_fd(), OFlags::WRONLY).expect("opens").into());
        }
        made
    }
}

impl Tree {
    /// Makes it below a folder that can be written to.
    pub fn plant(&self, root: &Root, at: &RelPath) {
        let (mut folders, mut files, mut dressed) = (vec![at.clone()], Vec::new(), Vec::new());
        for level in 0..self.depth {
            let path = folders[level].join(&[b'd'; 230]).expect("a sound name");
            if Place::of(root, &path).is_some_and(|place| place.make(&Make::Directory)) {
                folders.push(path);
            } else {
                break;
            }
        }
        for node in &self.nodes {
            let path = node.folder.get(&folders).join(&node.name).expect("a sound name");
            let Some(place) = Place::of(root, &path) else { continue };
            let made = match node.link.filter(|_| !files.is_empty()).map(|link| link.get(&files)) {
                Some(file) => {
                    let Place { dir, name } = Place::of(root, file).expect("there");
                    rustix::fs::linkat(dir, name, &place.dir, &*place.name, AtFlags::empty()).is_ok()
                }
                None => node.make(&place),
            };
            if !made {
                continue;
            }
            let fd = place.object().expect("made");
            node.dress.put_on(fd.as_fd());
            match place.kind() {
                Some(Kind::Directory) => folders.push(path.clone()),
                _ => files.push(path.clone()),
            }
            dressed.push((fd, IFlags::from_bits_retain(node.dress.flags)));
        }
        for (fd, flags) in dressed {
            set_flags(fd.as_fd(), flags);
        }
    }
}
