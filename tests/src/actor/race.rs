//! The attacker of the race suite: an ordinary user who owns the watched folders and swaps what is in them for links.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, XattrFlags, mknodat, renameat_with};

use super::Random;

/// Grandparents in the watched tree, each with a parent, each with the same names in it.
pub const CHAINS: [&str; 3] = ["g0", "g1", "g2"];
pub const PARENT: &str = "p";
pub const FILES: [&str; 4] = ["f0", "f1", "f2", "f3"];
pub const FIFO: &str = "pipe";
pub const LINK: &str = "link";
pub const EMPTY: &str = "empty";

/// Outside: root's own folder, closed to everybody else, with the same names in it.
pub const CLOSED: &str = "closed";
/// Outside: root's own folder, open for reading; its files can be linked where the kernel lets anybody link.
pub const OPEN: &str = "open";
/// Outside: the attacker's own folder, where it keeps what it swaps in.
pub const OWN: &str = "own";
/// In it: a file of a third user's that anybody may write to, and therefore link.
pub const SHARED: &str = "shared";
/// A tree that is not put right any more would leave nothing to swap.
const GIVE_UP: Duration = Duration::from_secs(120);

pub struct Attack {
    watched: PathBuf,
    outside: PathBuf,
    own: PathBuf,
    random: Random,
    /// Every name that it makes up is used once.
    next: u64,
    swaps: u64,
    /// Files it keeps open and goes on writing to.
    held: Vec<File>,
}

/// Swaps until `swaps` were really made, and does other harm in between.
pub fn race(watched: &Path, outside: &Path, swaps: u64, seed: u64) -> io::Result<()> {
    let own = outside.join(OWN).join(std::process::id().to_string());
    fs::create_dir_all(&own)?;
    let mut attack = Attack {
        watched: watched.to_owned(),
        outside: outside.to_owned(),
        own,
        random: Random::new(seed),
        next: 0,
        swaps: 0,
        held: Vec::new(),
    };
    let (mut last, mut since) = (0, Instant::now());
    while attack.swaps < swaps {
        attack.step()?;
        if attack.swaps > last {
            (last, since) = (attack.swaps, Instant::now());
        } else if since.elapsed() > GIVE_UP {
            return Err(io::Error::other(format!("nothing is left to swap after {last} swaps")));
        }
    }
    Ok(())
}

