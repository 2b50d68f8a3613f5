//! Replaces a file as a whole, or not at all.

use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// In the names of files that are being written, after a dot and the name of the file that they will replace.
const MARK: &str = ".toolgate-erase-";

/// Why a file was not replaced. It is as it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplaceError<E> {
    /// Something could not be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Somebody else writes it.
    #[error("it changed in the meantime: erase from files that nothing writes to any more, after rotation")]
    Changed,
    /// Writing the new content was given up.
    #[error(transparent)]
    Content(E),
}

/// Lets `write` write the new content of the file, which takes its place if that returns `true`. Owner and mode stay.
pub(super) fn replace<E>(path: &Path, write: impl FnOnce(&mut File) -> Result<bool, E>) -> Result<(), ReplaceError<E>> {
    // A link stays one: what it refers to is replaced.
    let path = fs::canonicalize(path)?;
    let before = fs::metadata(&path)?;
    let (directory, prefix) = neighbourhood(&path)?;
    remove_leftovers(&directory, &prefix)?;
    let mut new = Builder::new().prefix(&prefix).tempfile_in(&directory)?;
    keep_owner_and_mode(&new, &before)?;
    if !write(new.as_file_mut()).map_err(ReplaceError::Content)? {
        return Ok(());
    }
    new.flush()?;
    new.as_file().sync_all()?;
    if !is_same(&before, &fs::metadata(&path)?) {
        return Err(ReplaceError::Changed);
    }
    new.persist(&path).map_err(|error| error.error)?;
    // The new name must outlive a power cut as well.
    File::open(&directory)?.sync_all()?;
    Ok(())
}

fn neighbourhood(path: &Path) -> io::Result<(PathBuf, String)> {
    match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(directory), Some(name)) => Ok((directory.to_owned(), format!(".{name}{MARK}"))),
        (_, _) => Err(io::Error::new(io::ErrorKind::InvalidFilename, "its name is not UTF-8")),
    }
}

/// What a run left that was killed: they hold personal data that nobody would find again.
fn remove_leftovers(directory: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn keep_owner_and_mode(new: &NamedTempFile, before: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let now = new.as_file().metadata()?;
        if (now.uid(), now.gid()) != (before.uid(), before.gid()) {
            fchown(new.as_file(), Some(before.uid()), Some(before.gid()))?;
        }
    }
    new.as_file().set_permissions(before.permissions())
}

fn is_same(before: &Metadata, now: &Metadata) -> bool {
    before.len() == now.len() && before.modified().ok() == now.modified().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().to_str().unwrap().to_owned();
        fs::read_dir(directory).unwrap().map(name).collect()
    }

    fn with_log(test: impl FnOnce(&Path)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.log");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        test(&path);
        assert_eq!(names(directory.path()), ["a.log"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn the_new_content_takes_the_place_of_the_old() {
        with_log(|path| {
            replace(path, |new| new.write_all(b"new").map(|()| true)).unwrap();
            assert_eq!(fs::read(path).unwrap(), b"new");
            replace(path, |new| new.write_all(b"unwanted").map(|()| false)).unwrap();
            assert_eq!(fs::read(path).unwrap(), b"new");
        });
    }

    #[test]
    fn a_failing_write_leaves_the_file_as_it_was() {
        with_log(|path| {
            let result = replace(path, |new| {
                new.write_all(b"half of the n")?;
                Err::<bool, _>(io::Error::from(io::ErrorKind::StorageFull))
            });
            assert!(matches!(result, Err(ReplaceError::Content(_))));
            assert_eq!(fs::read(path).unwrap(), b"old");
        });
    }

    #[test]
    fn a_file_that_somebody_else_writes_is_left_to_them() {
        with_log(|path| {
            let result = replace(path, |new| {
                OpenOptions::new().append(true).open(path)?.write_all(b" and more")?;
                new.write_all(b"new").map(|()| true)
            });
            assert!(matches!(result, Err(ReplaceError::Changed)));
            assert_eq!(fs::read(path).unwrap(), b"old and more");
        });
    }

    #[test]
    fn what_a_killed_run_left_is_removed() {
        with_log(|path| {
            fs::write(path.with_file_name(".a.log.toolgate-erase-x1"), "half").unwrap();
            replace(path, |_| Ok::<_, io::Error>(false)).unwrap();
        });
    }

    #[test]
    fn a_link_stays_one() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("a.log"), directory.path().join("link"));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, |new| new.write_all(b"new").map(|()| true)).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
