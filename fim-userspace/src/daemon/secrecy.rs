//! The daemon holds secrets and what files contain: none of it may lie on a disk as a memory image.

use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// No core dumps, and no other process of the same user looks into the memory. A refusal is logged: the work goes on.
pub fn forbid_dumps() {
    let limited = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if let Err(error) = prctl::set_dumpable(false).and(limited) {
        tracing::warn!("core dumps cannot be forbidden ({error}); a crash could write secrets to disk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "started by the test below, in a process of its own"]
    fn forbids_dumps() {
        forbid_dumps();
        assert_eq!(prctl::get_dumpable(), Ok(false));
        assert_eq!(nix::sys::resource::getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
    }

    #[test]
    fn nothing_can_be_dumped_afterwards() {
        let ended = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "daemon::secrecy::tests::forbids_dumps", "--ignored"])
            .output()
            .expect("starts");
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && said.contains("1 passed"), "{said}");
    }
}
