//! The attach table: which hooks the daemon says it has, held against what this kernel has.

use serde_json::Value;

use crate::kernel::has_function;

/// Every place where the lsm and fentry tiers look.
const FILE_HOOKS: &[&str] = &[
    "file_open",
    "file_receive",
    "mmap_file",
    "file_mprotect",
    "inode_setattr",
    "inode_setxattr",
    "inode_removexattr",
    "inode_set_acl",
    "inode_remove_acl",
    "file_ioctl",
    "inode_create",
    "inode_mkdir",
    "inode_mknod",
    "inode_symlink",
    "inode_link",
    "inode_rename",
    "inode_unlink",
    "inode_rmdir",
    "sb_mount",
    "move_mount",
];

/// What fills the process table.
const PROCESS_HOOKS: &[&str] = &["sched_process_fork", "sched_process_exec", "sched_process_exit"];

/// Holds `fim status --json` against the tier; a remark names the hooks that this kernel does not have.
pub fn check(status: &Value, tier: &str) -> Result<String, String> {
    judge(status, tier, |hook| has_function(&format!("security_{hook}")))
}

fn judge(status: &Value, tier: &str, in_kernel: impl Fn(&str) -> bool) -> Result<String, String> {
    let got = status.get("tier").and_then(Value::as_str).unwrap_or("none");
    if got != tier {
        return Err(format!("the tier is {got}, not {tier}: {status}"));
    }
    let table = hooks(status)?;
    if let Some((hook, state)) = table.iter().find(|(_, state)| state.starts_with("failed")) {
        return Err(format!("hook {hook} is {state}"));
    }
    let file_hooks = if matches!(tier, "lsm" | "fentry") { FILE_HOOKS } else { &[] };
    let process_hooks = if matches!(tier, "lsm" | "fentry" | "tracepoint") { PROCESS_HOOKS } else { &[] };
    let mut absent = Vec::new();
    for hook in file_hooks.iter().chain(process_hooks) {
        let state = table.iter().find(|(h, _)| h == hook).map(|(_, s)| s.as_str());
        match state {
            Some("attached") => {}
            Some("absent") if file_hooks.contains(hook) && !in_kernel(hook) => absent.push(*hook),
            Some("absent") => {
                return Err(format!("hook {hook} is said to be absent, and this kernel has it"));
            }
            other => {
                return Err(format!("hook {hook} is {}", other.unwrap_or("not in the attach table")));
            }
        }
    }
    let attached = table.iter().filter(|(_, s)| s == "attached").count();
    let rest =
        if absent.is_empty() { String::new() } else { format!(", not in this kernel: {}", absent.join(" ")) };
    Ok(format!("{attached} hooks attached{rest}"))
}

/// `attach: [{hook, state}]`.
fn hooks(status: &Value) -> Result<Vec<(String, String)>, String> {
    let list =
        status.get("attach").and_then(Value::as_array).ok_or("fim status --json has no list `attach`")?;
    list.iter()
        .map(|row| {
            let text = |key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
            text("hook").zip(text("state")).ok_or_else(|| format!("not a row of the attach table: {row}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(tier: &str, alter: &[(&str, &str)]) -> Value {
        let rows: Vec<Value> = FILE_HOOKS
            .iter()
            .chain(PROCESS_HOOKS)
            .map(|hook| {
                let state = alter.iter().find(|(h, _)| h == hook).map_or("attached", |(_, s)| s);
                json!({"hook": hook, "state": state})
            })
            .collect();
        json!({"tier": tier, "attach": rows})
    }

    #[test]
    fn a_hook_that_is_not_attached_fails() {
        let old_kernel = |hook: &str| hook != "inode_set_acl";
        let judge = |s: &Value, tier: &str| judge(s, tier, old_kernel);
        assert!(judge(&status("lsm", &[]), "lsm").is_ok());
        assert!(
            judge(&status("lsm", &[("inode_set_acl", "absent")]), "lsm").is_ok_and(|r| r.contains("set_acl"))
        );
        assert!(judge(&status("fentry", &[]), "lsm").is_err(), "another tier");
        assert!(judge(&status("lsm", &[("file_open", "absent")]), "lsm").is_err(), "the kernel has it");
        assert!(judge(&status("lsm", &[("file_open", "failed")]), "lsm").is_err());
        assert!(judge(&status("tracepoint", &[("sched_process_exec", "absent")]), "tracepoint").is_err());
        assert!(judge(&json!({"tier": "lsm", "attach": []}), "lsm").is_err(), "an empty table");
        assert!(judge(&json!({"tier": "fanotify", "attach": []}), "fanotify").is_ok());
    }
}
