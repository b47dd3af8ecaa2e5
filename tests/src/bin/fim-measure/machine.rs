//! What the numbers were measured on.

use std::fs;
use std::process::Command;

use crate::setting::Setting;

pub fn describe(setting: &Setting) -> String {
    let line = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(key));
        found.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, v)| v.trim().to_owned())
    };
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        output.map_or_else(|_| String::new(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
    };
    let work = setting.work.parent().unwrap_or(&setting.work).display().to_string();
    let kib: u64 = line("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    format!(
        "Measured on {}: {} processors ({}), {} GiB of memory, Linux {}; worked on {}; {} round{} of each.\n",
        said("date", &["-u", "+%Y-%m-%d"]),
        crate::limits::processors(),
        line("/proc/cpuinfo", "model name"),
        kib >> 20,
        said("uname", &["-r"]),
        said("findmnt", &["-n", "-o", "FSTYPE", "-T", &work]),
        setting.rounds,
        if setting.rounds == 1 { "" } else { "s" }
    )
}
