//! The layout of event records: `struct fanotify_event_metadata` and what follows it (include/uapi/linux/fanotify.h).

use crate::sys::handle::FileHandle;

/// One event. Borrows its names from the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// `FAN_*` bits, several when the kernel merged events.
    pub mask: u64,
    /// Thread group id in the reader's namespace; 0 when it lies outside.
    pub pid: i32,
    pub pidfd: Pidfd,
    /// The object itself.
    pub object: Option<FileHandle>,
    /// The directory, and the name of the object in it; `.` for the directory itself.
    pub place: Option<Place<'a>>,
    /// `FAN_RENAME`: the old name, if its directory is marked.
    pub old: Option<Place<'a>>,
    /// `FAN_RENAME`: the new name, if its directory is marked.
    pub new: Option<Place<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pidfd {
    /// Not asked for.
    Absent,
    /// The process was gone before the event was read.
    Gone,
    /// The kernel could not make one.
    Failed,
    Open(i32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub dir: FileHandle,
    pub name: &'a [u8],
}

const METADATA_LEN: usize = 24;
const HEADER_LEN: usize = 4;

/// The events of a buffer. Ends early where a record contradicts itself, which the kernel never writes.
pub fn events(buffer: &[u8]) -> impl Iterator<Item = Event<'_>> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let len = u32_at(rest, 0)? as usize;
        let metadata_len = usize::from(u16_at(rest, 6)?);
        if rest.get(4) != Some(&libc::FANOTIFY_METADATA_VERSION) || metadata_len < METADATA_LEN {
            return None;
        }
        let record = rest.get(..len)?;
        let event = event(record, record.get(metadata_len..)?)?;
        rest = &rest[len..];
        Some(event)
    })
}

fn event<'a>(record: &'a [u8], mut infos: &'a [u8]) -> Option<Event<'a>> {
    let mut event = Event {
        mask: u64::from_ne_bytes(record.get(8..16)?.try_into().ok()?),
        pid: u32_at(record, 20)? as i32,
        pidfd: Pidfd::Absent,
        object: None,
        place: None,
        old: None,
        new: None,
    };
    while infos.len() >= HEADER_LEN {
        let len = usize::from(u16_at(infos, 2)?);
        let info = infos.get(..len).filter(|i| i.len() >= HEADER_LEN)?;
        let body = &info[HEADER_LEN..];
        match info[0] {
            libc::FAN_EVENT_INFO_TYPE_FID => event.object = handle(body).map(|(handle, _)| handle),
            libc::FAN_EVENT_INFO_TYPE_DFID => event.place = place(body, Some(b".")),
            libc::FAN_EVENT_INFO_TYPE_DFID_NAME => event.place = place(body, None),
            libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME => event.old = place(body, None),
            libc::FAN_EVENT_INFO_TYPE_NEW_DFID_NAME => event.new = place(body, None),
            libc::FAN_EVENT_INFO_TYPE_PIDFD => event.pidfd = pidfd(u32_at(body, 0)? as i32),
            _ => {}
        }
        infos = &infos[len..];
    }
    Some(event)
}

fn pidfd(raw: i32) -> Pidfd {
    match raw {
        libc::FAN_NOPIDFD => Pidfd::Gone,
        fd if fd >= 0 => Pidfd::Open(fd),
        _ => Pidfd::Failed,
    }
}

fn place<'a>(body: &'a [u8], name: Option<&'static [u8]>) -> Option<Place<'a>> {
    let (dir, rest) = handle(body)?;
    let name = name.unwrap_or_else(|| rest.split(|b| *b == 0).next().unwrap_or_default());
    Some(Place { dir, name })
}