impl Attack {
    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.random.below(of.len() as u64) as usize]
    }

    fn fresh(&mut self) -> PathBuf {
        self.next += 1;
        self.own.join(format!("{:08}", self.next))
    }

    fn parent(&mut self) -> PathBuf {
        let chain = self.pick(&CHAINS);
        self.watched.join(chain).join(PARENT)
    }

    /// One swap with a link, some harm, and mostly the swap back.
    fn step(&mut self) -> io::Result<()> {
        let (target, below) = self.target();
        let side = self.pick(&[CLOSED, OPEN]);
        let to = self.outside.join(side).join(below);
        let decoy = self.decoy(&to)?;
        self.exchange(&decoy, &target);
        for _ in 0..self.random.below(3) {
            // The daemon undoes things at the same moment: whatever fails, the next one may not.
            let _ = self.harm();
        }
        self.pause();
        if self.random.below(8) > 0 {
            self.exchange(&decoy, &target);
        }
        discard(&decoy);
        Ok(())
    }

    /// A file, its parent or its parent's parent, and what a link in its place must lead to for the names below to fit.
    fn target(&mut self) -> (PathBuf, PathBuf) {
        let chain = self.pick(&CHAINS);
        let chain = self.watched.join(chain);
        match self.random.below(4) {
            0 => (chain, PathBuf::new()),
            1 => (chain.join(PARENT), PARENT.into()),
            2 => {
                let name = self.pick(&[FILES[0], FILES[1], FIFO, LINK, EMPTY]);
                (chain.join(PARENT).join(name), Path::new(PARENT).join(name))
            }
            // What the daemon is working on at this moment.
            _ => {
                let parent = chain.join(PARENT);
                let name = self.private_name(&parent).unwrap_or_else(|| FILES[2].into());
                let below = Path::new(PARENT).join(self.pick(&[FIFO, LINK, EMPTY, FILES[3]]));
                (parent.join(name), below)
            }
        }
    }

    fn private_name(&self, dir: &Path) -> Option<String> {
        let names = fs::read_dir(dir).ok()?.flatten();
        names.map(|e| e.file_name().to_string_lossy().into_owned()).find(|n| n.starts_with(".fim-"))
    }

    /// What is swapped in: a link to the outside by name, or, where the kernel allows it, a second name of the object itself.
    fn decoy(&mut self, to: &Path) -> io::Result<PathBuf> {
        let decoy = self.fresh();
        if self.random.below(4) == 0 && fs::hard_link(to, &decoy).is_ok() {
            return Ok(decoy);
        }
        symlink(to, &decoy)?;
        Ok(decoy)
    }

    fn exchange(&mut self, a: &Path, b: &Path) {
        if renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok() {
            self.swaps += 1;
        }
    }

    /// Half of the time none, so that the daemon is met in every state.
    fn pause(&mut self) {
        let micros = self.random.below(600).saturating_sub(300);
        if micros > 0 {
            std::thread::sleep(Duration::from_micros(micros));
        }
    }

    fn harm(&mut self) -> io::Result<()> {
        let parent = self.parent();
        let file = parent.join(self.pick(&FILES));
        match self.random.below(13) {
            0 => {
                let file = write_to(&file, false)?;
                self.held.truncate(7);
                self.held.insert(0, file);
                Ok(())
            }
            1 => self.held.last().map_or(Ok(()), |file| file.write_all_at(b"still writing", 7)),
            2 => fs::set_permissions(file, fs::Permissions::from_mode(0o4777)),
            3 => Ok(rustix::fs::lsetxattr(&file, "user.race", b"x", XattrFlags::empty())?),
            4 => fs::remove_file(file),
            5 => fs::rename(file, self.fresh()),
            6 => self.put(&file, |at| Ok(mknodat(CWD, at, FileType::Fifo, Mode::from_raw_mode(0o666), 0)?)),
            // A whiteout, the one device that anybody may make.
            7 => self.put(&parent.join("device"), |at| {
                Ok(mknodat(CWD, at, FileType::CharacterDevice, Mode::from_raw_mode(0o666), 0)?)
            }),
            8 => self.link_over(&file),
            9 => self.plant(&parent),
            10 => self.stray(&parent),
            11 => {
                let other = self.parent();
                self.exchange(&parent, &other);
                Ok(())
            }
            _ => {
                let folder = parent.join(EMPTY);
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
                write_to(&folder.join("in-the-empty-one"), true).map(drop)
            }
        }
    }

    /// Makes something elsewhere and renames it over `at`.
    fn put(&mut self, at: &Path, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        let made = self.fresh();
        make(&made)?;
        fs::rename(made, at)
    }

    /// Another name of an outside file in the place of a watched one.
    fn link_over(&mut self, file: &Path) -> io::Result<()> {
        let name = self.pick(&[SHARED, "p/f0", "p/f1", "p/pipe", "p/link"]);
        let side = if name == SHARED { OWN } else { OPEN };
        let from = self.outside.join(side).join(name);
        self.put(file, |at| fs::hard_link(&from, at))
    }

    /// Names that look like the daemon's own.
    fn plant(&mut self, parent: &Path) -> io::Result<()> {
        let name = parent.join(format!(".fim-{:016x}", self.random.below(u64::MAX)));
        match self.random.below(4) {
            0 => write_to(&name, true).map(drop),
            1 => symlink(self.outside.join(CLOSED).join("p/f0"), name),
            2 => fs::hard_link(self.outside.join(OWN).join(SHARED), name),
            _ => {
                fs::create_dir(&name)?;
                write_to(&name.join("f0"), true).map(drop)
            }
        }
    }

    /// A folder that must go, swapped for a link while it is being emptied.
    fn stray(&mut self, parent: &Path) -> io::Result<()> {
        let top = parent.join(format!("stray{}", self.random.below(4)));
        let below = top.join(PARENT);
        fs::create_dir_all(&below)?;
        for name in FILES {
            write_to(&below.join(name), true)?;
        }
        let decoy = self.decoy(&self.outside.join(CLOSED).join(PARENT).clone())?;
        self.pause();
        self.exchange(&decoy, &below);
        self.pause();
        self.exchange(&decoy, &top);
        discard(&decoy);
        Ok(())
    }
}

/// Never waits for the other end of a FIFO that stands there by now.
fn write_to(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(create).custom_flags(libc::O_NONBLOCK).open(path)?;
    file.write_all_at(super::CONTENT, 0)?;
    Ok(file)
}

/// What is left of a swap; the daemon may be working in it, and a folder of root's may not go.
fn discard(path: &Path) {
    let _ = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
}
