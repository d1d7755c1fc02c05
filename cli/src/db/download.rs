//! `db download`: the dump's file, byte for byte, however often the connection breaks.
//!
//! Invariant: the file gets its name only when its size and SHA-256 are those that the container tells.

use super::args::Download;
use super::exec;
use super::target::{self, Target};
use crate::errors::{Exit, Failure};
use crate::output;
use crate::session::Session;
use borgherd_api::database::script::Mode;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// As often it is tried again without getting further.
const TRIES: u32 = 6;

/// What the container says of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sum {
    bytes: u64,
    sha256: String,
}

/// What to do next, with `have` bytes here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Read on from there.
    From(u64),
    /// All is here: compare.
    Compare,
}

/// More than there is was of another dump.
fn next(have: u64, whole: u64) -> Next {
    match have.cmp(&whole) {
        std::cmp::Ordering::Less => Next::From(have),
        std::cmp::Ordering::Equal => Next::Compare,
        std::cmp::Ordering::Greater => Next::From(0),
    }
}

/// Runs `db download`.
pub(crate) async fn run(session: &Session, args: &Download) -> Result<(), Failure> {
    let target = target::one(session, &args.which).await?;
    let name = target.preset.file.rsplit('/').next().unwrap_or("dump.sql.gz");
    let to = args.to.clone().unwrap_or_else(|| PathBuf::from(name));
    if to.exists() {
        return Err(Failure::new(Exit::Exists, format!("{} exists", to.display())).hint("give another name with --to"));
    }
    let mut part = to.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    exec::run(session, &target, &exec::script(Mode::Verify, &target, &[])).await?;
    let sum = fetch(session, &target, &part).await?;
    if to.exists() {
        return Err(Failure::new(Exit::Exists, format!("{} exists now", to.display())).hint(format!("the dump is {}", part.display())));
    }
    std::fs::rename(&part, &to).map_err(|error| unwritable(&to, &error))?;
    session.screen.print(&format!(
        "downloaded {} to {} ({}, SHA-256 {})\n",
        target.preset.file,
        to.display(),
        output::bytes(sum.bytes),
        sum.sha256
    ))
}

/// Reads until all is there and is what it should be.
async fn fetch(session: &Session, target: &Target, part: &Path) -> Result<Sum, Failure> {
    let mut tries = 0;
    loop {
        let have = length(part)?;
        let failure = match turn(session, target, part, have).await {
            Ok(Some(sum)) => return Ok(sum),
            Ok(None) => Failure::new(Exit::Failed, format!("{} was replaced while it was read", target.preset.file)),
            Err(failure) if failure.exit == Exit::Unreachable => failure,
            Err(failure) => return Err(failure),
        };
        tries = if length(part)? > have { 0 } else { tries + 1 };
        if tries >= TRIES {
            return Err(failure.hint(format!("what has come is in {}; the same command goes on with it", part.display())));
        }
        session.screen.warn(&format!("{failure}; {} are here, going on", output::bytes(length(part)?)));
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(u64::from(tries) * 2)) => {}
            () = session.stopped() => return Err(Failure::interrupted()),
        }
    }
}

/// One connection. `None`: what is here is not what is there, and was thrown away.
async fn turn(session: &Session, target: &Target, part: &Path, have: u64) -> Result<Option<Sum>, Failure> {
    let sum = told(&exec::run(session, target, &exec::script(Mode::Sum, target, &[])).await?)?;
    if let Next::From(offset) = next(have, sum.bytes) {
        let mut file = OpenOptions::new().create(true).append(true).open(part).map_err(|error| unwritable(part, &error))?;
        file.set_len(offset).map_err(|error| unwritable(part, &error))?;
        let argv = exec::script(Mode::Read, target, &[offset.to_string()]);
        let ended = exec::stream(session, target, &argv, |bytes| file.write_all(bytes)).await?;
        file.sync_all().map_err(|error| unwritable(part, &error))?;
        if length(part)? < sum.bytes {
            let why = ended.errors.trim().to_owned();
            return Err(Failure::new(Exit::Unreachable, format!("the connection to pod {} broke {why}", target.pod)));
        }
    }
    if length(part)? == sum.bytes && hash(part).map_err(|error| unwritable(part, &error))? == sum.sha256 {
        return Ok(Some(sum));
    }
    OpenOptions::new().write(true).truncate(true).open(part).map_err(|error| unwritable(part, &error))?;
    Ok(None)
}

fn told(said: &str) -> Result<Sum, Failure> {
    let fact = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let sum = fact("bytes").and_then(|n| n.parse().ok()).zip(fact("sha256").map(str::to_owned));
    sum.map(|(bytes, sha256)| Sum { bytes, sha256 })
        .ok_or_else(|| Failure::new(Exit::Failed, format!("the container tells no size and hash: {said}")))
}

/// Bytes of a file; 0 where there is none.
fn length(part: &Path) -> Result<u64, Failure> {
    match part.metadata() {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(unwritable(part, &error)),
    }
}

fn hash(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        }
    }
    Ok(hasher.finalize().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn it_goes_on_where_it_was_broken_off() {
        for (have, whole, expected) in [(0, 10, Next::From(0)), (4, 10, Next::From(4)), (10, 10, Next::Compare), (11, 10, Next::From(0))] {
            assert_eq!(next(have, whole), expected, "{have} of {whole}");
        }
    }

    #[test]
    fn a_file_is_hashed_as_sha256sum_does_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        std::fs::write(&file, "abc").unwrap();
        assert_eq!(hash(&file).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(told("bytes 3\nsha256 ab\n").unwrap(), Sum { bytes: 3, sha256: "ab".into() });
        assert!(told("bytes x\n").is_err());
        assert_eq!((length(&file).unwrap(), length(&folder.path().join("y")).unwrap()), (3, 0));
    }
}
