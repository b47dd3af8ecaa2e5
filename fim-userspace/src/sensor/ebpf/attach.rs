//! The attach table: what became of every hook.

use std::fmt;

use fim_common::Hook;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attachment {
    Attached,
    /// This kernel has no such hook.
    Absent,
    /// The kernel has it, but it could not be attached: a blind spot. Says why.
    Failed(String),
    /// The tier does without.
    Unused,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookState {
    pub hook: Hook,
    pub attachment: Attachment,
}

impl HookState {
    /// `attached`, `absent`, `failed` or `unused`.
    pub const fn state(&self) -> &'static str {
        match self.attachment {
            Attachment::Attached => "attached",
            Attachment::Absent => "absent",
            Attachment::Failed(_) => "failed",
            Attachment::Unused => "unused",
        }
    }

    pub fn reason(&self) -> Option<&str> {
        match &self.attachment {
            Attachment::Failed(reason) => Some(reason),
            _ => None,
        }
    }
}

impl fmt::Display for HookState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.hook.name(), self.state())?;
        self.reason().map_or(Ok(()), |reason| write!(f, " ({reason})"))
    }
}