/// `__kernel_fsid_t`, then `struct file_handle`; `None` for the empty handle of an object that has none.
fn handle(body: &[u8]) -> Option<(FileHandle, &[u8])> {
    let fsid = [u32_at(body, 0)? as i32, u32_at(body, 4)? as i32];
    let len = u32_at(body, 8)? as usize;
    let kind = u32_at(body, 12)? as i32;
    let bytes = body.get(16..16usize.checked_add(len)?)?;
    (len > 0).then(|| (FileHandle { fsid, kind, bytes: bytes.into() }, &body[16 + len..]))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes records as the kernel does.
    #[derive(Default)]
    pub(crate) struct Recorder(pub Vec<u8>);

    impl Recorder {
        pub(crate) fn event(mut self, mask: u64, pid: i32, infos: &[Vec<u8>]) -> Self {
            let len = METADATA_LEN + infos.iter().map(Vec::len).sum::<usize>();
            self.0.extend((len as u32).to_ne_bytes());
            self.0.extend([libc::FANOTIFY_METADATA_VERSION, 0]);
            self.0.extend((METADATA_LEN as u16).to_ne_bytes());
            self.0.extend(mask.to_ne_bytes());
            self.0.extend(libc::FAN_NOFD.to_ne_bytes());
            self.0.extend(pid.to_ne_bytes());
            infos.iter().for_each(|i| self.0.extend(i));
            self
        }
    }

    /// A record with a handle, and a name if the kind has one; padded to four bytes as in the kernel.
    pub(crate) fn info(kind: u8, handle: &FileHandle, name: Option<&[u8]>) -> Vec<u8> {
        let mut body = Vec::new();
        handle.fsid.iter().for_each(|half| body.extend(half.to_ne_bytes()));
        body.extend((handle.bytes.len() as u32).to_ne_bytes());
        body.extend(handle.kind.to_ne_bytes());
        body.extend(&handle.bytes);
        if let Some(name) = name {
            body.extend(name);
            body.push(0);
        }
        body.resize(body.len().next_multiple_of(4), 0);
        let mut out = vec![kind, 0];
        out.extend(((HEADER_LEN + body.len()) as u16).to_ne_bytes());
        out.extend(body);
        out
    }

    fn handle_of(n: u8) -> FileHandle {
        FileHandle { fsid: [-3, 4], kind: 1, bytes: vec![n; 8].into() }
    }

    #[test]
    fn every_part_of_an_event_is_read() {
        let mut pidfd = vec![libc::FAN_EVENT_INFO_TYPE_PIDFD, 0, 8, 0];
        pidfd.extend(17i32.to_ne_bytes());
        let buffer = Recorder::default()
            .event(
                libc::FAN_RENAME | libc::FAN_ONDIR,
                71,
                &[
                    info(libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME, &handle_of(1), Some(b"old")),
                    info(libc::FAN_EVENT_INFO_TYPE_NEW_DFID_NAME, &handle_of(2), Some(b"n\xffw")),
                    info(libc::FAN_EVENT_INFO_TYPE_FID, &handle_of(3), None),
                    pidfd,
                ],
            )
            .event(libc::FAN_Q_OVERFLOW, 0, &[])
            .0;
        let found: Vec<_> = events(&buffer).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].old, Some(Place { dir: handle_of(1), name: b"old" }));
        assert_eq!(found[0].new, Some(Place { dir: handle_of(2), name: b"n\xffw" }));
        assert_eq!(found[0].object, Some(handle_of(3)));
        assert_eq!((found[0].pid, found[0].pidfd), (71, Pidfd::Open(17)));
        assert_eq!(found[1].mask, libc::FAN_Q_OVERFLOW);
        assert_eq!((&found[1].place, found[1].pidfd), (&None, Pidfd::Absent));
    }

    proptest! {
        #[test]
        fn no_bytes_can_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = events(&bytes).count();
        }

        #[test]
        fn cut_records_are_not_believed(cut in 0usize..200) {
            let infos = [info(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, &handle_of(1), Some(b"a name"))];
            let whole = Recorder::default().event(libc::FAN_CREATE, 5, &infos).event(libc::FAN_DELETE, 5, &infos).0;
            let cut = cut.min(whole.len());
            prop_assert_eq!(events(&whole[..cut]).count(), 2 * cut / whole.len());
        }
    }
}
