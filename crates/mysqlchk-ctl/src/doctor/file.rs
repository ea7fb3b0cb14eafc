//! Files that say what is run, and as whom: only those that nobody but root may change are read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// What is read of a file, in bytes.
pub(super) const MAX: u64 = 1024 * 1024;
/// To open a FIFO must not wait for its writer.
const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// Opens a regular file that is root's, and that nobody else may write.
pub(super) fn open(path: &Path) -> Result<File, String> {
    let opened = File::options().read(true).custom_flags(NONBLOCK).open(path);
    let file = opened.map_err(|error| format!("cannot read {}: {}", path.display(), error.kind()))?;
    let about = file.metadata().map_err(|error| error.to_string())?;
    if about.is_file() && about.uid() == 0 && about.mode() & 0o022 == 0 {
        return Ok(file);
    }
    Err(format!("{} is not read: others than root may change it", path.display()))
}

/// Reads such a file; what is no UTF-8 is replaced.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(MAX).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot read {}: {}", path.display(), error.kind()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
