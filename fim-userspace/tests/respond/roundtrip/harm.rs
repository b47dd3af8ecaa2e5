//! Random damage, done as root would: flags that are in the way are taken off first.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use fim::core::path::RelPath;
use proptest::prelude::*;
use proptest::sample::Index;
use rustix::fs::{AtFlags, FallocateFlags, FileType as Kind, IFlags, OFlags, RenameFlags, XattrFlags};

use super::object::{
    Content, Make, Place, chmod, chown, clear_flags, kind, proc_path, reopen, set_flags, stat, touch,
};
use super::plant::{self, Tree};
use super::snapshot::paths;
use crate::world::World;

/// What is done to one object, and which.
#[derive(Clone, Debug)]
pub struct Harm {
    to: Index,
    deed: Deed,
}

#[derive(Clone, Debug)]
enum Deed {
    Overwrite(Content),
    Append(Vec<u8>),
    /// In thousandths of the size.
    Truncate(u64),
    Punch(u64),
    Remove,
    Mode(u32),
    Owner(u32, u32),
    Xattr(Vec<u8>, Vec<u8>),
    NoXattrs,
    Flags(u32),
    Touch((i64, i64)),
    Become(Make),
    /// Over another object, where the kernel lets it.
    RenameOnto(Index),
    /// Into a folder, with all that is below.
    Move(Index, Vec<u8>),
    Swap(Index),
    Add(Tree),
    AddOne(Vec<u8>, Make),
    LinkOutside,
    HardLink(Index),
    HardLinkOutside(Index),
}

pub fn harm() -> impl Strategy<Value = Harm> {
    let index = any::<Index>;
    let deed = prop_oneof![
        2 => plant::content().prop_map(Deed::Overwrite),
        1 => proptest::collection::vec(any::<u8>(), 1..5000).prop_map(Deed::Append),
        1 => (0..1000_u64).prop_map(Deed::Truncate),
        1 => (0..1000_u64).prop_map(Deed::Punch),
        2 => Just(Deed::Remove),
        1 => (0..=0o7777_u32).prop_map(Deed::Mode),
        1 => plant::owner().prop_map(|(uid, gid)| Deed::Owner(uid, gid)),
        2 => plant::xattr().prop_map(|(name, value)| Deed::Xattr(name, value)),
        1 => Just(Deed::NoXattrs),
        2 => plant::flags().prop_map(Deed::Flags),
        1 => plant::mtime().prop_map(Deed::Touch),
        2 => plant::make().prop_map(Deed::Become),
        2 => index().prop_map(Deed::RenameOnto),
        2 => (index(), plant::name()).prop_map(|(to, name)| Deed::Move(to, name)),
        2 => index().prop_map(Deed::Swap),
        1 => plant::tree(1..6).prop_map(Deed::Add),
        1 => (plant::name(), plant::make()).prop_map(|(name, make)| Deed::AddOne(name, make)),
        1 => Just(Deed::LinkOutside),
        1 => index().prop_map(Deed::HardLink),
        2 => index().prop_map(Deed::HardLinkOutside),
    ];
    (any::<Index>(), deed).prop_map(|(to, deed)| Harm { to, deed })
}

/// A few objects of every type that must stay as they are.
pub fn furnish_outside(world: &World) {
    let root = world.outside_root();
    let makes = [
        ("file", Make::File(Content { size: 5000, islands: vec![(0, 1000)] })),
        ("dir", Make::Directory),
        ("dir/inner", Make::File(Content { size: 50, islands: vec![(0, 1000)] })),
        ("fifo", Make::Fifo),
        ("link", Make::Symlink(b"file".to_vec())),
        ("char", Make::CharDevice(5)),
        ("block", Make::BlockDevice(97)),
    ];
    for (number, (name, make)) in makes.iter().enumerate() {
        let place = Place::of(&root, &crate::world::rel(name)).expect("there");
        assert!(place.make(make));
        let (fd, number) = (place.object().expect("made"), number as u32);
        chown(fd.as_fd(), 6001 + number, 7001 + number);
        chmod(fd.as_fd(), 0o604);
        touch(fd.as_fd(), (1_000_000 + i64::from(number), 5));
    }
}

impl Harm {
    pub fn inflict(&self, world: &World) {
        let all = paths(&world.root);
        let path = self.to.get(&all);
        let fd = world.root.open_path(path).expect("there");
        if !self.deed.on_object(world, fd.as_fd())
            && let Some(place) = Place::of(&world.root, path)
        {
            clear_flags(place.dir.as_fd());
            clear_flags(fd.as_fd());
            self.deed.on_name(world, &all, path, &place);
        }
    }
}

