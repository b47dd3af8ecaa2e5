//! One object: a zstd frame, or the content as it is. It is hashed on the way in and out.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use sha2::{Digest as _, Sha256};
use zstd::zstd_safe::{self, DCtx, ResetDirective};

use super::room::Metered;
use super::{Form, VaultError};
use crate::core::entry::Digest;

/// Restoring waits for nothing but decompression, and storing evidence should be quick; both hardly depend on it.
const LEVEL: i32 = 1;

const CHUNK: usize = 256 * 1024;

/// Compressed content read at once; most files of configuration are one piece of it.
const PIECE: usize = 16 * 1024;

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub fn digest(content: &[u8]) -> Digest {
    Digest(Sha256::digest(content).into())
}

/// Writes content that is wholly in memory.
pub fn write_small(content: &[u8], out: &mut Metered) -> io::Result<Digest> {
    let compressed = COMPRESSOR.with_borrow_mut(|slot| -> io::Result<Vec<u8>> {
        if slot.is_none() {
            *slot = Some(zstd::bulk::Compressor::new(LEVEL)?);
        }
        match slot {
            Some(compressor) => compressor.compress(content),
            None => zstd::bulk::compress(content, LEVEL),
        }
    })?;
    out.write_all(&compressed)?;
    Ok(digest(content))
}

/// Writes `start` and then all that `rest` gives.
pub fn write_stream(
    start: &[u8],
    rest: &mut impl Read,
    out: &mut Metered,
    write_error: impl Fn(io::Error) -> VaultError,
) -> Result<Digest, VaultError> {
    let mut encoder = zstd::stream::write::Encoder::new(out, LEVEL).map_err(&write_error)?;
    let mut hash = Sha256::new_with_prefix(start);
    encoder.write_all(start).map_err(&write_error)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let n = match rest.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(VaultError::Source(e)),
        };
        hash.update(&buffer[..n]);
        encoder.write_all(&buffer[..n]).map_err(&write_error)?;
        crate::pulse::beat();
    }
    encoder.finish().map_err(&write_error)?;
    Ok(Digest(hash.finalize().into()))
}

/// Copies an object's content to `out`, and fails unless it is what `expected` says.
pub fn read(
    object: File,
    form: Form,
    expected: &Digest,
    out: &mut impl Write,
    corrupt: &dyn Fn(String) -> VaultError,
) -> Result<u64, VaultError> {
    let (actual, total) = match form {
        Form::Zstd => {
            // Making one takes longer than decompressing a small file with it.
            let mut context = DECOMPRESSOR.take().unwrap_or_default();
            let _ = context.reset(ResetDirective::SessionOnly);
            let copied = decompress(object, &mut context, out, corrupt);
            DECOMPRESSOR.set(Some(context));
            copied?
        }
        Form::Raw => copy(object, out, corrupt)?,
    };
    if actual != *expected {
        return Err(corrupt(format!("its content has the digest {actual}")));
    }
    Ok(total)
}

/// Digest and length of what a frame holds, which is written to `out`. A small one is read and decompressed in one piece.
fn decompress(
    mut object: File,
    context: &mut DCtx<'static>,
    out: &mut impl Write,
    corrupt: &dyn Fn(String) -> VaultError,
) -> Result<(Digest, u64), VaultError> {
    let mut start = [0; PIECE];
    let mut n = 0;
    while n < PIECE {
        match object.read(&mut start[n..]) {
            Ok(0) => break,
            Ok(more) => {
                n += more;
                // An object is one frame: where it ends, the file does.
                if n < PIECE && zstd_safe::find_frame_compressed_size(&start[..n]) == Ok(n) {
                    break;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(corrupt(e.to_string())),
        }
    }
    let start = &start[..n];
    let length = if n < PIECE { zstd_safe::get_frame_content_size(start).ok().flatten() } else { None };
    if let Some(length) = length.filter(|length| *length <= CHUNK as u64) {
        let mut content = BYTES.take();
        content.clear();
        content.reserve(length as usize);
        let failed = |code| corrupt(zstd_safe::get_error_name(code).to_owned());
        let whole = context.decompress(&mut content, start).map_err(failed);
        let whole = whole.map(|_| (digest(&content), content.len() as u64));
        let written = whole.and_then(|whole| {
            out.write_all(&content).map_err(VaultError::Target)?;
            Ok(whole)
        });
        BYTES.set(content);
        return written;
    }
    let from = BufReader::with_capacity(PIECE, start.chain(object));
    copy(zstd::stream::read::Decoder::with_context(from, context), out, corrupt)
}

/// Copies all that `from` gives; returns its digest and length.
pub fn copy(
    mut from: impl Read,
    out: &mut impl Write,
    read_error: &dyn Fn(String) -> VaultError,
) -> Result<(Digest, u64), VaultError> {
    let mut buffer = BYTES.take();
    buffer.resize(CHUNK, 0);
    let mut hash = Sha256::new();
    let mut total = 0;
    let mut all = || loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(read_error(e.to_string())),
        };
        hash.update(&buffer[..n]);
        out.write_all(&buffer[..n]).map_err(VaultError::Target)?;
        total += n as u64;
    };
    let copied = all();
    BYTES.set(buffer);
    copied?;
    Ok((Digest(hash.finalize().into()), total))
}
