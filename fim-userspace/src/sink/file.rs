//! Every record as one line of a file.

mod place;
mod rotate;
#[cfg(test)]
mod tests;

use std::io::{Read, Seek, SeekFrom, Write};

use rustix::fs::fdatasync;

use super::reopen::Reopen;
use super::{Delivered, Sink, SinkError, format};
use crate::config::FileLog;
use crate::core::event::Record;
use crate::core::path::display;
use crate::core::policy::Severity;

use place::Open;

/// How often in one batch the file may be moved away before that is called a fault.
const PATIENCE: u32 = 3;

pub struct FileSink {
    name: String,
    min_severity: Severity,
    config: FileLog,
    reopen: Reopen,
    /// Handed to a thread for each batch; lost only with that thread, and then opened anew.
    file: Option<LogFile>,
}

impl FileSink {
    pub fn new(name: &str, min_severity: Severity, config: FileLog, reopen: Reopen) -> Self {
        Self { name: name.into(), min_severity, config, reopen, file: None }
    }
}

impl Sink for FileSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn keeps_records(&self) -> bool {
        true
    }

    async fn deliver(&mut self, records: &[Record]) -> Result<Delivered, SinkError> {
        let chosen = records.iter().filter(|r| r.event.severity >= self.min_severity);
        let lines: Vec<String> = chosen.map(|r| format::body(self.config.format, r) + "\n").collect();
        if lines.is_empty() {
            return Ok(Delivered::all(records));
        }
        let mut file =
            self.file.take().unwrap_or_else(|| LogFile::new(self.config.clone(), self.reopen.clone()));
        let (done, result) = tokio::sync::oneshot::channel();
        // A disk may hang: a thread that the daemon's end need not wait for.
        let writer = std::thread::Builder::new().name("fim-log".into());
        let failed = |reason| SinkError::Failed { reason, retry_after: None };
        let work = move || {
            let result = file.append(&lines);
            // Nobody waits any more when the daemon has ended.
            let _ = done.send((file, result));
        };
        writer.spawn(work).map_err(|e| failed(format!("no thread: {e}")))?;
        let (file, result) = result.await.map_err(|_| failed("writing was cut short".into()))?;
        self.file = Some(file);
        result.map(|()| Delivered::all(records)).map_err(failed)
    }
}

/// The file, opened when it is first needed and whenever it is no longer the one at its path.
struct LogFile {
    config: FileLog,
    reopen: Reopen,
    open: Option<Open>,
    /// Rotation failed and was complained about.
    stuck: bool,
}

/// How a part of a batch ended up.
enum Written {
    Safely,
    /// Somebody moved or emptied the file meanwhile: what was written may be gone.
    Doubtful,
}

impl LogFile {
    fn new(config: FileLog, reopen: Reopen) -> Self {
        Self { config, reopen, open: None, stuck: false }
    }

    /// Writes whole lines, each ending in a line break, and has them on the disk when it returns. After an error none
    /// is known to be.
    fn append(&mut self, lines: &[String]) -> Result<(), String> {
        let mut rest = lines;
        let mut doubtful = 0;
        while !rest.is_empty() {
            let room = self.prepare(rest[0].len() as u64)?;
            let mut part = Vec::new();
            let mut count = 0;
            for line in rest {
                if count > 0 && (part.len() + line.len()) as u64 > room {
                    break;
                }
                part.extend_from_slice(line.as_bytes());
                count += 1;
            }
            match self.write(&part) {
                Ok(Written::Safely) => rest = &rest[count..],
                // Once more, into the new one: twice is better than never.
                Ok(Written::Doubtful) if doubtful < PATIENCE => {
                    self.open = None;
                    doubtful += 1;
                }
                Ok(Written::Doubtful) => {
                    self.open = None;
                    let path = display(&self.config.path);
                    return Err(format!(
                        "{path} is moved or emptied again and again while it is written; find out by whom"
                    ));
                }
                Err(e) => {
                    self.open = None;
                    return Err(format!(
                        "cannot write {}: {e}; check the disk's space and health",
                        display(&self.config.path)
                    ));
                }
            }
        }
        Ok(())
    }

    /// Opens, reopens or rotates as needed. Returns how many bytes the file may still grow; `first` always fits.
    fn prepare(&mut self, first: u64) -> Result<u64, String> {
        if self.reopen.was_rung() {
            self.open = None;
        }
        if self.open.as_ref().is_some_and(|open| !open.is_in_place(&self.config.path)) {
            self.open = None;
        }
        let rotation = self.config.rotation;
        let mut rotated = false;
        loop {
            let open = match self.open.take() {
                Some(open) => open,
                None => self.open_whole()?,
            };
            let size =
                open.size().map_err(|e| format!("cannot examine {}: {e}", display(&self.config.path)))?;
            let due = rotate::is_due(&rotation, size, first, open.age());
            // Once: whoever fills the new file as quickly must not keep us here.
            if due && !rotated && !self.stuck_rotating(&open) {
                rotated = true;
                continue;
            }
            self.open = Some(open);
            return Ok(match rotation.max_size {
                Some(most) if !due => most.saturating_sub(size),
                // Not rotatable for the moment: rather too large than not written.
                _ => u64::MAX,
            });
        }
    }

    /// Rotates; true when that failed and the present file must do. The failure is told once.
    fn stuck_rotating(&mut self, open: &Open) -> bool {
        match rotate::rotate(open, self.config.rotation.keep) {
            Ok(()) => self.stuck = false,
            Err(e) => {
                if !self.stuck {
                    let path = display(&self.config.path);
                    tracing::warn!("cannot rotate the log {path}: {e}; it grows until that is put right");
                }
                self.stuck = true;
            }
        }
        self.stuck
    }

    /// Opens the file; a last line that a crash cut short is ended, so that none is glued to it.
    fn open_whole(&self) -> Result<Open, String> {
        let mut open = Open::at(&self.config.path)?;
        let failed = |e| format!("cannot read the end of {}: {e}", display(&self.config.path));
        let size = open.size().map_err(failed)?;
        if size > 0 {
            let mut last = [0];
            open.file.seek(SeekFrom::Start(size - 1)).map_err(failed)?;
            // Nothing there any more: emptied meanwhile, and so without a half line.
            if open.file.read(&mut last).map_err(failed)? == 1 && last != *b"\n" {
                open.file.write_all(b"\n").map_err(failed)?;
            }
        }
        Ok(open)
    }

    fn write(&mut self, part: &[u8]) -> std::io::Result<Written> {
        let Some(open) = &mut self.open else { return Ok(Written::Doubtful) };
        let before = open.size()?;
        if let Err(e) = open.file.write_all(part) {
            // On a full disk: no half line for readers to stumble over. Fails only where the next opening mends it.
            let _ = open.size().and_then(|now| if now > before { open.file.set_len(before) } else { Ok(()) });
            return Err(e);
        }
        fdatasync(&open.file)?;
        let whole = open.is_in_place(&self.config.path) && open.size()? >= before + part.len() as u64;
        Ok(if whole { Written::Safely } else { Written::Doubtful })
    }
}
