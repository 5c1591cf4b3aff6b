//! The file in which `mezzo-init` leaves the command's wait status.
//!
//! Layout: the raw status of wait(2) as decimal text and a line feed, at offset 0. A file without a
//! line feed holds no record (yet): it is created full of blanks, so that its block exists and a
//! disk that is full later cannot swallow the ending.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// The longest record, "-2147483648\n", fits.
const SIZE: usize = 16;

/// Creates the file for a new container, open for reading and writing as a launch wants it. Fails
/// where it exists: a record of another run must not be taken for this one's.
pub fn create_exit_file(path: &Path) -> io::Result<File> {
    let mut file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&[b' '; SIZE])?;
    Ok(file)
}

/// The raw wait status of the command, or `None` while there is none. `InvalidData`: the file holds
/// a line that is no number.
pub fn read_exit_file(file: &File) -> io::Result<Option<i32>> {
    let mut bytes = [0; SIZE];
    let length = file.read_at(&mut bytes, 0)?;
    let bytes = &bytes[..length];
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes[..end]);
    text.parse().map(Some).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("exit file holds {text:?}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_no_record_and_a_line_is_one() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("exit");
        let file = create_exit_file(&path).expect("create");
        assert_eq!(read_exit_file(&file).expect("read"), None);
        for (text, status) in [("0\n", 0), ("768\n", 768), ("9\n", 9), ("139\n", 139)] {
            file.write_at(text.as_bytes(), 0).expect("write");
            assert_eq!(read_exit_file(&file).expect("read"), Some(status));
        }
        file.write_at(b"x1\n", 0).expect("write");
        let error = read_exit_file(&file).expect_err("no number");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = create_exit_file(&path).expect_err("exists");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