impl Deed {
    /// Whether it is a deed on the object itself. One from outside is let be: there it would be damage to the outside.
    fn on_object(&self, world: &World, fd: BorrowedFd<'_>) -> bool {
        let names_only = matches!(
            self,
            Self::Remove
                | Self::Become(_)
                | Self::RenameOnto(_)
                | Self::Move(..)
                | Self::Swap(_)
                | Self::Add(_)
                | Self::AddOne(..)
                | Self::LinkOutside
                | Self::HardLink(_)
                | Self::HardLinkOutside(_)
        );
        if names_only || is_outside(world, fd) {
            return !names_only;
        }
        clear_flags(fd);
        match self {
            Self::Mode(mode) => chmod(fd, *mode),
            Self::Owner(uid, gid) => chown(fd, *uid, *gid),
            Self::Xattr(name, value) => {
                let _ = rustix::fs::setxattr(proc_path(fd), &**name, value, XattrFlags::empty());
            }
            Self::NoXattrs => {
                let mut buffer = [0; 4096];
                let length = rustix::fs::listxattr(proc_path(fd), &mut buffer[..]).unwrap_or(0);
                for name in buffer[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
                    let _ = rustix::fs::removexattr(proc_path(fd), name);
                }
            }
            Self::Flags(flags) => set_flags(fd, IFlags::from_bits_retain(*flags)),
            Self::Touch(mtime) => touch(fd, *mtime),
            _ => self.on_content(fd),
        }
        true
    }

    fn on_content(&self, fd: BorrowedFd<'_>) {
        if kind(&stat(fd)) != Kind::RegularFile {
            return;
        }
        let size = stat(fd).st_size as u64;
        let file = File::from(reopen(fd, OFlags::RDWR).expect("opens"));
        match self {
            Self::Overwrite(content) => content.write(&file),
            Self::Append(bytes) => file.write_all_at(bytes, size).expect("written"),
            Self::Truncate(to) => file.set_len(size * to / 1000).expect("cut"),
            Self::Punch(at) => {
                let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                let _ = rustix::fs::fallocate(&file, how, size * at / 1000, size / 5 + 1);
            }
            _ => unreachable!("a deed on a name"),
        }
    }

    fn on_name(&self, world: &World, all: &[RelPath], path: &RelPath, place: &Place) {
        let (dir, name) = (&place.dir, &*place.name);
        let other = |index: &Index| {
            let other = Place::of(&world.root, index.get(all))?;
            clear_flags(other.dir.as_fd());
            if let Some(fd) = other.object() {
                clear_flags(fd.as_fd());
            }
            Some(other)
        };
        match self {
            Self::Remove => place.remove(),
            Self::Become(make) => {
                place.remove();
                place.make(make);
            }
            Self::RenameOnto(to) => {
                if let Some(to) = other(to) {
                    let _ = rustix::fs::renameat(dir, name, &to.dir, &*to.name);
                }
            }
            Self::Move(to, new) => {
                if let Ok(to) = world.root.open_dir(to.get(all)) {
                    clear_flags(to.as_fd());
                    let _ = rustix::fs::renameat(dir, name, to, &**new);
                }
            }
            Self::Swap(with) => {
                if let Some(with) = other(with) {
                    let _ =
                        rustix::fs::renameat_with(dir, name, &with.dir, &*with.name, RenameFlags::EXCHANGE);
                }
            }
            Self::Add(tree) if place.kind() == Some(Kind::Directory) => tree.plant(&world.root, path),
            Self::AddOne(new, make) if place.kind() == Some(Kind::Directory) => {
                let path = path.join(new).expect("a sound name");
                Place::of(&world.root, &path).expect("there").make(make);
            }
            Self::Add(_) | Self::AddOne(..) => {}
            Self::LinkOutside => {
                place.remove();
                place.make(&Make::Symlink(world.outside.as_os_str().as_bytes().to_vec()));
            }
            Self::HardLink(to) => {
                let Some(to) = other(to) else { return };
                if to.kind() != Some(Kind::Directory) && to.name != place.name {
                    place.remove();
                    let _ = rustix::fs::linkat(&to.dir, &*to.name, dir, name, AtFlags::empty());
                }
            }
            Self::HardLinkOutside(which) => {
                let from = which.get(&["file", "fifo", "link", "char", "block", "dir/inner"]);
                place.remove();
                let outside = world.outside_root();
                rustix::fs::linkat(outside.fd(), *from, dir, name, AtFlags::empty()).expect("linked");
            }
            _ => unreachable!("a deed on an object"),
        }
    }
}

fn is_outside(world: &World, fd: BorrowedFd<'_>) -> bool {
    let this = stat(fd);
    let root = world.outside_root();
    paths(&root).iter().any(|path| {
        let other = stat(root.open_path(path).expect("there").as_fd());
        (other.st_dev, other.st_ino) == (this.st_dev, this.st_ino)
    })
}
